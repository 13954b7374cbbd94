"""The moment graph on a tile by NumPy: what is demanded, profiles, joint expectations, the general path."""

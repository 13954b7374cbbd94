"""The law of a program at a tile of inputs by sampling: what has no rule of its own is run on points."""

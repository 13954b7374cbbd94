"""Kernel matrices by tiles: the grid, the threads, where the tiles go."""

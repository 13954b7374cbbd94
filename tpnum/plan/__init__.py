"""A program over a data set: what is demanded of it, and how a tile of a kernel matrix is computed."""

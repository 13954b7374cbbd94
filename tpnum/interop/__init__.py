"""The kernels inside other libraries: one file or folder for each, which alone imports it."""

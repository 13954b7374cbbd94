"""Kernel matrices on disk: what is written, in which order, and how a run that was ended goes on."""

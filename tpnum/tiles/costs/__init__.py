"""What a kernel matrix will cost, found by running small pieces of it: `tpnum.plan`."""

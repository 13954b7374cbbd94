"""`tpnum.limit` and `tpnum.ntk`: the law of a program, which road each line took, and why."""

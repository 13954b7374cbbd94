"""Benchmarks of tpnum: ratios against a floor that is measured in the same run."""

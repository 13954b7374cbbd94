"""Gaussian expectations: closed forms, series, lattices, panels and sampling, each with its error."""

"""Derivatives of kernels: by deviations and inputs, whole or contracted."""

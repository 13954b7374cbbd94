"""The language: straight-line tensor programs, their checker, text, expansion, tangent and finite sample."""

from __future__ import annotations

from tpnum.program.builder import Program
from tpnum.program.calls import apply, mean
from tpnum.program.parts import Parts
from tpnum.program.sample import Sample, simulate
from tpnum.program.values import MatrixVar, Scalar, Vector

__all__ = ["MatrixVar", "Parts", "Program", "Sample", "Scalar", "Vector", "apply", "mean", "simulate"]

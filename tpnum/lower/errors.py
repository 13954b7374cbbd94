"""What lowering says when it cannot."""

from __future__ import annotations


class Unsupported(Exception):
    """The region needs another back end; the text says why."""

"""The command line: ``tpnum kernel | plan | signals | fit | predict | status | jobscript | demo | ..``.

Parsing imports nothing heavy, so that ``--help`` answers at once; each command has a file of its own.
"""

from __future__ import annotations

from tpnum.cli.run import main

__all__ = ["main"]

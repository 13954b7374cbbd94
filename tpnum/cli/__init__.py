"""The command line: ``tpnum kernel | status | jobscript | plan | signals | fit | predict | demo | doctor | warm``.

Parsing imports nothing heavy, so that ``--help`` answers at once; each command has a file of its own.
"""

from __future__ import annotations

from tpnum.cli.run import main

__all__ = ["main"]

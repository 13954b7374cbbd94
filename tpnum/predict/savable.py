"""What all states of `tpnum.predict` do: they can be written to a file."""

from __future__ import annotations

from typing import Any


class Savable:
    """A state that `tpnum.predict.load` gives back."""

    def save(self, path: Any) -> None:
        """Write all of it to one .npz file; `tpnum.predict.load` reads it.

        Raises
        ------
        StoreError : a file that cannot be written.
        InputError : a state of a function of kernels, which no file can hold.
        """
        from tpnum.predict.files import save

        save(self, path)

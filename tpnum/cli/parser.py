"""What may be typed after ``tpnum``: options, their help and their plain checks."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

import tpnum

GETS = ("nngp", "ntk")
DTYPES = ("float64", "float32")
DEMOS = {
    "digits": "NTK regression on 1,797 handwritten digits",
    "semicircle": "a Wigner matrix, alone and with a perturbation",
    "jacobian": "singular values of a deep net",
    "phases": "order and chaos of a tanh net",
    "amp": "message passing and its state evolution",
    "kernel-spectrum": "kernel matrices as large as the widths",
}
"""The demos, and what they show."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print the one line and exit with status 2."""
        self.exit(2, f"tpnum: error: {message} (see {self.prog} --help)\n")


class Command(Parser):
    """The parser of one command, which is the one to say that it does not know an option."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As argparse does, but that nothing may be left over."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


def _gets(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    unknown = [name for name in names if name not in GETS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown kernel {unknown[0]!r}: give nngp, ntk or nngp,ntk")
    if len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r} names a kernel twice")
    return names


def _whole(least: int, what: str) -> Callable[[str], int]:
    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return value

    return convert


def _shape(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = (0,)
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not the shape of one example: give its sizes, features last, as in 32,32,3"
        )
    return sizes


def _jobs(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of threads (-1: all processors)")
    return value


def build() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(
        prog="tpnum",
        description="NNGP and NTK matrices of neural networks at infinite width.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"tpnum {tpnum.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Command)

    def command(name: str, summary: str, description: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=description, allow_abbrev=False)
        sub.add_argument("--debug", action="store_true", help="show where an error comes from")
        return sub

    kernel = command(
        "kernel",
        "the kernel matrices of a net on arrays",
        "Compute the NNGP and NTK matrices of the net in NET.json on the examples in X.npy (against those in "
        "X2.npy, if given). Matrices are written straight to disk: memory stays bounded whatever their size.",
    )
    kernel.add_argument("net", metavar="NET.json", help='a net as JSON: a spec, or its "network" part')
    kernel.add_argument("x1", metavar="X.npy", help="inputs, one example per row, channels last")
    kernel.add_argument("x2", metavar="X2.npy", nargs="?", help="other inputs (default: X against itself)")
    kernel.add_argument(
        "--get", type=_gets, default=("nngp",), metavar="NAMES", help="nngp (the default), ntk, or nngp,ntk"
    )
    kernel.add_argument(
        "--out",
        metavar="K.npy",
        required=True,
        help="the file to write; two go to K.nngp.npy and K.ntk.npy",
    )
    kernel.add_argument("--jobs", type=_jobs, metavar="N", help="threads (default: all processors)")
    kernel.add_argument("--dtype", choices=DTYPES, help="precision (default: float64)")
    kernel.add_argument(
        "--tile", type=_whole(1, "a number of rows"), metavar="ROWS", help="rows of a tile (default: chosen)"
    )
    kernel.add_argument("--force", action="store_true", help="overwrite files that exist")

    plan = command(
        "plan",
        "how a kernel matrix will be computed, and what it costs",
        "Tell how the kernels of the net in NET.json are computed on examples of a shape: road, regions, and "
        "seconds and bytes per pair, measured in a second or two on random inputs.",
    )
    plan.add_argument("net", metavar="NET.json", help='a net as JSON: a spec, or its "network" part')
    plan.add_argument(
        "--shape", type=_shape, required=True, metavar="SIZES", help="one example's, features last: 32,32,3"
    )
    plan.add_argument(
        "--get", type=_gets, default=("nngp",), metavar="NAMES", help="nngp (the default), ntk, or nngp,ntk"
    )
    plan.add_argument("--dtype", choices=DTYPES, help="precision (default: float64)")
    plan.add_argument(
        "--n", type=_whole(1, "a number of examples"), metavar="N", help="examples, for the whole matrix"
    )
    plan.add_argument(
        "--cores",
        type=_whole(1, "a number of threads"),
        metavar="CORES",
        help="threads for it (default: all processors of this machine)",
    )
    plan.add_argument("--listing", action="store_true", help="print the instructions of each region too")

    signals = command(
        "signals",
        "what variances, correlations and gradients do from layer to layer",
        "Follow two inputs and their gradients through the net in NET.json: a table, one row per "
        "layer, and the "
        "fixed points of its last block.",
    )
    signals.add_argument("net", metavar="NET.json", help='a net as JSON: a spec, or its "network" part')
    signals.add_argument(
        "--shape", type=_shape, metavar="SIZES", help="one example's, features last: 32,32,3 (default: none)"
    )
    signals.add_argument(
        "--q", type=float, default=1.0, metavar="Q", help="mean square of the inputs (default: 1)"
    )
    signals.add_argument("--c", type=float, default=0.5, metavar="C", help="their correlation (default: 0.5)")
    signals.add_argument("--out", metavar="PNG", help="draw them too")

    demo = command(
        "demo", "see it work", "Run a demo that ends in a picture, most of them theory over simulation."
    )
    demo.add_argument(
        "name", choices=tuple(DEMOS), help="; ".join(f"{name}: {what}" for name, what in DEMOS.items())
    )
    demo.add_argument(
        "--net",
        choices=("dense", "cnn"),
        default="dense",
        help="of digits: a relu net; cnn: five convolutions and a global average beside it (default: dense)",
    )
    demo.add_argument("--jobs", type=_jobs, metavar="N", help="of digits: threads (default: all processors)")
    demo.add_argument("--out", metavar="PNG", help="the picture (default: ./tpnum-NAME.png)")
    demo.add_argument(
        "--size",
        type=_whole(100, "a number from 100 up"),
        metavar="N",
        help="digits used, or the width that is simulated",
    )

    command(
        "doctor",
        "what this machine runs at",
        "Tell versions, vector width, BLAS, threads and caches in effect, and how to mend lost speed.",
    )
    command(
        "warm",
        "compile the kernels once",
        "Compile every kernel that common nets need, so that later processes only load them.",
    )
    return parser

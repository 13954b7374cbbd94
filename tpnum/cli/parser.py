"""What may be typed after ``tpnum``: options, their help and their plain checks."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

import tpnum

GETS = ("nngp", "ntk")
TASKS = ("regression", "classification")
DTYPES = ("float64", "float32")
BACKENDS = ("threads", "processes", "dask")
DEMOS = {
    "digits": "NTK regression on 1,797 handwritten digits",
    "semicircle": "a Wigner matrix, alone and with a perturbation",
    "jacobian": "singular values of a deep net",
    "phases": "order and chaos of a tanh net",
    "amp": "message passing and its state evolution",
    "kernel-spectrum": "kernel matrices as large as the widths",
    "text": "sentences read by a recurrent net and by attention",
    "depth": "gradients of plain, layernorm and batchnorm nets",
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


def _beside(command: argparse.ArgumentParser) -> None:
    """The options of what is stored beside kernels."""
    beside = command.add_mutually_exclusive_group()
    beside.add_argument(
        "--error", action="store_true", help="store standard errors beside kernels, as nngp_error"
    )
    beside.add_argument(
        "--wrt",
        type=_deviations,
        metavar="NAMES",
        help="store derivatives by deviations beside kernels, as ntk_wrt_W_std: W_std,b_std, layers[2].b_std",
    )


def _deviations(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(
            f"{text!r} lacks a name: give deviations of the net, as in W_std,b_std or layers[2].b_std"
        )
    for name in names:
        if name in ("x1", "x2"):
            raise argparse.ArgumentTypeError(
                f"derivatives by {name!r} are summed and not stored: tpnum.kernel takes them with against="
            )
    if len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r} names a deviation twice")
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


def _noise(text: str) -> float | str:
    if text == "fit":
        return text
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no variance: give a number of at least 0, or fit")
    return value


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is no share between 0 and 1")
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
        help="the file to write; two go to K.nngp.npy and K.ntk.npy; K.zarr can be resumed and holds both",
    )
    kernel.add_argument("--jobs", type=_jobs, metavar="N", help="threads (default: all processors)")
    kernel.add_argument("--dtype", choices=DTYPES, help="precision (default: float64)")
    kernel.add_argument(
        "--tile", type=_whole(1, "a number of rows"), metavar="ROWS", help="rows of a tile (default: chosen)"
    )
    kernel.add_argument(
        "--mask-constant", type=float, metavar="C", help="positions that hold this number are padding"
    )
    for side in ("1", "2"):
        kernel.add_argument(
            f"--pattern{side}",
            metavar="A.npy",
            help=f"graphs of the examples of X{side}, for Aggregate layers",
        )
    kernel.add_argument(
        "--batch-size", type=_whole(1, "a number of examples"), metavar="B", help="for batch normalisation"
    )
    _beside(kernel)
    kernel.add_argument("--force", action="store_true", help="overwrite .npy files that exist")
    kernel.add_argument("--resume", action="store_true", help="continue what an earlier run has left")
    kernel.add_argument("--verify", action="store_true", help="with --resume: read what is there, mend it")
    kernel.add_argument("--shard", metavar="K/N", help="only the K-th of N parts, in any order, also at once")
    kernel.add_argument("--half", action="store_true", help="store one triangle of a symmetric matrix")
    kernel.add_argument("--backend", choices=BACKENDS, help="(default: threads)")
    kernel.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster")
    kernel.add_argument(
        "--log",
        nargs="?",
        const="text",
        choices=("text", "json"),
        help="a line on stderr every 30 s: tiles, speed, time left, memory",
    )

    status = command(
        "status",
        "what of a stored matrix is there",
        "Tell which tiles of a matrix under way are there, and how long the rest would take.",
    )
    status.add_argument("store", metavar="K.zarr", help="a Zarr group, or the name of a .npy file under way")
    status.add_argument("--verify", action="store_true", help="read the checksums of all tiles")

    script = command(
        "jobscript",
        "a script for a batch system",
        "Print a script that fills K.zarr by an array of jobs, which never talk to each other, are warned "
        "before their time is up, and are queued again until all tiles are there.",
    )
    script.add_argument("net", metavar="NET.json", help="a net as JSON")
    script.add_argument("x1", metavar="X.npy", help="inputs")
    script.add_argument("x2", metavar="X2.npy", nargs="?", help="other inputs")
    script.add_argument("--scheduler", choices=("slurm", "pbs", "lsf"), required=True)
    script.add_argument("--out", metavar="K.zarr", required=True)
    script.add_argument("--get", type=_gets, default=("nngp",), metavar="NAMES")
    script.add_argument("--dtype", choices=DTYPES)
    script.add_argument("--tile", type=_whole(1, "a number of rows"), metavar="ROWS")
    _beside(script)
    for name, default, what in (
        ("shards", 16, "jobs of the array"),
        ("cores", 4, "threads of each"),
        ("hours", 4, "hours of a job at most"),
        ("memory", 4096, "MiB of a job"),
    ):
        script.add_argument(
            f"--{name}", type=_whole(1, f"a number of {what}"), default=default, metavar="N",
            help=f"{what} (default: {default})",
        )  # fmt: skip

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
        help="threads for it, or processors of a cluster (default: all of this machine)",
    )
    plan.add_argument(
        "--out", metavar="K.zarr", help="where it is to be stored: tiles, bytes, files, and what limits it"
    )
    plan.add_argument(
        "--backend",
        choices=BACKENDS,
        default=BACKENDS[0],
        help="who computes what is stored: processes, and shards, take time to start (default: threads)",
    )
    plan.add_argument(
        "--batch-size", type=_whole(1, "a number of examples"), metavar="B", help="for batch normalisation"
    )
    plan.add_argument(
        "--wrt", type=_deviations, metavar="NAMES", help="derivatives too, by deviations: W_std,b_std"
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
    signals.add_argument(
        "--batch-size", type=int, metavar="B", help="the inputs are a batch of so many, for BatchNorm"
    )
    signals.add_argument("--c", type=float, default=0.5, metavar="C", help="their correlation (default: 0.5)")
    signals.add_argument("--out", metavar="PNG", help="draw them too")

    fit = command(
        "fit",
        "learn a column of a table",
        "Learn one column of DATA.csv from the others by Gaussian process regression with a kernel of "
        "the net in NET.json: numbers are standardised, texts become categories, a target of texts means "
        "classification. Says how well rows are predicted from all others.",
    )
    fit.add_argument("data", metavar="DATA.csv", help="a table whose first line names the columns")
    fit.add_argument("--target", required=True, metavar="COLUMN", help="the column to learn")
    fit.add_argument("--net", required=True, metavar="NET.json", help='a net as JSON, or its "network" part')
    fit.add_argument("--out", required=True, metavar="MODEL", help="the file to write")
    fit.add_argument("--get", choices=GETS, default="nngp", help="the kernel (default: nngp)")
    fit.add_argument(
        "--noise",
        type=_noise,
        default="fit",
        metavar="VARIANCE",
        help="of the standardised target; fit (the default): of largest marginal likelihood",
    )
    fit.add_argument("--task", choices=TASKS, help="default: classification where the target is text")
    fit.add_argument("--jobs", type=_jobs, metavar="N", help="threads (default: all processors)")
    fit.add_argument("--force", action="store_true", help="overwrite a file that exists")

    predict = command(
        "predict",
        "predict new rows by a model of fit",
        "Predict the rows of NEW.csv: a CSV table of means, standard deviations and intervals of new "
        "observations, or of classes and their probabilities.",
    )
    predict.add_argument("model", metavar="MODEL", help="a file that tpnum fit wrote")
    predict.add_argument("data", metavar="NEW.csv", help="a table with the columns learned from")
    predict.add_argument("--out", metavar="CSV", help="the file to write (default: print)")
    predict.add_argument(
        "--level", type=_share, default=0.95, metavar="SHARE", help="what intervals hold (default: 0.95)"
    )
    predict.add_argument("--force", action="store_true", help="overwrite a file that exists")

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

"""What may be typed after ``tpnum``: options, their help and their plain checks."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

import tpnum
from tpnum.cli import options
from tpnum.cli.options import GETS

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


def _jobs(command: argparse.ArgumentParser, where: str = "") -> None:
    command.add_argument(
        "--jobs",
        dest="n_jobs",
        type=options.jobs,
        metavar="N",
        help=f"{where}threads (default: all processors)",
    )


def _net(command: argparse.ArgumentParser) -> None:
    command.add_argument("net", metavar="NET.json", help='a net as JSON: a spec, or its "network" part')


def _get(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--get",
        type=options.gets,
        default=("nngp",),
        metavar="NAMES",
        help="nngp (the default), ntk, or nngp,ntk",
    )


def _dtype(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dtype", choices=DTYPES, help="precision (default: float64)")


def _count(command: argparse.ArgumentParser, option: str, metavar: str, what: str, words: str) -> None:
    """An option for how many of something there are, one at least."""
    command.add_argument(option, type=options.whole(1, f"a number of {what}"), metavar=metavar, help=words)


def _tile(command: argparse.ArgumentParser) -> None:
    _count(command, "--tile", "ROWS", "rows", "rows of a tile (default: chosen)")


def _batch_size(command: argparse.ArgumentParser) -> None:
    _count(command, "--batch-size", "B", "examples", "for batch normalisation")


def _beside(command: argparse.ArgumentParser) -> None:
    """The options of what is stored beside kernels."""
    beside = command.add_mutually_exclusive_group()
    beside.add_argument(
        "--error", action="store_true", help="store standard errors beside kernels, as nngp_error"
    )
    beside.add_argument(
        "--wrt",
        type=options.deviations,
        metavar="NAMES",
        help="store derivatives by deviations beside kernels, as ntk_wrt_W_std: W_std,b_std, layers[2].b_std",
    )


def _kernel(command: argparse.ArgumentParser) -> None:
    _net(command)
    command.add_argument("x1", metavar="X.npy", help="inputs, one example per row, channels last")
    command.add_argument("x2", metavar="X2.npy", nargs="?", help="other inputs (default: X against itself)")
    _get(command)
    command.add_argument(
        "--out",
        metavar="K.npy",
        required=True,
        help="the file to write; two go to K.nngp.npy and K.ntk.npy; K.zarr holds both (extra zarr)",
    )
    _jobs(command)
    _dtype(command)
    _tile(command)
    command.add_argument(
        "--mask-constant", type=float, metavar="C", help="positions that hold this number are padding"
    )
    for side in ("1", "2"):
        command.add_argument(
            f"--pattern{side}",
            metavar="A.npy",
            help=f"graphs of the examples of X{side}, for Aggregate layers",
        )
    _batch_size(command)
    _beside(command)
    _stored(command)


def _stored(command: argparse.ArgumentParser) -> None:
    """How what is on disk is written, by whom, and what is told."""
    command.add_argument("--force", action="store_true", help="overwrite .npy files that exist")
    command.add_argument("--resume", action="store_true", help="continue what an earlier run has left")
    command.add_argument("--verify", action="store_true", help="with --resume: read what is there, mend it")
    command.add_argument(
        "--shard", metavar="K/N", help="only the K-th of N parts, in any order, also at once"
    )
    command.add_argument(
        "--half",
        dest="symmetric",
        action="store_const",
        const="half",
        help="store one triangle of a symmetric matrix",
    )
    command.add_argument("--backend", choices=BACKENDS, help="who computes the tiles (default: threads)")
    command.add_argument("--scheduler", metavar="ADDRESS", help="where a Dask cluster listens")
    command.add_argument(
        "--log",
        nargs="?",
        const="text",
        choices=("text", "json"),
        help="a line on stderr every 30 s: tiles, speed, time left, memory",
    )


def _status(command: argparse.ArgumentParser) -> None:
    command.add_argument("store", metavar="K.zarr", help="a Zarr group, or the name of a .npy file under way")
    command.add_argument("--verify", action="store_true", help="read the checksums of all tiles")


def _jobscript(command: argparse.ArgumentParser) -> None:
    _net(command)
    command.add_argument("x1", metavar="X.npy", help="inputs")
    command.add_argument("x2", metavar="X2.npy", nargs="?", help="other inputs")
    command.add_argument(
        "--scheduler", choices=("slurm", "pbs", "lsf"), required=True, help="the batch system"
    )
    command.add_argument("--out", metavar="K.zarr", required=True, help="the store to fill, or a .npy file")
    _get(command)
    _dtype(command)
    _tile(command)
    _beside(command)
    for name, default, what in (
        ("shards", 16, "jobs of the array"),
        ("cores", 4, "threads of each"),
        ("hours", 4, "hours of a job at most"),
        ("memory", 4096, "MiB of a job"),
    ):
        command.add_argument(
            f"--{name}", type=options.whole(1, f"a number of {what}"), default=default, metavar="N",
            help=f"{what} (default: {default})",
        )  # fmt: skip


def _plan(command: argparse.ArgumentParser) -> None:
    _net(command)
    command.add_argument(
        "--shape",
        type=options.shape,
        required=True,
        metavar="SIZES",
        help="one example's, features last: 32,32,3",
    )
    _get(command)
    _dtype(command)
    _count(command, "--n", "N", "examples", "examples, for the whole matrix")
    cores = "threads for it, or processors of a cluster (default: all of this machine)"
    _count(command, "--cores", "CORES", "threads", cores)
    command.add_argument(
        "--out", metavar="K.zarr", help="where it is to be stored: tiles, bytes, files, and what limits it"
    )
    command.add_argument(
        "--backend",
        choices=BACKENDS,
        default=BACKENDS[0],
        help="who computes what is stored: processes, and shards, take time to start (default: threads)",
    )
    _batch_size(command)
    command.add_argument(
        "--wrt", type=options.deviations, metavar="NAMES", help="derivatives too, by deviations: W_std,b_std"
    )
    command.add_argument("--listing", action="store_true", help="print the instructions of each region too")


def _signals(command: argparse.ArgumentParser) -> None:
    _net(command)
    command.add_argument(
        "--shape",
        type=options.shape,
        metavar="SIZES",
        help="one example's, features last: 32,32,3 (default: none)",
    )
    command.add_argument(
        "--q", type=float, default=1.0, metavar="Q", help="mean square of the inputs (default: 1)"
    )
    command.add_argument(
        "--batch-size", type=int, metavar="B", help="the inputs are a batch of so many, for BatchNorm"
    )
    command.add_argument("--c", type=float, default=0.5, metavar="C", help="their correlation (default: 0.5)")
    command.add_argument("--out", metavar="PNG", help="draw them too")


def _fit(command: argparse.ArgumentParser) -> None:
    command.add_argument("data", metavar="DATA.csv", help="a table whose first line names the columns")
    command.add_argument("--target", required=True, metavar="COLUMN", help="the column to learn")
    command.add_argument(
        "--net", required=True, metavar="NET.json", help='a net as JSON, or its "network" part'
    )
    command.add_argument("--out", required=True, metavar="MODEL", help="the file to write")
    command.add_argument("--get", choices=GETS, default="nngp", help="the kernel (default: nngp)")
    command.add_argument(
        "--noise",
        type=options.noise,
        default="fit",
        metavar="VARIANCE",
        help="of the standardised target; fit (the default): of largest marginal likelihood",
    )
    command.add_argument("--task", choices=TASKS, help="default: classification where the target is text")
    _jobs(command)
    command.add_argument("--force", action="store_true", help="overwrite a file that exists")


def _predict(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help="a file that tpnum fit wrote")
    command.add_argument("data", metavar="NEW.csv", help="a table with the columns learned from")
    command.add_argument("--out", metavar="CSV", help="the file to write (default: print)")
    command.add_argument(
        "--level",
        type=options.share,
        default=0.95,
        metavar="SHARE",
        help="what intervals hold (default: 0.95)",
    )
    command.add_argument("--force", action="store_true", help="overwrite a file that exists")


def _demo(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "name",
        metavar="DEMO",
        choices=tuple(DEMOS),
        help="; ".join(f"{name}: {what}" for name, what in DEMOS.items()),
    )
    command.add_argument(
        "--net",
        choices=("dense", "cnn"),
        help="of digits: a relu net; cnn: five convolutions and a global average beside it (default: dense)",
    )
    _jobs(command, "of digits: ")
    command.add_argument("--out", metavar="PNG", help="the picture (default: ./tpnum-NAME.png)")
    command.add_argument(
        "--size",
        type=options.whole(100, "a number from 100 up"),
        metavar="N",
        help="digits used, or the width that is simulated",
    )


Fill = Callable[[argparse.ArgumentParser], None]
COMMANDS: dict[str, tuple[str, str, Fill | None]] = {
    "kernel": (
        "the kernel matrices of a net on arrays",
        "Compute the NNGP and NTK matrices of the net in NET.json on the examples in X.npy (against those in "
        "X2.npy, if given). Matrices are written straight to disk: memory stays bounded whatever their size.",
        _kernel,
    ),
    "status": (
        "what of a stored matrix is there",
        "Tell which tiles of a matrix under way are there, and how long the rest would take.",
        _status,
    ),
    "jobscript": (
        "a script for a batch system",
        "Print a script that fills K.zarr by an array of jobs, which never talk to each other, are warned "
        "before their time is up, and are queued again until all tiles are there.",
        _jobscript,
    ),
    "plan": (
        "how a kernel matrix will be computed, and what it costs",
        "Tell how the kernels of the net in NET.json are computed on examples of a shape: road, regions, and "
        "seconds and bytes per pair, measured in a second or two on random inputs.",
        _plan,
    ),
    "signals": (
        "what variances, correlations and gradients do from layer to layer",
        "Follow two inputs and their gradients through the net in NET.json: a table, one row per layer, and "
        "the fixed points of its last block.",
        _signals,
    ),
    "fit": (
        "learn a column of a table",
        "Learn one column of DATA.csv from the others by Gaussian process regression with a kernel of "
        "the net in NET.json: numbers are standardised, texts become categories, a target of texts means "
        "classification. Says how well rows are predicted from all others.",
        _fit,
    ),
    "predict": (
        "predict new rows by a model of fit",
        "Predict the rows of NEW.csv: a CSV table of means, standard deviations and intervals of new "
        "observations, or of classes and their probabilities.",
        _predict,
    ),
    "demo": (
        "see it work",
        "Run a demo that ends in a picture, most of them theory over simulation.",
        _demo,
    ),
    "doctor": (
        "what this machine runs at",
        "Tell versions, vector width, BLAS, threads and caches in effect, and how to mend lost speed.",
        None,
    ),
    "warm": (
        "compile the kernels once",
        "Compile every kernel that common nets need, so that later processes only load them.",
        None,
    ),
}
"""The commands: what they are for in a line, what they do, and what fills in their options."""


def build() -> Parser:
    """Return the parser of the whole command line.

    Options are stored under the names of the library's arguments; ``typed`` says how these are typed, for
    errors about one.
    """
    parser = Parser(
        prog="tpnum",
        description="NNGP and NTK matrices of neural networks at infinite width.",
        allow_abbrev=False,
    )
    parser.add_argument("-V", "--version", action="version", version=f"tpnum {tpnum.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Command)
    for name, (summary, description, fill) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=description, allow_abbrev=False)
        command.add_argument("--debug", action="store_true", help="show where an error comes from")
        if fill is not None:
            fill(command)
        command.set_defaults(
            typed={one.dest: one.option_strings[0] for one in command._actions if one.option_strings}
        )
    return parser

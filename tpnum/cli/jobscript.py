"""``tpnum jobscript``: a script for a batch system that fills a store, shard by shard."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from tpnum.errors import InputError

HEADS = {
    "slurm": """\
#SBATCH --job-name=tpnum
#SBATCH --array=1-{shards}
#SBATCH --ntasks=1
#SBATCH --cpus-per-task={cores}
#SBATCH --mem={memory}M
#SBATCH --time={hours}:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@{warning}
#SBATCH --output={log}.%a.log
""",
    "pbs": """\
#PBS -N tpnum
#PBS -J 1-{shards}
#PBS -l select=1:ncpus={cores}:mem={memory}mb
#PBS -l walltime={hours}:00:00
#PBS -r y
#PBS -j oe
cd "$PBS_O_WORKDIR"
""",
    "lsf": """\
#BSUB -J "tpnum[1-{shards}]"
#BSUB -n {cores}
#BSUB -R "span[hosts=1]"
#BSUB -M {memory}MB
#BSUB -W {hours}:00
#BSUB -r
#BSUB -Q "75"
#BSUB -wa USR1
#BSUB -wt {minutes}
#BSUB -o {log}.%I.log
""",
}
INDEX = {"slurm": "SLURM_ARRAY_TASK_ID", "pbs": "PBS_ARRAY_INDEX", "lsf": "LSB_JOBINDEX"}
AGAIN = {
    "slurm": """\
if [ "$status" -eq 75 ]; then  # time was up before the tiles were done
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}" && exit 0
fi
""",
    "pbs": """\
if [ "$status" -eq 75 ]; then
    echo "time was up before the tiles were done: submit this script again"
fi
""",
    "lsf": "# 75, time was up before the tiles were done, puts the job back into the queue\n",
}
WARNING = 120
"""Seconds between the signal and the end."""

BODY = """\
set -u
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1

# compiled kernels are kept per kind of processor, and made once
kind=$(grep -m1 "model name" /proc/cpuinfo | cksum | cut -d " " -f 1)
export NUMBA_CACHE_DIR="${{XDG_CACHE_HOME:-$HOME/.cache}}/tpnum/$(uname -m)-$kind"
mkdir -p "$NUMBA_CACHE_DIR"
tpnum warm

{limit}tpnum kernel {command} \\
    --resume --shard "${index}/{shards}" --jobs {cores} --log &
run=$!
trap 'kill -USR1 "$run"' USR1 TERM
while :; do  # a signal ends a wait before the run ends
    wait "$run"
    status=$?
    kill -0 "$run" 2>/dev/null || break
done
{again}exit "$status"
"""


def run(args: argparse.Namespace) -> None:
    """Print the script."""
    print(script(args), end="")


def script(args: argparse.Namespace) -> str:
    """The text of the script."""
    if not args.out.endswith((".zarr", ".npy")):
        raise InputError(f"--out {args.out} ends neither in .zarr nor in .npy")
    words = [args.net, args.x1, *([args.x2] if args.x2 else []), "--out", args.out]
    if args.get != ("nngp",):
        words += ["--get", ",".join(args.get)]
    if args.dtype:
        words += ["--dtype", args.dtype]
    if args.tile:
        words += ["--tile", str(args.tile)]
    if args.error:
        words += ["--error"]
    if args.wrt:
        words += ["--wrt", ",".join(args.wrt)]
    facts = {
        "shards": args.shards,
        "cores": args.cores,
        "memory": args.memory,
        "hours": args.hours,
        "warning": WARNING,
        "minutes": WARNING // 60,
        "log": shlex.quote(Path(args.out).name),
        "index": INDEX[args.scheduler],
        "command": " ".join(map(shlex.quote, words)),
        "again": AGAIN[args.scheduler],
        # PBS gives no warning of its own
        "limit": (
            f"timeout --preserve-status --signal=USR1 {3600 * args.hours - WARNING} "
            if args.scheduler == "pbs"
            else ""
        ),
    }
    return "#!/bin/bash\n" + HEADS[args.scheduler].format(**facts) + "\n" + BODY.format(**facts)

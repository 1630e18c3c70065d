"""The command line of `xstilts plan`; apart, because every stage reads it when it starts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

#: The cluster's file, below the folder of the Snakefile.
CLUSTER = Path("workflow/profiles/slurm/cluster.yaml")


def add_parser(commands: Any) -> None:
    """Add the command `plan`."""
    plan = commands.add_parser(
        "plan", help="what a study costs before it is run: jobs, GPU-hours, disk, time"
    )
    plan.add_argument("study", type=Path, help="the study's YAML file")
    plan.add_argument("--cluster", type=Path, help=f"the cluster's file; default {CLUSTER}")
    plan.add_argument(
        "--gpus",
        type=_number,
        help="GPUs in all; 0 for a machine without any. Default: several numbers, to compare",
    )
    plan.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    plan.add_argument(
        "--update", action="store_true", help="measure rates from the study's finished jobs first"
    )
    plan.add_argument(
        "--spent", action="store_true", help="compare the stored plan with what finished jobs took"
    )
    plan.set_defaults(run=_run)


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number, found {text!r}")
    return int(text)


def _run(options: argparse.Namespace) -> None:
    from xstilts.cluster.report import run

    run(options)

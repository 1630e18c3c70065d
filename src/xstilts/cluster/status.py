"""`xstilts status STUDY`: how a study stands, while it runs and afterwards.

The command ends with status 3 where something failed, else with 0.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from xstilts.errors import InputError
from xstilts.output import check_output, write_json

if TYPE_CHECKING:
    from xstilts.cluster.standing import Status

#: Something failed.
EXIT_FAILED = 3
#: Seconds between two looks, at least: each asks SLURM's controller.
LEAST_SECONDS = 10.0


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    status = commands.add_parser(
        "status",
        help="how a study stands: done, running, waiting, failed; status 3 if something failed",
    )
    status.add_argument("study", type=Path, help="the study's YAML file")
    status.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")
    status.add_argument(
        "--watch",
        type=float,
        metavar="SECONDS",
        help="look again and again until all is done (Ctrl-C ends it)",
    )
    status.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    if options.watch is not None and options.watch < LEAST_SECONDS:
        raise InputError(
            "--watch",
            "would ask SLURM too often",
            expected=f"at least {LEAST_SECONDS:.0f} seconds",
            found=f"{options.watch:g}",
        )
    out: Path | None = options.json
    check_output("--json", out)
    while True:
        status = _look(options.study, out)
        if options.watch is None or len(status.of("done")) == len(status.all):
            break
        try:
            time.sleep(options.watch)
        except KeyboardInterrupt:
            break
    if status.of("failed"):
        raise SystemExit(EXIT_FAILED)


def _look(study: Path, out: Path | None) -> Status:
    from xstilts.cluster.standing import look
    from xstilts.cluster.status_text import content, text
    from xstilts.session import Session

    # The study is read each time: it may be edited while it is watched.
    session = Session.of_file(study, root=Path.cwd())
    status = look(session.plan, session.results)
    if out is not None:
        draft = out.with_name(f".{out.name}.tmp")
        write_json(draft, content(status))
        draft.rename(out)
    clear = "\033[H\033[2J" if sys.stdout.isatty() else ""
    print(clear + text(status), flush=True)
    return status

"""`xstilts prune`: what no study needs any more of a results folder, and removing it on request."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xstilts.artifacts.publish import host_name
from xstilts.artifacts.spec import sha256_text
from xstilts.cluster.driver import hold, release
from xstilts.cluster.inventory import (
    STATE,
    Item,
    Look,
    Wanted,
    drives,
    finished,
    locked,
    snakemake_locks,
    survey,
    unfinished_outputs,
)
from xstilts.errors import InputError
from xstilts.output import check_output, write_json
from xstilts.plan import TRAININGS

if TYPE_CHECKING:  # every stage passes here on its way through the command line
    from xstilts.plan import Plan
    from xstilts.session import Session

#: Most lines of the table for one verdict; `--json` has all.
_SHOWN = 30
_TITLES = {
    "unneeded": "Needed by no given study",
    "outdated": "Planned with another spec: the next run overwrites it",
    "held": "In use, or it may be",
    "strange": "Not ours: never removed",
}


@dataclass
class Report:
    """What was found in one results folder, and what was removed.

    Attributes:
        results: The folder.
        studies: The study files that were asked.
        items: All that lies there.
        removed: Paths of what was removed.
        failed: Why something could not be removed, by its path.
    """

    results: Path
    studies: list[str]
    items: list[Item]
    removed: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)

    def of(self, verdict: str) -> list[Item]:
        """Items of one verdict, the heaviest first."""
        found = (item for item in self.items if item.verdict == verdict)
        return sorted(found, key=lambda item: (-item.bytes, item.path))

    def bytes(self, verdict: str) -> int:
        """What the items of one verdict weigh."""
        return sum(item.bytes for item in self.of(verdict))

    def content(self) -> dict[str, Any]:
        """All of it, for JSON; of what is needed, only how much it is."""
        rows = [
            {**asdict(item), "removed": item.path in self.removed}
            for item in self.items
            if item.verdict != "needed"
        ]
        totals = {
            verdict: {"items": len(self.of(verdict)), "bytes": self.bytes(verdict)}
            for verdict in ("needed", *_TITLES)
        }
        return {
            "results": str(self.results),
            "studies": self.studies,
            "totals": totals,
            "items": rows,
            "failed": self.failed,
        }

    def table(self) -> str:
        """The same for people."""
        count, size = len(self.of("needed")), shown(self.bytes("needed"))
        lines = [f"{self.results} ({', '.join(self.studies)})", f"{size:>10}  needed ({count})"]
        for verdict, title in _TITLES.items():
            if found := self.of(verdict):
                lines += ["", f"{shown(self.bytes(verdict)):>10}  {title} ({len(found)})"]
                lines += map(self._line, found[:_SHOWN])
                if len(found) > _SHOWN:
                    lines.append(f"            and {len(found) - _SHOWN} more: see --json")
        if self.removed:
            freed = sum(item.bytes for item in self.items if item.path in self.removed)
            lines += ["", f"{shown(freed):>10}  removed ({len(self.removed)})"]
        lines += (f"            {path}: {problem}" for path, problem in self.failed.items())
        return "\n".join(lines)

    def _line(self, item: Item) -> str:
        mark = "removed" if item.path in self.removed else item.kind
        return f"  {shown(item.bytes):>10}  {mark:<12}  {item.path}  ({item.reason})"


def shown(size: float) -> str:
    """A number of bytes for people: ``1.5 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def prune(
    sessions: Sequence[Session], results: Path, *, delete: bool = False, outdated: bool = False
) -> Report:
    """Look through a results folder, and remove on request what no study needs.

    Args:
        sessions: The studies whose results lie there.
        results: The folder.
        delete: Remove what is unneeded.
        outdated: Remove what is outdated, too.

    Raises:
        InputError: If the folder is missing, or something is to be removed while a driver runs.
    """
    if not results.is_dir():
        raise InputError(str(results), "there is no such results folder")
    results, names = results.resolve(), [session.where for session in sessions]
    wanted = Wanted.by([session.plan for session in sessions], results)
    if not delete:
        look = Look(results, wanted, driven=drives(results))
        return Report(results, names, survey(look))
    with _alone(results):
        look = Look(results, wanted, driven=False)
        report = Report(results, names, survey(look))
        for item in report.items:
            if item.verdict == "unneeded" or (outdated and item.verdict == "outdated"):
                _try(item, report, look)
    return report


def clean_finished(plan: Plan, results: Path) -> list[str]:
    """Remove the states of finished trainings; for a driver's start.

    A training removes its states itself once it has published; one that was killed in between
    leaves them. What Snakemake holds to be incomplete is left alone: it would delete the artifact
    and ask for it again.

    Args:
        plan: The study's jobs.
        results: Its results folder.

    Returns:
        The artifacts whose states were removed.
    """
    doubtful, done = unfinished_outputs(results), list[str]()
    for job in (job for stage in TRAININGS for job in plan.of(stage)):
        home = results / STATE / job.out
        if not home.is_dir() or any(name.startswith(f"{job.out}/") for name in doubtful):
            continue
        with locked(home / "lock") as free:
            if free and finished(results / job.out) == sha256_text(job.text):
                _away(home, results)
                done.append(job.out)
    return done


@contextmanager
def _alone(results: Path) -> Iterator[None]:
    """No driver runs, and none begins meanwhile: it would have to wait like a second one."""
    # Where there are no locks to hold, Snakemake's own say what is known.
    if drives(results) or (not hold(results) and snakemake_locks(results)):
        raise InputError(
            str(results),
            "a driver runs in this results folder: nothing is removed",
            hint="Wait for it or stop it; after a killed one, run snakemake --unlock",
        )
    try:
        yield
    finally:
        release(results)


def _try(item: Item, report: Report, look: Look) -> None:
    """Remove an item that is still what it was; what cannot be removed holds up nothing else."""
    now, path = look.again(item), report.results / item.path
    if now is None or now.verdict != item.verdict:
        return
    try:
        with locked(_lock(item, report.results)) as free:
            if free:
                _away(path, report.results)
                report.removed.add(item.path)
    except OSError as error:
        report.failed[item.path] = error.strerror or str(error)


def _lock(item: Item, results: Path) -> Path:
    """Lock of the training that an artifact or a state is of; there need not be one."""
    path = results / item.path
    is_state = path.is_relative_to(results / STATE)
    return path.parent / "lock" if is_state else results / STATE / item.path / "lock"


def _away(path: Path, results: Path) -> None:
    """Remove a folder or a file in one step, and the folders above that are empty then.

    A folder is renamed to the name of a draft first: whoever is killed afterwards leaves a draft of
    a dead process, which the next run or `prune` removes, and never an artifact that lacks files.

    Raises:
        OSError: If it cannot be removed, or a link leads out of the results folder.
    """
    if path.parent.resolve() != path.parent or not path.is_relative_to(results):
        raise OSError(f"a link leads out of {results}")
    if path.is_dir() and not path.is_symlink():
        aside = path.with_name(f".{path.name}.{host_name()}.{os.getpid()}.old")
        path.rename(aside)
        shutil.rmtree(aside)
    else:
        path.unlink()
    for folder in path.parents:
        if folder in (results, results / STATE) or not _remove_if_empty(folder, results):
            break


def _remove_if_empty(folder: Path, results: Path) -> bool:
    """Remove a folder in which nothing is left, or nothing but the lock of a state."""
    left = [entry.name for entry in folder.iterdir()]
    if left == ["lock"] and folder.is_relative_to(results / STATE):
        (folder / "lock").unlink()
    elif left:
        return False
    folder.rmdir()
    return True


# ---- the command


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "prune", help="list what no study needs of its results folder; remove it on request"
    )
    parser.add_argument(
        "studies", nargs="+", type=Path, metavar="STUDY", help="every study that is to stay whole"
    )
    parser.add_argument("--results", type=Path, help="the results folder, if it has been moved")
    parser.add_argument("--delete", action="store_true", help="remove what no given study needs")
    parser.add_argument(
        "--outdated", action="store_true", help="with --delete: also what the next run overwrites"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it to a file")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        InputError: On a wrong study or folder, or if something could not be removed.
    """
    if options.outdated and not options.delete:
        raise InputError("--outdated", "says what --delete removes, which is not there")
    check_output("--json", options.json)
    reports = []
    for results, sessions in _by_folder(options.studies, options.results).items():
        report = prune(sessions, results, delete=options.delete, outdated=options.outdated)
        reports.append(report)
        print(report.table(), end="\n\n")
    write_json(options.json, {"folders": [report.content() for report in reports]})
    for report in reports:
        for path, problem in report.failed.items():
            raise InputError(
                str(report.results / path),
                f"could not be removed ({problem}); {len(report.failed)} such items in all",
            )


def _by_folder(studies: list[Path], results: Path | None) -> dict[Path, list[Session]]:
    """The studies by their results folder: several files may be of one."""
    from xstilts.session import Session

    found: dict[Path, list[Session]] = {}
    for path in studies:
        session = Session.of_file(path, root=Path.cwd())
        found.setdefault(session.results, []).append(session)
    if results is None:
        return found
    if len(found) > 1:
        raise InputError(
            f"--results {results}",
            "is one folder, and the studies have several",
            found=", ".join(map(str, found)),
            hint="Give the studies of one folder only",
        )
    return {results: next(iter(found.values()))}

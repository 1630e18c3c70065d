"""The code and the libraries that made an artifact, where they can be had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xstilts.artifacts.record import versions
from xstilts.audit.code import DRIVER_ONLY, SOURCE, Sources
from xstilts.audit.results import Artifact

if TYPE_CHECKING:
    from xstilts.plan import Plan

_ASK = (
    "import json, xstilts; from xstilts.artifacts.record import versions; "
    "print(json.dumps([xstilts.__file__, versions()]))"
)


@dataclass
class Environment:
    """What makes an artifact again.

    Attributes:
        python: The Python.
        source: The folder that the package lies in.
        notes: In what it is not the recorded one, or is not this process's own.
        doubts: What may make other bytes.
    """

    python: str = sys.executable
    source: Path = SOURCE
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    @property
    def command(self) -> list[str]:
        """What runs `xstilts`."""
        return [self.python, "-m", "xstilts.cli"]

    @property
    def variables(self) -> dict[str, str]:
        """What its processes find in their environment."""
        return {"PYTHONPATH": str(self.source)}


class Recorded:
    """Finds the code and the libraries that artifacts of a results folder were made by.

    Args:
        results: The results folder; no Python in it is run.
        sources: Source trees of commits.
        plan: The study's plan by today's code, if there is one.
    """

    def __init__(self, results: Path, sources: Sources, plan: Plan | None) -> None:
        self.results, self.sources, self.plan = results, sources, plan
        self._ask = cache(_ask)

    def environment(self, artifact: Artifact, record: Mapping[str, Any]) -> Environment:
        """The recorded code and libraries of an artifact, as far as they can be had.

        Args:
            artifact: The artifact.
            record: Of its making, as `Results.provenance` gives it.
        """
        found = Environment()
        self._choose_code(found, artifact, record)
        self._choose_python(found, record)
        if found.source != SOURCE and not self._runs(found):
            found.doubts.append("the recorded code does not run here: made with this code")
            found.notes.clear()
            found.python, found.source = sys.executable, SOURCE
        return found

    # ---- code

    def _choose_code(
        self, found: Environment, artifact: Artifact, record: Mapping[str, Any]
    ) -> None:
        fingerprint = artifact.spec.get("fingerprint")
        if fingerprint is None or fingerprint == self._today(artifact.out):
            return
        git = record.get("git", {})
        commit, is_clean = git.get("commit"), git.get("dirty") is False
        if is_clean and self.sources.is_here(commit):
            return
        tree = self.sources.tree(commit) if is_clean else None
        if tree is not None:
            found.source = tree
            found.notes.append(f"with the code of commit {str(commit)[:12]}")
            return
        found.doubts.append(f"made with this code, not with the recorded one: {_why_not(git)}")

    def _today(self, out: str) -> object:
        job = self.plan.jobs.get(out) if self.plan else None
        return job.spec.get("fingerprint") if job else None

    # ---- libraries

    def _choose_python(self, found: Environment, record: Mapping[str, Any]) -> None:
        wanted = record.get("versions", {})
        other = differing(wanted, versions())
        if not other:
            if not wanted:
                found.doubts.append("no versions of libraries are recorded")
            return
        place = record.get("environment", {})
        python, why = self._python_of(place)
        if python is not None:
            said = self._ask(python, found.source)
            if said and not differing(wanted, said[1]):
                found.python = python
                found.notes.append(f"with {python}")
                return
            why = "has other versions now" if said else "does not run xstilts"
        text = ", ".join(f"{name} {was} -> {now or 'none'}" for name, (was, now) in other.items())
        found.doubts.append(f"made with other libraries ({text}): {_named(place)} {why}")

    def _python_of(self, place: Mapping[str, Any]) -> tuple[str | None, str]:
        """The Python of the recorded environment, or why there is none.

        A record is only a file: what it names is run if it belongs to this user or to root, and
        lies outside the results.
        """
        if place.get("kind") == "container":
            return None, "is not entered; run this command inside it"
        prefix = place.get("prefix")
        python = Path(str(prefix), "bin", "python") if prefix else None
        if python is None or not python.is_absolute() or not os.access(python, os.X_OK):
            return None, "is not there"
        folder = python.parent.resolve()
        if folder.is_relative_to(self.results):
            return None, "lies in the results folder, and is not run"
        if any(path.stat().st_uid not in (0, os.getuid()) for path in (python, folder)):
            return None, "belongs to another user, and is not run"
        return str(python), ""

    def _runs(self, found: Environment) -> bool:
        """Whether a Python runs the package of a source tree, and not another one."""
        said = self._ask(found.python, found.source)
        return said is not None and Path(said[0]).is_relative_to(found.source)


def _ask(python: str, source: Path) -> tuple[str, dict[str, str]] | None:
    """The place of the package in another Python, and its versions; None if it does not run."""
    try:
        done = subprocess.run(
            [python, "-c", _ASK],
            env={**os.environ, "PYTHONPATH": str(source)},
            capture_output=True,
            text=True,
            check=True,
        )
        file, found = json.loads(done.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None
    return str(file), dict(found)


def differing(
    wanted: Mapping[str, str], there: Mapping[str, str]
) -> dict[str, tuple[str, str | None]]:
    """Packages with another version: the recorded one and the one that is there."""
    return {
        name: (version, there.get(name))
        for name, version in wanted.items()
        if name not in DRIVER_ONLY and there.get(name) != version
    }


def _named(place: Mapping[str, Any]) -> str:
    name = place.get("image") or place.get("prefix")
    return f"the recorded {place.get('kind', 'environment')} {name}" if name else "the recorded one"


def _why_not(git: Mapping[str, Any]) -> str:
    commit = git.get("commit")
    if not commit:
        return "no commit is recorded"
    if git.get("dirty") is not False:
        return f"its tree differed from commit {str(commit)[:12]}"
    return f"git does not have commit {str(commit)[:12]} here"

"""Resumable state of a training, outside its outputs.

Snakemake deletes the outputs of a failed job, so a state stands under
`state/<artifact>/<spec sha256>/`: a changed spec never resumes an old state. Two steps are kept;
each is written beside its place and renamed, with the sha256 of its files, so that a torn one is
seen and the one before it is used.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from xstilts.artifacts.manifest import describe_files
from xstilts.artifacts.publish import fsync
from xstilts.artifacts.record import Record
from xstilts.artifacts.spec import Spec, spec_sha256
from xstilts.errors import InputError
from xstilts.runtime import runtime

_KEEP = 2


@dataclass
class State:
    """The state folder of one artifact and spec.

    Attributes:
        folder: Where it is.
        record: What is known of the artifact's making, earlier attempts included.
    """

    folder: Path
    record: Record = field(default_factory=Record)

    @property
    def best(self) -> Path:
        """File of the best weights so far; it need not exist."""
        return self.folder / "best.pt"

    def save_best(self, content: dict[str, Any]) -> None:
        """Replace the best weights, in one rename."""
        import torch

        draft = self.best.with_suffix(".tmp")
        torch.save(content, draft)
        draft.rename(self.best)

    def load_best(self) -> dict[str, Any]:
        """The best weights so far."""
        import torch

        content: dict[str, Any] = torch.load(self.best, weights_only=True, map_location="cpu")
        return content

    def save(self, step: int, tensors: dict[str, Any], values: dict[str, Any]) -> None:
        """Save a step, with the best weights so far.

        Args:
            step: Steps done.
            tensors: What `torch.save` writes: tensors and plain values only.
            values: What JSON holds.
        """
        import torch

        draft = self.folder / f".step-{step}.tmp"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        torch.save(tensors, draft / "tensors.pt")
        (draft / "values.json").write_text(json.dumps({"step": step, **values}), encoding="utf-8")
        if self.best.exists():
            _link(self.best, draft / self.best.name)
        checks = json.dumps(describe_files(draft))
        (draft / "sha256.json").write_text(checks, encoding="utf-8")
        for path in [*draft.iterdir(), draft]:
            fsync(path)
        place = self.folder / f"step-{step}"
        shutil.rmtree(place, ignore_errors=True)
        draft.rename(place)
        fsync(self.folder)
        for old in self._steps()[:-_KEEP]:
            shutil.rmtree(old)
        self.note("killed")

    def _steps(self) -> list[Path]:
        found = self.folder.glob("step-*")
        return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))

    def load(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Tensors and values of the newest whole step, or None; its best weights are the best."""
        import torch

        for draft in self.folder.glob(".step-*.tmp"):
            shutil.rmtree(draft, ignore_errors=True)
        for place in reversed(self._steps()):
            if not _whole(place):
                print(f"{place}: is damaged and left out", file=sys.stderr)
                shutil.rmtree(place)
                continue
            # A best of after the saved step belongs to steps that are now repeated.
            self.best.unlink(missing_ok=True)
            if (place / self.best.name).exists():
                _link(place / self.best.name, self.best)
            values = json.loads((place / "values.json").read_text(encoding="utf-8"))
            tensors = torch.load(place / "tensors.pt", weights_only=True, map_location="cpu")
            return tensors, values
        return None

    def note(self, outcome: str) -> None:
        """Write down this attempt as it stands now, for the next one's record."""
        attempts = [*self.record.attempts, {**self.record.attempt(), "outcome": outcome}]
        draft = self.folder / "attempts.tmp"
        draft.write_text(json.dumps(attempts), encoding="utf-8")
        draft.rename(self.folder / "attempts.json")

    def earlier_attempts(self) -> list[dict[str, Any]]:
        """Attempts at this artifact so far."""
        try:
            found: list[dict[str, Any]] = json.loads((self.folder / "attempts.json").read_text())
        except (FileNotFoundError, ValueError):  # none, or torn by a power cut
            return []
        return found

    def remove(self) -> None:
        """Forget the artifact's states, those of other specs too: it is published."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)


def _link(source: Path, place: Path) -> None:
    """The same file a second time; a copy on file systems without links."""
    try:
        os.link(source, place)
    except OSError:
        shutil.copyfile(source, place)


def _whole(place: Path) -> bool:
    try:
        known = json.loads((place / "sha256.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    found = describe_files(place)
    found.pop("sha256.json", None)
    return bool(found == known)


@contextmanager
def training_state(out: Path, spec: Spec) -> Iterator[State]:
    """The state of an artifact, locked against a second writer.

    Raises:
        InputError: If another process holds it.
    """
    home = runtime().state / out
    with _locked(home):
        state = State(home / spec_sha256(spec)[:16])
        state.folder.mkdir(exist_ok=True)
        state.record.attempts = state.earlier_attempts()
        # It stands until something else is known: a killed process writes nothing.
        state.note("killed")
        yield state


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    path = folder / "lock"
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            _lock(file, folder)
            # The one who held it before may have removed the folder meanwhile.
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                yield
                return


def _lock(file: TextIO, folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(
            str(folder),
            "another process is training this artifact",
            hint="Wait for it, or stop it, and run snakemake again",
        ) from error
    except OSError as error:
        print(f"{folder}: this file system has no locks ({error})", file=sys.stderr)

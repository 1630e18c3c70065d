"""Resumable state of a training, outside its outputs.

Snakemake deletes the outputs of a failed job, so a state stands under
`state/<artifact>/<spec sha256>/`: a changed spec never resumes an old state. Two steps are kept; each
is written beside its place and renamed, with the sha256 of its files, so that a torn one is seen and
the one before it is used.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xstilts.artifacts.manifest import describe_files
from xstilts.artifacts.record import Record
from xstilts.artifacts.spec import Spec, spec_sha256
from xstilts.errors import InputError
from xstilts.runtime import runtime

_KEEP = 2


@dataclass
class State:
    """The state folder of one artifact and spec."""

    folder: Path

    def save(self, step: int, tensors: dict[str, Any], values: dict[str, Any]) -> None:
        """Save a step.

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
        checks = json.dumps(describe_files(draft))
        (draft / "sha256.json").write_text(checks, encoding="utf-8")
        for path in draft.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        place = self.folder / f"step-{step}"
        shutil.rmtree(place, ignore_errors=True)
        draft.rename(place)
        for old in self._steps()[:-_KEEP]:
            shutil.rmtree(old)

    def _steps(self) -> list[Path]:
        found = self.folder.glob("step-*")
        return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))

    def load(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Tensors and values of the newest whole step, or None."""
        import torch

        for place in reversed(self._steps()):
            if _whole(place):
                values = json.loads((place / "values.json").read_text(encoding="utf-8"))
                tensors = torch.load(place / "tensors.pt", weights_only=True, map_location="cpu")
                return tensors, values
        return None

    def attempts(self) -> list[dict[str, Any]]:
        """Earlier attempts at this artifact."""
        path = self.folder / "attempts.jsonl"
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def note_attempt(self, record: Record, outcome: str) -> None:
        """Append this attempt to the list, for the next one's record."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "attempts.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({**record.attempt(), "outcome": outcome}) + "\n")

    def remove(self) -> None:
        """Forget the state once its artifact is published."""
        shutil.rmtree(self.folder, ignore_errors=True)


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
    folder = runtime().state / out / spec_sha256(spec)[:16]
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder.parent / f"{folder.name}.lock"
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                str(folder),
                "another process is training this artifact",
                hint="Wait for it, or stop it, and run snakemake again",
            ) from error
        yield State(folder)
    lock.unlink(missing_ok=True)

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
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from xstilts.artifacts.manifest import describe_files
from xstilts.artifacts.publish import fsync, input_manifests
from xstilts.artifacts.record import Record
from xstilts.artifacts.spec import Spec, spec_sha256
from xstilts.errors import InputError
from xstilts.runtime import runtime

_KEEP = 2
_INPUTS = "inputs.json"
#: Seconds between the end of a job as SLURM tells it and that of its processes, at most: clusters
#: set KillWait to 30 s or so.
_KILL_SECONDS = 180.0


@dataclass
class State:
    """The state folder of one artifact and spec.

    Attributes:
        folder: Where it is.
        spec: Sha256 of the spec.
        record: What is known of the artifact's making, earlier attempts included.
        restarts: Why the training began again, each time.
    """

    folder: Path
    spec: str = ""
    record: Record = field(default_factory=Record)
    restarts: list[dict[str, Any]] = field(default_factory=list)

    @property
    def best(self) -> Path:
        """File of the best weights so far; it need not exist."""
        return self.folder / "best.pt"

    def save_best(self, content: dict[str, Any]) -> None:
        """Replace the best weights, in one rename."""
        import torch

        draft = self.best.with_suffix(".tmp")
        with _told(self.folder):
            try:
                torch.save(content, draft)
                draft.rename(self.best)
            finally:
                draft.unlink(missing_ok=True)

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
        draft = self.folder / f".step-{step}.tmp"
        shutil.rmtree(draft, ignore_errors=True)
        with _told(self.folder):
            try:
                self._write(draft, tensors, {**values, **self._own, "step": step})
                place = self.folder / f"step-{step}"
                shutil.rmtree(place, ignore_errors=True)
                draft.rename(place)
                fsync(self.folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        for old in self._steps()[:-_KEEP]:
            shutil.rmtree(old)
        self.note("killed")

    def _write(self, draft: Path, tensors: dict[str, Any], values: dict[str, Any]) -> None:
        import torch

        draft.mkdir(parents=True)
        torch.save(tensors, draft / "tensors.pt")
        (draft / "values.json").write_text(json.dumps(values), encoding="utf-8")
        if self.best.exists():
            _link(self.best, draft / self.best.name)
        checks = json.dumps(describe_files(draft))
        (draft / "sha256.json").write_text(checks, encoding="utf-8")
        for path in [*draft.iterdir(), draft]:
            fsync(path)

    @property
    def _own(self) -> dict[str, Any]:
        """What a saved step says of where it belongs."""
        return {"spec": self.spec, "restart": len(self.restarts)}

    def _steps(self) -> list[Path]:
        found = self.folder.glob("step-*")
        return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))

    def newest(self) -> Path | None:
        """Folder of the newest whole step, or None; its best weights are the best.

        Raises:
            InputError: If the step belongs to another spec.
        """
        for draft in self.folder.glob(".step-*.tmp"):
            shutil.rmtree(draft, ignore_errors=True)
        for place in reversed(self._steps()):
            if not _whole(place):
                print(f"{place}: is damaged and left out", file=sys.stderr)
                shutil.rmtree(place)
                continue
            if not self._belongs(place):
                shutil.rmtree(place)
                continue
            # A best of after the saved step belongs to steps that are now repeated.
            self.best.unlink(missing_ok=True)
            if (place / self.best.name).exists():
                _link(place / self.best.name, self.best)
            return place
        self.best.unlink(missing_ok=True)
        return None

    def _belongs(self, place: Path) -> bool:
        """Whether a step is of this data order; a restart may have been killed while it cleared."""
        values = json.loads((place / "values.json").read_text(encoding="utf-8"))
        if values["spec"] != self.spec:
            raise InputError(
                str(place),
                "is the state of another spec: other settings, data or code",
                expected=self.spec[:16],
                found=str(values["spec"])[:16],
                hint="State folders cannot be copied from one to another: delete this one",
            )
        return bool(values["restart"] == len(self.restarts))

    def read(self, place: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        """Tensors and values of a step."""
        import torch

        values = json.loads((place / "values.json").read_text(encoding="utf-8"))
        tensors = torch.load(place / "tensors.pt", weights_only=True, map_location="cpu")
        return tensors, {key: value for key, value in values.items() if key not in self._own}

    def expect(self, inputs: dict[str, str]) -> None:
        """Forget what was done from other inputs: a spec names them, and not their bytes.

        Args:
            inputs: Sha256 of the manifest of every input.
        """
        if self._noted(_INPUTS) not in ([], [inputs]):
            print(f"{self.folder}: is of other inputs; begins anew", file=sys.stderr)
            shutil.rmtree(self.folder)
            self.folder.mkdir()
        self._put(_INPUTS, [inputs])

    def restart(self, finding: dict[str, Any]) -> None:
        """Note why the training begins again, and forget what it has done."""
        self.restarts.append(finding)
        with _told(self.folder):
            self._put("restarts.json", self.restarts)
        for place in self._steps():
            shutil.rmtree(place)
        self.best.unlink(missing_ok=True)

    def _put(self, name: str, content: Any) -> None:
        draft = self.folder / f"{name}.tmp"
        try:
            draft.write_text(json.dumps(content), encoding="utf-8")
            fsync(draft)
            draft.rename(self.folder / name)
        finally:
            draft.unlink(missing_ok=True)

    def _noted(self, name: str) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = json.loads((self.folder / name).read_text())
        except (FileNotFoundError, ValueError):  # none, or torn by a power cut
            return []
        return found

    def note(self, outcome: str) -> None:
        """Write down this attempt as it stands now, for the next one's record."""
        attempts = [*self.record.attempts, {**self.record.attempt(), "outcome": outcome}]
        with _told(self.folder):
            self._put("attempts.json", attempts)

    def remove(self) -> None:
        """Forget the artifact's states, those of other specs too: it is published."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Say it clearly when a disk is full or read-only; what was saved before is still there."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch.save raises either
        place = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(place).free / 2**20
        said = " ".join(str(error).split())[:160]
        raise InputError(
            str(folder),
            f"the state of the training cannot be saved ({said}); {free:.0f} MiB are free",
            hint="The last saved state is whole: make room and run snakemake again to go on",
        ) from error


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
        sha256 = spec_sha256(spec)
        state = State(home / sha256[:16], sha256)
        with _told(state.folder):
            state.folder.mkdir(exist_ok=True)
            state.expect(input_manifests(spec))
        state.record.attempts = state._noted("attempts.json")
        state.restarts = state._noted("restarts.json")
        # It stands until something else is known: a killed process writes nothing.
        state.note("killed")
        yield state


def _flock(file: TextIO) -> None:
    """Lock a file; in a job of SLURM, wait a while for one that is just being killed.

    SLURM calls a job ended as soon as it begins to kill it, so the next attempt may be here first.
    """
    patience = _KILL_SECONDS if "SLURM_JOB_ID" in os.environ else 0.0
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise
        time.sleep(1.0)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    path = folder / "lock"
    while True:
        with _told(folder):
            folder.mkdir(parents=True, exist_ok=True)
            file = path.open("a")
        with file:
            _lock(file, folder)
            # The one who held it before may have removed the folder meanwhile.
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                yield
                return


def _lock(file: TextIO, folder: Path) -> None:
    try:
        _flock(file)
    except BlockingIOError as error:
        raise InputError(
            str(folder),
            "another process is training this artifact",
            hint="Wait for it, or stop it, and run snakemake again",
        ) from error
    except OSError as error:
        print(f"{folder}: this file system has no locks ({error})", file=sys.stderr)

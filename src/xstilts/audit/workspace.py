"""A fresh folder in which artifacts are made again, from inputs that are only read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from xstilts.artifacts.manifest import is_inside
from xstilts.artifacts.spec import Spec, canonical
from xstilts.audit.results import Results
from xstilts.errors import InputError
from xstilts.runtime import VARIABLE


class Workspace:
    """Makes artifacts of a results folder again, beside it.

    Everything that lies in the results folder is a link here, but for what is made again. A stage
    writes below this folder only: beside its own output, never into an input.

    Args:
        results: The results folder.
        folder: An empty folder.
        command: What runs `xstilts`; this Python by default.
        environment: Set for the stages, on top of this process's.
    """

    def __init__(
        self,
        results: Results,
        folder: Path,
        command: Sequence[str] = (sys.executable, "-m", "xstilts.cli"),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.results, self.folder = results, folder.resolve()
        self.command, self.environment = list(command), dict(environment or {})
        self.environment.setdefault(VARIABLE, "{}")
        self._runs = 0

    def make(self, stage: str, specs: Mapping[str, Spec]) -> dict[str, str]:
        """Make artifacts of one stage again, in one process.

        What reads them later on, in this workspace, reads those of the results folder again.

        Args:
            stage: Their stage.
            specs: Their specs, by their folders.

        Returns:
            Why an artifact could not be made, by its folder; the others lie in `place(out)`.

        Raises:
            InputError: If a folder leaves the workspace.
        """
        for out in specs:
            self._clear(out)
        self._link_all(set(specs))
        self._runs += 1
        text = canonical({"stage": stage, "members": specs})
        arguments = ["stage", stage, "--out", f"bundles/again/{self._runs}", "--spec", "-"]
        done = subprocess.run(
            [*self.command, *arguments],
            input=text,
            cwd=self.folder,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        absent = [out for out in specs if not (self.folder / out).is_dir()]
        for out in specs.keys() - set(absent):
            self.place(out).parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self.place(out), ignore_errors=True)
            (self.folder / out).rename(self.place(out))
        return {out: _reason(done.stderr, out) for out in absent}

    def place(self, out: str) -> Path:
        """Where an artifact that was made again lies."""
        return self.folder / ".again" / out

    def _clear(self, out: str) -> None:
        if not is_inside(out):
            raise InputError(out, "leads out of the results folder")
        link = self.folder / out
        if link.is_symlink():
            link.unlink()

    def _link_all(self, without: set[str]) -> None:
        """Link to all artifacts, but for what is made; its place stays empty."""
        for out in self.results.artifacts:
            link = self.folder / out
            if out not in without and not os.path.lexists(link):
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(self.results.path / out, target_is_directory=True)


def _reason(said: str, out: str) -> str:
    """What a stage said of an artifact that it could not make."""
    lines = said.strip().splitlines()
    own = [line.partition("failed: ")[2] for line in lines if f" {out}  failed: " in line]
    return (own or lines[-1:] or ["it said nothing"])[0]

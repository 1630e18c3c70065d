"""Copies of the repository, in which tests edit code, studies and data and run Snakemake."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from xstilts.toyworld.generate import generate

_JOB = re.compile(r"^rule (\w+):\n(?:    .*\n)*?    output: ([^,\n]+)/[^/,\n]+", re.MULTILINE)
_PARTS = ("src/xstilts", "workflow", "Snakefile", "tests/workflow/matrix_rows.yaml")
_OURS = ("XSTILTS_", "SNAKEMAKE_", "HF_", "PYTEST_", "PYTHON")


@dataclass(frozen=True)
class Copy:
    """A copy of the repository that runs its own code.

    Attributes:
        folder: Its root.
        name: Name of the study; its file is `<name>.yaml`.
    """

    folder: Path
    name: str = "matrix"

    @property
    def study_file(self) -> Path:
        return self.folder / f"{self.name}.yaml"

    @property
    def results(self) -> Path:
        return self.folder / "results" / self.name

    @contextmanager
    def study(self) -> Iterator[dict[str, Any]]:
        """The study, to be changed."""
        content = yaml.safe_load(self.study_file.read_text(encoding="utf-8"))
        yield content
        self.study_file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    def edit(self, module: str, text: str = "\nEDITED = 1\n") -> None:
        """Add code to a module, given by its path below the package."""
        with (self.folder / "src" / "xstilts" / module).open("a", encoding="utf-8") as file:
            file.write(text)

    def run(self, *command: str, fails: bool = False) -> str:
        """Run a command with the copy's package; all that it says."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith(_OURS)}
        path = [str(self.folder / "bin"), str(Path(sys.executable).parent), environment["PATH"]]
        environment |= {
            "PATH": os.pathsep.join(path),
            "PYTHONPATH": str(self.folder / "src"),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(self.folder / "huggingface"),
        }
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert bool(done.returncode) == fails, done.stdout
        return done.stdout

    def snakemake(self, *arguments: str, fails: bool = False) -> str:
        """Run Snakemake on the study; targets come first among the arguments."""
        command = (sys.executable, "-m", "snakemake", *arguments)
        return self.run(*command, "--configfile", str(self.study_file), fails=fails)

    def planned(self, *arguments: str) -> set[str]:
        """What a dry run would make: `<rule> <artifact>` of each job."""
        said = self.snakemake("--dry-run", *arguments)
        jobs = {f"{rule} {artifact}" for rule, artifact in _JOB.findall(said)}
        assert jobs or "Nothing to be done" in said, said
        assert len(jobs) == len(re.findall(r"^rule (?!all)\w+:$", said, re.MULTILINE)), said
        return jobs

    def made(self, *arguments: str) -> set[str]:
        """Run Snakemake; the folders of all artifacts that were published, of any bytes."""
        before = self._published()
        self.snakemake(*arguments, "--cores", "2", "--quiet", "all")
        return {name for name, place in self._published().items() if before.get(name) != place}

    def _published(self) -> dict[str, tuple[int, int]]:
        """What a manifest keeps until its folder is published again: inode and time."""
        found = {path: path.stat() for path in self.results.rglob("manifest.json")}
        return {
            path.parent.relative_to(self.results).as_posix(): (stat.st_ino, stat.st_mtime_ns)
            for path, stat in found.items()
        }

    def lock(self, *arguments: str) -> str:
        """Lock the study's data."""
        return self.run("xstilts", "lock", str(self.study_file), *arguments)


def copy_repository(repository: Path, folder: Path, study: Path, name: str = "matrix") -> Copy:
    """Copy what runs a study, with a command `xstilts` of its own."""
    for part in _PARTS:
        source, target = repository / part, folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    copy = Copy(folder, name)
    shutil.copyfile(study, copy.study_file)
    command = folder / "bin" / "xstilts"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m xstilts.cli "$@"\n')
    command.chmod(0o755)
    place = copy.run(sys.executable, "-c", "import xstilts; print(xstilts.__file__)")
    assert place.strip() == str(folder / "src" / "xstilts" / "__init__.py")
    return copy


def clone(copy: Copy, folder: Path, with_times: bool = True) -> Copy:
    """Copy all files; with or without their times."""
    how: Callable[[str, str], object] = shutil.copy2 if with_times else shutil.copy
    shutil.copytree(copy.folder, folder, copy_function=how)
    return Copy(folder, copy.name)


#: Rows of each split of the mirror's data set.
PAIRS = {"train": 16, "validation": 4, "test": 4}


def write_mirror(mirror: Path, repository: str = "owner/pairs") -> Path:
    """A data set repository in the Hub's layout: pairs of sentences in three languages."""
    folder = mirror / repository
    readme = "---\nconfigs:\n"
    for language in ("qaa", "qab", "qac"):
        readme += f"- config_name: {language}\n  data_files:\n"
        for split in PAIRS if language == "qaa" else ("test",):
            readme += f"  - split: {split}\n    path: {language}/{split}.parquet\n"
            file = folder / language / f"{split}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pairs(language, split), file)
    (folder / "README.md").write_text(f"{readme}---\nPairs.\n", encoding="utf-8")
    return folder


def pairs(language: str, split: str) -> pa.Table:
    """Rows of a split of the mirror's data set."""
    rows = generate("paraphrase", language, split, PAIRS[split], seed=1)
    return pa.table({name: [row[name] for row in rows] for name in ("text_a", "text_b", "label")})

"""Studies that run on the cluster of `cluster.py`, through the profile that users run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
#: The trainings of `faults.yaml`.
SHORT = "checkpoints/tiny-xlmr/none/seed-1/toy_ner"
LONG = "checkpoints/tiny-xlmr/none/seed-1/toy_nli"
LARGE = "checkpoints/tiny-xlmr/none/seed-1/toy_pos"
#: A cluster of seconds: all else is as in the profile.
QUICK = {
    "--slurm-init-seconds-before-status-checks": "2",
    "--seconds-between-status-checks": "2",
    "--max-status-checks-per-second": "2",
    "--max-jobs-per-timespan": "100/1s",
    "--latency-wait": "10",
}


@dataclass
class Driver:
    """A running `snakemake`."""

    process: subprocess.Popen[str]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def ends(self, seconds: float = 400) -> int:
        """Wait for its end; its exit status."""
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGTERM)
            raise AssertionError(self.said[-6000:]) from None

    def succeeds(self, seconds: float = 400) -> str:
        """Wait for its end, which must be a good one; all that it said."""
        assert self.ends(seconds) == 0, self.said[-6000:]
        return self.said


@dataclass
class Study:
    """A study file and its results.

    Attributes:
        file: The study.
        results: ``<results>/<study>``.
        cluster: The cluster's file.
    """

    file: Path
    results: Path
    cluster: Path = HERE / "small" / "cluster.yaml"
    drivers: list[Driver] = field(default_factory=list)

    @classmethod
    def of(
        cls, source: Path, folder: Path, results: Path | None = None, without: str = ""
    ) -> Study:
        """A copy of a study file in a folder; its results lie there, too, or in another one.

        Args:
            source: The study.
            folder: Where the copy is put.
            results: Another folder for its results.
            without: A target that is left out.
        """
        content = yaml.safe_load(source.read_text(encoding="utf-8"))
        content["targets"] = [name for name in content["targets"] if name != without]
        content["training"]["tasks"].pop(without, None)
        content["results"] = str(results or folder)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{content['study']}.yaml"
        file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return cls(file, (results or folder) / content["study"])

    def _start(
        self, *arguments: str, environment: Mapping[str, str], before: Sequence[str] = ()
    ) -> Driver:
        names = ("XSTILTS_", "SNAKEMAKE_", "HF_", "PYTEST_", "SLURM_")
        own = {key: value for key, value in os.environ.items() if not key.startswith(names)}
        own |= {"OMP_NUM_THREADS": "1", **environment}
        own["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), own["PATH"]])
        log = self.file.with_name(f"driver-{len(self.drivers)}.log")
        command = [*before, sys.executable, "-m", "snakemake", *arguments]
        command += ["--configfile", str(self.file)]
        with log.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(
                command, cwd=REPOSITORY, env=own, stdout=file, stderr=file, text=True
            )
        self.drivers.append(Driver(process, log))
        return self.drivers[-1]

    def here(self, *arguments: str) -> Driver:
        """Run it on this machine, without SLURM; whatever else runs here goes first."""
        local = ("--cores", "2", "--scheduler", "greedy")
        return self._start(*arguments, *local, environment={}, before=("nice", "-n", "19"))

    def on_slurm(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Driver:
        """Run it through the profile for SLURM."""
        quick = [word for pair in QUICK.items() for word in pair]
        return self._start(
            *arguments,
            *("--workflow-profile", "workflow/profiles/slurm"),
            *("--default-resources", f"cluster_file={self.cluster}"),
            *quick,
            environment=environment or {},
        )

    def copy(self, folder: Path, without: str, results: Path | None = None) -> Study:
        """The study at another place, without one checkpoint and what it could be put back from."""
        study = Study.of(self.file, folder, results)
        shutil.copytree(self.results, study.results)
        study.cluster = self.cluster
        for name in (without, "state"):
            shutil.rmtree(study.results / name)
        return study

    def checkpoints(self) -> dict[str, str]:
        """Sha256 of every checkpoint's manifest, which holds those of its files."""
        found = sorted(self.results.glob("checkpoints/**/manifest.json"))
        found += sorted(self.results.glob("models/*/base/manifest.json"))
        return {str(path.relative_to(self.results)): sha256(path) for path in found}

    def broken(self) -> list[str]:
        """Files of checkpoints that are not what their manifest says."""
        found = []
        for name in self.checkpoints():
            folder = (self.results / name).parent
            for file, known in json.loads((folder / "manifest.json").read_text())["files"].items():
                path = folder / file
                if not path.exists() or sha256(path) != known["sha256"]:
                    found.append(str(path))
        return found

    def attempts(self, checkpoint: str) -> list[dict[str, Any]]:
        """How often a checkpoint was begun, and how each attempt ended."""
        text = (self.results / checkpoint / "provenance.json").read_text(encoding="utf-8")
        found: list[dict[str, Any]] = json.loads(text)["attempts"]
        return found

    def saved(self, checkpoint: str) -> Path | None:
        """The newest saved state of a training that runs."""
        steps = (self.results / "state" / checkpoint).glob("*/step-*")
        return max(steps, key=lambda path: int(path.name.removeprefix("step-")), default=None)

    def stop(self) -> None:
        """End what the test has left."""
        for driver in self.drivers:
            if driver.process.poll() is None:
                driver.process.kill()
                driver.process.wait()


def made(checkpoint: str) -> str:
    """What a driver is asked for: all that comes of a training would only take longer."""
    return f"{checkpoint}/manifest.json"


def sha256(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def wait_for(what: Callable[[], Any], seconds: float, name: str) -> Any:
    """Wait until something is true; its value."""
    end = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < end, f"waited {seconds} s for {name}"
        time.sleep(0.2)
    return value


def slurm(*command: str) -> str:
    """What a command of SLURM's says."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def jobs(*states: str) -> list[int]:
    """Ids of the jobs of our studies in some states."""
    lines = slurm("squeue", "--noheader", "--format", "%i %T %j").splitlines()
    rows = [line.split() for line in lines]
    return sorted(int(row[0]) for row in rows if row[1] in states and row[2].startswith("xstilts"))

"""Fixtures of whole studies."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


@pytest.fixture(scope="session")
def snakemake(repository: Path) -> Callable[..., str]:
    """Run Snakemake as a user does; all that it says."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [
                "snakemake",
                "--cores",
                "2",
                "--scheduler",
                "greedy",
                "--rerun-incomplete",
                *arguments,
            ],
            cwd=repository,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    return run


@pytest.fixture(scope="session")
def toy(repository: Path, snakemake: Callable[..., str], tmp_path_factory) -> Path:
    """Results of the toy study, as a user made them or made here; never to be changed."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with FileLock(base / "toy.lock"):
        snakemake("--quiet", "rules", "progress")
    return repository / "results" / "toy"

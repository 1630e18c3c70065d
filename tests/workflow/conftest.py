"""Fixtures of the workflow's tests."""

import os
import shutil
from pathlib import Path

import pytest
from copies import Copy, clone, copy_repository, write_mirror
from filelock import FileLock


@pytest.fixture(scope="session")
def finished(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """One finished run of the study of the rerun matrix; never changed, only copied."""
    base = tmp_path_factory.getbasetemp()
    # The workers of pytest-xdist share it.
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = base / "finished"
    with FileLock(base / "finished.lock"):
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            study = repository / "tests" / "workflow" / "matrix.yaml"
            copy = copy_repository(repository, folder, study)
            write_mirror(folder / "mirror")
            copy.snakemake("--cores", "2", "--quiet", "all")
            (folder / "done").touch()
    return Copy(folder)


@pytest.fixture
def copy(finished: Copy, tmp_path: Path) -> Copy:
    """The finished run, at another place, to be changed."""
    return clone(finished, tmp_path / "copy")

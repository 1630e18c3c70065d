"""Records: what is written down of an artifact's making."""

import json
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from xstilts.artifacts import record
from xstilts.artifacts.record import PROVENANCE, Record


def test_it_holds_versions_device_attempts_and_measured_values(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    made = Record([{"start": "earlier", "outcome": "interrupted"}])
    made.add(steps=5, tokens=70)
    made.write(tmp_path)
    content = json.loads((tmp_path / PROVENANCE).read_text())
    assert content["steps"] == 5
    assert content["tokens"] == 70
    assert [*content["attempts"][0]] == ["outcome", "start"]
    assert content["attempts"][1]["SLURM_JOB_ID"] == "17"
    start, end = (datetime.fromisoformat(content["attempts"][1][key]) for key in ("start", "end"))
    assert start <= end
    assert start.utcoffset() is not None
    assert content["versions"]["python"].split(".") == [str(n) for n in sys.version_info[:3]]
    assert {"numpy", "pyarrow", "tokenizers"} <= set(content["versions"])
    assert content["peak_bytes"] > 10_000_000
    assert content["device"]["cpus"] > 0


def test_the_environment_is_told(tmp_path, monkeypatch):
    for name in ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER"):
        monkeypatch.delenv(name, raising=False)
    kinds = {"system", "venv", "conda"}
    assert record.environment()["kind"] in kinds
    (tmp_path / "conda-meta").mkdir()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert record.environment() == {"kind": "conda", "prefix": str(tmp_path)}
    (tmp_path / "conda-meta").rmdir()
    assert record.environment() == {"kind": "venv", "prefix": str(tmp_path)}
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    assert record.environment() == {"kind": "system", "prefix": str(tmp_path)}


def test_an_image_is_told_by_its_labels(tmp_path, monkeypatch):
    monkeypatch.setenv("APPTAINER_CONTAINER", "/shared/train.sif")
    monkeypatch.setattr(record, "_LABELS", tmp_path / "labels.json")
    told = {"kind": "container", "image": "/shared/train.sif"}
    assert record.environment() == {**told, "labels": {}}
    (tmp_path / "labels.json").write_text('{"xstilts.lock.sha256": "98ff"}')
    Record().write(tmp_path)
    made = json.loads((tmp_path / PROVENANCE).read_text())
    assert made["environment"] == {**told, "labels": {"xstilts.lock.sha256": "98ff"}}


def git(folder: Path, *arguments: str) -> str:
    own = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    call = ["git", "-C", str(folder), *own, *arguments]
    return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A copy of the module in a repository of its own."""
    path = tmp_path / "record.py"
    shutil.copyfile(record.__file__, path)
    git(tmp_path, "init", "-q")
    monkeypatch.setattr(record, "__file__", str(path))
    record.git_state.cache_clear()
    yield tmp_path
    record.git_state.cache_clear()


def test_the_commit_and_whether_it_is_changed(source):
    git(source, "add", ".")
    git(source, "commit", "-q", "-m", "first")
    assert record.git_state() == {"commit": git(source, "rev-parse", "HEAD"), "dirty": False}
    (source / "record.py").write_text("changed")
    record.git_state.cache_clear()
    assert record.git_state()["dirty"] is True


def test_a_package_below_a_foreign_repository_has_no_commit(source):
    (source / "other").touch()
    git(source, "add", "other")
    git(source, "commit", "-q", "-m", "first")
    assert record.git_state() == {"commit": None, "dirty": None}


def test_no_git_at_all(source, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert record.git_state() == {"commit": None, "dirty": None}

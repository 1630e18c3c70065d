"""A disk that is full, or read-only, in the middle of a training: a real small file system."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tiny import settings_of_process, training_spec, write_world
from xstilts.artifacts.manifest import read_manifest
from xstilts.runtime import VARIABLE, runtime
from xstilts.training.stages import fine_tune

OUT = Path("checkpoints/out")
SPEC = training_spec({"token_classification": "token_classification"})
SOURCE = str(Path(__file__).parents[2] / "src")
#: Room for the best weights and two states, and for a part of a third.
SCRIPT = """
set -e
mount -t tmpfs -o size=330k tmpfs disk
echo "full:"; train || echo "status $?"
ls disk/out/*/*/*/ | sort | uniq -c
mount -o remount,ro,size=20m tmpfs disk
echo "read-only:"; train || echo "status $?"
mount -o remount,rw,size=20m tmpfs disk
echo "room:"; train || echo "status $?"
"""


def _can_mount() -> bool:
    return (
        shutil.which("unshare") is not None
        and not subprocess.run(
            ["unshare", "-rm", "sh", "-c", "mount -t tmpfs tmpfs /mnt"], capture_output=True
        ).returncode
    )


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    if not _can_mount():
        pytest.skip("needs a mount namespace of its own; this machine allows none")
    monkeypatch.chdir(tmp_path)
    settings_of_process(monkeypatch)
    write_world()
    yield tmp_path
    runtime.cache_clear()


def test_a_full_disk_and_a_read_only_one_lose_nothing(results):
    fine_tune(SPEC, Path("straight"))
    Path("disk").mkdir()
    Path("spec.json").write_text(json.dumps(SPEC))
    call = f"{sys.executable} -m xstilts.cli stage finetune --out {OUT}"
    train = f'train() {{ {call} --spec "$(cat spec.json)" 2>&1; }}'
    settings = {"state": "disk/out", "save_seconds": 0}
    environment = os.environ | {VARIABLE: json.dumps(settings), "PYTHONPATH": SOURCE}
    done = subprocess.run(
        ["unshare", "-rm", "bash", "-c", train + SCRIPT],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    full, rest = done.stdout.removeprefix("full:\n").split("read-only:\n")
    read_only, room = rest.split("room:\n")
    assert "the state of the training cannot be saved (" in full
    assert "MiB are free. The last saved state is whole: make room" in full
    assert "status 2" in full
    assert ".tmp" not in full  # nothing half written lies about
    assert "Traceback" not in done.stdout + done.stderr
    assert "Read-only file system" in read_only
    assert "status 2" in read_only
    assert "done in" in room
    assert "status" not in room
    assert read_manifest(OUT).files == read_manifest(Path("straight")).files
    attempts = json.loads((OUT / "provenance.json").read_text())["attempts"]
    assert len(attempts) >= 2  # the state of the first was found

"""Artifacts of the toy study made again: the same bytes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

#: One of each is drawn; a training, and what comes of it.
STAGES = ["finetune", "evaluate", "score", "transferability", "distances"]


def test_five_artifacts_come_out_with_the_same_bytes(
    repository: Path, toy: Path, tmp_path: Path
) -> None:
    file = tmp_path / "replay.json"
    command = [sys.executable, "-m", "xstilts.cli", "audit", "replay", str(toy)]
    options = ["--seed", "4", *(word for stage in STAGES for word in ("--stage", stage))]
    done = subprocess.run(
        [*command, "--sample", "5", *options, "--json", str(file)],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    made = json.loads(file.read_text())["artifacts"]
    assert [(one["verdict"], one["files"]) for one in made] == [("same", [])] * 5
    assert {one["stage"] for one in made} == set(STAGES)

"""Several processes as one training: the same batches, the same losses, one writer."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tiny import FORMATS, TEXT, settings_of_process, training_spec, write_world
from xstilts.errors import InputError
from xstilts.runtime import VARIABLE, runtime
from xstilts.training import team as module
from xstilts.training.batches import micro_batches
from xstilts.training.stages import fine_tune
from xstilts.training.team import Team, alone, together

OUT = Path("checkpoints/out")
TWO = json.dumps({"processes": 2, "on_collapse": "report"})
SOURCE = str(Path(__file__).parents[2] / "src")


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    settings_of_process(monkeypatch)
    write_world()
    yield tmp_path
    runtime.cache_clear()


def stage(spec: dict, settings: str, out: Path = OUT, **more) -> subprocess.Popen:
    """The real command in a process of its own."""
    call = [sys.executable, "-m", "xstilts.cli", "stage", "finetune", "--out", str(out)]
    environment = {**os.environ, VARIABLE: settings, "PYTHONPATH": SOURCE}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*call, "--spec", json.dumps(spec)], stderr=pipe, text=True, env=environment, **more
    )


def history(out: Path = OUT) -> list[dict]:
    return [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]


def mixed(**settings) -> dict:
    """Every format and text; several parts a step, so that dropout is the same in both."""
    tasks = {name: name for name in FORMATS}
    spec = training_spec(tasks, TEXT, evaluate_every=1, batch_size=8, **settings)
    return spec | {"mlm": spec["mlm"] | {"batch_size": 8}}


def test_two_processes_have_the_losses_of_one(results):
    spec = mixed(learning_rate=1e-3, max_steps=12)
    fine_tune(spec, Path("one"))
    process = stage(spec, TWO)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    one, two = history(Path("one")), history()
    assert [entry["loss"] for entry in two] == pytest.approx(
        [entry["loss"] for entry in one], abs=1e-5
    )
    for mine, other in zip(one, two, strict=True):
        assert other["dev"] == pytest.approx(mine["dev"], abs=1e-5)
    account = [json.loads((out / "training.json").read_text()) for out in (Path("one"), OUT)]
    assert account[0]["tasks"] == account[1]["tasks"]
    assert (OUT / "order.npy").read_bytes() == Path("one/order.npy").read_bytes()
    made = json.loads((OUT / "provenance.json").read_text())
    assert (made["processes"], len(made["attempts"])) == (2, 1)
    tokens = json.loads(Path("one/provenance.json").read_text())["tokens"]
    assert made["tokens"] == tokens
    assert said.count("done in") == 1  # one of them tells


def test_stopped_in_two_and_ended_in_one(results, monkeypatch):
    """The state knows nothing of how many processes there were."""
    usual = {"max_steps": 300, "evaluate_every": 100, "learning_rate": 1e-3, "batch_size": 8}
    spec = training_spec({"question_answering": "question_answering"}, **usual)
    fine_tune(spec, Path("one"))
    process = stage(spec, TWO.replace("{", '{"log_seconds": 0.001, ', 1))
    assert process.stderr is not None
    assert "step " in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    said = process.stderr.read()
    assert process.wait(timeout=120) == 75, said
    assert said.count("state saved, needs more time") == 1
    (state,) = Path("state", OUT).glob("*/step-*")
    assert 0 < json.loads((state / "values.json").read_text())["step"] < 300
    settings_of_process(monkeypatch, json.dumps({"on_collapse": "report"}))
    fine_tune(spec, OUT)
    losses = [[entry["loss"] for entry in history(out)] for out in (Path("one"), OUT)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)
    made = json.loads((OUT / "provenance.json").read_text())
    assert [attempt.get("outcome") for attempt in made["attempts"]] == ["interrupted", None]


def test_torchrun_may_start_them_too(results):
    spec = mixed(learning_rate=1e-3, max_steps=4)
    fine_tune(spec, Path("one"))
    call = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    call += ["-m", "xstilts.cli", "stage", "finetune", "--out", str(OUT)]
    environment = {**os.environ, VARIABLE: '{"on_collapse": "report"}', "PYTHONPATH": SOURCE}
    call += ["--spec", json.dumps(spec)]
    done = subprocess.run(call, capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr
    losses = [[entry["loss"] for entry in history(out)] for out in (Path("one"), OUT)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


def test_a_killed_process_ends_the_team_and_leaves_nobody(results):
    spec = training_spec({"question_answering": "question_answering"}, max_steps=40000)
    settings = TWO.replace("{", '{"log_seconds": 0.001, ', 1)
    process = stage(spec, settings, start_new_session=True)
    assert process.stderr is not None
    assert "step " in process.stderr.readline()
    crew = workers(process.pid)
    assert len(crew) == 2
    os.kill(crew[1], signal.SIGKILL)
    process.stderr.read()
    assert process.wait(timeout=60) not in (0, 75)
    assert gone(crew)


def test_a_killed_parent_takes_its_team_along(results):
    spec = training_spec({"question_answering": "question_answering"}, max_steps=40000)
    settings = TWO.replace("{", '{"log_seconds": 0.001, ', 1)
    process = stage(spec, settings, start_new_session=True)
    assert process.stderr is not None
    assert "step " in process.stderr.readline()
    crew = workers(process.pid)
    process.kill()
    process.wait()
    assert gone(crew)


def workers(parent: int) -> list[int]:
    """Processes of a team, by their parent."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    named = [(int(pid), Path(f"/proc/{pid}/cmdline").read_text()) for pid in children]
    return [pid for pid, line in named if "spawn_main" in line]


def gone(pids: list[int], seconds: float = 30.0) -> bool:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        states = [Path(f"/proc/{pid}/stat") for pid in pids]
        if not any(path.exists() and " Z " not in path.read_text() for path in states):
            return True
        time.sleep(0.1)
    return False


def test_bad_input_is_told_once(results):
    spec = training_spec({"sequence_classification": "sequence_classification"})
    spec["heads"] = {"sequence_classification": "other"}
    process = stage(spec, TWO)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    assert said.count("the checkpoint has no head 'other'") == 1
    assert "Traceback" not in said


def test_fewer_gpus_than_processes(monkeypatch):
    settings_of_process(monkeypatch, '{"processes": 4}')
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match=r"fewer GPUs than processes.*expected 4 GPUs; found 1"):
        together(lambda team: None, lambda: None)


def test_one_process_is_alone():
    seen = []
    together(seen.append, lambda: None)
    assert seen == [alone()]
    team = alone()
    assert (team.first, team.sums(1, 2.5), team.gathered("x")) == (True, [1, 2.5], ["x"])
    assert team.own("abc") == [(0, "a"), (1, "b"), (2, "c")]


def test_every_process_takes_its_share():
    crew = [Team(rank, 3, torch.device("cpu")) for rank in range(3)]
    shares = [team.own("abcdefg") for team in crew]
    assert shares[0] == [(0, "a"), (3, "d"), (6, "g")]
    assert sorted(part for share in shares for part in share) == list(enumerate("abcdefg"))


@pytest.mark.parametrize("at_least", [1, 2, 3, 5, 9])
def test_a_batch_has_a_part_for_everyone(at_least):
    lengths, ids = np.array([3, 9, 4, 7, 5, 6, 2]), np.array([6, 1, 3, 0, 4])
    parts = micro_batches(ids, lengths, np.ones(7, int), 10**6, at_least)
    assert len(parts) == min(at_least, 5)
    assert sorted(np.concatenate(parts).tolist()) == sorted(ids.tolist())
    assert all(len(part) for part in parts)


def test_gradients_come_in_pieces(monkeypatch):
    monkeypatch.setattr(module, "_PIECE", 10)
    sizes = [4, 4, 4, 25, 1]
    pieces = list(module._pieces([torch.zeros(size) for size in sizes]))
    assert [[len(part) for part in piece] for piece in pieces] == [[4, 4, 4], [25], [1]]

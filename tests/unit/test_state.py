"""Resumable state: atomic, the last two kept, for one spec and one writer."""

import fcntl
import json
import multiprocessing
import os
import queue
import shutil
from pathlib import Path

import pytest
import torch

from tiny import settings_of_process
from xstilts.artifacts.publish import publishing
from xstilts.artifacts.spec import spec_sha256
from xstilts.errors import InputError
from xstilts.runtime import runtime
from xstilts.training import state as module
from xstilts.training.state import State, training_state

OUT, SPEC = Path("checkpoints/m/none/seed-1/nli"), {"stage": "finetune", "seed": 1}
HOME = Path("state") / OUT


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings_of_process(monkeypatch)
    yield tmp_path
    runtime.cache_clear()


def save(state: State, step: int) -> None:
    state.save(step, {"weights": {"a": torch.full((3,), float(step))}}, {"best_score": -1.5})


def load(state: State) -> tuple | None:
    place = state.newest()
    return None if place is None else state.read(place)


def saved_steps(state: State) -> list[str]:
    return sorted(path.name for path in state.folder.glob("step-*"))


def test_what_is_saved_comes_back():
    with training_state(OUT, SPEC) as state:
        assert load(state) is None
        save(state, 5)
        tensors, values = load(state)
    assert tensors["weights"]["a"].tolist() == [5, 5, 5]
    assert values == {"step": 5, "best_score": -1.5}
    assert state.folder == HOME / spec_sha256(SPEC)[:16]


def test_the_last_two_are_kept():
    with training_state(OUT, SPEC) as state:
        for step in (8, 9, 10, 11):
            save(state, step)
        assert saved_steps(state) == ["step-10", "step-11"]
        assert load(state)[1]["step"] == 11


@pytest.mark.parametrize("name", ["tensors.pt", "values.json", "sha256.json", "best.pt"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "lost"])
def test_a_torn_newest_falls_back(name, damage, capsys):
    with training_state(OUT, SPEC) as state:
        for step in (1, 2):
            state.save_best({"step": step})
            save(state, step)
        path = state.folder / "step-2" / name
        content = bytearray(path.read_bytes())
        path.unlink()
        if damage == "cut":
            path.write_bytes(content[:-1])
        elif damage == "flipped":
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        assert load(state)[1]["step"] == 1
        assert state.load_best() == {"step": 1}
        assert "step-2: is damaged and left out" in capsys.readouterr().err


def test_a_half_written_step_is_not_there():
    with training_state(OUT, SPEC) as state:
        save(state, 1)
        (state.folder / ".step-2.tmp").mkdir()
        assert load(state)[1]["step"] == 1
        assert not (state.folder / ".step-2.tmp").exists()


def test_an_error_while_saving_leaves_the_old_step(monkeypatch):
    def failing(tensors, path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    with training_state(OUT, SPEC) as state:
        save(state, 1)
        monkeypatch.setattr(torch, "save", failing)
        with pytest.raises(InputError, match=r"cannot be saved .disk full.; [0-9]+ MiB are free"):
            save(state, 2)
        assert saved_steps(state) == ["step-1"]
        assert load(state)[1]["step"] == 1


def test_the_best_weights_go_back_to_those_of_the_step():
    with training_state(OUT, SPEC) as state:
        state.save_best({"step": 3})
        save(state, 4)
        state.save_best({"step": 6})  # after the saved step: it is repeated
        assert state.load_best() == {"step": 6}
        load(state)
        assert state.load_best() == {"step": 3}


def test_no_best_yet():
    with training_state(OUT, SPEC) as state:
        save(state, 4)
        state.save_best({"step": 6})
        load(state)
        assert not state.best.exists()


def test_file_systems_without_links(monkeypatch):
    def no_links(*_):
        raise OSError("not supported")

    monkeypatch.setattr(os, "link", no_links)
    test_the_best_weights_go_back_to_those_of_the_step()


def test_another_spec_does_not_resume():
    with training_state(OUT, SPEC) as state:
        save(state, 1)
    with training_state(OUT, SPEC | {"seed": 2}) as other:
        assert load(other) is None
    with training_state(OUT, SPEC) as state:
        assert load(state)[1]["step"] == 1


def test_a_state_of_another_spec_is_refused():
    """Somebody has copied it there by hand."""
    with training_state(OUT, SPEC) as state:
        save(state, 1)
    with training_state(OUT, SPEC | {"seed": 2}) as other:
        shutil.copytree(state.folder / "step-1", other.folder / "step-1")
        with pytest.raises(InputError, match=r"step-1: is the state of another spec.*delete"):
            load(other)


def test_steps_before_a_restart_are_forgotten(monkeypatch):
    """Even if the restart was killed before it had removed them."""
    with training_state(OUT, SPEC) as state, monkeypatch.context() as patch:
        state.save_best({"step": 2})
        save(state, 2)
        patch.setattr(shutil, "rmtree", lambda path, **_: None)
        state.restart({"reason": "flat"})
    with training_state(OUT, SPEC) as state:
        assert state.restarts == [{"reason": "flat"}]
        assert saved_steps(state) == ["step-2"]
        assert load(state) is None
        assert saved_steps(state) == []
        assert not state.best.exists()
        save(state, 1)
        assert load(state)[1]["step"] == 1


def _second_writer(folder: Path, spec: dict, answers) -> None:
    os.chdir(folder)
    try:
        with training_state(OUT, spec):
            answers.put("it got it")
    except InputError as error:
        answers.put(str(error))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_second_writer_is_refused(results, seed):
    """Of the same artifact, whatever its spec."""
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    arguments = (results, SPEC | {"seed": seed}, answers)
    with training_state(OUT, SPEC):
        child = context.Process(target=_second_writer, args=arguments)
        child.start()
        assert "another process is training this artifact" in answers.get(timeout=20)
        child.join()
    child = context.Process(target=_second_writer, args=arguments)
    child.start()
    assert answers.get(timeout=20) == "it got it"
    child.join()


def test_in_a_job_of_slurm_the_next_attempt_waits_for_the_end_of_the_last(results, monkeypatch):
    """SLURM says that a job has ended when it begins to kill it."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    context = multiprocessing.get_context("spawn")  # a fork would hold the lock, too
    answers = context.Queue()
    with training_state(OUT, SPEC):
        child = context.Process(target=_second_writer, args=(results, SPEC, answers))
        child.start()
        with pytest.raises(queue.Empty):
            answers.get(timeout=4)
    assert answers.get(timeout=20) == "it got it"
    child.join()


def test_a_lock_file_of_the_last_one_is_not_locked_in_vain(monkeypatch):
    """The first holder removes the folder between our opening of the file and our locking it."""
    real, calls = fcntl.flock, []

    def flock(file, how):
        calls.append(file.name)
        if len(calls) == 1:
            Path(file.name).unlink()
        real(file, how)

    monkeypatch.setattr(module.fcntl, "flock", flock)
    with training_state(OUT, SPEC):
        assert len(calls) == 2
        assert (HOME / "lock").exists()


def test_file_systems_without_locks(monkeypatch, capsys):
    def no_locks(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(module.fcntl, "flock", no_locks)
    with training_state(OUT, SPEC) as state:
        save(state, 1)
    assert "this file system has no locks" in capsys.readouterr().err


def test_removed_when_the_artifact_is_published():
    with training_state(OUT, SPEC | {"seed": 2}) as other:
        save(other, 1)
    with training_state(OUT, SPEC) as state:
        save(state, 1)
        state.remove()
    assert not HOME.exists()


def test_attempts_are_remembered():
    with training_state(OUT, SPEC) as state:
        state.note("interrupted")
    with training_state(OUT, SPEC):
        pass  # killed: it writes nothing at its end
    with training_state(OUT, SPEC) as state:
        assert [entry["outcome"] for entry in state.record.attempts] == ["interrupted", "killed"]
        assert {"start", "end", "host"} <= state.record.attempts[0].keys()
    path = state.folder / "attempts.json"
    assert len(json.loads(path.read_text())) == 3
    path.write_text("[{")
    with training_state(OUT, SPEC) as state:
        assert state.record.attempts == []


def test_what_was_done_from_other_inputs_is_forgotten(capsys):
    """The same spec, but the checkpoint that the training starts from was made anew."""
    base, spec = Path("models/m/base"), {**SPEC, "inputs": {"model": "models/m/base"}}
    found = []
    for weights in ("old", "old", "new"):
        with publishing(base, {"stage": "pretrain"}) as draft:
            (draft.folder / "model.safetensors").write_text(weights)
        with training_state(OUT, spec) as state:
            found.append((load(state) is not None, len(state.restarts)))
            if weights == "old" and not state.restarts:
                state.restart({"reason": "an answer for all"})
            save(state, 5)
    assert found == [(False, 0), (True, 1), (False, 0)]
    assert "is of other inputs; begins anew" in capsys.readouterr().err

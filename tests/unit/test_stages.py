"""Whole trainings: the same bytes twice, and the same bytes after any interruption."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tiny import (
    FORMATS,
    MLM,
    SETTINGS,
    TEXT,
    VOCAB,
    run_stage,
    settings_of_process,
    training_spec,
    write_tokens,
    write_world,
)
from xstilts.artifacts.manifest import read_manifest
from xstilts.errors import InputError
from xstilts.runtime import VARIABLE, runtime
from xstilts.training.stages import EXIT_MORE_TIME, fine_tune, pretrain

OUT = Path("checkpoints/out")
RECIPES = {name: ({name: name}, None) for name in FORMATS}
RECIPES["mixed with text"] = ({name: name for name in FORMATS}, TEXT)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    before = Path.cwd()
    os.chdir(folder)
    write_world()
    os.chdir(before)
    return folder


@pytest.fixture(autouse=True)
def results(world, tmp_path, monkeypatch) -> Path:
    """A results folder of its own, with the inputs of the world."""
    for name in ("models", "tokens"):
        (tmp_path / name).symlink_to(world / name)
    monkeypatch.chdir(tmp_path)
    settings_of_process(monkeypatch)
    yield tmp_path
    runtime.cache_clear()


@pytest.fixture(scope="module")
def straight(world, tmp_path_factory):
    """Files of a training without interruption, by recipe."""
    known: dict[str, dict] = {}

    def files(name: str) -> dict:
        if name not in known:
            fine_tune(training_spec(*RECIPES[name]), Path(f"straight/{len(known)}"))
            known[name] = read_manifest(Path(f"straight/{len(known)}")).files
        return known[name]

    return files


CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["transformers.models.xlm_roberta.modeling_xlm_roberta", "pyarrow.parquet"]
)


def interrupted(folder: Path, spec: dict, settings: dict, step: int, how: int) -> int | None:
    """Exit code of a training in a process of its own that gets a signal at a step."""
    arguments = (folder, spec, str(OUT), json.dumps(settings), (step, how))
    child = CONTEXT.Process(target=run_stage, args=arguments)
    child.start()
    child.join()
    return child.exitcode


def outcomes() -> list[str | None]:
    attempts = json.loads((OUT / "provenance.json").read_text())["attempts"]
    return [attempt.get("outcome") for attempt in attempts]


@pytest.mark.parametrize("name", RECIPES)
def test_the_same_bytes_twice(name, straight):
    fine_tune(training_spec(*RECIPES[name]), OUT)
    assert read_manifest(OUT).files == straight(name)
    assert {"model.safetensors", "heads.safetensors", "history.jsonl"} <= set(straight(name))


@pytest.mark.parametrize("name", RECIPES)
def test_stopped_and_resumed_gives_the_same_bytes(name, straight, results):
    spec = training_spec(*RECIPES[name])
    assert interrupted(results, spec, {}, 5, signal.SIGTERM) == EXIT_MORE_TIME == 75
    (saved,) = Path("state", OUT).glob("*/step-*")
    assert saved.name == "step-5"
    assert not OUT.exists()
    # A second stop just after an evaluation, which may have found new best weights.
    assert interrupted(results, spec, {}, 9, signal.SIGTERM) == EXIT_MORE_TIME
    fine_tune(spec, OUT)
    assert read_manifest(OUT).files == straight(name)
    assert outcomes() == ["interrupted", "interrupted", None]
    assert not Path("state", OUT).exists()


@pytest.mark.parametrize("name", RECIPES)
def test_killed_and_resumed_gives_the_same_bytes(name, straight, results):
    """Killed after step 9 was evaluated, before it was saved: the best weights are of step 9."""
    spec = training_spec(*RECIPES[name])
    settings = {"save_seconds": 0.0}
    assert interrupted(results, spec, settings, 9, signal.SIGKILL) == -signal.SIGKILL
    saved = sorted(path.name for path in Path("state", OUT).glob("*/step-*"))
    assert saved == ["step-7", "step-8"]
    fine_tune(spec, OUT)
    assert read_manifest(OUT).files == straight(name)
    assert outcomes() == ["killed", None]


def test_a_torn_state_costs_steps_and_no_bytes(straight, results):
    name = "token_classification"
    spec = training_spec(*RECIPES[name])
    interrupted(results, spec, {"save_seconds": 0.0}, 9, signal.SIGKILL)
    (newest,) = Path("state", OUT).glob("*/step-8/tensors.pt")
    newest.write_bytes(newest.read_bytes()[:-100])
    fine_tune(spec, OUT)
    assert read_manifest(OUT).files == straight(name)


def test_stopped_at_the_last_step_it_ends(straight, results):
    name = "sequence_classification"
    spec = training_spec(*RECIPES[name])
    assert interrupted(results, spec, {}, 12, signal.SIGTERM) == 0
    assert read_manifest(OUT).files == straight(name)


def test_other_settings_do_not_resume(results):
    task = RECIPES["sequence_classification"]
    first = training_spec(*task)
    assert interrupted(results, first, {}, 5, signal.SIGTERM) == 75
    other = training_spec(*task, max_steps=4)
    fine_tune(other, OUT)
    history = [json.loads(line) for line in (OUT / "history.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in history] == [3, 4]
    assert outcomes() == [None]


def test_the_command_line_ends_with_75_on_sigterm(results):
    """The real thing: a process of the package, stopped from outside while it trains."""
    spec = training_spec(*RECIPES["sequence_classification"], max_steps=2000, evaluate_every=500)
    settings = json.dumps({"log_seconds": 0.001})
    call = [sys.executable, "-m", "xstilts.cli", "stage", "finetune", "--out", str(OUT)]
    source = str(Path(__file__).parents[2] / "src")
    child = subprocess.Popen(
        [*call, "--spec", json.dumps(spec)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, VARIABLE: settings, "PYTHONPATH": source},
    )
    assert child.stderr is not None
    assert "step " in child.stderr.readline()
    child.send_signal(signal.SIGTERM)
    rest = child.stderr.read()
    assert child.wait() == 75
    assert "state saved, needs more time" in rest
    assert "Traceback" not in rest
    assert len(list(Path("state", OUT).glob("*/step-*"))) == 1


def test_the_seed_matters(straight):
    name = "sequence_classification"
    spec = training_spec(*RECIPES[name]) | {"seed": 4}
    fine_tune(spec, OUT)
    assert read_manifest(OUT).files["model.safetensors"] != straight(name)["model.safetensors"]


def test_saving_often_changes_nothing(straight, monkeypatch):
    settings_of_process(monkeypatch, '{"save_seconds": 0, "log_seconds": 0, "threads": 2}')
    name = "question_answering"
    fine_tune(training_spec(*RECIPES[name]), OUT)
    assert read_manifest(OUT).files == straight(name)


def pretrain_spec(**settings) -> dict:
    size = {"hidden": 16, "layers": 1, "heads": 2, "intermediate": 16}
    return {
        "stage": "pretrain",
        "model": {"architecture": "xlm-roberta", "scratch": size, "max_length": 16},
        "seed": 1,
        "settings": SETTINGS | settings,
        "mlm": MLM,
        "inputs": {"tokens": TEXT},
    }


def test_pretraining_learns_and_repeats():
    spec = pretrain_spec(max_steps=60, micro_batch_tokens=1000)
    pretrain(spec, OUT)
    history = [json.loads(line) for line in (OUT / "history.jsonl").read_text().splitlines()]
    assert history[-1]["loss"] < np.log(VOCAB)
    assert "lm_head.dense.weight" in load_file(OUT / "model.safetensors")
    pretrain(spec, Path("again"))
    assert read_manifest(Path("again")).files == read_manifest(OUT).files


def steps_of(spec: dict) -> int:
    fine_tune(spec, OUT)
    return json.loads((OUT / "provenance.json").read_text())["steps"]


def test_steps_by_hand():
    name = {"sequence_classification": "sequence_classification"}
    # 30 examples in batches of 4 are 8 steps; 1.5 epochs are 12.
    assert steps_of(training_spec(name, max_steps=None, epochs=1.5)) == 12
    assert steps_of(training_spec(name, max_steps=5, epochs=1.5)) == 5
    two = name | {"token_classification": "token_classification"}
    assert steps_of(training_spec(two, max_steps=None, epochs=0.5)) == 8
    # 14 steps of a task and 6 of text: a share of 0.3.
    assert steps_of(training_spec(name, TEXT, max_steps=None, epochs=1.75)) == 20


def test_text_alone():
    spec = training_spec({}, TEXT, max_steps=None, epochs=1.0)
    assert steps_of(spec) == 12  # 45 sequences in batches of 4
    assert json.loads((OUT / "heads.json").read_text()) == {}


def test_bf16_and_a_second_task_on_the_same_head():
    name = "sequence_classification"
    fine_tune(training_spec({name: name}, precision="bf16", max_steps=3), OUT)
    spec = training_spec({"second": name}, max_steps=1, learning_rate=1e-9, warmup=0.0)
    spec["tasks"][0]["tokens"] = [f"tokens/{name}"]
    spec["inputs"] = {"model": str(OUT), "tokens": [f"tokens/{name}"]}
    fine_tune(spec | {"heads": {"second": name}}, Path("checkpoints/second"))
    old = load_file(OUT / "heads.safetensors")[f"{name}.out_proj.weight"]
    new = load_file("checkpoints/second/heads.safetensors")["second.out_proj.weight"]
    torch.testing.assert_close(new, old, rtol=1e-4, atol=1e-6)
    fine_tune(spec, Path("checkpoints/fresh"))
    fresh = load_file("checkpoints/fresh/heads.safetensors")["second.out_proj.weight"]
    assert (fresh - old).abs().max() > 1e-3


def test_a_head_of_other_labels_is_refused(results):
    name = "sequence_classification"
    fine_tune(training_spec({name: name}, max_steps=1), OUT)
    write_tokens("other", name, labels=["no", "yes", "perhaps"])
    spec = training_spec({"second": name}, max_steps=1)
    spec["tasks"][0]["tokens"] = ["other"]
    spec["inputs"] = {"model": str(OUT), "tokens": ["other"]}
    with pytest.raises(InputError, match=r"expected .* of no, yes, perhaps; found .* of yes, no"):
        fine_tune(spec | {"heads": {"second": name}}, Path("second"))


def test_one_label_teaches_nothing(results):
    from safetensors.numpy import load_file as load_arrays
    from safetensors.numpy import save_file

    from xstilts.artifacts.publish import publishing

    source = Path(write_tokens("source", "sequence_classification"))
    with publishing(Path("same"), {"stage": "tokens"}) as draft:
        arrays = load_arrays(source / "train.safetensors")
        arrays["labels"][:] = 1
        save_file(arrays, draft.folder / "train.safetensors")
        (draft.folder / "meta.json").write_bytes((source / "meta.json").read_bytes())
    spec = training_spec({"nli": "sequence_classification"})
    spec["tasks"][0]["tokens"] = ["same"]
    with pytest.raises(InputError, match=r"'nli' has the same label.* found no"):
        fine_tune(spec, OUT)
    assert not OUT.exists()


def test_no_dev_split_to_select_on(results):
    write_tokens("no-dev", "sequence_classification", splits={"train": 9})
    spec = training_spec({"nli": "sequence_classification"}, max_steps=2)
    spec["tasks"][0]["tokens"] = ["no-dev"]
    spec["inputs"]["tokens"] = ["no-dev"]
    with pytest.raises(InputError, match="task 'nli' has no dev split"):
        fine_tune(spec, OUT)
    spec["settings"]["select"] = "last"
    fine_tune(spec, OUT)
    assert json.loads((OUT / "provenance.json").read_text())["best_step"] == -1


def test_a_failed_training_is_an_attempt(monkeypatch):
    from xstilts.training.loop import _Loop

    spec = training_spec(*RECIPES["sequence_classification"])
    with monkeypatch.context() as patch:
        patch.setattr(_Loop, "_step", lambda self, index: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fine_tune(spec, OUT)
    fine_tune(spec, OUT)
    assert outcomes() == ["failed", None]


def test_a_failed_publication_keeps_the_state(monkeypatch, straight):
    """The disk is full at the very end: the next attempt has nothing to train again."""
    from xstilts.training import stages

    name = "sequence_classification"
    spec = training_spec(*RECIPES[name])
    settings_of_process(monkeypatch, '{"save_seconds": 0}')
    with monkeypatch.context() as patch:

        def full(*_, **__):
            raise OSError(28, "No space left on device")

        patch.setattr(stages, "save_model", full)
        with pytest.raises(OSError, match="No space"):
            fine_tune(spec, OUT)
    assert not OUT.exists()
    assert [path.name for path in OUT.parent.iterdir()] == []
    assert list(Path("state", OUT).glob("*/step-11"))
    fine_tune(spec, OUT)
    assert read_manifest(OUT).files == straight(name)


def test_it_starts_without_what_it_does_not_need():
    """Importing the stage costs torch and numpy; transformers comes with the model."""
    code = (
        "import sys, xstilts.training.stages, xstilts.evaluation.evaluate;"
        "print({'transformers', 'pandas', 'pyarrow', 'datasets', 'accelerate'} & set(sys.modules))"
    )
    source = str(Path(__file__).parents[2] / "src")
    env = {**os.environ, "PYTHONPATH": source}
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout.strip() == "set()", done.stderr
    assert time.monotonic() - start < 120

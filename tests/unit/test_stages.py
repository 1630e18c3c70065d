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
from xstilts.artifacts.publish import publishing
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


@pytest.mark.parametrize("format_name", ["sequence_classification", "token_classification"])
def test_one_label_teaches_nothing(results, format_name):
    from safetensors.numpy import load_file as load_arrays
    from safetensors.numpy import save_file

    source = Path(write_tokens("source", format_name))
    with publishing(Path("same"), {"stage": "tokens"}) as draft:
        arrays = load_arrays(source / "train.safetensors")
        arrays["labels"][arrays["labels"] >= 0] = 1
        save_file(arrays, draft.folder / "train.safetensors")
        (draft.folder / "meta.json").write_bytes((source / "meta.json").read_bytes())
    spec = training_spec({"nli": format_name})
    spec["tasks"][0]["tokens"] = ["same"]
    with pytest.raises(InputError, match=r"'nli' has the same label.* found (no|B-PER)"):
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


# ---- what learns nothing


def hopeless(**settings) -> dict:
    """A training that stays at chance: found at step 80, three evaluations after the grace."""
    usual = {"learning_rate": 1e-9, "max_steps": 100, "evaluate_every": 20}
    return training_spec(*RECIPES["sequence_classification"], **usual | settings)


def account(out: Path = OUT) -> dict:
    return json.loads((out / "training.json").read_text())


def test_what_learns_nothing_fails_with_the_evidence():
    expected = r"collapsed: flat at step 80: mean loss 1\.\d+ over 20 steps; a guess .* has 1\.\d+"
    with pytest.raises(InputError, match=f"{OUT}: sequence_classification: .*{expected}"):
        fine_tune(hopeless(), OUT)
    assert not OUT.exists()


def test_it_can_go_on_all_the_same(monkeypatch):
    """Nothing is trained twice when the study says `on_collapse: report` afterwards."""
    with pytest.raises(InputError, match="collapsed"):
        fine_tune(hopeless(), OUT)
    with pytest.raises(InputError, match="collapsed"):  # again at once
        fine_tune(hopeless(), OUT)
    settings_of_process(monkeypatch, '{"on_collapse": "report"}')
    from xstilts.training.loop import _Loop

    trained, real = [], _Loop._step
    with monkeypatch.context() as patch:
        patch.setattr(_Loop, "_step", lambda self, n: trained.append(n) or real(self, n))
        fine_tune(hopeless(), OUT)
    assert len(trained) == 20
    assert [entry["reason"] for entry in account()["collapsed"]] == ["flat"]
    fine_tune(hopeless(), Path("straight/hopeless"))
    assert read_manifest(OUT).files == read_manifest(Path("straight/hopeless")).files
    assert outcomes() == ["failed", "failed", None]


def test_restarts_have_another_order_and_are_recorded(monkeypatch, capsys):
    settings_of_process(monkeypatch, '{"on_collapse": "report"}')
    fine_tune(hopeless(restarts=2), OUT)
    made = account()
    assert [entry["step"] for entry in made["restarts"]] == [80, 80]
    seeds = [entry["seed"] for entry in made["restarts"]] + [made["seed"]]
    assert seeds[0] == 3
    assert len(set(seeds)) == 3
    assert made["collapsed"][0]["reason"] == "flat"
    said = capsys.readouterr().err
    assert said.count("COLLAPSED, flat at step 80") == 3
    assert said.count("; again") == 2
    # What the last order trains is what its seed alone trains.
    fine_tune(hopeless() | {"seed": made["seed"]}, Path("alone"))
    alone, files = read_manifest(Path("alone")).files, read_manifest(OUT).files
    assert alone["model.safetensors"] == files["model.safetensors"]
    assert alone["history.jsonl"] == files["history.jsonl"]


def test_killed_in_a_restart_it_goes_on_there(monkeypatch, results):
    settings = {"on_collapse": "report", "save_seconds": 0.0}
    spec = hopeless(restarts=1)
    assert interrupted(results, spec, settings, 85, signal.SIGKILL) == -signal.SIGKILL
    (folder,) = Path("state", OUT).glob("*/restarts.json")
    assert len(json.loads(folder.read_text())) == 1
    settings_of_process(monkeypatch, json.dumps(settings))
    fine_tune(spec, OUT)
    fine_tune(spec, Path("straight/restarted"))
    assert read_manifest(OUT).files == read_manifest(Path("straight/restarted")).files


def test_no_number_is_no_result_whatever_the_study_says(monkeypatch):
    settings_of_process(monkeypatch, '{"on_collapse": "report"}')
    spec = training_spec(*RECIPES["sequence_classification"], max_grad_norm=1e9, learning_rate=0.9)
    from xstilts.training.loop import _Loop

    real = _Loop._step

    def step(self, index):
        if self.counters.step == 4:
            next(self.model.parameters()).data.fill_(float("nan"))
        return real(self, index)

    monkeypatch.setattr(_Loop, "_step", step)
    with pytest.raises(InputError, match="collapsed: not a number at step 4: loss nan") as found:
        fine_tune(spec, OUT)
    assert "on_collapse" not in str(found.value)


# ---- mixing


def test_the_drawn_sequence_is_recorded(monkeypatch):
    settings_of_process(monkeypatch, '{"on_collapse": "report"}')  # the data are random
    spec = training_spec(*RECIPES["mixed with text"], max_steps=200, evaluate_every=100)
    fine_tune(spec, OUT)
    order, made = np.load(OUT / "order.npy"), account()
    assert order.shape == (200,)
    assert [entry["steps"] for entry in made["tasks"]] == np.bincount(order).tolist()
    assert [entry["name"] for entry in made["tasks"]] == [*FORMATS, "masked_lm"]
    assert made["tasks"][-1]["probability"] == pytest.approx(0.3)
    # Four tasks of 30 units share the rest.
    assert [entry["probability"] for entry in made["tasks"][:4]] == pytest.approx([0.175] * 4)


def test_tasks_may_share_a_head(results):
    write_tokens("tokens/other", "sequence_classification", seed=9)
    spec = training_spec({"nli": "sequence_classification", "more": "sequence_classification"})
    for entry, folder in zip(spec["tasks"], ("sequence_classification", "other"), strict=True):
        entry |= {"head": "nli", "tokens": [f"tokens/{folder}"]}
    spec["inputs"]["tokens"] = ["tokens/sequence_classification", "tokens/other"]
    fine_tune(spec, OUT)
    assert list(json.loads((OUT / "heads.json").read_text())) == ["nli"]
    assert [entry["name"] for entry in account()["tasks"]] == ["nli", "more"]
    scores = json.loads((OUT / "history.jsonl").read_text().splitlines()[-1])["dev"]
    assert scores.keys() == {"nli", "more"}


def test_text_has_its_own_learning_rate_and_batches(straight):
    """With a rate of (nearly) nothing, steps on text change next to nothing."""
    spec = training_spec({}, TEXT, max_steps=3, learning_rate=0.1, warmup=0.0, weight_decay=0.0)
    weights = {}
    for name, more in {"own": {"learning_rate": 1e-9, "batch_size": 2}, "usual": {}}.items():
        fine_tune(spec | {"mlm": spec["mlm"] | more}, Path(name))
        weights[name] = load_file(f"{name}/model.safetensors")
    base = load_file("models/tiny/base/model.safetensors")
    key = "encoder.layer.0.output.dense.weight"
    (full,) = [base[name] for name in base if name.endswith(key)]
    assert (weights["own"][key] - full).abs().max() < 1e-7
    assert (weights["usual"][key] - full).abs().max() > 1e-3
    assert account(Path("own"))["tasks"][0]["batch_size"] == 2


# ---- data, model and settings that do not fit each other


def test_an_example_above_the_budget():
    spec = training_spec(*RECIPES["multiple_choice"], micro_batch_tokens=20)
    with pytest.raises(
        InputError, match=r"example \d+ of \d x \d+ sub-words cannot go .*found \d\d"
    ):
        fine_tune(spec, OUT)


def test_sequences_longer_than_the_models_positions():
    write_tokens("long", "masked_lm", splits={"train": 4}, length=17)
    spec = training_spec({}, ["long"])
    with pytest.raises(
        InputError, match="longer than the positions of the model; expected at most"
    ):
        fine_tune(spec, OUT)


def test_sub_words_of_another_tokenizer(results):
    """By the vocabulary's size, and by the tokenizer that both name."""
    task = "sequence_classification"
    write_tokens("large", task, vocab_size=VOCAB + 1)
    spec = training_spec({"nli": task})
    spec["tasks"][0]["tokens"] = spec["inputs"]["tokens"] = ["large"]
    with pytest.raises(InputError, match=r"another tokenizer .*expected at most 40 .*found 41"):
        fine_tune(spec, OUT)
    for name in ("one", "two"):
        with publishing(Path("tokenizers", name), {"stage": "tokenizer", "name": name}):
            pass
        write_tokens(f"by-{name}", task, tokenizer=f"tokenizers/{name}")
        spec["tasks"][0]["tokens"] = spec["inputs"]["tokens"] = [f"by-{name}"]
        fine_tune(spec | {"inputs": spec["inputs"] | {"model": "models/tiny/base"}}, Path(name))
    assert account(Path("one"))["tokenizer"] != account(Path("two"))["tokenizer"]
    spec["inputs"]["model"] = "one"
    with pytest.raises(InputError, match=r"by-two: the sub-words are of another tokenizer .*one"):
        fine_tune(spec, OUT)
    spec["tasks"][0]["tokens"] = spec["inputs"]["tokens"] = ["by-one"]
    fine_tune(spec, OUT)
    assert account()["tokenizer"] == account(Path("one"))["tokenizer"]


def test_a_deadline_is_kept(monkeypatch):
    """With no time left it saves after the first step."""
    monkeypatch.setenv("XSTILTS_DEADLINE", str(time.time() - 1))
    spec = training_spec(*RECIPES["sequence_classification"])
    for done in (1, 2):
        with pytest.raises(SystemExit) as ended:
            fine_tune(spec, OUT)
        assert ended.value.code == EXIT_MORE_TIME
        assert list(Path("state", OUT).glob(f"*/step-{done}"))


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

"""The training loop: gradients, schedule, selection, and where it stops."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tiny import FORMATS, SETTINGS, settings_of_process, store_of, write_base
from xstilts.formats.head import trained_format
from xstilts.progress import Progress
from xstilts.runtime import runtime
from xstilts.training.batches import ShuffledBatches
from xstilts.training.collapse import Answers, Collapsed
from xstilts.training.loop import (
    Counters,
    TrainTask,
    _first_units,
    _Loop,
    learning_rate,
    make_optimizer,
    train,
)
from xstilts.training.model import LM_HEAD, Model, load_backbone, make_heads
from xstilts.training.settings import Training
from xstilts.training.state import State
from xstilts.training.team import alone


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return Path(write_base(str(tmp_path_factory.mktemp("base") / "model")))


@pytest.fixture(autouse=True)
def process(tmp_path, monkeypatch):
    settings_of_process(monkeypatch)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(1)
    torch.set_num_threads(1)
    yield
    runtime.cache_clear()


def task_of(format_name: str, batch_size: int = 4, dev: bool = True) -> TrainTask:
    if format_name == LM_HEAD:
        store, format_ = store_of("sequence_classification"), trained_format(LM_HEAD, mask=0.3)
    else:
        store, format_ = store_of(format_name), trained_format(format_name)
    lengths = format_.unit_lengths(store)
    return TrainTask(
        name=format_name,
        head=format_name,
        format=format_,
        train=store,
        dev=store_of(format_name, 10, 1) if dev and format_name != LM_HEAD else None,
        batches=ShuffledBatches(lengths, batch_size, [1]),
        lengths=lengths,
        rows=format_.unit_rows(store),
    )


def model_of(base: Path, tasks: list[TrainTask]) -> Model:
    backbone = load_backbone(base, language_model=True)
    wanted = {t.name: (t.name, t.train.meta.labels) for t in tasks if t.name != LM_HEAD}
    return Model(backbone, make_heads(wanted, backbone.config, 0.1))


def loop_of(base: Path, tasks: list[TrainTask], order: list[int], **settings) -> _Loop:
    state = State(Path("state/here"))
    state.folder.mkdir(parents=True, exist_ok=True)
    loop = _Loop(
        model_of(base, tasks),
        tasks,
        np.array(order),
        Training.model_validate(SETTINGS | settings),
        3,
        state,
        Progress("finetune", "x", len(order)),
        alone(),
        "fail",
    )
    loop.guard = loop._guard()
    return loop


@pytest.mark.parametrize("name", [*FORMATS, LM_HEAD])
def test_accumulation_gives_the_gradient_of_one_big_batch(base, name):
    """Parts of a batch hold different numbers of labels, and all labels weigh the same."""
    task = task_of(name, batch_size=9)
    loop = loop_of(base, [task], [0])
    loop.model.eval()  # no dropout
    with torch.no_grad():
        for parameter in loop.model.parameters():
            parameter *= 5  # gradients far above the tolerance
    ids = np.arange(9)
    whole = task.format.collate(task.train, ids, np.random.default_rng(1))
    lengths = whole["attention_mask"].sum(1)
    units = whole["cell"][:, 0] if "cell" in whole else ids
    parts = []
    for some in (ids[:1], ids[1:3], ids[3:]):
        rows = np.isin(units, some)
        part = {key: v[rows if len(v) == len(rows) else some] for key, v in whole.items()}
        part = {
            key: v[:, : lengths[rows].max()] if key not in ("cell",) and v.ndim == 2 else v
            for key, v in part.items()
        }
        if "cell" in part:
            part["cell"] = part["cell"] - [part["cell"][:, 0].min(), 0]
        parts.append(part)

    def backward(batches):
        loop.model.zero_grad()
        loss, _ = loop._backward(task, list(enumerate(batches)))
        named = loop.model.named_parameters()
        return loss, {key: p.grad.clone() for key, p in named if p.grad is not None}

    one_loss, one = backward([whole])
    many_loss, many = backward(parts)
    assert many_loss == pytest.approx(one_loss, rel=1e-5)
    assert one.keys() == many.keys()
    assert max(float(gradient.abs().max()) for gradient in one.values()) > 1e-3
    for key, gradient in one.items():
        torch.testing.assert_close(many[key], gradient, rtol=1e-4, atol=1e-6)


def test_the_loss_of_a_step_does_not_depend_on_the_budget(base):
    losses = []
    for budget in (1, 24, 10**6):
        torch.manual_seed(1)
        loop = loop_of(base, [task_of("token_classification")], [0], micro_batch_tokens=budget)
        for module in loop.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        losses.append(loop._step(0)[0])
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_the_learning_rate_by_hand():
    settings = Training(learning_rate=0.8, warmup=0.3)
    rates = [learning_rate(settings, step, 10) for step in range(10)]
    # Three steps of warm-up; the peak; then down by a seventh of it a step.
    wanted = [0.2, 0.4, 0.6, *(0.8 * left / 7 for left in range(7, 0, -1))]
    assert rates == pytest.approx(wanted)
    flat = Training(learning_rate=0.8, warmup=0.0)
    assert [learning_rate(flat, step, 4) for step in range(4)] == pytest.approx(
        [0.8, 0.6, 0.4, 0.2]
    )
    assert learning_rate(Training(learning_rate=0.8, warmup=1.0), 3, 4) == pytest.approx(0.64)


def test_steps_of_warm_up_win_over_the_share():
    settings = Training(learning_rate=0.8, warmup=0.9, warmup_steps=3)
    rates = [learning_rate(settings, step, 10) for step in range(10)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, *(0.8 * left / 7 for left in range(7, 0, -1))])
    none = Training(learning_rate=0.8, warmup=0.9, warmup_steps=0)
    assert [learning_rate(none, step, 2) for step in range(2)] == pytest.approx([0.8, 0.4])
    # More steps than there are: the rate rises to the end.
    long = Training(learning_rate=0.8, warmup_steps=7)
    assert [learning_rate(long, step, 3) for step in range(3)] == pytest.approx([0.1, 0.2, 0.3])


def test_the_optimiser_gets_that_rate(base):
    loop = loop_of(base, [task_of("sequence_classification")], [0] * 10, warmup=0.5)
    rates = []
    for _ in range(10):
        loop._step(0)
        rates.append({group["lr"] for group in loop.optimizer.param_groups})
        loop.counters.step += 1
    wanted = [learning_rate(loop.settings, step, 10) for step in range(10)]
    assert rates == [{rate} for rate in wanted]


def test_biases_and_layer_norms_are_not_decayed(base):
    model = model_of(base, [task_of("sequence_classification")])
    groups = make_optimizer(model, Training(weight_decay=0.25, adam_beta2=0.98)).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, kept = ([names[id(p)] for p in group["params"]] for group in groups)
    assert (groups[0]["weight_decay"], groups[1]["weight_decay"]) == (0.25, 0.0)
    assert groups[0]["betas"] == (0.9, 0.98)
    assert sorted(decayed + kept) == sorted(names.values())
    assert all(name.endswith("weight") and "norm" not in name.lower() for name in decayed)
    assert all(name.endswith("bias") or "norm" in name.lower() for name in kept)
    assert any("LayerNorm.weight" in name for name in kept)
    assert any("layer_norm.weight" in name for name in kept)


def test_the_head_of_another_task_does_not_move(base):
    tasks = [task_of("sequence_classification"), task_of("question_answering")]
    loop = loop_of(base, tasks, [0, 0, 0], weight_decay=0.5)
    other = loop.model.heads["question_answering"].out_proj.weight
    before = other.detach().clone()
    for _ in range(3):
        loop._step(0)
    assert torch.equal(other, before)


def run(base: Path, tasks: list[TrainTask], order: list[int], **settings) -> Counters:
    return loop_of(base, tasks, order, **settings).run()


def test_steps_evaluations_and_counters(base):
    tasks = [task_of("sequence_classification"), task_of("multiple_choice")]
    counters = run(base, tasks, [0, 1, 1, 0, 1, 1, 1], evaluate_every=3)
    assert counters.step == 7
    assert counters.done == [2, 5]
    assert [entry["step"] for entry in counters.history] == [3, 6, 7]
    assert all(entry["dev"].keys() == {t.name for t in tasks} for entry in counters.history)
    means = [sum(entry["dev"].values()) / 2 for entry in counters.history]
    assert counters.best_score == max(means)
    assert counters.best_step == counters.history[means.index(max(means))]["step"]
    assert counters.tokens > 7 * 4 * 5
    json.dumps(counters.history)


@pytest.fixture
def scores(monkeypatch):
    """Dev scores of the evaluations, one after the other."""

    def set_scores(*values: float) -> None:
        left = list(values)
        nothing = Answers(np.array([0]), np.array([0]))
        monkeypatch.setattr(_Loop, "_dev", lambda self, task: (left.pop(0), nothing))

    return set_scores


def test_patience_stops(base, scores):
    scores(0.5, 0.6, 0.6, 0.4, 0.9)
    counters = run(
        base, [task_of("sequence_classification")], [0] * 20, evaluate_every=2, patience=2
    )
    assert (counters.step, counters.best_step, counters.best_score) == (8, 4, 0.6)


def test_no_patience_runs_to_the_end(base, scores):
    scores(0.5, 0.4, 0.3, 0.2, 0.1)
    counters = run(
        base, [task_of("sequence_classification")], [0] * 10, evaluate_every=2, patience=None
    )
    assert (counters.step, counters.best_step) == (10, 2)


@pytest.mark.parametrize(("select", "step"), [("best", 2), ("last", 6)])
def test_which_weights_are_left(base, scores, select, step):
    def weights(loop: _Loop) -> torch.Tensor:
        return loop.model.heads["sequence_classification"].out_proj.weight.detach().clone()

    task = task_of("sequence_classification")
    torch.manual_seed(5)
    plain, wanted = loop_of(base, [task], [0] * 6, evaluate_every=100), []
    for _ in range(6):
        plain._step(0)
        plain.counters.step += 1
        wanted.append(weights(plain))
    torch.manual_seed(5)
    scores(0.9, 0.8, 0.7)
    loop = loop_of(base, [task], [0] * 6, evaluate_every=2, select=select)
    loop.run()
    assert torch.equal(weights(loop), wanted[step - 1])


def test_without_dev_data_the_last_weights_count(base):
    counters = run(base, [task_of(LM_HEAD)], [0] * 3, evaluate_every=2)
    assert counters.best_step == -1
    assert [entry["dev"] for entry in counters.history] == [{}, {}]


@pytest.mark.parametrize("where", ["weights", "gradient"])
def test_a_loss_that_is_not_a_number_names_task_and_step(base, where):
    loop = loop_of(base, [task_of("sequence_classification")], [0] * 3)
    weight = loop.model.heads["sequence_classification"].out_proj.weight
    original = loop._step

    def step(index):
        if loop.counters.step == 2 and where == "weights":
            weight.data.fill_(float("nan"))
        elif loop.counters.step == 2:
            weight.register_hook(lambda gradient: gradient * float("inf"))
        return original(index)

    loop._step = step
    before = weight.detach().clone()
    with pytest.raises(Collapsed, match=r"not a number at step 2: loss .*gradient (nan|inf)") as it:
        loop.run()
    assert it.value.finding["task"] == "sequence_classification"
    assert where == "weights" or torch.isfinite(weight).all()
    assert not torch.equal(weight, before)


def test_the_first_examples_are_examples_and_not_windows():
    questions = store_of("question_answering", 10)  # two windows each
    assert _first_units(questions, 10, 3).tolist() == [0, 1, 2, 3, 4, 5]
    assert _first_units(store_of("sequence_classification", 10), 10, 3).tolist() == [0, 1, 2]
    assert len(_first_units(questions, 10, None)) == 10
    assert len(_first_units(store_of("multiple_choice", 10), 10, 500)) == 10


@pytest.mark.parametrize("name", FORMATS)
def test_dev_scores_do_not_depend_on_the_budget(base, name):
    loop = loop_of(base, [task_of(name)], [0])
    found = []
    for budget in (1, 40, 10**6):
        loop.settings = replace_settings(loop.settings, micro_batch_tokens=budget)
        found.append(loop._dev(loop.tasks[0])[0])
    assert found == pytest.approx([found[0]] * 3)


def replace_settings(settings: Training, **changes) -> Training:
    return settings.model_copy(update=changes)


def test_learning(base):
    """A few dozen steps learn what the first sub-word says."""
    task = task_of("token_classification", batch_size=16)
    task = replace(task, dev=task.train)
    counters = run(base, [task], [0] * 60, evaluate_every=60, micro_batch_tokens=10**6)
    assert counters.best_score > 0.9


def test_bf16_runs_on_a_cpu(base):
    loop = loop_of(base, [task_of("token_classification")], [0] * 2, precision="bf16")
    seen = []
    head = loop.model.heads["token_classification"].out_proj
    head.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    counters = loop.run()
    assert seen[0] == torch.bfloat16
    assert np.isfinite(counters.history[-1]["loss"])
    assert {parameter.dtype for parameter in loop.model.parameters()} == {torch.float32}


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_on_a_gpu(base, precision):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device; torch sees none")
    task = task_of("sequence_classification")
    loop = loop_of(base, [task], [0] * 4, precision=precision)
    counters = loop.run()
    assert next(loop.model.parameters()).is_cuda
    assert np.isfinite(counters.history[-1]["loss"])


def test_the_public_entry(base):
    task = task_of("sequence_classification")
    settings = Training.model_validate(SETTINGS)
    state = State(Path("state/here"))
    state.folder.mkdir(parents=True)
    model, order = model_of(base, [task]), np.zeros(2, dtype=np.int64)
    counters = train(model, [task], order, settings, 3, state, Progress("finetune", "x", 2))
    assert counters.step == 2

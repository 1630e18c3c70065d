"""The stages that make weights: pretraining, intermediate training, fine-tuning."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xstilts.architectures import is_decoder
from xstilts.artifacts.publish import publishing
from xstilts.data.token_store import TokenStore, concatenate, has_split, read_meta, read_store
from xstilts.errors import InputError
from xstilts.formats.head import TrainedFormat, trained_format
from xstilts.progress import Progress
from xstilts.runtime import EXIT_MORE_TIME, runtime
from xstilts.training.adapters import load_frozen, save_adapter
from xstilts.training.batches import (
    LanguageBatches,
    ShuffledBatches,
    draw_tasks,
    mixing_weights,
)
from xstilts.training.checks import TRAINING, check_labels, check_model, check_sizes, tokenizer_of
from xstilts.training.collapse import Collapsed
from xstilts.training.loop import Counters, Interrupted, TrainTask, train, write_history
from xstilts.training.model import (
    CAUSAL_HEAD,
    LM_HEAD,
    Description,
    Model,
    kind_of,
    load_backbone,
    load_head,
    make_heads,
    new_backbone,
    save_heads,
    save_model,
)
from xstilts.training.settings import Training
from xstilts.training.speed import prepare
from xstilts.training.state import State, training_state
from xstilts.training.team import Team, together

#: Task of every optimiser step of a mixture: numbers of the tasks in `training.json`.
ORDER = "order.npy"

Descriptions = dict[str, Description]


@dataclass(frozen=True)
class _Set:
    """Data of one task, read once: only the order of its batches depends on a restart."""

    name: str
    head: str
    format: TrainedFormat
    train: TokenStore
    dev: TokenStore | None
    lengths: NDArray[np.int64]
    rows: NDArray[np.int64]
    batch_size: int
    group: int | None
    learning_rate: float | None = None
    #: Sequences of each language, for raw text.
    sizes: tuple[int, ...] = ()

    @property
    def per_epoch(self) -> int:
        """Optimiser steps of a pass over it."""
        return ceil(len(self.lengths) / self.batch_size)


@dataclass(frozen=True)
class _Plan:
    """A training but for its seed.

    Attributes:
        settings: Hyper-parameters.
        sets: Data of its tasks.
        weights: Weight of each in the draw of a step's task.
        steps: Optimiser steps.
        exponent: Of the languages of raw text.
        make: Makes the model, after the seed has been set.
        heads: Formats and labels of its heads.
        tokenizer: Sha256 of the manifest of the tokenizer.
        whole: Whether the language-model head is published with the encoder.
        base: The weights that it starts from; adapters are published with their base's name.
    """

    settings: Training
    sets: Sequence[_Set]
    weights: Sequence[float]
    steps: int
    exponent: float
    make: Callable[[], Model]
    heads: Descriptions
    tokenizer: str | None
    whole: bool = False
    base: Path | None = None

    def order(self, seed: int) -> NDArray[np.int64]:
        """Task of every step: [steps]."""
        return draw_tasks(self.weights, self.steps, seed)

    def tasks(self, seed: int) -> list[TrainTask]:
        """The tasks, their batches in the order of a seed."""
        return [self._task(data, [seed, 4, number]) for number, data in enumerate(self.sets)]

    def _task(self, data: _Set, seed: list[int]) -> TrainTask:
        batches: ShuffledBatches | LanguageBatches
        if data.sizes:
            batches = LanguageBatches(data.sizes, data.batch_size, self.exponent, seed, self.steps)
        else:
            batches = ShuffledBatches(data.lengths, data.batch_size, seed)
        return TrainTask(
            name=data.name,
            head=data.head,
            format=data.format,
            train=data.train,
            dev=data.dev,
            batches=batches,
            lengths=data.lengths,
            rows=data.rows,
            group=data.group,
            learning_rate=data.learning_rate,
        )


def pretrain(spec: Mapping[str, Any], out: Path) -> None:
    """Pretrain a language model from random weights: an encoder's masked, a decoder's causal."""
    together(partial(_train, _pretraining, spec, out), partial(pretrain, spec, out))


def fine_tune(spec: Mapping[str, Any], out: Path) -> None:
    """Train on one task or on several mixed: intermediate training and fine-tuning alike."""
    together(partial(_train, _fine_tuning, spec, out), partial(fine_tune, spec, out))


def _pretraining(spec: Mapping[str, Any]) -> _Plan:
    settings = Training.model_validate(spec["settings"])
    folders = [Path(name) for name in spec["inputs"]["tokens"]]
    meta = read_meta(folders[0])
    _check_lora(settings, None)
    text = _text(folders, settings, spec["mlm"], spec["model"]["architecture"])

    def make() -> Model:
        backbone = new_backbone(spec["model"], meta.vocab_size, meta.pad_id, settings.dropout)
        return Model(backbone, {})

    steps = settings.max_steps or _epochs(settings, text.per_epoch)
    exponent = spec["mlm"]["exponent"]
    tokenizer = tokenizer_of(folders[0])
    return _Plan(settings, [text], [1.0], steps, exponent, make, {}, tokenizer, whole=True)


def _fine_tuning(spec: Mapping[str, Any]) -> _Plan:
    settings = Training.model_validate(spec["settings"])
    mlm, sampling = spec["mlm"], spec["sampling"]
    base = Path(spec["inputs"]["model"])
    architecture = kind_of(base)
    _check_lora(settings, architecture)
    _check_prompts(spec["tasks"], base, architecture)
    sets = [_labelled(entry, settings) for entry in spec["tasks"]]
    sizes, cap = [len(data.lengths) for data in sets], sampling["cap"]
    weights = mixing_weights(sizes, sampling["exponent"], cap)
    # jiant's rule: every task's epochs, of no more than the cap.
    per_epoch = [
        ceil(min(size, cap or size) / data.batch_size)
        for size, data in zip(sizes, sets, strict=True)
    ]
    steps = settings.max_steps or sum(_epochs(settings, number) for number in per_epoch)
    if mlm:
        text = _text([Path(name) for name in mlm["tokens"]], settings, mlm, architecture)
        weights.append((sum(weights) or 1.0) * mlm["share"] / (1 - mlm["share"]))
        if settings.max_steps is None and sets:
            steps = round(steps / (1 - mlm["share"]))
        steps = steps or _epochs(settings, text.per_epoch)
        sets.append(text)
    heads: Descriptions = {
        entry["head"]: (entry["format"], data.train.meta.labels)
        for entry, data in zip(spec["tasks"], sets, strict=False)
        if entry["head"] != CAUSAL_HEAD
    }
    folders = [Path(name) for name in spec["inputs"]["tokens"]]
    longest = max(int(data.lengths.max(initial=0)) for data in sets)
    tokenizer = check_model(base, folders, longest)
    make = partial(_start, spec, heads, settings)
    exponent = mlm["exponent"] if mlm else 1.0
    return _Plan(settings, sets, weights, steps, exponent, make, heads, tokenizer, base=base)


def _check_lora(settings: Training, architecture: str | None) -> None:
    """Adapters are for decoders that have been pretrained."""
    if settings.lora is None or (architecture and is_decoder(architecture)):
        return
    raise InputError(
        "training.lora",
        "is for decoders that have been pretrained",
        expected="null for encoders and for pretraining",
        found=f"adapters of {architecture}" if architecture else "adapters of random weights",
        hint="Leave lora out there, or set it under training.models of the decoders",
    )


def _check_prompts(tasks: Sequence[Mapping[str, Any]], base: Path, architecture: str) -> None:
    """Prompts are for the head that every decoder has and no encoder."""
    if is_decoder(architecture):
        return
    for entry in tasks:
        if entry["head"] == CAUSAL_HEAD:
            raise InputError(
                f"{base}: {entry['name']}",
                "an encoder cannot answer prompts",
                expected="a decoder",
                found=architecture,
            )


def _epochs(settings: Training, per_epoch: int) -> int:
    """Optimiser steps of a task: epochs x ceil(units / batch), jiant's rule."""
    return max(1, round(settings.epochs * per_epoch))


def _labelled(entry: Mapping[str, Any], settings: Training) -> _Set:
    folders = [Path(name) for name in entry["tokens"]]
    store = concatenate([read_store(folder, "train") for folder in folders])
    format_ = trained_format(entry["format"])
    check_labels(entry["name"], folders[0], store, format_)
    data = _Set(
        name=entry["name"],
        head=entry["head"],
        format=format_,
        train=store,
        dev=_dev(entry["name"], folders, settings),
        lengths=format_.unit_lengths(store),
        rows=format_.unit_rows(store),
        batch_size=entry["batch_size"],
        group=_group(entry),
    )
    check_sizes(data.name, folders[0], data.lengths, data.rows, data.group, settings)
    if data.dev:
        lengths, rows = format_.unit_lengths(data.dev), format_.unit_rows(data.dev)
        check_sizes(f"{data.name}, dev", folders[0], lengths, rows, data.group, settings)
    return data


def _group(entry: Mapping[str, Any]) -> int | None:
    """Units whose loss is of all of them: the pairs that are each other's negatives."""
    if entry["format"] != "answer_retrieval":
        return None
    size: int = entry["batch_size"]
    return min(entry["negatives"] or size, size)


def _dev(name: str, folders: Sequence[Path], settings: Training) -> TokenStore | None:
    with_dev = [folder for folder in folders if has_split(folder, "dev")]
    if with_dev:
        return concatenate([read_store(folder, "dev") for folder in with_dev])
    if settings.select == "best":
        raise InputError(
            str(folders[0]),
            f"task {name!r} has no dev split to select weights on",
            hint=f"Set training.tasks.{name}.select: last, or give its data set a holdout",
        )
    return None


def _text(
    folders: Sequence[Path], settings: Training, mlm: Mapping[str, Any], architecture: str
) -> _Set:
    if is_decoder(architecture):
        name, format_ = CAUSAL_HEAD, trained_format(CAUSAL_HEAD)
    else:
        name, format_ = LM_HEAD, trained_format(LM_HEAD, mask=mlm["mask"])
    stores = [read_store(folder, "train") for folder in folders]
    store = concatenate(stores)
    data = _Set(
        name=name,
        head=name,
        format=format_,
        train=store,
        dev=None,
        lengths=format_.unit_lengths(store),
        rows=format_.unit_rows(store),
        batch_size=mlm["batch_size"],
        group=None,
        learning_rate=mlm["learning_rate"],
        sizes=tuple(part.sequences for part in stores),
    )
    check_sizes(name, folders[0], data.lengths, data.rows, None, settings)
    return data


def _start(spec: Mapping[str, Any], descriptions: Descriptions, settings: Training) -> Model:
    """The model that the inputs name, with new heads or, where the spec says so, an old one."""
    base = Path(spec["inputs"]["model"])
    if settings.lora:
        backbone = load_frozen(base, settings.lora)
    else:
        whole = bool(spec["mlm"]) or is_decoder(kind_of(base))
        backbone = load_backbone(base, language_model=whole)
    heads = make_heads(descriptions, backbone.config, settings.dropout)
    for name, old in spec["heads"].items():
        heads[name], known = load_head(base, old, backbone.config, settings.dropout)
        _check_head(base, old, known, descriptions[name])
    return Model(backbone, heads)


def _check_head(base: Path, name: str, known: Description, wanted: Description) -> None:
    if known != wanted:
        raise InputError(
            f"{base / 'heads.json'}: {name}",
            "the head was trained for another format, other labels, or another order of them",
            expected=f"{wanted[0]} of {', '.join(wanted[1] or ('no labels',))}",
            found=f"{known[0]} of {', '.join(known[1] or ('no labels',))}",
        )


# ---- running


def _train(
    plan_of: Callable[[Mapping[str, Any]], _Plan], spec: Mapping[str, Any], out: Path, team: Team
) -> None:
    """One process of a training, from its data to its artifact."""
    plan = plan_of(spec)
    # Only the first process of a team has the state, and the lock on it.
    with training_state(out, spec) if team.first else nullcontext(State(out)) as state:
        progress = Progress(spec["stage"], out.as_posix(), plan.steps)
        try:
            model, counters = _until_done(spec, plan, out, state, progress, team)
        except Interrupted:
            if team.first:
                state.note("interrupted")
                print(f"{out}: state saved, needs more time", file=sys.stderr)
            raise SystemExit(EXIT_MORE_TIME) from None
        except BaseException:
            if team.first:
                state.note("failed")
            raise
        if team.first:
            _publish(spec, out, plan, model, counters, state, team)
            progress.done(_outcome(counters))


def _until_done(
    spec: Mapping[str, Any], plan: _Plan, out: Path, state: State, progress: Progress, team: Team
) -> tuple[Model, Counters]:
    """Train; where that collapses, as often as allowed, again in another order."""
    while True:
        restarts, folder = team.gathered((state.restarts, state.folder))[0]
        state.restarts, state.folder = restarts, folder
        seed = data_seed(spec["seed"], len(restarts))
        may_restart = len(restarts) < plan.settings.restarts
        answer: Any = "restart" if may_restart else runtime().on_collapse
        _prepare_torch(plan.settings, seed)
        model, tasks, order = plan.make(), plan.tasks(seed), plan.order(seed)
        prepare(model, plan.settings)
        try:
            return model, train(
                model, tasks, order, plan.settings, seed, state, progress, team, on_collapse=answer
            )
        except Collapsed as collapsed:
            if not may_restart:
                raise _explained(out, collapsed, len(restarts)) from None
            if team.first:
                task = collapsed.finding["task"]
                print(f"{out}: {task}: COLLAPSED, {collapsed}; again", file=sys.stderr)
                state.restart({**collapsed.finding, "seed": seed})


def data_seed(seed: int, restarts: int) -> int:
    """Seed of new heads, data order, dropout and masking after so many restarts."""
    if not restarts:
        return seed
    return int(np.random.SeedSequence([seed, 6, restarts]).generate_state(1)[0])


def _explained(out: Path, collapsed: Collapsed, restarts: int) -> InputError:
    again = f" after {restarts} restarts" if restarts else ""
    hint = "Lower this task's learning_rate, raise its warmup, or allow it restarts"
    if collapsed.reason != "not a number":
        hint += "; with `on_collapse: report` the study goes on from here all the same"
    return InputError(
        f"{out}: {collapsed.finding['task']}",
        f"the training collapsed{again}: {collapsed}",
        hint=hint,
    )


def _prepare_torch(settings: Training, seed: int) -> None:
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling memory that nobody reads before writing takes 5 % of a small model's step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.manual_seed(seed)


# ---- the artifact


def _publish(
    spec: Mapping[str, Any],
    out: Path,
    plan: _Plan,
    model: Model,
    counters: Counters,
    state: State,
    team: Team,
) -> None:
    with publishing(out, spec, state.record) as draft:
        _save(model, plan, draft.folder)
        write_history(draft.folder, counters)
        _write_account(draft.folder, spec, plan, counters, state)
        draft.record.add(
            steps=counters.step,
            best_step=counters.best_step,
            tokens=counters.tokens,
            seconds=round(counters.seconds, 2),
            dev_seconds=round(counters.dev_seconds, 2),
            processes=team.size,
        )
    state.remove()


def _save(model: Model, plan: _Plan, folder: Path) -> None:
    lora = plan.settings.lora
    if lora is None or plan.base is None:
        save_model(model, folder, plan.heads, whole=plan.whole)
        return
    save_adapter(model.backbone, plan.base, lora, folder)
    save_heads(model, folder, plan.heads)


def _write_account(
    folder: Path, spec: Mapping[str, Any], plan: _Plan, counters: Counters, state: State
) -> None:
    """Write `training.json`: what was mixed and drawn, what collapsed; and the drawn sequence."""
    seed = data_seed(spec["seed"], len(state.restarts))
    order, total = plan.order(seed), sum(plan.weights)
    tasks = [
        {
            "name": data.name,
            "head": data.head,
            "units": len(data.lengths),
            "batch_size": data.batch_size,
            "probability": weight / total,
            "steps": done,
        }
        for data, weight, done in zip(plan.sets, plan.weights, counters.done, strict=True)
    ]
    content = {
        "tokenizer": plan.tokenizer,
        "seed": seed,
        "steps": counters.step,
        "tasks": tasks,
        "restarts": state.restarts,
        "collapsed": counters.findings,
    }
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    (folder / TRAINING).write_text(text, encoding="utf-8")
    if len(tasks) > 1:
        np.save(folder / ORDER, order[: counters.step].astype(np.uint8))


def _outcome(counters: Counters) -> str:
    last = counters.history[-1]
    shown = f"{counters.step} steps, loss {last['loss']:.3f}"
    if counters.best_step >= 0:
        shown += f", best dev {counters.best_score:.3f} at {counters.best_step}"
    if counters.findings:
        reasons: Iterable[str] = dict.fromkeys(entry["reason"] for entry in counters.findings)
        shown += f", COLLAPSED ({', '.join(reasons)})"
    return shown

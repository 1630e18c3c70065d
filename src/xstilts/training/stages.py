"""The stages that make weights: pretraining, intermediate training, fine-tuning."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xstilts.artifacts.publish import publishing
from xstilts.data.token_store import TokenStore, concatenate, has_split, read_meta, read_store
from xstilts.errors import InputError
from xstilts.formats.head import trained_format
from xstilts.progress import Progress
from xstilts.training.batches import LanguageBatches, ShuffledBatches, draw_tasks
from xstilts.training.loop import Counters, Interrupted, TrainTask, train, write_history
from xstilts.training.model import (
    LM_HEAD,
    Description,
    Model,
    load_backbone,
    load_head,
    make_heads,
    new_backbone,
    save_model,
)
from xstilts.training.settings import Training
from xstilts.training.state import State, training_state

#: Exit status of a stage that saved its state and needs more time.
EXIT_MORE_TIME = 75

Descriptions = dict[str, Description]


def pretrain(spec: Mapping[str, Any], out: Path) -> None:
    """Pretrain a masked language model from random weights."""
    settings = Training.model_validate(spec["settings"])
    _prepare_torch(settings, spec["seed"])
    folders = [Path(name) for name in spec["inputs"]["tokens"]]
    meta = read_meta(folders[0])
    stores = [read_store(folder, "train") for folder in folders]
    backbone = new_backbone(spec["model"], meta.vocab_size, meta.pad_id, settings.dropout)
    steps = _steps(settings, sum(store.sequences for store in stores))
    task = _mlm_task(stores, settings, spec["mlm"], spec["seed"], steps)
    order = np.zeros(steps, dtype=np.int64)
    model = Model(backbone, {})
    _run(spec, out, model, [task], order, settings, {}, whole=True)


def fine_tune(spec: Mapping[str, Any], out: Path) -> None:
    """Train on one task or on several mixed: intermediate training and fine-tuning alike."""
    settings = Training.model_validate(spec["settings"])
    _prepare_torch(settings, spec["seed"])
    seed, mlm = spec["seed"], spec["mlm"]
    tasks = [_task(entry, settings, seed, index) for index, entry in enumerate(spec["tasks"])]
    steps = sum(_steps(settings, len(task.lengths)) for task in tasks)
    if settings.max_steps is not None:
        steps = settings.max_steps
    weights = [float(len(task.lengths)) for task in tasks]
    if spec["sampling"] == "uniform":
        weights = [1.0] * len(tasks)
    if mlm:
        if settings.max_steps is None:
            steps = round(steps / (1 - mlm["share"])) if tasks else steps
        stores = [read_store(Path(name), "train") for name in mlm["tokens"]]
        total = sum(weights) or 1.0
        weights.append(total * mlm["share"] / (1 - mlm["share"]))
        steps = steps or _steps(settings, sum(store.sequences for store in stores))
        tasks.append(_mlm_task(stores, settings, mlm, seed, steps))
    descriptions: Descriptions = {
        entry["name"]: (entry["format"], task.train.meta.labels)
        for entry, task in zip(spec["tasks"], tasks, strict=False)
    }
    model = _start(spec, descriptions, settings, language_model=bool(mlm))
    _run(spec, out, model, tasks, draw_tasks(weights, steps, seed), settings, descriptions)


def _prepare_torch(settings: Training, seed: int) -> None:
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling memory that nobody reads before writing takes 5 % of a small model's step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.manual_seed(seed)


def _steps(settings: Training, units: int) -> int:
    """Optimiser steps of a training: epochs x ceil(units / batch), jiant's rule."""
    if settings.max_steps is not None:
        return settings.max_steps
    return max(1, round(settings.epochs * ceil(units / settings.batch_size)))


def _task(entry: Mapping[str, Any], settings: Training, seed: int, index: int) -> TrainTask:
    folders = [Path(name) for name in entry["tokens"]]
    train_store = concatenate([read_store(folder, "train") for folder in folders])
    format_ = trained_format(entry["format"])
    lengths = format_.unit_lengths(train_store)
    _check_labels(entry["name"], folders[0], train_store)
    return TrainTask(
        name=entry["name"],
        format=format_,
        train=train_store,
        dev=_dev(entry["name"], folders, settings),
        batches=ShuffledBatches(lengths, settings.batch_size, [seed, 4, index]),
        lengths=lengths,
        rows=format_.unit_rows(train_store),
        group=_group(entry["format"], settings),
    )


def _group(format_name: str, settings: Training) -> int | None:
    """Units whose loss is of all of them: the pairs that are each other's negatives."""
    if format_name != "answer_retrieval":
        return None
    return min(settings.negatives or settings.batch_size, settings.batch_size)


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


def _check_labels(name: str, folder: Path, store: TokenStore) -> None:
    """A training set with one class teaches nothing, and the run would be lost."""
    if store.meta.format != "sequence_classification":
        return
    present: NDArray[Any] = np.unique(store.arrays["labels"])
    if len(present) < 2:
        labels = store.meta.labels or ()
        raise InputError(
            str(folder),
            f"every training row of {name!r} has the same label",
            expected=f"several of {', '.join(labels)}",
            found=", ".join(labels[int(label)] for label in present) or "no rows",
        )


def _mlm_task(
    stores: list[TokenStore], settings: Training, mlm: Mapping[str, Any], seed: int, steps: int
) -> TrainTask:
    format_ = trained_format("masked_lm", mask=mlm["mask"])
    store = concatenate(stores)
    sizes = [part.sequences for part in stores]
    batches = LanguageBatches(sizes, settings.batch_size, mlm["exponent"], [seed, 5], steps)
    lengths, rows = format_.unit_lengths(store), format_.unit_rows(store)
    return TrainTask(LM_HEAD, format_, store, None, batches, lengths, rows)


def _start(
    spec: Mapping[str, Any], descriptions: Descriptions, settings: Training, *, language_model: bool
) -> Model:
    """The model that the inputs name, with new heads or, where the spec says so, an old one."""
    base = Path(spec["inputs"]["model"])
    backbone = load_backbone(base, language_model=language_model)
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


def _run(
    spec: Mapping[str, Any],
    out: Path,
    model: Model,
    tasks: list[TrainTask],
    order: NDArray[np.int64],
    settings: Training,
    descriptions: Descriptions,
    *,
    whole: bool = False,
) -> None:
    progress = Progress(spec["stage"], out.as_posix(), len(order))
    with training_state(out, spec) as state:
        try:
            counters = train(model, tasks, order, settings, spec["seed"], state, progress)
        except Interrupted:
            state.note("interrupted")
            print(f"{out}: state saved, needs more time", file=sys.stderr)
            raise SystemExit(EXIT_MORE_TIME) from None
        except BaseException:
            state.note("failed")
            raise
        _publish(spec, out, model, counters, descriptions, state, whole=whole)
    progress.done(_outcome(counters, tasks))


def _publish(
    spec: Mapping[str, Any],
    out: Path,
    model: Model,
    counters: Counters,
    descriptions: Descriptions,
    state: State,
    *,
    whole: bool,
) -> None:
    with publishing(out, spec, state.record) as draft:
        save_model(model, draft.folder, descriptions, whole=whole)
        write_history(draft.folder, counters)
        draft.record.add(steps=counters.step, best_step=counters.best_step, tokens=counters.tokens)
    state.remove()


def _outcome(counters: Counters, tasks: list[TrainTask]) -> str:
    last = counters.history[-1]
    shown = f"{counters.step} steps, loss {last['loss']:.3f}"
    if counters.best_step >= 0:
        shown += f", best dev {counters.best_score:.3f} at {counters.best_step}"
    return shown

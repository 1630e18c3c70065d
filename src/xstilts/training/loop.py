"""The training loop: one for pretraining, intermediate training and fine-tuning."""

from __future__ import annotations

import json
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from xstilts.data.token_store import Arrays, TokenStore
from xstilts.errors import InputError
from xstilts.formats.head import Batch, TrainedFormat
from xstilts.progress import Progress
from xstilts.training.batches import LanguageBatches, ShuffledBatches, micro_batches
from xstilts.training.collapse import GRACE, Answers, Collapsed, Guard
from xstilts.training.deadline import Deadline, between_saves
from xstilts.training.model import Model
from xstilts.training.settings import Training
from xstilts.training.state import State
from xstilts.training.team import Team, alone


class Interrupted(Exception):
    """The training was asked to stop, or its time is up; its state is saved."""


@dataclass(frozen=True)
class TrainTask:
    """One task of a training.

    Attributes:
        name: Its name.
        head: Name of its head; tasks may share one.
        format: Its format.
        train: Training data.
        dev: Development data; None where weights are not selected on it.
        batches: Units of its k-th step.
        lengths: Longest row of every training unit, in sub-words: [units].
        rows: Rows of every training unit: [units].
        group: Units that go through the model together, because their loss is of all of them;
            None where a batch may be cut anywhere.
        learning_rate: Peak learning rate of its steps; None for the training's.
    """

    name: str
    head: str
    format: TrainedFormat
    train: TokenStore
    dev: TokenStore | None
    batches: ShuffledBatches | LanguageBatches
    lengths: NDArray[np.int64]
    rows: NDArray[np.int64]
    group: int | None = None
    learning_rate: float | None = None


@dataclass
class Counters:
    """What the loop remembers beside weights: all of it is saved with the state."""

    step: int = 0
    done: list[int] = field(default_factory=list)
    best_step: int = -1
    best_score: float = float("-inf")
    waited: int = 0
    tokens: int = 0
    #: Seconds of steps and of looks at dev, for the record.
    seconds: float = 0.0
    dev_seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    watches: list[dict[str, Any]] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)


def train(
    model: Model,
    tasks: list[TrainTask],
    order: NDArray[np.int64],
    settings: Training,
    seed: int,
    state: State,
    progress: Progress,
    team: Team | None = None,
    *,
    on_collapse: Literal["fail", "report", "restart"] = "fail",
) -> Counters:
    """Train a model in place; at the end it holds the weights that `settings.select` names.

    Args:
        model: The model, with the heads of all tasks.
        tasks: The tasks.
        order: Task of every optimiser step: [steps].
        settings: Hyper-parameters.
        seed: Seed of dropout and masking.
        state: Where to save and resume.
        progress: Where to tell of it.
        team: The processes that train together; default: this one.
        on_collapse: `fail` saves the state first, so that `report` can go on from there; `restart`
            leaves it to the caller.

    Returns:
        The counters at the end.

    Raises:
        Interrupted: After SIGTERM, or when the deadline is near; the state is saved.
        Collapsed: If it learns nothing, and as soon as loss or gradient is not a number.
    """
    team = team or alone()
    return _Loop(model, tasks, order, settings, seed, state, progress, team, on_collapse).run()


class _Loop:
    def __init__(
        self,
        model: Model,
        tasks: list[TrainTask],
        order: NDArray[np.int64],
        settings: Training,
        seed: int,
        state: State,
        progress: Progress,
        team: Team,
        on_collapse: str,
    ) -> None:
        self.tasks, self.order, self.settings, self.seed = tasks, order, settings, seed
        self.state, self.progress, self.team = state, progress, team
        self.on_collapse = on_collapse
        self.model = model.to(team.device)
        self.parameters = [one for one in self.model.parameters() if one.requires_grad]
        self.optimizer = make_optimizer(self.model, settings)
        self.counters = Counters(done=[0] * len(tasks))
        size = 12 * sum(parameter.numel() for parameter in self.parameters)
        self.deadline = Deadline(size)
        self.saved = time.monotonic()
        self.stop = False

    def run(self) -> Counters:
        self._resume()
        self.guard = self._guard()
        previous = signal.signal(signal.SIGTERM, self._ask_to_stop)
        try:
            self._answer(self.counters.findings[-1:])
            self._steps()
            self._judge(self.guard.end(self.counters.step))
        finally:
            signal.signal(signal.SIGTERM, previous)
        if self.settings.select == "best" and self._selects() and self.team.first:
            self._load_best()
        return self.counters

    def _steps(self) -> None:
        counters = self.counters
        while not self._finished():
            start = time.monotonic()
            loss, found = self._step(int(self.order[counters.step]))
            stepped = time.monotonic()
            counters.step += 1
            last = counters.step == len(self.order)
            if counters.step % self.settings.evaluate_every == 0 or last:
                found += self._evaluate(loss)
            counters.seconds += stepped - start
            counters.dev_seconds += time.monotonic() - stepped
            self._judge(found)
            if self.team.first:
                self.progress.step(counters.step, f"loss {loss:.3f}")
            if self._finished():
                return  # what is left takes less time than saving would
            save, stop = self._asked()
            if save or stop:
                self._save()
            if stop:
                raise Interrupted

    def _asked(self) -> tuple[bool, bool]:
        """Whether to save and whether to stop; all processes of a team are of one mind."""
        stop = self.deadline.due() or self.stop
        counters, steps = self.counters, len(self.order)
        often = between_saves(counters.seconds + counters.dev_seconds, counters.step, steps)
        save = time.monotonic() - self.saved > often
        saves, stops = self.team.sums(save, stop)
        return saves > 0, stops > 0

    def _ask_to_stop(self, *_: Any) -> None:
        self.stop = True

    def _finished(self) -> bool:
        patience = self.settings.patience
        exhausted = patience is not None and self._selects() and self.counters.waited >= patience
        return exhausted or self.counters.step >= len(self.order)

    # ---- one step

    def _step(self, index: int) -> tuple[float, list[Collapsed]]:
        """One optimiser step of a task: its loss, and what the guard saw."""
        task, counters = self.tasks[index], self.counters
        set_lr(self.optimizer, self.settings, counters.step, len(self.order), task.learning_rate)
        ids = task.batches[counters.done[index]]
        parts = self._parts(task, ids, task.lengths, task.rows)
        numbered = self.team.own(parts)
        self.model.train()
        loss, tokens = self._backward(task, [(n, self._collated(task, n, p)) for n, p in numbered])
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.max_grad_norm)
        found = self.guard.step(index, counters.step, loss, float(norm))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        counters.done[index] += 1
        counters.tokens += tokens
        return loss, found

    def _collated(self, task: TrainTask, number: int, part: NDArray[np.int64]) -> Arrays:
        # Masking depends on nothing but the seed, the step and the part.
        rng = np.random.default_rng([self.seed, 2, self.counters.step, number])
        return task.format.collate(task.train, part, rng)

    def _parts(
        self,
        task: TrainTask,
        ids: NDArray[np.int64],
        lengths: NDArray[np.int64],
        rows: NDArray[np.int64],
    ) -> list[NDArray[np.int64]]:
        """Parts of a batch that go through the model one after the other."""
        if task.group is not None:
            return np.split(ids, range(task.group, len(ids), task.group))
        budget = self.settings.micro_batch_tokens
        return micro_batches(ids, lengths, rows, budget, at_least=self.team.size)

    def _backward(self, task: TrainTask, parts: list[tuple[int, Arrays]]) -> tuple[float, int]:
        """Gradients of the mean loss over the whole batch, however it is cut.

        Returns:
            That loss, and the sub-words that went through the model.
        """
        terms = float(sum(task.format.terms(part) for _, part in parts))
        tokens = float(sum(part["attention_mask"].sum() for _, part in parts))
        terms, tokens = self.team.sums(terms, tokens)
        total = torch.zeros((), device=self.team.device)
        for number, part in parts:
            # Dropout likewise, so that it is the same in any number of processes.
            torch.manual_seed(_mix(self.seed, self.counters.step, number))
            batch = self._to_device(part)
            with self._autocast():
                outputs = self.model(batch, task.head)
            loss = task.format.loss(outputs, batch) / max(terms, 1)
            torch.autograd.backward(loss)
            total += loss.detach()
        self.team.add_gradients(self.parameters)
        return self.team.sums(float(total))[0], int(tokens)

    def _to_device(self, arrays: Arrays) -> Batch:
        device = self.team.device
        return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}

    def _autocast(self) -> torch.autocast:
        enabled = self.settings.precision == "bf16"
        return torch.autocast(self.team.device.type, torch.bfloat16, enabled=enabled)

    # ---- selection on dev

    def _selects(self) -> bool:
        return any(task.dev is not None for task in self.tasks)

    def _evaluate(self, loss: float) -> list[Collapsed]:
        """Look at dev, keep the best weights; what the guard saw."""
        counters = self.counters
        results = {task.name: self._dev(task) for task in self.tasks if task.dev is not None}
        scores = {name: score for name, (score, _) in results.items()}
        counters.history.append({"step": counters.step, "loss": loss, "dev": scores})
        best = self._is_best(scores)
        published = best or self.settings.select == "last"
        answers = {name: answer for name, (_, answer) in results.items()}
        return self.guard.evaluation(counters.step, answers, published=published)

    def _is_best(self, scores: dict[str, float]) -> bool:
        """Whether these are the best weights so far; if so, they are kept."""
        counters = self.counters
        if not scores:
            return False
        mean = sum(scores.values()) / len(scores)
        if mean <= counters.best_score:
            counters.waited += 1
            return False
        counters.best_score, counters.best_step, counters.waited = mean, counters.step, 0
        if self.settings.select == "best" and self.team.first:
            self.state.save_best({"step": counters.step, "weights": self.model.trained_state()})
        return True

    @torch.no_grad()
    def _dev(self, task: TrainTask) -> tuple[float, Answers]:
        """Score and answers on the first examples of a task's dev set."""
        assert task.dev is not None
        self.model.eval()
        lengths, rows = task.format.unit_lengths(task.dev), task.format.unit_rows(task.dev)
        ids = _first_units(task.dev, len(lengths), self.settings.evaluate_examples)
        sums, answers = [0.0, 0.0], list[tuple[NDArray[np.int64], NDArray[np.int64]]]()
        for _, part in self.team.own(self._parts(task, ids, lengths, rows)):
            batch = self._to_device(task.format.collate(task.dev, part, np.random.default_rng(0)))
            with self._autocast():
                outputs = self.model(batch, task.head)
            more = task.format.dev_sums(outputs, batch, task.dev.meta.labels).tolist()
            sums = [old + new for old, new in zip(sums, more, strict=True)]
            found, gold = task.format.answers(outputs, batch)
            answers.append((found.cpu().numpy(), gold.cpu().numpy()))
        right, of = self.team.sums(*sums)
        pairs = [pair for own in self.team.gathered(answers) for pair in own]
        found_all = np.concatenate([one for one, _ in pairs])
        gold_all = np.concatenate([other for _, other in pairs])
        score = right / of if of else 0.0
        return score, Answers(found_all, gold_all, task.dev.meta.labels)

    # ---- collapse

    def _guard(self) -> Guard:
        names = [task.name for task in self.tasks]
        chance = [task.format.chance_loss(task.train, task.group) for task in self.tasks]
        steps = len(self.order)
        grace = max(warm_steps(self.settings, steps), round(GRACE * steps))
        return Guard(names, chance, grace, self.counters.watches)

    def _judge(self, found: list[Collapsed]) -> None:
        known = {(entry["task"], entry["reason"]) for entry in self.counters.findings}
        new = [c.finding for c in found if (c.finding["task"], c.finding["reason"]) not in known]
        self.counters.findings += new
        self._answer(new)

    def _answer(self, findings: list[dict[str, Any]]) -> None:
        """Stop for what was found, or say it and go on; all processes do the same."""
        for finding in findings:
            collapsed = Collapsed(finding)
            if self.on_collapse == "fail":
                self._save()
            if self.on_collapse != "report":
                raise collapsed
            if self.team.first:
                name = self.progress.label
                print(f"{name}  {finding['task']}: COLLAPSED, {collapsed}", file=sys.stderr)

    # ---- state

    def _load_best(self) -> None:
        best = self.state.load_best()
        if best["step"] != self.counters.best_step:
            raise InputError(
                str(self.state.best),
                "holds the weights of another step",
                expected=str(self.counters.best_step),
                found=str(best["step"]),
                hint="Delete the state folder and run snakemake again",
            )
        self.model.load_trained_state(best["weights"])

    def _save(self) -> None:
        if self.team.first:
            self.guard.save()
            start = time.monotonic()
            weights = self.model.trained_state()
            tensors = {"weights": weights, "optimizer": self.optimizer.state_dict()}
            self.state.save(self.counters.step, tensors, vars(self.counters))
            self.deadline.saved(time.monotonic() - start)
        self.saved = time.monotonic()

    def _resume(self) -> None:
        place = self.team.gathered(self.state.newest() if self.team.first else None)[0]
        if place is None:
            return
        tensors, values = self.state.read(place)
        self.model.load_trained_state(tensors["weights"])
        self.optimizer.load_state_dict(tensors["optimizer"])
        self.counters = Counters(**values)
        self.progress.resume(self.counters.step)


def _first_units(store: TokenStore, units: int, examples: int | None) -> NDArray[np.int64]:
    """Units of the first so many examples; windows and cut sentences name their example."""
    if examples is None:
        return np.arange(units)
    if "example" in store.arrays:
        return np.flatnonzero(store.arrays["example"] < examples)
    return np.arange(min(units, examples))


def _mix(*numbers: int) -> int:
    return int(np.random.SeedSequence([*numbers, 3]).generate_state(1, np.uint64)[0] >> 1)


def make_optimizer(model: torch.nn.Module, settings: Training) -> torch.optim.Optimizer:
    """AdamW of the weights that are trained.

    Biases and the weights of norms are not decayed (XTREME's and jiant's rule): no other weights
    are vectors.
    """
    decayed: list[torch.nn.Parameter] = []
    kept: list[torch.nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            (kept if parameter.ndim == 1 else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups,
        lr=settings.learning_rate,
        betas=(0.9, settings.adam_beta2),
        eps=settings.adam_epsilon,
        fused=True,
    )


def warm_steps(settings: Training, steps: int) -> int:
    """Optimiser steps of the warm-up."""
    if settings.warmup_steps is not None:
        return settings.warmup_steps
    return round(settings.warmup * steps)


def learning_rate(settings: Training, step: int, steps: int, peak: float | None = None) -> float:
    """Linear rise over the warm-up, then linear fall to 0 at the last step.

    Args:
        settings: Hyper-parameters.
        step: Steps done.
        steps: Steps in all.
        peak: The highest learning rate; None for the settings'.
    """
    warm, peak = warm_steps(settings, steps), peak or settings.learning_rate
    if step < warm:
        return peak * (step + 1) / (warm + 1)
    return peak * (steps - step) / max(1, steps - warm)


def set_lr(
    optimizer: torch.optim.Optimizer,
    settings: Training,
    step: int,
    steps: int,
    peak: float | None = None,
) -> None:
    """Set the learning rate of a step."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(settings, step, steps, peak)


def write_history(folder: Path, counters: Counters) -> None:
    """Write `history.jsonl`: loss and dev scores at every evaluation."""
    lines = [json.dumps(entry, sort_keys=True) for entry in counters.history]
    (folder / "history.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

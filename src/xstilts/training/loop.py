"""The training loop: one for pretraining, intermediate training and fine-tuning."""

from __future__ import annotations

import json
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xstilts.data.token_store import Arrays, TokenStore
from xstilts.errors import InputError
from xstilts.formats.head import Batch, TrainedFormat
from xstilts.progress import Progress
from xstilts.runtime import runtime
from xstilts.training.batches import LanguageBatches, ShuffledBatches, micro_batches
from xstilts.training.model import Model
from xstilts.training.settings import Training
from xstilts.training.state import State


class Interrupted(Exception):
    """The training was asked to stop; its state is saved."""


@dataclass(frozen=True)
class TrainTask:
    """One task of a training.

    Attributes:
        name: Name of its head.
        format: Its format.
        train: Training data.
        dev: Development data; None where weights are not selected on it.
        batches: Units of its k-th step.
        lengths: Longest row of every training unit, in sub-words: [units].
        rows: Rows of every training unit: [units].
        group: Units that go through the model together, because their loss is of all of them;
            None where a batch may be cut anywhere.
    """

    name: str
    format: TrainedFormat
    train: TokenStore
    dev: TokenStore | None
    batches: ShuffledBatches | LanguageBatches
    lengths: NDArray[np.int64]
    rows: NDArray[np.int64]
    group: int | None = None


@dataclass
class Counters:
    """What the loop remembers beside weights: all of it is saved with the state."""

    step: int = 0
    done: list[int] = field(default_factory=list)
    best_step: int = -1
    best_score: float = float("-inf")
    waited: int = 0
    tokens: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


def train(
    model: Model,
    tasks: list[TrainTask],
    order: NDArray[np.int64],
    settings: Training,
    seed: int,
    state: State,
    progress: Progress,
) -> Counters:
    """Train a model in place; at the end it holds the weights that `settings.select` names.

    Args:
        model: The model, with one head per task.
        tasks: The tasks.
        order: Task of every optimiser step: [steps].
        settings: Hyper-parameters.
        seed: Seed of dropout and masking.
        state: Where to save and resume.
        progress: Where to tell of it.

    Returns:
        The counters at the end.

    Raises:
        Interrupted: After SIGTERM; the state is saved.
        InputError: If the loss or its gradient is not a number.
    """
    return _Loop(model, tasks, order, settings, seed, state, progress).run()


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
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tasks, self.order, self.settings, self.seed = tasks, order, settings, seed
        self.state, self.progress = state, progress
        self.model = model.to(self.device)
        self.optimizer = make_optimizer(self.model, settings)
        self.counters = Counters(done=[0] * len(tasks))
        self.saved = time.monotonic()
        self.stop = False

    def run(self) -> Counters:
        self._resume()
        previous = signal.signal(signal.SIGTERM, self._ask_to_stop)
        try:
            self._steps()
        finally:
            signal.signal(signal.SIGTERM, previous)
        if self.settings.select == "best" and self._selects():
            self._load_best()
        return self.counters

    def _steps(self) -> None:
        counters = self.counters
        while not self._finished():
            loss = self._step(int(self.order[counters.step]))
            counters.step += 1
            last = counters.step == len(self.order)
            if counters.step % self.settings.evaluate_every == 0 or last:
                self._evaluate(loss)
            self.progress.step(counters.step, f"loss {loss:.3f}")
            if self._finished():
                return  # what is left takes less time than saving would
            if self.stop or time.monotonic() - self.saved > runtime().save_seconds:
                self._save()
            if self.stop:
                raise Interrupted

    def _ask_to_stop(self, *_: Any) -> None:
        self.stop = True

    def _finished(self) -> bool:
        patience = self.settings.patience
        exhausted = patience is not None and self._selects() and self.counters.waited >= patience
        return exhausted or self.counters.step >= len(self.order)

    # ---- one step

    def _step(self, index: int) -> float:
        task, counters = self.tasks[index], self.counters
        set_lr(self.optimizer, self.settings, counters.step, len(self.order))
        # Dropout and masking of a step depend on nothing but the seed and the step.
        torch.manual_seed(_mix(self.seed, counters.step))
        rng = np.random.default_rng([self.seed, 2, counters.step])
        ids = task.batches[counters.done[index]]
        parts = [
            task.format.collate(task.train, part, rng)
            for part in self._parts(task, ids, task.lengths, task.rows)
        ]
        self.model.train()
        total = self._backward(task, parts)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
        if not np.isfinite([total, float(norm)]).all():
            raise InputError(
                task.name,
                f"the loss or its gradient is not a number at step {counters.step}",
                hint="Lower training's learning_rate for this task, or raise its warmup",
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        counters.done[index] += 1
        counters.tokens += int(sum(part["attention_mask"].sum() for part in parts))
        return total

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
        return micro_batches(ids, lengths, rows, self.settings.micro_batch_tokens)

    def _backward(self, task: TrainTask, parts: list[Arrays]) -> float:
        """Gradients of the mean loss over the whole batch, however it is cut; that loss."""
        sums, count = [], 0
        for part in parts:
            batch = self._to_device(part)
            with self._autocast():
                outputs = self.model(batch, task.name)
            summed, number = task.format.loss(outputs, batch)
            count += int(number)
            if len(parts) == 1:
                torch.autograd.backward(summed / max(count, 1))
            else:
                torch.autograd.backward(summed)
            sums.append(summed.detach())
        if len(parts) > 1:
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    parameter.grad /= max(count, 1)
        return float(torch.stack(sums).sum()) / max(count, 1)

    def _to_device(self, arrays: Arrays) -> Batch:
        return {name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()}

    def _autocast(self) -> torch.autocast:
        enabled = self.settings.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    # ---- selection on dev

    def _selects(self) -> bool:
        return any(task.dev is not None for task in self.tasks)

    def _evaluate(self, loss: float) -> None:
        counters = self.counters
        scores = {task.name: self._dev_score(task) for task in self.tasks if task.dev is not None}
        entry = {"step": counters.step, "loss": loss, "dev": scores}
        counters.history.append(entry)
        if not scores:
            return
        mean = sum(scores.values()) / len(scores)
        if mean > counters.best_score:
            counters.best_score, counters.best_step, counters.waited = mean, counters.step, 0
            if self.settings.select == "best":
                self.state.save_best({"step": counters.step, "weights": self._weights()})
        else:
            counters.waited += 1

    @torch.no_grad()
    def _dev_score(self, task: TrainTask) -> float:
        assert task.dev is not None
        self.model.eval()
        lengths, rows = task.format.unit_lengths(task.dev), task.format.unit_rows(task.dev)
        ids = _first_units(task.dev, len(lengths), self.settings.evaluate_examples)
        sums = torch.zeros(2, dtype=torch.float64)
        for part in self._parts(task, ids, lengths, rows):
            batch = self._to_device(task.format.collate(task.dev, part, np.random.default_rng(0)))
            with self._autocast():
                outputs = self.model(batch, task.name)
            sums += task.format.dev_sums(outputs, batch, task.dev.meta.labels)
        return float(sums[0] / sums[1]) if sums[1] else 0.0

    # ---- state

    def _weights(self) -> dict[str, torch.Tensor]:
        return dict(self.model.state_dict())

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
        self.model.load_state_dict(best["weights"])

    def _save(self) -> None:
        tensors = {"weights": self._weights(), "optimizer": self.optimizer.state_dict()}
        self.state.save(self.counters.step, tensors, vars(self.counters))
        self.saved = time.monotonic()

    def _resume(self) -> None:
        found = self.state.load()
        if found is None:
            return
        tensors, values = found
        self.model.load_state_dict(tensors["weights"])
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


def _mix(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, 3, step]).generate_state(1, np.uint64)[0] >> 1)


def make_optimizer(model: torch.nn.Module, settings: Training) -> torch.optim.Optimizer:
    """AdamW; biases and LayerNorms are not decayed (XTREME's and jiant's rule)."""
    decayed: list[torch.nn.Parameter] = []
    kept: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        spared = name.endswith("bias") or "LayerNorm" in name or "layer_norm" in name
        (kept if spared else decayed).append(parameter)
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


def learning_rate(settings: Training, step: int, steps: int) -> float:
    """Linear rise over the warm-up, then linear fall to 0 at the last step."""
    warm = settings.warmup_steps
    if warm is None:
        warm = round(settings.warmup * steps)
    if step < warm:
        return settings.learning_rate * (step + 1) / (warm + 1)
    return settings.learning_rate * (steps - step) / max(1, steps - warm)


def set_lr(
    optimizer: torch.optim.Optimizer,
    settings: Training,
    step: int,
    steps: int,
) -> None:
    """Set the learning rate of a step."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(settings, step, steps)


def write_history(folder: Path, counters: Counters) -> None:
    """Write `history.jsonl`: loss and dev scores at every evaluation."""
    lines = [json.dumps(entry, sort_keys=True) for entry in counters.history]
    (folder / "history.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

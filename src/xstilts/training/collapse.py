"""The collapse guard: trainings that learn nothing are recognised while they run.

What users of large models report again and again (PAWS-X stuck at the majority class, one class
predicted for everything, loss that becomes NaN) is looked for at every step and every evaluation:

- *not a number*: the loss or the norm of its gradient is not finite;
- *explosion*: before clipping, the norm of a task's gradient is more than `EXPLODED` times the
  median of its last norms, `STEPS` of its steps in a row;
- *one answer*: all predictions on dev are the same although the right ones are not, `EVALUATIONS`
  times in a row, or where the weights are that would be published;
- *flat*: a task's training loss is no better than that of a guess that sees no text
  (`TrainedFormat.chance_loss`), `EVALUATIONS` times in a row, or always.

The last two expect nothing of the warm-up and of the first quarter of a training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Norms above so many medians explode.
EXPLODED = 100.0
#: Share of a training in which nothing is expected of it.
GRACE = 0.25
#: Exploding steps in a row that are too many.
STEPS = 10
#: Evaluations in a row that are too many.
EVALUATIONS = 3
#: Norms and losses of a task that are remembered.
REMEMBERED = 100
#: Fewer losses, norms or predictions say nothing.
ENOUGH = 20
#: A loss below so much of a blind guess's is better than it.
FLAT = 0.99
#: Where so large a share of the right answers is the same, one answer is a good one.
ONE_SIDED = 0.95


class Collapsed(Exception):
    """A training learns nothing.

    Args:
        finding: What was seen, as JSON values: task, step, reason, evidence.
    """

    def __init__(self, finding: Mapping[str, Any]) -> None:
        self.finding = dict(finding)
        super().__init__("{reason} at step {step}: {evidence}".format(**self.finding))

    @property
    def reason(self) -> str:
        """Which of the rules it broke."""
        return str(self.finding["reason"])


@dataclass
class Watch:
    """What is remembered of one task; part of a training's state.

    Attributes:
        losses: Its newest losses since the last evaluation.
        norms: Its newest norms that did not explode.
        exploding: Exploding steps in a row.
        flat: Evaluations in a row with a flat loss.
        judged: Evaluations at which the loss was judged.
        ever_better: Whether the loss ever was better than a blind guess's.
        single: Evaluations in a row with one answer for everything.
        published: What was seen of one answer where the best weights are.
    """

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    exploding: int = 0
    flat: int = 0
    judged: int = 0
    ever_better: bool = False
    single: int = 0
    published: str | None = None


@dataclass(frozen=True)
class Answers:
    """Predictions on a task's dev set.

    Attributes:
        found: Predicted answers as numbers: [answers].
        gold: Right answers: [answers].
        labels: Names of the answers, where they have any.
    """

    found: NDArray[np.int64]
    gold: NDArray[np.int64]
    labels: tuple[str, ...] | None = None

    def one_for_all(self) -> str | None:
        """What is seen where one answer is given to everything, else None."""
        answers, counts = np.unique(self.gold, return_counts=True)
        if len(self.found) < ENOUGH or counts.max() > ONE_SIDED * len(self.gold):
            return None
        if len(np.unique(self.found)) > 1:
            return None
        common = sorted(zip(counts.tolist(), answers.tolist(), strict=True), reverse=True)[:5]
        gold = ", ".join(f"{count} {self._name(answer)}" for count, answer in common)
        rest = ", …" if len(answers) > len(common) else ""
        name = self._name(int(self.found[0]))
        return f"all {len(self.found)} predictions on dev are {name}; right are {gold}{rest}"

    def _name(self, answer: int) -> str:
        return self.labels[answer] if self.labels else str(answer)


class Guard:
    """Watches a training.

    Args:
        names: Names of the tasks.
        chance: Loss of a blind guess, by task.
        grace: Steps in which nothing is expected of a training.
        watches: What was remembered, by task, in JSON values; filled and changed here.
    """

    def __init__(
        self,
        names: Sequence[str],
        chance: Sequence[float],
        grace: int,
        watches: list[dict[str, Any]],
    ) -> None:
        self.names, self.chance, self.grace = names, chance, grace
        self._saved = watches
        self.watches = [Watch(**values) for values in watches] or [Watch() for _ in names]

    def step(self, index: int, step: int, loss: float, norm: float) -> list[Collapsed]:
        """Look at one optimiser step of a task, before the weights are changed.

        Args:
            index: Number of the task.
            step: Number of the step.
            loss: Mean loss of its batch.
            norm: Norm of its gradient before clipping.

        Returns:
            What has been seen often enough.

        Raises:
            Collapsed: If either is not a number: there is nothing to go on with.
        """
        watch = self.watches[index]
        if not (math.isfinite(loss) and math.isfinite(norm)):
            seen = f"loss {loss}, norm of the gradient {norm}"
            raise self._finding(index, step, "not a number", seen)
        watch.losses = [*watch.losses, loss][-REMEMBERED:]
        usual = median(watch.norms) if len(watch.norms) >= ENOUGH else math.inf
        if norm <= EXPLODED * usual:
            watch.norms, watch.exploding = [*watch.norms, norm][-REMEMBERED:], 0
            return []
        watch.exploding += 1
        if watch.exploding != STEPS:
            return []
        seen = f"norm of the gradient {norm:.3g} after a median of {usual:.3g}"
        return [self._finding(index, step, "explosion", seen)]

    def evaluation(
        self, step: int, answers: Mapping[str, Answers], *, published: bool
    ) -> list[Collapsed]:
        """Look at an evaluation.

        Args:
            step: Steps done.
            answers: Predictions on dev by task.
            published: Whether these weights would be published now.

        Returns:
            What has been seen often enough.
        """
        found = []
        for index, name in enumerate(self.names):
            flat = self._flat(index, step)
            if flat and self.watches[index].flat == EVALUATIONS:
                found.append(self._finding(index, step, "flat", flat))
            if name in answers:
                single = self._single(index, step, answers[name], published)
                if single and self.watches[index].single == EVALUATIONS:
                    found.append(self._finding(index, step, "one answer", single))
        return found

    def end(self, step: int) -> list[Collapsed]:
        """Look at the weights that are about to be published."""
        found = []
        for index, watch in enumerate(self.watches):
            if watch.published:
                found.append(self._finding(index, step, "one answer", watch.published))
            if watch.judged and not watch.ever_better:
                seen = f"the loss never was below {FLAT * self.chance[index]:.3f}"
                found.append(self._finding(index, step, "flat", self._blind(index, seen)))
        return found

    def _flat(self, index: int, step: int) -> str | None:
        watch = self.watches[index]
        losses, watch.losses = watch.losses, []
        if len(losses) < ENOUGH:
            return None
        loss = fmean(losses)
        watch.judged += 1
        if loss < FLAT * self.chance[index]:
            watch.flat, watch.ever_better = 0, True
            return None
        watch.flat += step > self.grace
        return self._blind(index, f"mean loss {loss:.3f} over {len(losses)} steps")

    def _blind(self, index: int, seen: str) -> str:
        return f"{seen}; a guess that sees no text has {self.chance[index]:.3f}"

    def _single(self, index: int, step: int, answers: Answers, published: bool) -> str | None:
        watch, seen = self.watches[index], answers.one_for_all()
        if published:
            watch.published = seen
        watch.single = watch.single + (step > self.grace) if seen else 0
        return seen

    def save(self) -> None:
        """Write what is remembered into the list that was given."""
        self._saved[:] = [asdict(watch) for watch in self.watches]

    def _finding(self, index: int, step: int, reason: str, evidence: str) -> Collapsed:
        name = self.names[index]
        return Collapsed({"task": name, "step": step, "reason": reason, "evidence": evidence})

"""Which examples each optimiser step sees: a pure function of the seed and the step.

Nothing here has a state to be saved; resuming is skipping.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]

#: Batches whose examples are sorted by length among themselves.
POOL = 32


class ShuffledBatches:
    """Batches of one task: every epoch shuffled anew, of similar length within a pool of batches.

    Args:
        lengths: Longest row of each unit, in sub-words: [units].
        batch_size: Units of one optimiser step.
        seed: Numbers that the order depends on.
    """

    def __init__(self, lengths: Ids, batch_size: int, seed: Sequence[int]) -> None:
        self.lengths, self.batch_size, self.seed = lengths, batch_size, list(seed)
        self.per_epoch = max(1, ceil(len(lengths) / batch_size))
        self._epoch = lru_cache(maxsize=1)(self._shuffle)

    def __getitem__(self, step: int) -> Ids:
        """Units of the task's `step`-th batch."""
        epoch, index = divmod(step, self.per_epoch)
        return self._epoch(epoch)[index]

    def _shuffle(self, epoch: int) -> list[Ids]:
        rng = np.random.default_rng([*self.seed, epoch])
        order = rng.permutation(len(self.lengths))
        pool_size = self.batch_size * POOL
        batches: list[Ids] = []
        for start in range(0, len(order), pool_size):
            pool = order[start : start + pool_size]
            pool = pool[np.argsort(self.lengths[pool], kind="stable")]
            cuts = np.arange(self.batch_size, len(pool), self.batch_size)
            batches.extend(np.split(pool, cuts))
        return [batches[index] for index in rng.permutation(len(batches))]


class LanguageBatches:
    """Batches of raw text in many languages, drawn in proportion to size ** exponent.

    Args:
        sizes: Sequences of each language; their ids follow one another.
        batch_size: Sequences of one optimiser step.
        exponent: 1 keeps the sizes' proportions, 0 makes all languages equal (XLM: 0.3).
        seed: Numbers that the order depends on.
        steps: Number of batches.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        batch_size: int,
        exponent: float,
        seed: Sequence[int],
        steps: int,
    ) -> None:
        rng = np.random.default_rng([*seed, 0])
        # A language without text is never drawn, not even where all are made equal (0 ** 0 is 1).
        weights = np.asarray(sizes, dtype=np.float64) ** exponent * (np.asarray(sizes) > 0)
        draws = rng.choice(len(sizes), size=steps * batch_size, p=weights / weights.sum())
        firsts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        units = np.empty(len(draws), dtype=np.int64)
        for language, size in enumerate(sizes):
            places = np.flatnonzero(draws == language)
            if len(places):
                order = [rng.permutation(size) for _ in range(ceil(len(places) / size))]
                units[places] = firsts[language] + np.concatenate(order)[: len(places)]
        self._units = units.reshape(steps, batch_size)

    def __getitem__(self, step: int) -> Ids:
        """Units of the `step`-th batch."""
        units: Ids = self._units[step]
        return units


def mixing_weights(sizes: Sequence[int], exponent: float, cap: int | None) -> list[float]:
    """Weights by which the task of a step is drawn: min(size, cap) ** exponent.

    Exponent 1 is proportional sampling, 0 uniform, 1/T temperature T, as in jiant
    (proj/main/components/task_sampler.py) and T5 (Raffel et al. 2020, 3.5.2).

    Args:
        sizes: Training units of each task.
        exponent: Power of the sizes.
        cap: Larger tasks count as so large; None for no cap.
    """
    return [float(min(size, cap or size)) ** exponent for size in sizes]


def draw_tasks(weights: Sequence[float], steps: int, seed: int) -> Ids:
    """The task of every step: [steps]; a pure function of the seed.

    Args:
        weights: One weight a task; a step draws in proportion to them.
        steps: Number of optimiser steps.
        seed: Seed of the training.
    """
    share = np.asarray(weights, dtype=np.float64)
    rng = np.random.default_rng([seed, 1])
    return rng.choice(len(share), size=steps, p=share / share.sum())


def micro_batches(ids: Ids, lengths: Ids, rows: Ids, budget: int, at_least: int = 1) -> list[Ids]:
    """Cut a batch so that no part has more than `budget` sub-words, padding included.

    Args:
        ids: Units of the batch.
        lengths: Longest row of every unit of the data: [units].
        rows: Rows of every unit: [units].
        budget: Most sub-words, padding included; a single unit may exceed it.
        at_least: Parts wanted, one per process; fewer where there are not so many units.
    """
    order = ids[np.argsort(lengths[ids], kind="stable")]
    parts: list[list[int]] = []
    total = 0
    for unit in order:
        # Units come in order of length: the newest is the longest row of its part.
        total += int(rows[unit])
        if parts and total * int(lengths[unit]) <= budget:
            parts[-1].append(int(unit))
        else:
            parts.append([int(unit)])
            total = int(rows[unit])
    while len(parts) < min(at_least, len(ids)):
        largest = max(range(len(parts)), key=lambda number: len(parts[number]))
        middle = len(parts[largest]) // 2
        parts[largest : largest + 1] = [parts[largest][:middle], parts[largest][middle:]]
    return [np.asarray(part, dtype=np.int64) for part in parts]

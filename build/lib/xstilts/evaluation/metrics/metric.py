"""What a metric is: a row of additive statistics per example, and values made from their sums.

A bootstrap resamples the rows and never scores a prediction twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Statistics = NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """A metric of one language's predictions.

    Attributes:
        name: Its name in the registry.
        formats: Formats of the targets it can score.
        columns: What the columns of the statistics are.
        main: The value that is reported for a language.
        overall: The value that a target's mean over languages is made of.
        statistics: ``(predictions, gold, language) -> [examples, columns]``, predictions and gold
            aligned.
        finish: ``[..., columns] -> {value: [...]}`` in percent, from sums over examples; 0 where
            nothing was to be found.
    """

    name: str
    formats: tuple[str, ...]
    columns: tuple[str, ...]
    main: str
    overall: str
    statistics: Callable[[Sequence[Any], Sequence[Any], str], Statistics]
    finish: Callable[[Statistics], dict[str, Statistics]]

    def values(self, statistics: Statistics) -> dict[str, float]:
        """The metric's values in percent, from the statistics [examples, columns]."""
        finished = self.finish(statistics.sum(axis=0))
        return {name: float(value) for name, value in finished.items()}


def percent(part: Statistics, whole: Statistics) -> Statistics:
    """100 * part / whole, and 0 where the whole is 0."""
    part, whole = np.asarray(part), np.asarray(whole)
    share = np.divide(part, whole, out=np.zeros_like(whole, dtype=np.float64), where=whole != 0)
    return np.asarray(100.0 * share)


def f1_values(
    correct: Statistics, predicted: Statistics, gold: Statistics
) -> dict[str, Statistics]:
    """F1, precision and recall in percent from counts over all examples (micro average)."""
    return {
        "f1": percent(2 * correct, predicted + gold),
        "precision": percent(correct, predicted),
        "recall": percent(correct, gold),
    }

"""Percentile bootstrap over examples, by resampling rows of additive statistics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Bounds of the 95 % interval.
_BOUNDS = (0.025, 0.975)
#: Counts held in memory at once: 32 MiB.
_BLOCK = 2**22


def resampled_sums(statistics: Floats, samples: int, seed: Sequence[int]) -> Floats:
    """Column sums of resampled examples.

    All columns of a sample share its examples, so columns of two recipes make a paired bootstrap.

    Args:
        statistics: [examples, columns].
        samples: Number of resamples.
        seed: Decides the resamples, whatever the columns are.

    Returns:
        [samples, columns].
    """
    generator = np.random.default_rng(seed)
    examples = len(statistics)
    sums = np.empty((samples, statistics.shape[1]))
    block = max(1, _BLOCK // examples)
    for start in range(0, samples, block):
        rows = range(start, min(start + block, samples))
        draws = (generator.integers(0, examples, examples) for _ in rows)
        counts = np.stack([np.bincount(draw, minlength=examples) for draw in draws])
        sums[rows.start : rows.stop] = counts.astype(np.float64) @ statistics
    return sums


def interval(values: Floats) -> tuple[float, float]:
    """Bounds of the 95 % percentile interval of values [samples], to six decimals.

    Rounding keeps the order of summation in a matrix product out of the written bytes.
    """
    low, high = np.quantile(values, _BOUNDS)
    return round(float(low), 6) + 0.0, round(float(high), 6) + 0.0

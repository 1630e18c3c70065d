"""A knee in a curve: two lines that meet, where they fit better than one.

y = a + b x + d max(0, x - knee), fitted by least squares for each knee of a fine grid (Muggeo 2003,
"Estimating regression models with unknown break-points", has the model). A knee is said only where

- the Bayesian information criterion of the two lines (4 parameters) is below that of one (2), and
- the change of slope d at that knee, estimated for each order and seed, differs from 0: its 95 %
  interval over orders and seeds.

The interval of the knee comes from drawing orders and seeds with replacement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xstilts.analysis.bootstrap import Floats
from xstilts.analysis.stats.estimate import Estimate
from xstilts.analysis.stats.factors import over_sets_and_seeds

#: Distance between two knees that are tried, in units of x.
STEP = 0.05
#: Fewer places on the x axis leave no residual to judge two lines by.
FEWEST = 5
#: Residuals below this share of the spread are rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Knee:
    """The best two lines beside the best one.

    Attributes:
        place: x of the knee.
        low: Lower bound of its 95 % interval; None where the knee is not said.
        high: Upper bound.
        before: Slope before it.
        after: Slope after it.
        change: Change of slope at this knee, over orders and seeds.
        better: By how much the information criterion of two lines is below that of one.
        why: Why no knee is said; empty where one is.
    """

    place: float
    low: float | None
    high: float | None
    before: float
    after: float
    change: Estimate
    better: float
    why: str = ""


def knee(
    x: Sequence[float], curves: Floats, points: Sequence[Floats], samples: int, seed: Sequence[int]
) -> Knee | str:
    """Look for a knee.

    Args:
        x: Numbers, ascending.
        curves: y [orders, seeds, numbers].
        points: y of every set of each number; the criterion counts each set once.
        samples: Drawings of orders and seeds.
        seed: Seed of the drawings.

    Returns:
        A sentence that says why there is none to look for, where that is so.
    """
    if len(x) < FEWEST:
        return f"A knee needs {FEWEST} numbers of tasks or more, here are {len(x)}."
    spread = float(sum(((found - _mean(points)) ** 2).sum() for found in points))
    if spread <= _ROUNDING * max(1.0, _mean(points) ** 2):
        return "All scores are equal."
    fits = _Fits(np.asarray(x, dtype=float), np.array([len(found) for found in points], float))
    means = np.array([found.mean() for found in points])
    within = float(sum(((found - found.mean()) ** 2).sum() for found in points))
    best = int(fits.residuals(means).argmin())
    better = _better(fits, means, within, spread, best)
    _, before, turn = fits.solvers[best] @ means
    change = over_sets_and_seeds(curves @ fits.solvers[best][2], 0)
    why = _why(better, change)
    low, high = (None, None) if why else _interval(fits, curves, samples, seed)
    place = float(fits.knees[best])
    return Knee(place, low, high, float(before), float(before + turn), change, better, why)


class _Fits:
    """Least squares of two lines, for all knees that are tried."""

    def __init__(self, x: Floats, weights: Floats) -> None:
        inner = round((x[-2] - x[1]) / STEP)
        self.x, self.weights = x, weights
        self.knees: Floats = np.linspace(x[1], x[-2], inner + 1)
        designs = [
            np.stack([np.ones_like(x), x, np.maximum(0, x - place)], axis=1) for place in self.knees
        ]
        self.solvers = np.array([_solver(design, weights) for design in designs])
        self._misses = np.array(
            [np.eye(len(x)) - d @ s for d, s in zip(designs, self.solvers, strict=True)]
        )
        line = designs[0][:, :2]
        self._line_miss = np.eye(len(x)) - line @ _solver(line, weights)

    def residuals(self, means: Floats) -> Floats:
        """Weighted squares that each knee leaves [knees, ...] of means [..., numbers]."""
        left = np.einsum("kij,...j->k...i", self._misses, means)
        return np.asarray((left**2 * self.weights).sum(axis=-1))

    def line_residual(self, means: Floats) -> float:
        """Weighted squares that one line leaves."""
        return float(((self._line_miss @ means) ** 2 * self.weights).sum())


def _solver(design: Floats, weights: Floats) -> Floats:
    root = np.sqrt(weights)
    return np.asarray(np.linalg.pinv(design * root[:, None]) * root)


def _mean(points: Sequence[Floats]) -> float:
    return float(np.concatenate(points).mean())


def _better(fits: _Fits, means: Floats, within: float, spread: float, best: int) -> float:
    """Information criterion of one line minus that of two."""
    number = float(fits.weights.sum())
    floor = _ROUNDING * spread  # of two lines that leave nothing
    one, two = (
        max(floor, within + left)
        for left in (fits.line_residual(means), float(fits.residuals(means)[best]))
    )
    return number * math.log(one / two) - 2 * math.log(number)


def _why(better: float, change: Estimate) -> str:
    if better <= 0:
        return "One straight line fits as well as two."
    if change.why:
        return change.why.replace("language", "order")
    if change.verdict == "cannot be told apart":
        return "The change of slope cannot be told apart from none."
    return ""


def _interval(
    fits: _Fits, curves: Floats, samples: int, seed: Sequence[int]
) -> tuple[float, float]:
    """Percentiles of the knees of drawn orders and seeds."""
    draw = np.random.default_rng(list(seed))
    orders, seeds, _ = curves.shape
    picked = [draw.integers(0, size, (samples, size)) for size in (orders, seeds)]
    drawn = curves[picked[0][:, :, None], picked[1][:, None, :]].mean(axis=(1, 2))
    knees = fits.knees[fits.residuals(drawn).argmin(axis=0)]
    low, high = np.percentile(knees, (2.5, 97.5))
    return float(low), float(high)

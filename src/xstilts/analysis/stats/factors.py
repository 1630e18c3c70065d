"""Means over several random factors that are crossed: sets of tasks, seeds and languages.

What `crossed` does for two factors, for any number of them: a value is the mean, plus what each
level of each factor adds, plus what each combination adds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from xstilts.analysis.bootstrap import Floats
from xstilts.analysis.stats.crossed import (
    constant,
    hedges,
    over_languages_and_seeds,
    over_seeds,
)
from xstilts.analysis.stats.estimate import CONFIDENCE, Estimate

#: Half of what is outside the interval.
_TAIL = (1 - CONFIDENCE) / 2
#: The smallest p-value that is computed.
_SMALLEST = 1e-15
Axes = tuple[int, ...]


@dataclass(frozen=True)
class Squares:
    """The analysis of variance of a table with one value per cell.

    Attributes:
        shape: Levels of each factor.
        mean: Mean square of each factor and combination, by its axes.
        df: Degrees of freedom of each.
    """

    shape: tuple[int, ...]
    mean: dict[Axes, float]
    df: dict[Axes, int]

    def parts(self) -> dict[Axes, float]:
        """What each factor and combination adds to the variance of the mean, times the cells.

        The expected mean square of a combination is the sum of its own part and of those of all
        larger ones that hold it. A negative part counts as 0, which makes intervals wider.
        """
        found: dict[Axes, float] = {}
        for axes in sorted(self.mean, key=len, reverse=True):
            above = sum(part for other, part in found.items() if set(axes) < set(other))
            found[axes] = max(0.0, self.mean[axes] - above)
        return found

    def total(self) -> float:
        """Variance of the mean, times the cells."""
        return sum(self.parts().values())

    def freedom(self) -> float:
        """Degrees of freedom of that variance, after Satterthwaite (1946)."""
        squares = sum(square**2 / self.df[axes] for axes, square in self.mean.items())
        return max(1.0, self.total() ** 2 / squares)

    def factors(self) -> tuple[list[float], list[int]]:
        """Mean squares of the single factors, with their degrees of freedom.

        Each is at least what its parts in larger combinations add up to.
        """
        parts = self.parts()
        axes = [axes for axes in self.mean if len(axes) == 1]
        held = [sum(part for other, part in parts.items() if set(a) <= set(other)) for a in axes]
        return held, [self.df[own] for own in axes]

    def variance(self, axes: Axes) -> float:
        """Variance of what a factor or combination adds to a value."""
        others = [size for axis, size in enumerate(self.shape) if axis not in axes]
        return self.parts()[axes] / math.prod(others)


def squares_of(values: Floats) -> Squares:
    """The analysis of variance of complete values, each axis a factor of two levels or more."""
    shape, every = values.shape, tuple(range(values.ndim))
    subsets = [axes for size in range(1, len(every) + 1) for axes in combinations(every, size)]
    effects: dict[Axes, Floats] = {(): np.asarray(values.mean(keepdims=True))}
    mean, df = dict[Axes, float](), dict[Axes, int]()
    for axes in subsets:
        others = tuple(axis for axis in every if axis not in axes)
        smaller = sum(found for known, found in effects.items() if set(known) < set(axes))
        effects[axes] = values.mean(axis=others, keepdims=True) - smaller
        df[axes] = math.prod(shape[axis] - 1 for axis in axes)
        repeated = math.prod(shape[axis] for axis in others)
        mean[axes] = repeated * float((effects[axes] ** 2).sum()) / df[axes]
    return Squares(shape, mean, df)


def over_all(differences: Floats) -> Estimate:
    """The mean for other sets, seeds and languages than these, all random and crossed.

    The variance of the mean is the sum of all parts over the number of cells. The interval has
    Satterthwaite's degrees of freedom: Cochran and Cox's t, which `crossed` takes, covers 97 to
    99 % with three factors (`tests/unit/test_factors.py` has the simulation). The p-value is
    Banerjee's as in `crossed`, of three mean squares: never liberal, stricter than the interval.

    Args:
        differences: [sets, seeds, languages], paired, complete. One set: the mean for this set.
    """
    sets, seeds, languages = differences.shape
    if sets == 1 or seeds < 2 or languages < 2 or constant(differences):
        # The same reasons for no interval as without sets.
        return over_languages_and_seeds(differences.mean(axis=0))
    squares, value = squares_of(differences), float(differences.mean())
    main, df = squares.factors()
    freedom = squares.freedom()
    half = _t(_TAIL, freedom) * math.sqrt(squares.total() / differences.size)
    return Estimate(
        value=value,
        low=value - half,
        high=value + half,
        p=_bound(value**2 * differences.size, main, df),
        effect=_effect(value, squares),
        df=freedom,
        seeds=seeds,
        languages=languages,
    )


def _t(tail: float, df: float) -> float:
    """Student's t with that much beyond it."""
    from scipy.special import stdtrit

    return -float(stdtrit(df, tail))


def _bound(square: float, main: Sequence[float], df: Sequence[int]) -> float:
    """Banerjee's p-value of a mean, from its square times the number of differences."""
    from scipy.optimize import brentq

    def above(log_p: float) -> float:
        own = zip(main, df, strict=True)
        return sum(_t(math.exp(log_p) / 2, d) ** 2 * part for part, d in own) - square

    smallest = math.log(_SMALLEST)
    if square == 0 or above(0.0) >= 0:
        return 1.0
    return _SMALLEST if above(smallest) <= 0 else math.exp(brentq(above, smallest, 0.0))


def _effect(value: float, squares: Squares) -> float | None:
    """Hedges' g over the spread of one difference, with Satterthwaite's degrees of freedom."""
    spread = math.sqrt(sum(map(squares.variance, squares.mean)))
    return hedges(value, spread, squares.freedom())


def over_sets_and_seeds(means: Floats, languages: int) -> Estimate:
    """The mean in these languages for other sets and seeds than these.

    Args:
        means: [sets, seeds], complete. One set: the mean for this set.
        languages: Languages behind the means.
    """
    found = over_seeds(means.T) if len(means) == 1 else over_languages_and_seeds(means.T)
    return replace(found, languages=languages)


@dataclass(frozen=True)
class Spread:
    """Spread over sets beside spread over seeds, in points.

    Attributes:
        sets: Standard deviation of what a set adds.
        seeds: Standard deviation over the seeds of a set.
        f: Variance ratio of the sets: above 1 where sets differ more than seeds make them.
        df: Its degrees of freedom.
        p: Of no difference between the sets.
    """

    sets: float
    seeds: float
    f: float
    df: tuple[int, int]
    p: float


def spread(tables: Sequence[Floats]) -> Spread | None:
    """Whether sets differ, in one table or in several together.

    Args:
        tables: [sets, seeds] each, complete.

    Returns:
        None where no table has two sets and two seeds, or nothing varies.
    """
    from scipy.stats import f as ratio

    found = [squares_of(table) for table in tables if min(table.shape) > 1]
    found = [squares for squares in found if squares.mean[(0, 1)] > 0]
    if not found or all(constant(table) for table in tables):
        return None
    above, below = (
        sum(squares.mean[axes] * squares.df[axes] for squares in found) for axes in ((0,), (0, 1))
    )
    df = (sum(squares.df[(0,)] for squares in found), sum(s.df[(0, 1)] for s in found))
    value = (above / df[0]) / (below / df[1])
    of_seeds = [squares.variance((1,)) + squares.variance((0, 1)) for squares in found]
    return Spread(
        sets=math.sqrt(float(np.mean([squares.variance((0,)) for squares in found]))),
        seeds=math.sqrt(float(np.mean(of_seeds))),
        f=value,
        df=df,
        p=float(ratio.sf(value, *df)),
    )

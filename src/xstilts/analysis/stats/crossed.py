"""Mean differences over seeds and languages, when both are random and crossed.

A difference is d[s, l] = delta + a_s + b_l + e_sl: what seed s and language l add, and what is
left. The mean squares A of seeds, B of languages and E of what is left, from the two-way analysis
of variance with one value per cell, give the variance of the mean: (A + B - E) / (S L), where A - E
is 0 if it would be negative. With few seeds the question is which t such a variance goes with.

- The interval takes the mean of the t of seeds and of languages, weighted by A - E and B (Cochran
  and Cox 1957, "Experimental designs", section 4.14, for means of unequal variance).
- The p-value is the level at which (t_S^2 A + t_L^2 B) / (S L) reaches the squared mean. Banerjee
  (1960, "Approximate confidence interval for linear functions of means of k populations", Sankhya
  22) shows that this is never liberal, at any level, as corrected families of tests need it. It is
  stricter than the interval: what it tells apart has an interval without 0, but not the reverse.

Measured over 1,000 simulations each, with 2, 3 and 5 seeds and 6, 12 and 40 languages: where seeds
have a quarter or half of the spread of languages, intervals cover 93 to 98 % (most with 2 seeds and
6 languages, least with 2 seeds and 40). Where seeds matter as much as languages, 2 seeds are too
few: 91 % with 40 languages. Where what is left is three times the spread of languages, up to 99 %.

Degrees of freedom after Satterthwaite (1946), the usual choice, are wrong far out, where Holm's
correction looks: in a family of 81 tests without any effect, with 3 seeds and 40 languages, they
find one in 35 % of 1,000 simulations (seeds with half of the spread of languages); with 2 seeds
their intervals cover 88 to 89 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from xstilts.analysis.bootstrap import Floats
from xstilts.analysis.stats.estimate import CONFIDENCE, Estimate

#: Half of what is outside the interval.
_TAIL = (1 - CONFIDENCE) / 2
#: Spread below this share of the values is rounding.
_ROUNDING = 1e-9
#: The smallest p-value that is computed.
_SMALLEST = 1e-15


@dataclass(frozen=True)
class Components:
    """Standard deviations of differences, in points; None where one cannot be told.

    Attributes:
        seed: Of what a seed adds in all languages.
        language: Of what a language adds with all seeds.
        residual: Of what is left: the two together, and noise.
    """

    seed: float | None
    language: float | None
    residual: float | None


@dataclass(frozen=True)
class Squares:
    """Mean squares of seeds, languages, and what is left, with their degrees of freedom.

    That of languages is at least that of what is left, which it holds: by chance alone scores of
    few test sentences can make both means vary less than their parts.
    """

    seed: float
    language: float
    residual: float
    df: tuple[float, float, float]


def over_languages_and_seeds(differences: Floats) -> Estimate:
    """The mean difference for other languages and other seeds than these.

    The effect is in standard deviations of one language with one seed. The degrees of freedom are
    those that Student's t would need for the same interval.

    Args:
        differences: [seeds, languages] in points, paired, complete.

    Returns:
        Without interval and p-value for one seed, one language, or differences that do not vary.

    Raises:
        ValueError: If a difference is missing.
    """
    table = _checked(differences)
    value, (seeds, languages) = float(table.mean()), table.shape
    if why := _why_not(table):
        return Estimate(value, seeds=seeds, languages=languages, why=why)
    squares = _mean_squares(table)
    found = estimate_of(value, squares, table.size)
    effect = _effect(value, squares, seeds, languages)
    return replace(found, effect=effect, seeds=seeds, languages=languages)


def estimate_of(value: float, squares: Squares, size: int = 1) -> Estimate:
    """A mean with its interval and p-value.

    Args:
        value: The mean, in points.
        squares: Mean squares, not all 0.
        size: What they are divided by to give variances of the mean.
    """
    quantile = _weighted_t(squares)
    half = quantile * math.sqrt(sum(_parts(squares)) / size)
    p, df = _bound(value**2 * size, squares), _df_of(quantile, squares.df)
    return Estimate(value, value - half, value + half, p, df=df)


def over_seeds(differences: Floats) -> Estimate:
    """The mean difference in these very languages, for other seeds than these: Student's t.

    The effect is in standard deviations, over seeds, of the mean over languages.

    Args:
        differences: [seeds, languages] in points, paired, complete.

    Returns:
        Without interval and p-value for one seed, or means that do not vary.

    Raises:
        ValueError: If a difference is missing.
    """
    table = _checked(differences)
    means = table.mean(axis=1)
    value, (seeds, languages) = float(means.mean()), table.shape
    if seeds < 2:
        why = "One seed: the spread over seeds is not known."
        return Estimate(value, seeds=seeds, languages=languages, why=why)
    if constant(means):
        why = "All seeds give the same: there is no spread to test by."
        return Estimate(value, seeds=seeds, languages=languages, why=why)
    spread = float(means.std(ddof=1))
    effect = hedges(value, spread, seeds - 1)
    return student(value, spread / math.sqrt(seeds), seeds - 1, effect, seeds, languages)


def components(differences: Floats) -> Components:
    """Standard deviations of what seeds, languages, and neither alone add to differences.

    From expected mean squares; what they put below 0 is 0. With one seed, what languages add cannot
    be told from what is left: both stand under `language`. With one language likewise.

    Args:
        differences: [seeds, languages] in points, complete.

    Raises:
        ValueError: If a difference is missing.
    """
    table = _checked(differences)
    seeds, languages = table.shape
    if seeds < 2 or languages < 2:
        spread = float(table.std(ddof=1)) if table.size > 1 else None
        return Components(spread if seeds > 1 else None, spread if languages > 1 else None, None)
    squares = _mean_squares(table)
    seed = math.sqrt(max(0.0, squares.seed - squares.residual) / languages)
    language = math.sqrt(max(0.0, squares.language - squares.residual) / seeds)
    return Components(seed, language, math.sqrt(squares.residual))


def student(
    value: float,
    error: float,
    df: float,
    effect: float | None = None,
    seeds: int = 0,
    languages: int = 0,
) -> Estimate:
    """An estimate with Student's interval and test.

    Args:
        value: The estimate.
        error: Its standard error, not 0.
        df: Degrees of freedom of the error.
        effect: Standardised effect size.
        seeds: Seeds behind it.
        languages: Languages behind it.
    """
    from scipy.special import stdtr

    half = _t(_TAIL, df) * error
    p = 2 * float(stdtr(df, -abs(value) / error))
    return Estimate(value, value - half, value + half, p, None, effect, df, seeds, languages)


def hedges(value: float, spread: float, df: float) -> float | None:
    """A mean difference in standard deviations, corrected for small samples.

    Hedges (1981), "Distribution theory for Glass's estimator of effect size": the exact factor.

    Args:
        value: Mean difference.
        spread: Standard deviation of the differences.
        df: Its degrees of freedom.

    Returns:
        None where nothing varies, and at one degree of freedom, where no factor corrects it.
    """
    from scipy.special import gammaln

    if spread <= 0 or df <= 1:
        return None
    factor = math.exp(gammaln(df / 2) - gammaln((df - 1) / 2)) / math.sqrt(df / 2)
    return value / spread * factor


def constant(values: Floats) -> bool:
    """Whether values differ by no more than rounding."""
    return bool(np.ptp(values) <= _ROUNDING * max(1.0, float(np.abs(values).max())))


def _t(tail: float, df: float) -> float:
    """Student's t with that much beyond it."""
    from scipy.special import stdtrit

    return -float(stdtrit(df, tail))


def _parts(squares: Squares) -> tuple[float, float]:
    """What seeds, and languages with what is left, add to S L times the variance of the mean."""
    return max(0.0, squares.seed - squares.residual), squares.language


def _weighted_t(squares: Squares) -> float:
    """Cochran and Cox's t of the interval."""
    seed, language = _parts(squares)
    t_seed, t_language = (_t(_TAIL, df) for df in squares.df[:2])
    return (seed * t_seed + language * t_language) / (seed + language)


def _bound(square: float, squares: Squares) -> float:
    """Banerjee's p-value of a mean, from its square times the number of differences."""
    from scipy.optimize import brentq

    def above(log_p: float) -> float:
        seed, language = (_t(math.exp(log_p) / 2, df) ** 2 for df in squares.df[:2])
        return seed * squares.seed + language * squares.language - square

    smallest = math.log(_SMALLEST)
    if square == 0 or above(0.0) >= 0:
        return 1.0
    return _SMALLEST if above(smallest) <= 0 else math.exp(brentq(above, smallest, 0.0))


def _df_of(quantile: float, df: tuple[float, float, float]) -> float:
    """The degrees of freedom at which Student's t is that quantile."""
    from scipy.optimize import brentq

    low, high = min(df), max(df)
    if _t(_TAIL, low) <= quantile:
        return float(low)
    if _t(_TAIL, high) >= quantile:
        return float(high)
    return float(brentq(lambda own: _t(_TAIL, own) - quantile, low, high))


def _effect(value: float, squares: Squares, seeds: int, languages: int) -> float | None:
    """Hedges' g over the spread of one difference, with degrees of freedom after Satterthwaite."""
    parts = (
        squares.seed / languages,
        squares.language / seeds,
        squares.residual * (1 - 1 / seeds - 1 / languages),
    )
    spread = sum(parts)
    df = spread**2 / sum(part**2 / own for part, own in zip(parts, squares.df, strict=True))
    return hedges(value, math.sqrt(spread), df)


def _mean_squares(table: Floats) -> Squares:
    seeds, languages = table.shape
    rows, columns = table.mean(axis=1), table.mean(axis=0)
    left = table - rows[:, None] - columns[None, :] + table.mean()
    df = (seeds - 1, languages - 1, (seeds - 1) * (languages - 1))
    residual = float((left**2).sum()) / df[2]
    return Squares(
        seed=languages * float(rows.var(ddof=1)),
        language=max(residual, seeds * float(columns.var(ddof=1))),
        residual=residual,
        df=df,
    )


def _checked(differences: Floats | Sequence[Sequence[float]]) -> Floats:
    table = np.asarray(differences, dtype=np.float64)
    if table.ndim != 2 or not table.size:
        raise ValueError(f"differences are [seeds, languages], not of shape {table.shape}")
    if not np.isfinite(table).all():
        raise ValueError("differences are complete and finite: leave out what is missing")
    return table


def _why_not(table: Floats) -> str:
    """Why there is no interval; empty where there is one."""
    seeds, languages = table.shape
    if seeds < 2:
        return "One seed: the spread over seeds is not known."
    if languages < 2:
        return "One language: the spread over languages is not known."
    if constant(table):
        return "All differences are equal: there is no spread to test by."
    return ""

"""What is lost by trusting a prediction: regret, and rank correlation over recipes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xstilts.analysis.bootstrap import Floats
from xstilts.analysis.stats.estimate import CONFIDENCE

#: Fewest recipes for a rank correlation, and for its interval: the normal approximation of
#: Bonett and Wright (2000) is for samples of about ten and more.
FEWEST, FEWEST_FOR_INTERVAL = 3, 10


def regret(predicted: Sequence[float | None], scores: Sequence[float], k: int) -> float | None:
    """By how many percent the best of the k recipes predicted best falls short of the best of all.

    (max over S of T - max over S_k of T) / max over S of T, in percent: Poth et al. 2021 (arXiv
    2104.08247), after Renggli et al. 2022 (arXiv 2010.06866). Of recipes with equal predictions
    each is as likely to be among the k, and the expected value is given: with all predictions equal
    it is that of a random choice. A recipe without a prediction comes last.

    Args:
        predicted: High is good; None where nothing is predicted.
        scores: Measured, at least 0.
        k: How many recipes are tried.

    Returns:
        None where the best score is 0.
    """
    best = max(scores)
    if best <= 0:
        return None
    return 100 * (best - _expected_best(predicted, scores, k)) / best


def _expected_best(predicted: Sequence[float | None], scores: Sequence[float], k: int) -> float:
    """Expected best score of the k recipes predicted best, ties drawn at random."""
    values = np.array([-math.inf if value is None else value for value in predicted])
    found = np.asarray(scores, dtype=np.float64)
    if k >= len(found):
        return float(found.max())
    limit = np.sort(values)[::-1][k - 1]
    sure, drawn = found[values > limit], np.sort(found[values == limit])
    if sure.size:
        drawn = np.maximum(drawn, sure.max())
    draws, ties = k - len(sure), len(drawn)
    # The i-th smallest is the best of so many draws where the others are among those below it.
    ways = [math.comb(below, draws - 1) for below in range(ties)]
    return float(np.dot(ways, drawn)) / math.comb(ties, draws)


@dataclass(frozen=True)
class RankCorrelation:
    """How a prediction orders recipes.

    Attributes:
        spearman: Correlation of the ranks; None where there is none.
        kendall: Kendall's tau-b.
        low: Lower bound of the 95 % interval of `spearman`.
        high: Upper bound.
        n: Recipes.
        why: Why something is missing; empty where nothing is.
    """

    spearman: float | None
    kendall: float | None
    low: float | None
    high: float | None
    n: int
    why: str = ""


def rank_correlation(predicted: Sequence[float | None], scores: Sequence[float]) -> RankCorrelation:
    """Spearman's and Kendall's correlation over the recipes that have a prediction.

    Args:
        predicted: [recipes], None where nothing is predicted.
        scores: [recipes].
    """
    from scipy.stats import kendalltau, norm, spearmanr

    pairs = [(a, b) for a, b in zip(predicted, scores, strict=True) if a is not None]
    x, y = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    n = len(pairs)
    if n < FEWEST:
        return RankCorrelation(None, None, None, None, n, f"{n} recipes: too few")
    if _constant(x) or _constant(y):
        return RankCorrelation(None, None, None, None, n, "all recipes are equal")
    spearman, kendall = float(spearmanr(x, y).statistic), float(kendalltau(x, y).statistic)
    if n < FEWEST_FOR_INTERVAL:
        why = f"{n} recipes: too few for an interval"
        return RankCorrelation(spearman, kendall, None, None, n, why)
    if abs(spearman) > 1 - 1e-12:
        return RankCorrelation(spearman, kendall, None, None, n, "the same order or its reverse")
    # Bonett and Wright (2000), "Sample size requirements for estimating Pearson, Kendall and
    # Spearman correlations", Psychometrika 65.
    half = float(norm.ppf((1 + CONFIDENCE) / 2)) * math.sqrt((1 + spearman**2 / 2) / (n - 3))
    centre = math.atanh(spearman)
    low, high = math.tanh(centre - half), math.tanh(centre + half)
    return RankCorrelation(spearman, kendall, low, high, n)


def _constant(values: Floats) -> bool:
    return bool(np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())))

"""LogME: how well a linear model on frozen features explains labels, as its largest evidence.

You et al. (2021), "LogME: Practical assessment of pre-trained models for transfer learning"
(arXiv 2102.11005): labels y = Fw + noise, w ~ N(0, 1/alpha), noise ~ N(0, 1/beta). The evidence
p(y | F) with w integrated out is maximised over alpha and beta by MacKay's fixed point. A class is
a column of zeros and ones; LogME is the mean of the columns' log evidence, per row.

Only sums over rows are needed, so that any number of rows fits into memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Most steps of the fixed point, and the gain of log evidence per row at which it ends. The paper
#: stops after ten; they cost nothing beside the features.
_STEPS, _GAIN = 10_000, 1e-12


@dataclass(frozen=True)
class Moments:
    """Sums over the rows of features F and labels Y.

    Attributes:
        rows: Their number.
        gram: F'F [features, features].
        cross: F'Y [features, columns].
        squares: Sum of the squares of each column of Y [columns].
    """

    rows: int
    gram: Floats
    cross: Floats
    squares: Floats


@dataclass(frozen=True)
class Evidence:
    """The largest evidence of one column of labels.

    Attributes:
        value: Natural logarithm of the evidence.
        alpha: Precision of the weights.
        beta: Precision of the noise.
    """

    value: float
    alpha: float
    beta: float


def logme(moments: Moments) -> float | None:
    """Mean log evidence per row, over the columns that are not all zero; None if all are."""
    found = [entry.value for entry in evidence(moments) if entry is not None]
    return sum(found) / len(found) / moments.rows if found else None


def evidence(moments: Moments) -> list[Evidence | None]:
    """The largest evidence of each column of labels; None of one that is all zero."""
    values, vectors = np.linalg.eigh(moments.gram)
    # Directions in which the features do not vary, up to rounding, explain nothing.
    kept = values > values[-1] * len(values) * np.finfo(np.float64).eps
    values, along = values[kept], vectors[:, kept].T @ moments.cross
    explained = along**2 / values[:, None]
    return [
        _largest(values, explained[:, column], float(total), moments.rows) if total > 0 else None
        for column, total in enumerate(moments.squares)
    ]


def _largest(values: Floats, explained: Floats, total: float, rows: int) -> Evidence:
    """Of one column, by the fixed point from alpha = beta = 1.

    Args:
        values: Positive eigenvalues of F'F [directions].
        explained: Square of the labels' part along each direction [directions].
        total: Square of the labels.
        rows: Number of rows.
    """
    # What no weights explain; above 0, so that labels which fit exactly have an evidence.
    beyond = max(total - float(explained.sum()), total * rows * np.finfo(np.float64).eps)
    alpha = beta = 1.0
    before = -math.inf
    value = _log_evidence(values, explained, beyond, rows, alpha, beta)
    for _ in range(_STEPS):
        if abs(value - before) <= _GAIN * rows:
            break
        ratio = alpha / beta
        shrunk = ratio / (ratio + values)  # by how much each direction is held back
        gamma = float((1 - shrunk).sum())
        weights = float((explained * values / (ratio + values) ** 2).sum())
        residual = beyond + float((explained * shrunk**2).sum())
        if not weights > 0:  # the features say nothing of these labels
            break
        alpha = gamma / weights
        beta = (rows - len(values) + float(shrunk.sum())) / residual
        before, value = value, _log_evidence(values, explained, beyond, rows, alpha, beta)
    return Evidence(value, alpha, beta)


def _log_evidence(
    values: Floats, explained: Floats, beyond: float, rows: int, alpha: float, beta: float
) -> float:
    """Equation 2 of the paper, in the directions of F'F.

    rows/2 log(beta / 2 pi) + features/2 log alpha - log|A|/2 - beta/2 |Fm - y|^2 - alpha/2 |m|^2,
    with A = alpha + beta F'F and the weights' mean m; a direction without variance cancels.
    """
    precision = alpha + beta * values
    fit = beta * (beyond + float((explained * (alpha / precision) ** 2).sum()))
    prior = alpha * float((explained * values * (beta / precision) ** 2).sum())
    volume = float(np.log(alpha / precision).sum())
    return 0.5 * (rows * math.log(beta / (2 * math.pi)) + volume - fit - prior)

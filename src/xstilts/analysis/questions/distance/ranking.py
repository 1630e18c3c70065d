"""Languages by their scores against languages by their planted distance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from xstilts.analysis.bootstrap import Floats
from xstilts.analysis.questions.distance.values import Measure, Subject, together
from xstilts.analysis.study import Grid, Study

#: Languages up to which all orders are looked at: 8! = 40,320.
_ALL_ORDERS = 8
#: Sums within rounding of each other are the same.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Ranking:
    """Languages of a subject, in the order of their planted distance.

    Attributes:
        distances: Planted distances.
        scores: Zero-shot scores, means over seeds and targets.
        planted: Ranks by distance, the nearest first; equal ones share the mean of their ranks.
        recovered: Ranks by score, the highest first.
        spearman: Correlation of the two ranks; None where one of them does not vary.
        kendall: Kendall's tau-b.
        p: Two-sided p-value of `kendall` being 0; None for fewer than three languages.
    """

    model: str
    recipe: str
    subject: Subject
    languages: tuple[str, ...]
    distances: tuple[float, ...]
    scores: tuple[float, ...]
    planted: tuple[float, ...]
    recovered: tuple[float, ...]
    spearman: float | None
    kendall: float | None
    p: float | None


def ranking(
    study: Study, model: str, recipe: str, subject: Subject, planted: Measure
) -> Ranking | None:
    """The order of languages by score and by planted distance; None without two languages."""
    grid = _scores(study, model, recipe, subject)
    places = planted.known(grid.languages) if grid else []
    if grid is None or len(places) < 2:
        return None
    languages = [grid.languages[place] for place in places]
    far, scores = planted.farness(languages), grid.values[:, places].mean(axis=0)
    # What a sum's order decides in the last digit is a tie.
    scores = np.round(scores, 9)
    order = sorted(range(len(languages)), key=lambda place: (far[place], languages[place]))
    far, scores = far[order], scores[order]
    kendall = _kendall(far, -scores)
    return Ranking(
        model,
        recipe,
        subject,
        tuple(languages[place] for place in order),
        tuple(far.tolist()),
        tuple(scores.tolist()),
        tuple(_ranks(far).tolist()),
        tuple(_ranks(-scores).tolist()),
        _spearman(far, -scores),
        kendall,
        None if kendall is None or len(far) < 3 else _p(far, -scores),
    )


def _scores(study: Study, model: str, recipe: str, subject: Subject) -> Grid | None:
    found = []
    for target in subject.targets:
        grid = study.grid(model, recipe, target.name)
        if grid is None:
            return None
        found.append(grid.of(code for code in grid.languages if code != study.source))
    return together(found) if all(grid.languages for grid in found) else None


def _ranks(values: Floats) -> Floats:
    from scipy.stats import rankdata

    return np.asarray(rankdata(values), dtype=np.float64)


def _spearman(x: Floats, y: Floats) -> float | None:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def _kendall(x: Floats, y: Floats) -> float | None:
    from scipy.stats import kendalltau

    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(kendalltau(x, y).statistic)


def _p(x: Floats, y: Floats) -> float:
    """Share of the orders of y that agree or disagree with x as much; exact also with ties."""
    from scipy.stats import kendalltau

    if len(x) > _ALL_ORDERS:
        return float(kendalltau(x, y).pvalue)
    signs = np.sign(x[:, None] - x[None, :])
    orders = np.array(list(permutations(range(len(y)))))
    differences = np.sign(y[:, None] - y[None, :])
    sums = np.abs(
        sum(
            signs[i, j] * differences[orders[:, i], orders[:, j]]
            for i in range(len(x))
            for j in range(i)
        )
    )
    found = sums >= sums[0] - _ROUNDING
    return float(found.sum()) / math.factorial(len(y))


def rankings(study: Study, model: str, about: Sequence[Subject], planted: Measure) -> list[Ranking]:
    """Of every recipe and subject."""
    found = (
        ranking(study, model, recipe, subject, planted)
        for recipe in study.recipes
        for subject in about
    )
    return [one for one in found if one is not None]

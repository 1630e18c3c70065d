"""Scores of ranked candidates: LAReQA's mean average precision, Mewsli-X's reciprocal rank.

The rules are XTREME-R's (`utils_lareqa.py`, `utils_mewslix.py`): average precision at k divides by
min(relevant candidates, k), a candidate that is ranked twice counts where it stands first, and of a
mention without predictions the score is 0. LAReQA's own paper has no cut: that value stands beside.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xstilts.errors import InputError
from xstilts.evaluation.metrics.metric import Metric, Statistics, percent

#: Ranks that XTREME-R looks at.
TOP = 20


@dataclass(frozen=True)
class Ranking:
    """A ranking of which only the head is written down, and where the relevant candidates stand.

    Attributes:
        best: Ids of the head, best first.
        ranks: Rank in the whole ranking, from 1, of every relevant candidate.
    """

    best: Sequence[str]
    ranks: Mapping[str, int]


Ranked = Ranking | Sequence[str]


def ranks_of(relevant: Collection[str], ranked: Ranked) -> list[int]:
    """Ranks, from 1 and rising, at which relevant candidates are found for the first time."""
    if isinstance(ranked, Ranking):
        return sorted(rank for id_, rank in ranked.ranks.items() if id_ in relevant)
    first: dict[str, int] = {}
    for rank, id_ in enumerate(ranked, start=1):
        first.setdefault(id_, rank)
    return sorted(first[id_] for id_ in set(relevant) if id_ in first)


def average_precision(relevant: Collection[str], ranked: Ranked, k: int | None = None) -> float:
    """Average precision (0 to 1) of a ranking.

    Args:
        relevant: Ids of the candidates to be found; one that stands there twice counts twice.
        ranked: Ids, best first.
        k: Ranks that are looked at; None (or 0) for all.

    Raises:
        InputError: If nothing is relevant (XTREME-R's code divides by zero there).
    """
    if not relevant:
        raise InputError(
            "average precision", "no candidate is relevant", expected="at least one per query"
        )
    found = [rank for rank in ranks_of(relevant, ranked) if not k or rank <= k]
    total = sum(number / rank for number, rank in enumerate(found, start=1))
    return total / (min(len(relevant), k) if k else len(relevant))


def reciprocal_rank(relevant: Collection[str], ranked: Ranked, k: int | None = None) -> float:
    """1 / rank of the first relevant candidate; 0 if none is among the first k."""
    found = [rank for rank in ranks_of(relevant, ranked) if not k or rank <= k]
    return 1 / found[0] if found else 0.0


def precision_statistics(
    predictions: Sequence[Ranked], gold: Sequence[Collection[str]], language: str = ""
) -> Statistics:
    """Statistics [questions, 3]: average precision at 20, of the whole ranking, and 1.

    The second is of the whole ranking only as far as a prediction holds it.

    Raises:
        InputError: If a question has no relevant candidate.
    """
    return _rows(predictions, gold, average_precision, (TOP, None))


def reciprocal_statistics(
    predictions: Sequence[Ranked], gold: Sequence[Collection[str]], language: str = ""
) -> Statistics:
    """Statistics [mentions, 2]: reciprocal rank at 20, and 1."""
    return _rows(predictions, gold, reciprocal_rank, (TOP,))


def _rows(
    predictions: Sequence[Ranked],
    gold: Sequence[Collection[str]],
    score: Callable[[Collection[str], Ranked, int | None], float],
    cuts: tuple[int | None, ...],
) -> Statistics:
    rows = [
        [*(score(relevant, ranked, k) for k in cuts), 1.0]
        for ranked, relevant in zip(predictions, gold, strict=True)
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, len(cuts) + 1)


def finish_precision(sums: Statistics) -> dict[str, Statistics]:
    """Mean average precision at 20 and without a cut, in percent, from sums [..., 3]."""
    count = sums[..., 2]
    return {"map@20": percent(sums[..., 0], count), "map": percent(sums[..., 1], count)}


def finish_reciprocal(sums: Statistics) -> dict[str, Statistics]:
    """Mean reciprocal rank at 20 in percent from sums [..., 2]; with one gold id it is mAP@20."""
    return {"mrr@20": percent(sums[..., 0], sums[..., 1])}


LAREQA_MAP = Metric(
    name="lareqa_map",
    formats=("answer_retrieval",),
    columns=("average_precision@20", "average_precision", "examples"),
    main="map@20",
    overall="map@20",
    statistics=precision_statistics,
    finish=finish_precision,
)

MEWSLIX_MRR = Metric(
    name="mewslix_mrr",
    formats=("answer_retrieval",),
    columns=("reciprocal_rank@20", "examples"),
    main="mrr@20",
    overall="mrr@20",
    statistics=reciprocal_statistics,
    finish=finish_reciprocal,
)

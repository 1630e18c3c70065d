"""Scores of sentence retrieval: Tatoeba's accuracy and the set F1 of BUCC's mined pairs."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from xstilts.evaluation.metrics import accuracy
from xstilts.evaluation.metrics.metric import Metric, Statistics, f1_values


def pair_statistics(
    predictions: Sequence[AbstractSet[str]], gold: Sequence[AbstractSet[str]], language: str = ""
) -> Statistics:
    """Statistics [source sentences, 3]: pairs correct, predicted and gold.

    An example is a source sentence, its values the sets of target sentences it is paired with; so
    the examples are the same for every model, and repeated pairs count once.
    """
    rows = [
        (len(found & wanted), len(found), len(wanted))
        for found, wanted in zip(predictions, gold, strict=True)
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def finish_pairs(sums: Statistics) -> dict[str, Statistics]:
    """F1, precision and recall in percent from sums [..., 3]."""
    return f1_values(sums[..., 0], sums[..., 1], sums[..., 2])


TATOEBA_ACCURACY = Metric(
    name="tatoeba_accuracy",
    formats=("sentence_retrieval",),
    columns=("correct", "examples"),
    main="accuracy",
    overall="accuracy",
    statistics=accuracy.statistics,
    finish=accuracy.finish,
)

BUCC_F1 = Metric(
    name="bucc_f1",
    formats=("sentence_retrieval",),
    columns=("correct_pairs", "predicted_pairs", "gold_pairs"),
    main="f1",
    overall="f1",
    statistics=pair_statistics,
    finish=finish_pairs,
)

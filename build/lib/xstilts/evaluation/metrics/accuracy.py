"""Accuracy: the share of examples whose prediction equals the gold value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xstilts.evaluation.metrics.metric import Metric, Statistics, percent


def statistics(
    predictions: Sequence[object], gold: Sequence[object], language: str = ""
) -> Statistics:
    """Statistics [examples, 2]: correct (0 or 1), and 1."""
    pairs = zip(predictions, gold, strict=True)
    correct = np.array([found == wanted for found, wanted in pairs], dtype=np.float64)
    return np.stack([correct, np.ones_like(correct)], axis=1)


def finish(sums: Statistics) -> dict[str, Statistics]:
    """Accuracy in percent from sums [..., 2]."""
    return {"accuracy": percent(sums[..., 0], sums[..., 1])}


ACCURACY = Metric(
    name="accuracy",
    formats=("sequence_classification", "multiple_choice"),
    columns=("correct", "examples"),
    main="accuracy",
    overall="accuracy",
    statistics=statistics,
    finish=finish,
)

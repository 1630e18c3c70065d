"""What SQuAD's and MLQA's scores share: token F1 and exact match of normalised answers.

The best value over the gold answers counts, for each of the two on its own. Two answers of which
nothing is left after normalisation match exactly, but have no token in common: F1 is 0. Both are
the official scripts' rules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from xstilts.errors import InputError
from xstilts.evaluation.metrics.metric import Statistics, percent

COLUMNS = ("f1", "exact_match", "examples")


def token_f1(prediction: str, answer: str) -> float:
    """F1 (0 to 1) of the bags of white-space tokens of two normalised answers."""
    found, wanted = prediction.split(), answer.split()
    common = (Counter(found) & Counter(wanted)).total()
    return 2 * common / (len(found) + len(wanted)) if common else 0.0


def statistics(
    predictions: Sequence[str | None],
    gold: Sequence[Sequence[str]],
    normalise: Callable[[str], str],
) -> Statistics:
    """Statistics [questions, 3]: F1 and exact match (0 to 1) of the best gold answer, and 1.

    A question without prediction (None) scores 0, also where the empty answer would match (R30).

    Raises:
        InputError: If a question has no gold answer.
    """
    rows = np.ones((len(predictions), 3))
    for row, (prediction, answers) in enumerate(zip(predictions, gold, strict=True)):
        if not answers:
            raise InputError(f"question {row}", "has no gold answer", expected="at least one")
        if prediction is None:
            rows[row, :2] = 0.0
            continue
        found, wanted = normalise(prediction), [normalise(answer) for answer in answers]
        rows[row, 0] = max(token_f1(found, answer) for answer in wanted)
        rows[row, 1] = found in wanted
    return rows


def finish(sums: Statistics) -> dict[str, Statistics]:
    """F1, exact match and the mean of both (XTREME's score of a QA target) from sums [..., 3]."""
    f1 = percent(sums[..., 0], sums[..., 2])
    exact = percent(sums[..., 1], sums[..., 2])
    return {"f1": f1, "exact_match": exact, "mean": (f1 + exact) / 2}

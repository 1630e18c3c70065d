"""SQuAD v2.0's F1 and exact match: some questions have no answer, and "" is the right one then.

Texts are normalised as in SQuAD v1.1. Gold answers of which nothing is left do not count, and a
question without any other is answered rightly by a text of which nothing is left, and only by it:
F1 and exact match are 1 then, else 0. So ruled by the official script, `evaluate-v2.0.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xstilts.evaluation.metrics import answers
from xstilts.evaluation.metrics.metric import Metric, Statistics, percent
from xstilts.evaluation.metrics.squad import normalise


def statistics(
    predictions: Sequence[str], gold: Sequence[Sequence[str]], language: str = ""
) -> Statistics:
    """Statistics [questions, 5]: F1, exact match (0 to 1) and 1 where there are gold answers.

    Where there are none: whether that was seen, and 1. The language changes nothing.
    """
    rows = np.zeros((len(predictions), 5))
    for row, (prediction, texts) in enumerate(zip(predictions, gold, strict=True)):
        found = normalise(prediction)
        wanted = [text for text in map(normalise, texts) if text] or [""]
        exact = found in wanted
        if texts:
            f1 = 1.0 if exact else max(answers.token_f1(found, text) for text in wanted)
            rows[row, :3] = f1, exact, 1
        else:
            rows[row, 3:] = exact, 1
    return rows


def finish(sums: Statistics) -> dict[str, Statistics]:
    """Values of all questions, and of those with and without an answer, from sums [..., 5].

    Without an answer F1 and exact match are the same.
    """
    f1, exact, answered, unanswered_right, unanswered = np.moveaxis(sums, -1, 0)
    everything = (f1 + unanswered_right, exact + unanswered_right, answered + unanswered)
    return {
        **answers.finish(np.stack(everything, axis=-1)),
        "has_answer_f1": percent(f1, answered),
        "has_answer_exact_match": percent(exact, answered),
        "no_answer_f1": percent(unanswered_right, unanswered),
    }


SQUAD_V2_F1 = Metric(
    name="squad_v2_f1",
    formats=("question_answering",),
    columns=(
        *("has_answer_f1", "has_answer_exact_match", "has_answer_examples"),
        *("no_answer_correct", "no_answer_examples"),
    ),
    main="f1",
    overall="mean",
    statistics=statistics,
    finish=finish,
)

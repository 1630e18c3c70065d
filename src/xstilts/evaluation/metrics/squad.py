"""SQuAD v1.1's F1 and exact match, which XTREME uses for XQuAD and TyDiQA in every language.

ASCII punctuation and English articles are removed, and tokens are split at white space: a part of
a Chinese or Thai answer scores 0.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from xstilts.evaluation.metrics import answers
from xstilts.evaluation.metrics.metric import Metric, Statistics

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalise(text: str) -> str:
    """Lower case, without ASCII punctuation, then without articles, white space made single."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def statistics(
    predictions: Sequence[str | None], gold: Sequence[Sequence[str]], language: str = ""
) -> Statistics:
    """Statistics [questions, 3]; the language changes nothing."""
    return answers.statistics(predictions, gold, normalise)


SQUAD_F1 = Metric(
    name="squad_f1",
    formats=("question_answering",),
    columns=answers.COLUMNS,
    main="f1",
    overall="mean",
    statistics=statistics,
    finish=answers.finish,
)

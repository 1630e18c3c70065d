"""MLQA's F1 and exact match: punctuation of every script, and each language's own articles.

The rules are those of MLQA's evaluation script v1, its oddity in Arabic included: the article is
removed wherever its two letters stand, inside words too.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence
from functools import cache, partial

from xstilts.errors import InputError, nearest
from xstilts.evaluation.metrics import answers
from xstilts.evaluation.metrics.metric import Metric, Statistics

#: What counts as an article, by language; None where the script removes nothing.
_ARTICLES = {
    "ar": re.compile("ال"),
    "de": re.compile(r"\b(?:ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b"),
    "en": re.compile(r"\b(?:a|an|the)\b"),
    "es": re.compile(r"\b(?:un|una|unos|unas|el|la|los|las)\b"),
    "hi": None,
    "vi": re.compile(r"\b(?:của|là|cái|chiếc|những)\b"),
    "zh": None,
}
#: Each Chinese character is a token, what stands between them is split at white space.
_IDEOGRAPH = re.compile("([\u4e00-\u9fa5])")


@cache
def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")


def normalise(text: str, language: str) -> str:
    """Lower case, without punctuation, then without articles, tokens joined by single spaces."""
    text = "".join(character for character in text.lower() if not _is_punctuation(character))
    if (articles := _ARTICLES[language]) is not None:
        text = articles.sub(" ", text)
    if language == "zh":
        text = _IDEOGRAPH.sub(r" \1 ", text)
    return " ".join(text.split())


def statistics(
    predictions: Sequence[str | None], gold: Sequence[Sequence[str]], language: str
) -> Statistics:
    """Statistics [questions, 3].

    Raises:
        InputError: If MLQA has no rules for the language.
    """
    if language not in _ARTICLES:
        raise InputError(
            "metric mlqa_f1",
            "MLQA has no rules for this language",
            expected=f"one of {', '.join(_ARTICLES)}",
            found=repr(language),
            hint=f"{nearest(language, _ARTICLES)}, or score it with metric squad_f1",
        )
    return answers.statistics(predictions, gold, partial(normalise, language=language))


MLQA_F1 = Metric(
    name="mlqa_f1",
    formats=("question_answering",),
    columns=answers.COLUMNS,
    main="f1",
    overall="mean",
    statistics=statistics,
    finish=answers.finish,
)

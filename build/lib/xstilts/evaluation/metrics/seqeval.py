"""Span F1 of tag sequences with the rules of seqeval 0.0.12, as XTREME scores NER and POS alike.

The version matters for POS: there a tag without hyphen is its own type as a whole, while versions
from 0.0.16 on cut its first letter off, so that CCONJ and SCONJ become one. Equal neighbouring
tags form one span (NOUN NOUN against NOUN VERB scores 0), but tags that start with S are spans of
one token. It is no token accuracy; that stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xstilts.evaluation.metrics.metric import Metric, Statistics, f1_values, percent

Span = tuple[str, int, int]


def spans(tags: Sequence[str]) -> set[Span]:
    """Spans ``(type, first, last)`` of a tag sequence, in any of IOB1, IOB2, IOBES or plain tags.

    A tag's mark is its first letter and its type what follows its last hyphen: all of it where
    there is none. ``O`` and ``.`` mark what belongs to no span.
    """
    found: set[Span] = set()
    first, previous_mark, previous_kind = 0, "O", ""
    for position, tag in enumerate([*tags, "O"]):
        mark, kind = tag[0], tag.rsplit("-", 1)[-1]
        changed = kind != previous_kind
        if _ends(previous_mark, mark, changed):
            found.add((previous_kind, first, position - 1))
        if _begins(previous_mark, mark, changed):
            first = position
        previous_mark, previous_kind = mark, kind
    return found


def _ends(previous: str, mark: str, changed: bool) -> bool:
    return (
        previous in "ES"
        or (previous in "BI" and mark in "BSO")
        or (changed and previous not in "O.")
    )


def _begins(previous: str, mark: str, changed: bool) -> bool:
    return mark in "BS" or (previous in "ESO" and mark in "EI") or (changed and mark not in "O.")


def _count(found: Sequence[str], wanted: Sequence[str]) -> tuple[int, int, int, int, int]:
    predicted, gold = spans(found), spans(wanted)
    right = sum(one == other for one, other in zip(found, wanted, strict=True))
    return len(predicted & gold), len(predicted), len(gold), right, len(wanted)


def statistics(
    predictions: Sequence[Sequence[str]], gold: Sequence[Sequence[str]], language: str = ""
) -> Statistics:
    """Statistics [sentences, 5]: spans correct, predicted, gold; tokens correct, tokens."""
    counts = [_count(*pair) for pair in zip(predictions, gold, strict=True)]
    return np.array(counts, dtype=np.float64).reshape(-1, 5)


def finish(sums: Statistics) -> dict[str, Statistics]:
    """F1, precision and recall of spans, and token accuracy, from sums [..., 5]."""
    accuracy = percent(sums[..., 3], sums[..., 4])
    return {**f1_values(sums[..., 0], sums[..., 1], sums[..., 2]), "token_accuracy": accuracy}


SEQEVAL_F1 = Metric(
    name="seqeval_f1",
    formats=("token_classification",),
    columns=("correct_spans", "predicted_spans", "gold_spans", "correct_tokens", "tokens"),
    main="f1",
    overall="f1",
    statistics=statistics,
    finish=finish,
)

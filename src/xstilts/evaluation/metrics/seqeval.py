"""Span F1 of tag sequences with the rules of seqeval 0.0.12, as XTREME scores NER and POS alike.

The version matters for POS: there a tag without hyphen is its own type as a whole, while versions
from 0.0.16 on cut its first letter off, so that CCONJ and SCONJ become one. Equal neighbouring
tags form one span (NOUN NOUN against NOUN VERB scores 0), but tags that start with S are spans of
one token. It is no token accuracy; that stands beside it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from xstilts.evaluation.metrics.metric import Metric, Statistics, f1_values, percent


@dataclass(frozen=True)
class _Read:
    """Tags of all sentences in a row, an ``O`` behind each sentence.

    Attributes:
        tag: Index of each tag.
        ends: Whether a span ends before the tag; then
        first: the span's first position, and
        type: the index of its type.
    """

    tag: NDArray[np.int64]
    ends: NDArray[np.bool_]
    first: NDArray[np.int64]
    type: NDArray[np.int64]


@dataclass(frozen=True)
class _Rules:
    """What a tag does after another one, for each pair of tags that there is.

    Tags are IOB1, IOB2, IOBES or plain. A tag's mark is its first letter and its type what follows
    its last hyphen: all of it where there is none. ``O`` and ``.`` mark what belongs to no span.

    Attributes:
        index: Index of a tag.
        type: Index of a tag's type.
        ends: Whether a span ends between two tags [tags, tags].
        begins: Whether a span begins with the second of two tags [tags, tags].
    """

    index: dict[str, int]
    type: NDArray[np.int64]
    ends: NDArray[np.bool_]
    begins: NDArray[np.bool_]

    @classmethod
    def of(cls, tags: Collection[str]) -> _Rules:
        known = sorted({"O", *tags})
        type_of = [tag.rsplit("-", 1)[-1] for tag in known]
        types = sorted(set(type_of))
        pairs = [
            [(before[0], tag[0], kind != other) for tag, other in zip(known, type_of, strict=True)]
            for before, kind in zip(known, type_of, strict=True)
        ]
        return cls(
            {tag: number for number, tag in enumerate(known)},
            np.array([types.index(name) for name in type_of]),
            np.array([[_ends(*pair) for pair in row] for row in pairs]),
            np.array([[_begins(*pair) for pair in row] for row in pairs]),
        )

    def read(self, sentences: Sequence[Sequence[str]]) -> _Read:
        outside = self.index["O"]
        row = chain.from_iterable((*sentence, "O") for sentence in sentences)
        tag = np.fromiter(map(self.index.__getitem__, row), np.int64)
        before = np.concatenate([[outside], tag[:-1]])
        begins = np.where(self.begins[before, tag], np.arange(len(tag)), 0)
        # The span that ends before a tag is the last one that began before it.
        first = np.concatenate([[0], np.maximum.accumulate(begins)[:-1]])
        return _Read(tag, self.ends[before, tag], first, self.type[before])


def _ends(previous: str, mark: str, changed: bool) -> bool:
    return (
        previous in "ES"
        or (previous in "BI" and mark in "BSO")
        or (changed and previous not in "O.")
    )


def _begins(previous: str, mark: str, changed: bool) -> bool:
    return mark in "BS" or (previous in "ESO" and mark in "EI") or (changed and mark not in "O.")


def statistics(
    predictions: Sequence[Sequence[str]], gold: Sequence[Sequence[str]], language: str = ""
) -> Statistics:
    """Statistics [sentences, 5]: spans correct, predicted, gold; tokens correct, tokens.

    Raises:
        ValueError: If a sentence and its gold have different numbers of tags.
    """
    lengths = np.array([len(sentence) for sentence in gold], dtype=np.int64)
    if lengths.tolist() != [len(sentence) for sentence in predictions]:
        raise ValueError("predictions and gold have different numbers of tags")
    if not len(lengths):
        return np.zeros((0, 5))
    rules = _Rules.of(set(chain(*predictions, *gold)))
    found, wanted = rules.read(predictions), rules.read(gold)
    # No two spans end at one place, so equal spans are compared there.
    correct = found.ends & wanted.ends & (found.first == wanted.first) & (found.type == wanted.type)
    closing = np.cumsum(lengths + 1) - 1
    tokens = np.ones(len(wanted.tag), dtype=np.bool_)
    tokens[closing] = False
    right = tokens & (found.tag == wanted.tag)
    columns = np.stack([correct, found.ends, wanted.ends, right, tokens], axis=1)
    return np.add.reduceat(columns.astype(np.float64), closing - lengths)


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

"""Predictions of extractive question answering, by character offsets into the context.

The search is SQuAD's (R26): the `n_best` best starts and ends of every window, all their pairs that
are spans, ranked over the windows of a question. It differs from the reference's
(`compute_predictions_logits` of transformers) in two points, both where that one would waste ranks:

- The n best starts and ends are taken among the positions where they may stand: in the context, and
  for starts where the window gives most context. The reference takes them among all positions and
  drops the others afterwards: fewer spans are left, and where none is, the answer is the literal
  "empty". Here it is "".
- A span without text (a lone space) is no answer.

Questions of SQuAD v2.0 may have no answer; `null_threshold` says by how much that must win.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xstilts.data.token_store import TokenStore
from xstilts.formats.head import Batch
from xstilts.formats.question_answering.head import Format
from xstilts.formats.question_answering.white_space import ChunkText

#: Text of the span from one sub-word to another (places in the store's flat arrays) of a context.
TextOf = Callable[[str, int, int], str]


class Answer(NamedTuple):
    """A possible answer: its text, and the sum of its start and end scores."""

    text: str
    score: float


class Spans(NamedTuple):
    """Spans, each with its score and its first and last sub-word: [spans]."""

    scores: NDArray[np.float64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


def outputs(scores: Tensor, batch: Batch) -> list[Any]:
    """Start and end scores [2, length] of each window of a batch."""
    start, end = Format().scores(scores, batch)
    return list(torch.stack([start, end], dim=1).float().cpu().numpy())


def predictions(
    found: list[Any],
    store: TokenStore,
    rows: list[dict[str, Any]],
    labels: tuple[str, ...],
    decode: dict[str, Any],
) -> list[Any]:
    """Text of each question's best answer over all windows of its context; "" for none.

    Args:
        found: Start and end scores [2, length] of each window.
        store: Tokens of the split.
        rows: Prepared rows, with `context`.
        labels: None.
        decode: `n_best` starts and ends looked at per window; `max_answer_length` in sub-words;
            `null_threshold` where questions may have no answer; `tokenizer`, the model's, where
            texts are to be made from white-space chunks and not from offsets.
    """
    threshold = decode.get("null_threshold")
    answers = []
    ranked = n_best_answers(found, store, [row["context"] for row in rows], decode, most=1)
    for windows, best in zip(_windows_of(store, len(rows)), ranked, strict=True):
        score = best[0].score if best else float("-inf")
        none = threshold is not None and null_score(found, windows) - score > threshold
        answers.append(best[0].text if best and not none else "")
    return answers


def n_best_answers(
    found: Sequence[NDArray[np.float32]],
    store: TokenStore,
    contexts: Sequence[str],
    decode: dict[str, Any],
    most: int | None = None,
) -> Iterator[list[Answer]]:
    """The best answers of each question over all windows of its context, the best one first.

    Equal texts count once, with their best score; of equal scores the earlier window's comes first.

    Args:
        found: Start and end scores [2, length] of each window.
        store: Tokens of the split.
        contexts: Context of each question.
        decode: As in :func:`predictions`.
        most: Most answers of a question; `n_best` where it is not given.
    """
    text_of = _text_of(store, decode)
    for context, windows in zip(contexts, _windows_of(store, len(contexts)), strict=True):
        ranked = _ranked(_spans_of(found, store, windows, decode), context, text_of)
        yield list(islice(ranked, most or decode["n_best"]))


def null_score(found: Sequence[NDArray[np.float32]], windows: Sequence[int]) -> float:
    """Score of "no answer": start and end at the first position, of the window where it is lowest.

    A window that does not hold the answer rightly says that there is none (SQuAD v2.0's rule).
    """
    return min(float(found[window][0, 0]) + float(found[window][1, 0]) for window in windows)


def best_spans(
    scores: NDArray[np.float32],
    char_start: NDArray[np.int32],
    max_context: NDArray[np.uint8],
    n_best: int,
    max_length: int,
) -> Spans:
    """All spans from the best starts to the best ends of one window, in sub-word positions.

    A span lies in the context, is at most `max_length` sub-words long, and starts where this window
    gives the sub-word more context than any other window does (SQuAD's rule).
    """
    length = len(char_start)
    inside = char_start >= 0
    # Sums of two single-precision scores are exact in double precision, and so are their ties.
    start, end = scores[:, :length].astype(np.float64)
    start_scores = np.where(inside & (max_context == 1), start, -np.inf)
    end_scores = np.where(inside, end, -np.inf)
    starts = np.argsort(-start_scores, kind="stable")[:n_best]
    ends = np.argsort(-end_scores, kind="stable")[:n_best]
    table = start_scores[starts][:, None] + end_scores[ends]
    size = ends - starts[:, None] + 1
    row, column = np.nonzero((size >= 1) & (size <= max_length) & (table > -np.inf))
    return Spans(table[row, column], starts[row], ends[column])


def _windows_of(store: TokenStore, questions: int) -> list[list[int]]:
    """The windows of each question."""
    windows: list[list[int]] = [[] for _ in range(questions)]
    for window, example in enumerate(store.arrays["example"].tolist()):
        windows[example].append(window)
    return windows


def _spans_of(
    found: Sequence[NDArray[np.float32]],
    store: TokenStore,
    windows: Sequence[int],
    decode: dict[str, Any],
) -> Spans:
    """Spans of all windows of a question, as places in the store's flat arrays."""
    limits = decode["n_best"], decode["max_answer_length"]
    parts = []
    for window in windows:
        first, stop = map(int, store.arrays["offsets"][window : window + 2])
        places, most = (store.arrays[name][first:stop] for name in ("char_start", "max_context"))
        spans = best_spans(found[window], places, most, *limits)
        parts.append(Spans(spans.scores, spans.starts + first, spans.ends + first))
    return Spans(*map(np.concatenate, zip(*parts, strict=True)))


def _ranked(spans: Spans, context: str, text_of: TextOf) -> Iterator[Answer]:
    """Answers with different texts, the best one first."""
    seen = {""}
    for span in np.argsort(-spans.scores, kind="stable"):
        text = text_of(context, int(spans.starts[span]), int(spans.ends[span]))
        if text not in seen:
            seen.add(text)
            yield Answer(text, float(spans.scores[span]))


def _text_of(store: TokenStore, decode: dict[str, Any]) -> TextOf:
    if "tokenizer" in decode:
        return ChunkText(Path(decode["tokenizer"]), store)
    return partial(_characters, store)


def _characters(store: TokenStore, context: str, first: int, last: int) -> str:
    """Characters of a span, without white space around them.

    A tokenizer that composes letters may count an accent as no part of its letter's sub-word: marks
    that follow the span and begin no sub-word belong to it.
    """
    starts = store.arrays["char_start"]
    start, stop = int(starts[first]), int(store.arrays["char_end"][last])
    if stop not in starts[last + 1 : last + 2]:
        while unicodedata.category(context[stop : stop + 1] or " ").startswith("M"):
            stop += 1
    return context[start:stop].strip()

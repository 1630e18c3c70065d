"""Predictions of extractive question answering, by character offsets into the context."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xstilts.data.token_store import TokenStore
from xstilts.formats.head import Batch
from xstilts.formats.question_answering.head import Format


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
    """Text of each question's best span over all windows of its context.

    Args:
        found: Start and end scores [2, length] of each window.
        store: Tokens of the split.
        rows: Prepared rows, with `context`.
        labels: None.
        decode: `n_best` starts and ends looked at per window; `max_answer_length` in sub-words.
    """
    best: list[tuple[float, str]] = [(float("-inf"), "") for _ in rows]
    offsets = store.arrays["offsets"]
    for window, scores in enumerate(found):
        part = slice(int(offsets[window]), int(offsets[window + 1]))
        span = best_span(
            scores,
            store.arrays["char_start"][part],
            store.arrays["max_context"][part],
            decode["n_best"],
            decode["max_answer_length"],
        )
        if span is None:
            continue
        score, start, end = span
        example = int(store.arrays["example"][window])
        if score > best[example][0]:
            first = int(store.arrays["char_start"][part][start])
            last = int(store.arrays["char_end"][part][end])
            best[example] = (score, rows[example]["context"][first:last].strip())
    return [text for _, text in best]


def best_span(
    scores: NDArray[np.float32],
    char_start: NDArray[np.int32],
    max_context: NDArray[np.uint8],
    n_best: int,
    max_length: int,
) -> tuple[float, int, int] | None:
    """Best (score, start, end) of one window, in sub-word positions.

    A span lies in the context, is at most `max_length` sub-words long, and starts where this window
    gives the sub-word more context than any other window does (SQuAD's rule).
    """
    length = len(char_start)
    inside = char_start >= 0
    start_scores = np.where(inside & (max_context == 1), scores[0, :length], -np.inf)
    end_scores = np.where(inside, scores[1, :length], -np.inf)
    starts = np.argsort(-start_scores, kind="stable")[:n_best]
    ends = np.argsort(-end_scores, kind="stable")[:n_best]
    table = start_scores[starts][:, None] + end_scores[ends]
    size = ends - starts[:, None] + 1
    table = np.where((size >= 1) & (size <= max_length), table, -np.inf)
    row, column = np.unravel_index(int(table.argmax()), table.shape)
    score = float(table[row, column])
    return None if score == -np.inf else (score, int(starts[row]), int(ends[column]))

"""Predictions of token classification: one label per word."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from xstilts.data.token_store import TokenStore
from xstilts.formats.head import Batch
from xstilts.formats.token_classification.head import IGNORED


def outputs(scores: Tensor, batch: Batch) -> list[Any]:
    """Class ids of the first sub-words of each sequence of a batch."""
    known = batch["labels"] != IGNORED
    best = scores.argmax(-1)
    return [row[mask].tolist() for row, mask in zip(best, known, strict=True)]


def predictions(
    found: list[Any],
    store: TokenStore,
    rows: list[dict[str, Any]],
    labels: tuple[str, ...],
    decode: dict[str, Any],
) -> list[Any]:
    """Label names of each sentence's words; the parts of a long sentence are joined again."""
    joined: list[list[str]] = [[] for _ in rows]
    for example, classes in zip(store.arrays["example"].tolist(), found, strict=True):
        joined[example].extend(labels[index] for index in classes)
    return joined

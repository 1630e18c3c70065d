"""Predictions of multiple choice."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from xstilts.data.token_store import TokenStore
from xstilts.formats.head import Batch
from xstilts.formats.multiple_choice.head import Format


def outputs(scores: Tensor, batch: Batch) -> list[Any]:
    """Index of the best choice of each example of a batch."""
    return list(Format().scores(scores, batch).argmax(-1).tolist())


def predictions(
    found: list[Any],
    store: TokenStore,
    rows: list[dict[str, Any]],
    labels: tuple[str, ...],
    decode: dict[str, Any],
) -> list[Any]:
    """Index of the choice of each example, from 0."""
    return found

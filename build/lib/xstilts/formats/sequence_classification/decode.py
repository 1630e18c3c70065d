"""Predictions of sequence classification."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from xstilts.data.token_store import TokenStore
from xstilts.formats.head import Batch


def outputs(scores: Tensor, batch: Batch) -> list[Any]:
    """Class id of each unit of a batch."""
    return list(scores.argmax(-1).tolist())


def predictions(
    found: list[Any],
    store: TokenStore,
    rows: list[dict[str, Any]],
    labels: tuple[str, ...],
    decode: dict[str, Any],
) -> list[Any]:
    """Label name of each example."""
    return [labels[index] for index in found]

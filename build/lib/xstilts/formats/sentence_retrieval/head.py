"""Sentence retrieval trains nothing: its vectors are pooled hidden states of the encoder."""

from __future__ import annotations

from torch import Tensor


def pool(hidden: Tensor, attention_mask: Tensor, pooling: str) -> Tensor:
    """Sentence vectors [rows, hidden] from hidden states [rows, length, hidden].

    Args:
        hidden: Hidden states of one layer.
        attention_mask: 1 where there is a sub-word: [rows, length].
        pooling: `mean` over all sub-words, special ones included (XTREME, R36), or `cls`.
    """
    if pooling == "cls":
        return hidden[:, 0]
    mask = attention_mask[..., None].to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1)

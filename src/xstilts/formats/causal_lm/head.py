"""Training side of causal language modelling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xstilts.data.token_store import Arrays, TokenStore
from xstilts.formats.head import entropy
from xstilts.formats.language_model import IGNORED, LanguageFormat


def next_tokens(batch: Arrays, starts: NDArray[np.int64] | int = 1) -> NDArray[np.int64]:
    """Labels [rows, length]: at each token the one after it, -100 where none is asked for.

    Args:
        batch: Model inputs.
        starts: First token of each row that is asked for, at least 1: [rows], or one for all.
    """
    tokens, inside = batch["input_ids"], batch["attention_mask"] == 1
    place = np.arange(tokens.shape[1])
    asked = inside & (place >= np.broadcast_to(starts, len(tokens))[:, None])
    labels = np.full_like(tokens, IGNORED)
    labels[:, :-1] = np.where(asked, tokens, IGNORED)[:, 1:]
    return labels


class Format(LanguageFormat):
    """A unit is one packed sequence; all its sub-words but the first one are asked for.

    The score is minus the loss.
    """

    def collate(
        self, store: TokenStore, ids: NDArray[np.int64], rng: np.random.Generator
    ) -> Arrays:
        """Model inputs and labels [rows, length]."""
        batch = store.padded(ids)
        return {**batch, "labels": next_tokens(batch)}

    def chance_loss(self, store: TokenStore, group: int | None) -> float:
        """Entropy of the sub-words, in nats; of a million of them."""
        ids = store.arrays["input_ids"]
        return entropy(ids[:: max(1, len(ids) // 1_000_000)])

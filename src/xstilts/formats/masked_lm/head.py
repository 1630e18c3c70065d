"""Training side of masked language modelling.

15 % of the sub-words are chosen anew each time a sequence is seen; 80 % of them become the mask
token, 10 % a random one, 10 % stay (Devlin et al. 2019).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from xstilts.data.token_store import Arrays, TokenStore
from xstilts.formats.head import entropy
from xstilts.formats.language_model import IGNORED, LanguageFormat


@lru_cache(maxsize=1)
def _ordinary_ids(special_ids: tuple[int, ...], vocab_size: int) -> NDArray[np.int64]:
    return np.setdiff1d(np.arange(vocab_size), special_ids)


class Format(LanguageFormat):
    """A unit is one packed sequence; the score is minus the loss.

    Args:
        mask: Share of the sub-words that is chosen.
    """

    def __init__(self, mask: float = 0.15) -> None:
        self.mask = mask

    def collate(
        self, store: TokenStore, ids: NDArray[np.int64], rng: np.random.Generator
    ) -> Arrays:
        """Masked model inputs and labels [rows, length], -100 where nothing is asked."""
        batch = store.padded(ids)
        tokens, meta = batch["input_ids"], store.meta
        maskable = (batch["attention_mask"] == 1) & ~np.isin(tokens, meta.special_ids)
        chosen = maskable & (rng.random(tokens.shape) < self.mask)
        if not chosen.any() and maskable.any():
            chosen.flat[np.flatnonzero(maskable)[0]] = True
        fate = rng.random(tokens.shape)
        ordinary = _ordinary_ids(meta.special_ids, meta.vocab_size)
        noise = ordinary[rng.integers(len(ordinary), size=tokens.shape)]
        batch["labels"] = np.where(chosen, tokens, IGNORED)
        masked = np.where(chosen & (fate < 0.8), meta.mask_id, tokens)
        batch["input_ids"] = np.where(chosen & (fate >= 0.8) & (fate < 0.9), noise, masked)
        return batch

    def chance_loss(self, store: TokenStore, group: int | None) -> float:
        """Entropy of the sub-words that may be masked, in nats; of a million of them."""
        ids = store.arrays["input_ids"]
        ids = ids[:: max(1, len(ids) // 1_000_000)]
        return entropy(ids[~np.isin(ids, store.meta.special_ids)])

"""Training side of sequence classification: one label per text or pair of texts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from xstilts.data.token_store import Arrays, TokenStore
from xstilts.formats.head import Batch, SummaryHead, entropy, ratio


class Format:
    """A unit is one sequence; the score is accuracy."""

    def unit_lengths(self, store: TokenStore) -> NDArray[np.int64]:
        """Sub-words of each sequence: [sequences]."""
        return store.lengths

    def unit_rows(self, store: TokenStore) -> NDArray[np.int64]:
        """One row each: [sequences]."""
        return np.ones(store.sequences, dtype=np.int64)

    def collate(
        self, store: TokenStore, ids: NDArray[np.int64], rng: np.random.Generator
    ) -> Arrays:
        """Model inputs and labels [rows]."""
        return {**store.padded(ids), "labels": store.arrays["labels"][ids].astype(np.int64)}

    def make_head(self, config: Any, labels: tuple[str, ...] | None, dropout: float) -> nn.Module:
        """A classifier over the labels."""
        return SummaryHead(config, len(labels or ()), dropout)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Cross entropy, summed over the examples."""
        return functional.cross_entropy(outputs.float(), batch["labels"], reduction="sum")

    def terms(self, batch: Arrays) -> int:
        """Number of examples."""
        return len(batch["labels"])

    def chance_loss(self, store: TokenStore, group: int | None) -> float:
        """Entropy of the labels, in nats."""
        return entropy(store.arrays["labels"])

    def dev_sums(self, outputs: Tensor, batch: Batch, labels: tuple[str, ...] | None) -> Tensor:
        """(Right answers, examples)."""
        found, gold = self.answers(outputs, batch)
        return ratio((found == gold).sum(), len(gold))

    def answers(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Class ids [examples]."""
        return outputs.argmax(-1), batch["labels"]

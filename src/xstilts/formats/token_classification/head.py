"""Training side of token classification: one label per word, on its first sub-word."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from xstilts.data.token_store import Arrays, TokenStore
from xstilts.formats.head import Batch, TokenHead, entropy, ratio

IGNORED = -100


class Format:
    """A unit is one sequence; the score is accuracy, or F1 over labels other than O."""

    def unit_lengths(self, store: TokenStore) -> NDArray[np.int64]:
        """Sub-words of each sequence: [sequences]."""
        return store.lengths

    def unit_rows(self, store: TokenStore) -> NDArray[np.int64]:
        """One row each: [sequences]."""
        return np.ones(store.sequences, dtype=np.int64)

    def collate(
        self, store: TokenStore, ids: NDArray[np.int64], rng: np.random.Generator
    ) -> Arrays:
        """Model inputs and labels [rows, length], -100 where there is none."""
        return {**store.padded(ids), "labels": store.gather("labels", ids, IGNORED)}

    def make_head(self, config: Any, labels: tuple[str, ...] | None, dropout: float) -> nn.Module:
        """A classifier of every token."""
        return TokenHead(config.hidden_size, len(labels or ()), dropout)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Cross entropy, summed over the labelled sub-words."""
        scores, labels = outputs.float().flatten(0, 1), batch["labels"].flatten()
        return functional.cross_entropy(scores, labels, ignore_index=IGNORED, reduction="sum")

    def terms(self, batch: Arrays) -> int:
        """Number of labelled sub-words."""
        return int((batch["labels"] != IGNORED).sum())

    def chance_loss(self, store: TokenStore, group: int | None) -> float:
        """Entropy of the labels, in nats."""
        labels = store.arrays["labels"]
        return entropy(labels[labels != IGNORED])

    def dev_sums(self, outputs: Tensor, batch: Batch, labels: tuple[str, ...] | None) -> Tensor:
        """(Right, all) words; with a label O: (2 x right, predicted + gold) words that are not O.

        Almost every word of an NER set is O, so accuracy alone would hardly tell two models apart.
        """
        found, gold = self.answers(outputs, batch)
        if not labels or "O" not in labels:
            return ratio((gold == found).sum(), len(gold))
        outside = labels.index("O")
        right = ((gold == found) & (gold != outside)).sum()
        return ratio(2 * right, (gold != outside).sum() + (found != outside).sum())

    def answers(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Class ids of the words [words]."""
        known = batch["labels"] != IGNORED
        return outputs.argmax(-1)[known], batch["labels"][known]

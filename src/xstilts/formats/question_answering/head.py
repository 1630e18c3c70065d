"""Training side of extractive question answering: start and end of the answer in a window."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from xstilts.data.token_store import Arrays, TokenStore
from xstilts.formats.head import Batch, TokenHead, ratio


class Format:
    """A unit is one window; the score is the mean of span exact match and sub-word F1."""

    def unit_lengths(self, store: TokenStore) -> NDArray[np.int64]:
        """Sub-words of each window: [windows]."""
        return store.lengths

    def unit_rows(self, store: TokenStore) -> NDArray[np.int64]:
        """One row each: [windows]."""
        return np.ones(store.sequences, dtype=np.int64)

    def collate(
        self, store: TokenStore, ids: NDArray[np.int64], rng: np.random.Generator
    ) -> Arrays:
        """Model inputs, start and end [rows], and `allowed` [rows, length].

        Allowed positions are the context's and the first one, which stands for "no answer here".
        """
        batch = store.padded(ids)
        batch["start"] = store.arrays["start"][ids].astype(np.int64)
        batch["end"] = store.arrays["end"][ids].astype(np.int64)
        allowed = store.gather("char_start", ids, -1) >= 0
        allowed[:, 0] = True
        batch["allowed"] = allowed
        return batch

    def make_head(self, config: Any, labels: tuple[str, ...] | None, dropout: float) -> nn.Module:
        """Two scores per token: start and end."""
        return TokenHead(config.hidden_size, 2, dropout)

    def scores(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Start and end scores [rows, length]; positions outside the context: minus infinity."""
        scores = outputs.float().masked_fill(~batch["allowed"].bool()[..., None], float("-inf"))
        start, end = scores.unbind(-1)
        return start, end

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean of the cross entropies of start and end, summed over the windows."""
        start, end = self.scores(outputs, batch)
        summed = functional.cross_entropy(start, batch["start"], reduction="sum")
        summed = summed + functional.cross_entropy(end, batch["end"], reduction="sum")
        return summed / 2

    def terms(self, batch: Arrays) -> int:
        """Number of windows."""
        return len(batch["start"])

    def chance_loss(self, store: TokenStore, group: int | None) -> float:
        """Mean logarithm of the number of positions that an answer may start at."""
        inside = (store.arrays["char_start"] >= 0).astype(np.int64)
        counts = np.add.reduceat(inside, store.arrays["offsets"][:-1]) + 1
        return float(np.log(counts).mean())

    def dev_sums(self, outputs: Tensor, batch: Batch, labels: tuple[str, ...] | None) -> Tensor:
        """(Sum over windows of (exact match + F1) / 2, windows), on sub-word positions."""
        start, end = (score.argmax(-1) for score in self.scores(outputs, batch))
        gold_start, gold_end = batch["start"], batch["end"]
        exact = (start == gold_start) & (end == gold_end)
        overlap = torch.minimum(end, gold_end) - torch.maximum(start, gold_start) + 1
        total = (end - start + 1).clamp(min=0) + gold_end - gold_start + 1
        f1 = 2 * overlap.clamp(min=0) / total
        return ratio((exact.double() + f1.double()).sum() / 2, len(start))

    def answers(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Positions at which the answers start [windows]; 0 is "no answer here"."""
        return self.scores(outputs, batch)[0].argmax(-1), batch["start"]

"""Training side of multiple choice: each (prompt, choice) is scored apart, then compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from xstilts.data.token_store import Arrays, TokenStore
from xstilts.formats.head import Batch, SummaryHead, ratio


class Format:
    """A unit is one example with all its choices; the score is accuracy."""

    def unit_lengths(self, store: TokenStore) -> NDArray[np.int64]:
        """Longest choice of each example, in sub-words: [examples]."""
        starts = store.arrays["choice_offsets"][:-1]
        return np.asarray(np.maximum.reduceat(store.lengths, starts), dtype=np.int64)

    def unit_rows(self, store: TokenStore) -> NDArray[np.int64]:
        """Number of choices of each example: [examples]."""
        return np.diff(store.arrays["choice_offsets"])

    def collate(
        self, store: TokenStore, ids: NDArray[np.int64], rng: np.random.Generator
    ) -> Arrays:
        """Rows of all choices, `cell` [rows, 2] = (example, choice), and labels [examples]."""
        offsets = store.arrays["choice_offsets"]
        counts = offsets[ids + 1] - offsets[ids]
        example = np.repeat(np.arange(len(ids)), counts)
        choice = np.concatenate([np.arange(count) for count in counts])
        rows = np.repeat(offsets[ids], counts) + choice
        batch = store.padded(rows)
        batch["cell"] = np.stack([example, choice], axis=1)
        batch["labels"] = store.arrays["labels"][ids].astype(np.int64)
        return batch

    def make_head(self, config: Any, labels: tuple[str, ...] | None, dropout: float) -> nn.Module:
        """One score per row; it serves any number of choices."""
        return SummaryHead(config, 1, dropout)

    def scores(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Scores [examples, most choices]; absent choices are minus infinity."""
        example, choice = batch["cell"].unbind(1)
        shape = (int(example.max()) + 1, int(choice.max()) + 1)
        table = torch.full(shape, float("-inf"), device=outputs.device)
        return table.index_put((example, choice), outputs[:, 0].float())

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Cross entropy over the choices, summed over the examples."""
        scores = self.scores(outputs, batch)
        return functional.cross_entropy(scores, batch["labels"], reduction="sum")

    def terms(self, batch: Arrays) -> int:
        """Number of examples."""
        return len(batch["labels"])

    def chance_loss(self, store: TokenStore, group: int | None) -> float:
        """Mean logarithm of the number of choices."""
        return float(np.log(np.diff(store.arrays["choice_offsets"])).mean())

    def dev_sums(self, outputs: Tensor, batch: Batch, labels: tuple[str, ...] | None) -> Tensor:
        """(Right answers, examples)."""
        found, gold = self.answers(outputs, batch)
        return ratio((found == gold).sum(), len(gold))

    def answers(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Numbers of choices [examples]."""
        return self.scores(outputs, batch).argmax(-1), batch["labels"]

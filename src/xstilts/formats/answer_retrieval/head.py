"""Training side of answer retrieval: XTREME-R's dual encoder (`third_party/bert.py`).

One encoder makes the vectors of queries and candidates. Within a group of pairs each query has to
find its own candidate among all of the group: a softmax over cosines times a learned scale.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from xstilts.data.token_store import Arrays, TokenStore
from xstilts.formats.head import Batch, Summary, ratio

#: Vectors of length 1 [rows, hidden], and the scale of their cosines [].
Outputs = tuple[Tensor, Tensor]


class PooledHead(nn.Module):
    """Dense and tanh of one token, as in BERT's pooler, scaled to length 1.

    Attributes:
        scale: What cosines are multiplied by before the softmax; 100 at first.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.summary = Summary(config)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.scale = nn.Parameter(torch.tensor(100.0))

    def forward(self, hidden: Tensor, batch: Batch) -> Outputs:
        """Vectors of rows, from hidden states [rows, length, hidden], and the scale."""
        pooled = torch.tanh(self.dense(self.summary(hidden, batch)).float())
        return functional.normalize(pooled, dim=-1), self.scale


class Format:
    """A unit is a pair of query and candidate; the score is accuracy within groups of pairs.

    The rows of a batch are all its queries, then all its candidates.
    """

    def unit_lengths(self, store: TokenStore) -> NDArray[np.int64]:
        """The longer of query and candidate, in sub-words: [pairs]."""
        longest: NDArray[np.int64] = store.lengths.reshape(-1, 2).max(axis=1)
        return longest

    def unit_rows(self, store: TokenStore) -> NDArray[np.int64]:
        """Two rows each: [pairs]."""
        return np.full(store.sequences // 2, 2, dtype=np.int64)

    def collate(
        self, store: TokenStore, ids: NDArray[np.int64], rng: np.random.Generator
    ) -> Arrays:
        """Model inputs, and `group` [pairs]: equal numbers for equal candidates."""
        candidates = 2 * ids + 1
        _, group = np.unique(store.gather("input_ids", candidates, -1), axis=0, return_inverse=True)
        batch = store.padded(np.concatenate([2 * ids, candidates]))
        return {**batch, "group": group.reshape(-1).astype(np.int64)}

    def make_head(self, config: Any, labels: tuple[str, ...] | None, dropout: float) -> nn.Module:
        """The pooler that queries and candidates share; it has no dropout, as BERT's has none."""
        return PooledHead(config)

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Cross entropy of each query's own candidate, summed; every other one is wrong (XTREME-R).

        It is taken from queries to candidates only.
        """
        cosines, own = self._cosines(outputs)
        return functional.cross_entropy(cosines * outputs[1].float(), own, reduction="sum")

    def terms(self, batch: Arrays) -> int:
        """Number of queries."""
        return len(batch["group"])

    def chance_loss(self, store: TokenStore, group: int | None) -> float:
        """Logarithm of the number of candidates."""
        return math.log(group or store.sequences // 2)

    def dev_sums(self, outputs: Outputs, batch: Batch, labels: tuple[str, ...] | None) -> Tensor:
        """(Queries whose nearest candidate is their own or equal to it, queries)."""
        found, gold = self.answers(outputs, batch)
        return ratio((batch["group"][found] == batch["group"][gold]).sum(), len(gold))

    def answers(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Tensor]:
        """Number of each query's nearest candidate, and of its own [queries]."""
        cosines, own = self._cosines(outputs)
        return cosines.argmax(-1), own

    @staticmethod
    def _cosines(outputs: Outputs) -> tuple[Tensor, Tensor]:
        """Cosines [queries, candidates] and each query's own candidate [queries]."""
        queries, candidates = outputs[0].chunk(2)
        return queries @ candidates.T, torch.arange(len(queries), device=queries.device)

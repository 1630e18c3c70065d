"""What formats share whose outputs are those of the model's own language-model head."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from xstilts.data.token_store import Arrays, TokenStore
from xstilts.formats.head import Batch, ratio

IGNORED = -100


class LanguageFormat:
    """A unit is one sequence, the score minus the loss; labels are -100 where none is asked for."""

    def unit_lengths(self, store: TokenStore) -> NDArray[np.int64]:
        """Sub-words of each sequence: [sequences]."""
        return store.lengths

    def unit_rows(self, store: TokenStore) -> NDArray[np.int64]:
        """One row each: [sequences]."""
        return np.ones(store.sequences, dtype=np.int64)

    def make_head(self, config: Any, labels: tuple[str, ...] | None, dropout: float) -> nn.Module:
        """The language-model head belongs to the model and is not made here.

        Raises:
            TypeError: Always.
        """
        raise TypeError("the language-model head comes with the model")

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Cross entropy, summed over the sub-words asked for; outputs are theirs alone."""
        gold = batch["labels"][batch["labels"] != IGNORED]
        return functional.cross_entropy(outputs.float(), gold, reduction="sum")

    def terms(self, batch: Arrays) -> int:
        """Number of sub-words asked for."""
        return int((batch["labels"] != IGNORED).sum())

    def dev_sums(self, outputs: Tensor, batch: Batch, labels: tuple[str, ...] | None) -> Tensor:
        """(Minus the summed loss, sub-words asked for)."""
        return ratio(-self.loss(outputs, batch), len(outputs))

    def answers(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Ids of the sub-words asked for."""
        return outputs.argmax(-1), batch["labels"][batch["labels"] != IGNORED]

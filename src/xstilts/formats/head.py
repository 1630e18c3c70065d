"""What the training loop and the evaluator ask of a format, and the heads that formats share.

Each format's module `xstilts.formats.<format>.head` has a class `Format` that follows
:class:`TrainedFormat`; it is loaded by name, so that a change of one format retrains nothing else.
"""

from __future__ import annotations

import importlib
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xstilts.architectures import is_decoder
from xstilts.data.token_store import Arrays, TokenStore

Batch = dict[str, Tensor]


class TrainedFormat(Protocol):
    """One format as training sees it. A *unit* is what is shuffled and batched."""

    def unit_lengths(self, store: TokenStore) -> NDArray[np.int64]:
        """Longest row, in sub-words, that each unit brings into a batch: [units]."""

    def unit_rows(self, store: TokenStore) -> NDArray[np.int64]:
        """Rows of the model's input that each unit takes: [units]."""

    def collate(
        self, store: TokenStore, ids: NDArray[np.int64], rng: np.random.Generator
    ) -> Arrays:
        """A padded batch of units; model inputs and labels."""

    def make_head(self, config: Any, labels: tuple[str, ...] | None, dropout: float) -> nn.Module:
        """The head, to be called with (hidden states [rows, length, hidden], batch)."""

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Sum of the losses []."""

    def terms(self, batch: Arrays) -> int:
        """Number of terms in that sum: what the mean over a whole batch is divided by."""

    def chance_loss(self, store: TokenStore, group: int | None) -> float:
        """Mean loss of a guess that knows how often each answer is right and sees no text.

        Args:
            store: The data.
            group: Units that go through the model together; None where any number may.
        """

    def dev_sums(self, outputs: Any, batch: Batch, labels: tuple[str, ...] | None) -> Tensor:
        """Additive sums [2] behind the score that selects weights: numerator, denominator."""

    def answers(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Predicted and right answers, as numbers: [answers] each."""


def trained_format(name: str, **options: Any) -> TrainedFormat:
    """The training side of a format.

    Args:
        name: The format.
        options: What its `Format` takes.
    """
    module = importlib.import_module(f"xstilts.formats.{name}.head")
    return cast("TrainedFormat", module.Format(**options))


class Summary(nn.Module):
    """The hidden state that has seen a whole row: a decoder's last token, an encoder's first one.

    Args:
        config: The model's configuration.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.last = is_decoder(config.model_type)

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Of hidden states [rows, length, hidden] one a row: [rows, hidden]."""
        if not self.last:
            return hidden[:, 0]
        rows = torch.arange(len(hidden), device=hidden.device)
        return hidden[rows, batch["attention_mask"].sum(1) - 1]


class SummaryHead(nn.Module):
    """Dropout, dense, tanh, dropout, projection of one token, as in RoBERTa's classifier."""

    def __init__(self, config: Any, outputs: int, dropout: float) -> None:
        super().__init__()
        self.summary = Summary(config)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.out_proj = nn.Linear(config.hidden_size, outputs)

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Logits [rows, outputs] from hidden states [rows, length, hidden]."""
        pooled = torch.tanh(self.dense(self.dropout(self.summary(hidden, batch))))
        return cast("Tensor", self.out_proj(self.dropout(pooled)))


class TokenHead(nn.Module):
    """Dropout and a projection of every token."""

    def __init__(self, hidden: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.out_proj = nn.Linear(hidden, outputs)

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Logits [rows, length, outputs] from hidden states [rows, length, hidden]."""
        return cast("Tensor", self.out_proj(self.dropout(hidden)))


def entropy(values: NDArray[Any]) -> float:
    """Entropy of the empirical distribution of some numbers, in nats; 0 where all are the same."""
    _, counts = np.unique(values, return_counts=True)
    shares = counts / max(counts.sum(), 1)
    return float(-(shares * np.log(shares)).sum()) + 0.0


def ratio(numerator: Tensor | float, denominator: Tensor | float) -> Tensor:
    """Two sums as one vector [2] in double precision."""
    return torch.tensor([float(numerator), float(denominator)], dtype=torch.float64)

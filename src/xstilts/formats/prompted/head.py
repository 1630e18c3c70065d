"""Training side of prompts: the right answer is learnt, and nothing of the context."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from xstilts.data.ragged import Ragged
from xstilts.data.token_store import Arrays, TokenStore
from xstilts.formats.causal_lm.head import next_tokens
from xstilts.formats.head import Batch, entropy
from xstilts.formats.language_model import IGNORED, LanguageFormat

#: Answers of which the loss of a blind guess is worked out, at most.
_MOST = 100_000


class Format(LanguageFormat):
    """A unit is one example: its context and its right answer; the score is minus the loss.

    Whether the right answer would be chosen, or written, says nothing where an answer holds words
    that nobody could guess, such as the hypothesis of an XNLI prompt.
    """

    def collate(
        self, store: TokenStore, ids: NDArray[np.int64], rng: np.random.Generator
    ) -> Arrays:
        """Model inputs and labels [rows, length]: only the answer is asked for."""
        batch = store.padded(ids)
        return {**batch, "labels": next_tokens(batch, store.arrays["starts"][ids])}

    def chance_loss(self, store: TokenStore, group: int | None) -> float:
        """Mean loss of a guess that knows how often each sub-word is the n-th one of an answer."""
        rows = np.arange(store.sequences)[:: max(1, store.sequences // _MOST)]
        starts = store.arrays["starts"][rows].astype(np.int64)
        whole = Ragged(store.arrays["input_ids"], store.arrays["offsets"])
        answers = whole.slices(rows, starts, store.lengths[rows] - starts)
        place = np.arange(len(answers.values)) - np.repeat(answers.offsets[:-1], answers.lengths)
        joint = place * store.meta.vocab_size + answers.values
        return entropy(joint) - entropy(place)

    def answers(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Ids of the answers' first sub-words [examples]."""
        asked = batch["labels"] != IGNORED
        first = asked.cumsum(dim=1)[asked] == 1
        return outputs.argmax(-1)[first], batch["labels"][asked][first]

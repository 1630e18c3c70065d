"""Log-likelihoods of answers under a decoder; what the choices of a question share is read once.

The rows of a question begin alike. Their shared beginning goes through the model in a first pass,
with that of other questions; the ends go through in a second one, on copies of its keys and values.
Only hidden states that predict an answer's sub-word meet the vocabulary, a bounded number at a
time: a batch never holds a logit for every sub-word, as vocabularies have up to 260 thousand.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xstilts.data.ragged import Ragged, offsets_of
from xstilts.errors import InputError
from xstilts.training.batches import micro_batches

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Logits in memory at a time, over rows and vocabulary: on a CPU those that its caches may hold.
LOGITS = {"cpu": 1 << 23, "cuda": 1 << 27}
#: A beginning of fewer sub-words is read with each choice: a second pass would cost more.
_LEAST_SHARED = 4
#: The longest end of a batch is so many times the shortest one.
_STRETCH = 1.5


class Answers(NamedTuple):
    """Rows of sub-words whose ends are answers.

    Attributes:
        rows: Sub-words of each row.
        starts: Place of the first sub-word of the answer in each row, at least 1: [rows].
        questions: Offsets of the questions into the rows: [questions + 1].
    """

    rows: Ragged
    starts: Ints
    questions: Ints

    @classmethod
    def stacked(cls, parts: Sequence[Answers]) -> Answers:
        """All questions of one, then all questions of the next."""
        counts = [np.diff(part.questions) for part in parts]
        return cls(
            Ragged.stacked([part.rows for part in parts]),
            np.concatenate([part.starts for part in parts]),
            offsets_of(np.concatenate(counts)),
        )

    @property
    def tokens(self) -> Ints:
        """Sub-words of each answer: [rows]."""
        return self.rows.lengths - self.starts


class _Question(NamedTuple):
    """Rows that are read together: the first `shared` sub-words of all of them are the same."""

    rows: list[int]
    shared: int


class _Asked(NamedTuple):
    """Sub-words that hidden states are to predict: [asked] each.

    Attributes:
        place: Place of the hidden state that predicts it in a batch of [rows * length].
        target: The sub-word.
        row: The row whose likelihood it is a part of.
    """

    place: Ints
    target: Ints
    row: Ints


class Decoder:
    """A causal language model that tells likelihoods.

    Args:
        backbone: The transformers model, with its language-model head.
        pad_id: Fills short rows.
        device: Where the model is.
        budget: Most sub-words that go through the model at once, padding included.
    """

    def __init__(self, backbone: Any, pad_id: int, device: torch.device, budget: int) -> None:
        self.backbone, self.pad_id, self.device, self.budget = backbone, pad_id, device, budget
        # ALiBi (BLOOM) counts positions in the mask and takes none.
        self.positions = "position_ids" in inspect.signature(backbone.forward).parameters

    @torch.inference_mode()
    def loglikelihoods(self, answers: Answers) -> Floats:
        """Log-likelihood of each answer after what stands before it, in nats: [rows].

        Equal rows are computed once, whatever questions they belong to.

        Raises:
            InputError: If one is not finite.
        """
        same, questions = _plan(answers)
        found = np.zeros(len(answers.rows))
        shared = np.array([question.shared for question in questions], dtype=np.int64)
        one = np.ones_like(shared)
        for part in micro_batches(np.arange(len(questions)), shared, one, self.budget):
            self._read(answers, [questions[number] for number in part], found)
        if not np.isfinite(found).all():
            raise InputError(
                f"row {int(np.argmin(np.isfinite(found)))} of the answers",
                "its likelihood is not finite",
                expected="a number",
                hint="The checkpoint diverged; train it again with a lower learning rate",
            )
        return found[same]

    def _read(self, answers: Answers, questions: list[_Question], found: Floats) -> None:
        """Add the likelihoods of some questions' rows to those found."""
        rows, starts = answers.rows, answers.starts
        length = max(question.shared for question in questions)
        ids = np.full((len(questions), length), self.pad_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        asked: list[_Asked] = []
        ends: list[tuple[int, int]] = []  # number of the question, row
        for number, question in enumerate(questions):
            pad = length - question.shared
            first = rows.offsets[question.rows[0]]
            # Padding stands on the left, so that the ends follow without a gap.
            ids[number, pad:] = rows.values[first : first + question.shared]
            mask[number, pad:] = 1
            for row in question.rows:
                asked.append(_asked(rows, starts, row, 0, question.shared, number * length + pad))
                if rows.lengths[row] - 1 > question.shared:
                    ends.append((number, row))
        hidden, cache = self._forward(ids, mask, None, keep=bool(ends))
        self._score(hidden, asked, found)
        if ends:
            self._read_ends(answers, questions, np.array(ends), mask, cache, found)

    def _read_ends(
        self,
        answers: Answers,
        questions: list[_Question],
        ends: Ints,
        before: Ints,
        cache: Any,
        found: Floats,
    ) -> None:
        """The same for what follows the shared beginnings: ends [ends, 2] of questions' rows."""
        from transformers import DynamicCache

        rows, starts = answers.rows, answers.starts
        shared = np.array([questions[number].shared for number in ends[:, 0]])
        # The last sub-word predicts nothing.
        lengths = rows.lengths[ends[:, 1]] - 1 - shared
        for part in _alike(before.shape[1] + lengths, lengths, self.budget):
            number, row, begin = ends[part, 0], ends[part, 1], shared[part]
            length = int(lengths[part].max())
            inside = np.arange(length) < lengths[part][:, None]
            places = (rows.offsets[row] + begin)[:, None] + np.arange(length)
            ids = np.where(inside, rows.values[np.where(inside, places, 0)], self.pad_id)
            mask = np.concatenate([before[number], inside.astype(np.int64)], axis=1)
            chosen = torch.from_numpy(number).to(self.device)
            # Whole keys and values in all layers: a sliding window's mask needs no shorter ones.
            copies = DynamicCache([(layer.keys[chosen], layer.values[chosen]) for layer in cache])
            hidden, _ = self._forward(ids, mask, copies, keep=True)
            asked = [
                _asked(rows, starts, int(end), int(first), int(first) + length, place * length)
                for place, (end, first) in enumerate(zip(row, begin, strict=True))
            ]
            self._score(hidden, asked, found)

    def _forward(self, ids: Ints, mask: Ints, cache: Any, *, keep: bool) -> tuple[Tensor, Any]:
        """Hidden states [rows * length, hidden] and, to be kept, keys and values by layer."""
        from transformers import DynamicCache

        if keep and cache is None:
            cache = DynamicCache()
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self.positions:
            places = np.maximum(mask.cumsum(axis=1) - 1, 0)
            inputs["position_ids"] = places[:, -ids.shape[1] :]
        tensors = {name: torch.from_numpy(value).to(self.device) for name, value in inputs.items()}
        out = self.backbone.base_model(**tensors, past_key_values=cache, use_cache=keep)
        return out.last_hidden_state.flatten(0, 1), cache.layers if keep else None

    def _score(self, hidden: Tensor, parts: list[_Asked], found: Floats) -> None:
        """Add the log-probabilities of what is asked to the rows that it belongs to."""
        asked = _Asked(*map(np.concatenate, zip(*parts, strict=True)))
        places, which = np.unique(asked.place, return_inverse=True)
        order = np.argsort(which, kind="stable")
        which, target, row = which[order], asked.target[order], asked.row[order]
        head = self.backbone.get_output_embeddings()
        step = max(1, LOGITS[self.device.type] // head.weight.shape[0])
        for first in range(0, len(places), step):
            chunk = torch.from_numpy(places[first : first + step]).to(self.device)
            logs = head(hidden[chunk]).float().log_softmax(-1)
            low, high = np.searchsorted(which, [first, first + step])
            mine = torch.from_numpy(which[low:high] - first).to(self.device)
            wanted = torch.from_numpy(target[low:high]).to(self.device)
            np.add.at(found, row[low:high], logs[mine, wanted].double().cpu().numpy())


def _alike(read: Ints, lengths: Ints, budget: int) -> list[Ints]:
    """Batches of ends that are about as long: one long end would pad hundreds of short ones.

    Args:
        read: Sub-words that are kept of each end and what stands before it: [ends].
        lengths: Sub-words of each end: [ends].
        budget: Most sub-words in a batch, padding included.
    """
    bands = np.floor(np.log(lengths) / np.log(_STRETCH))
    parts = []
    for band in np.unique(bands):
        own = np.flatnonzero(bands == band)
        parts += micro_batches(own, read, np.ones_like(read), budget)
    return parts


def _plan(answers: Answers) -> tuple[Ints, list[_Question]]:
    """For each row the first one that equals it, and the questions of those first rows."""
    rows, known = answers.rows, dict[tuple[int, bytes], int]()
    same = np.empty(len(rows), dtype=np.int64)
    questions: list[_Question] = []
    for start, stop in pairwise(answers.questions.tolist()):
        for row in range(start, stop):
            content = rows.values[rows.offsets[row] : rows.offsets[row + 1]].tobytes()
            same[row] = known.setdefault((int(answers.starts[row]), content), row)
        questions += _grouped(rows, [row for row in range(start, stop) if same[row] == row])
    return same, questions


def _grouped(rows: Ragged, new: list[int]) -> list[_Question]:
    """Rows of one question together, or each by itself where they share next to nothing."""
    shared = _shared(rows, new)
    if len(new) > 1 and shared >= _LEAST_SHARED:
        return [_Question(new, shared)]
    return [_Question([row], int(rows.lengths[row]) - 1) for row in new]


def _shared(rows: Ragged, chosen: list[int]) -> int:
    """Sub-words with which all of some rows begin; a row's last one is never among them."""
    if not chosen:
        return 0
    most = int(rows.lengths[chosen].min()) - 1
    table = rows.values[rows.offsets[chosen][:, None] + np.arange(most)]
    differs = (table != table[0]).any(axis=0)
    return int(differs.argmax()) if differs.any() else most


def _asked(rows: Ragged, starts: Ints, row: int, first: int, stop: int, place: int) -> _Asked:
    """What the hidden states `first` to `stop` of a row are to predict of its answer.

    Args:
        rows: All rows.
        starts: Where their answers begin.
        row: The row.
        first: The first of its hidden states that is there.
        stop: Where they end.
        place: Place of that first one in the batch.
    """
    start, stop = max(int(starts[row]) - 1, first), min(stop, int(rows.lengths[row]) - 1)
    own = np.arange(start, stop)
    target = rows.values[rows.offsets[row] + own + 1].astype(np.int64)
    return _Asked(place + own - first, target, np.full(len(own), row))

"""Questions and contexts as windows of sub-words, with answers by character offsets.

The windows are SQuAD's (Devlin et al. 2018, `run_squad.py`): they advance by `doc_stride`, and each
sub-word of the context is judged in the window that gives it most context. Answers are placed by
characters, not by white space, so that Chinese, Japanese and Thai need no rule of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from xstilts.data.ragged import Ints, Ragged
from xstilts.data.subwords import Encoded, Encoding, SubwordTokenizer, texts_of
from xstilts.errors import InputError

Span = tuple[int, int]


@dataclass
class _Windows:
    """Windows of all questions: which question, where in the context, where the answer."""

    example: list[int] = field(default_factory=list)
    begin: list[int] = field(default_factory=list)
    length: list[int] = field(default_factory=list)
    answer: list[Span | None] = field(default_factory=list)
    max_context: list[npt.NDArray[np.uint8]] = field(default_factory=list)

    def add(self, example: int, begins: Ints, lengths: Ints, answer: Span | None) -> bool:
        """Add the windows of one question; says whether one of them holds the answer."""
        inside = [
            answer is not None and begin <= answer[0] and answer[1] < begin + length
            for begin, length in zip(begins, lengths, strict=True)
        ]
        self.example.extend([example] * len(begins))
        self.begin.extend(begins.tolist())
        self.length.extend(lengths.tolist())
        self.answer.extend(answer if here else None for here in inside)
        self.max_context.extend(most_context(begins, lengths))
        return any(inside)


def encode(table: pa.Table, tokenizer: SubwordTokenizer, encoding: Encoding) -> Encoded:
    """Encode (question, window of the context) pairs; sequences are windows.

    Returns:
        input_ids, offsets (type_ids); example: int32 [sequences], index of the question; start,
        end: int32 [sequences], first and last sub-word of the first answer in the window, 0 where
        there is none; char_start, char_end: int32 [total], code points of the context, -1 outside;
        max_context: uint8 [total], 1 where the window gives the sub-word most context.
    """
    room = _context_room(tokenizer, encoding)
    asked = tokenizer.pieces(texts_of(table["question"]))
    questions = asked.first(encoding.max_query_length)
    coded = table["context"].combine_chunks().dictionary_encode()
    contexts, starts, ends = tokenizer.located(texts_of(coded.dictionary))
    owner = coded.indices.to_numpy()
    windows, counts = _Windows(), {"answers not found": 0, "answers in no window": 0}
    answers = table["answers"].to_pylist()
    for example, context in enumerate(owner):
        row = slice(*contexts.offsets[context : context + 2])
        answer = answer_span(answers[example], starts.values[row], ends.values[row])
        free = room - int(questions.offsets[example + 1] - questions.offsets[example])
        begins, lengths = window_bounds(row.stop - row.start, free, encoding.doc_stride)
        found = windows.add(example, begins, lengths, answer)
        if answers[example] and not found:
            counts["answers not found" if answer is None else "answers in no window"] += 1
    counts |= {
        "examples": table.num_rows,
        "truncated": int((asked.lengths > encoding.max_query_length).sum()),
        "without an answer": sum(not found for found in answers),
    }
    return Encoded(_arrays(tokenizer, questions, (contexts, starts, ends), owner, windows), counts)


def _context_room(tokenizer: SubwordTokenizer, encoding: Encoding) -> int:
    room = tokenizer.room(2, encoding.max_length)
    if room <= encoding.max_query_length:
        raise InputError(
            "max_query_length",
            "leaves no room for the context",
            expected=f"less than {room} with max_length {encoding.max_length}",
            found=str(encoding.max_query_length),
        )
    return room


def _arrays(
    tokenizer: SubwordTokenizer,
    questions: Ragged,
    located: tuple[Ragged, Ragged, Ragged],
    owner: npt.NDArray[Any],
    windows: _Windows,
) -> dict[str, npt.NDArray[Any]]:
    example = np.array(windows.example, np.int32)
    asked = questions.take(example)
    pieces, starts, ends = (
        column.slices(owner[example], windows.begin, windows.length) for column in located
    )
    arrays = tokenizer.sequences(asked, pieces)
    arrays["example"] = example
    before = sum(map(len, tokenizer.templates[2].gaps[:2]))
    first = asked.lengths + before - np.array(windows.begin, np.int64)
    for side, name in enumerate(("start", "end")):
        answer = [-1 if span is None else span[side] for span in windows.answer]
        place = np.array(answer, np.int64)
        arrays[name] = np.where(place < 0, 0, place + first).astype(np.int32)
    outside = Ragged(np.full(len(asked.values), -1, np.int32), asked.offsets)
    for name, column in (("char_start", starts), ("char_end", ends)):
        arrays[name] = tokenizer.alongside([outside, column], -1)
    most = Ragged(np.concatenate([*windows.max_context, np.empty(0, np.uint8)]), pieces.offsets)
    nowhere = Ragged(np.zeros(len(asked.values), np.uint8), asked.offsets)
    arrays["max_context"] = tokenizer.alongside([nowhere, most], 0)
    return arrays


def window_bounds(total: int, room: int, stride: int) -> tuple[Ints, Ints]:
    """First sub-word and length of each window over a context of ``total`` sub-words.

    A stride longer than a window would skip sub-words: windows then lie side by side.
    """
    step = min(stride, room)
    count = 1 + max(0, -(-(total - room) // step))
    begins = np.arange(count) * step
    return begins, np.minimum(total - begins, room)


def most_context(begins: Ints, lengths: Ints) -> list[npt.NDArray[np.uint8]]:
    """For each sub-word of each window, 1 where no other window gives it more context.

    The score is SQuAD's `_check_is_max_context`: min(left, right) + 0.01 * window length; the
    earlier window wins a tie.
    """
    if len(begins) == 1:
        return [np.ones(int(lengths[0]), np.uint8)]
    places = np.arange(begins[-1] + lengths[-1])
    left = places - begins[:, None]
    right = lengths[:, None] - 1 - left
    # In hundredths, to compare exactly.
    score = 100 * np.minimum(left, right) + lengths[:, None]
    best = np.where((left >= 0) & (right >= 0), score, -1).argmax(axis=0)
    return [
        (best[begin : begin + length] == number).astype(np.uint8)
        for number, (begin, length) in enumerate(zip(begins, lengths, strict=True))
    ]


def answer_span(
    answers: list[dict[str, Any]], starts: npt.NDArray[Any], ends: npt.NDArray[Any]
) -> Span | None:
    """First and last sub-word that cover the first answer; None if there is none.

    Args:
        answers: Text and start of each answer.
        starts: First character of each sub-word of the context.
        ends: Character after the last of each sub-word.
    """
    if not answers:
        return None
    text = answers[0]["text"]
    begin = answers[0]["start"] + len(text) - len(text.lstrip())
    stop = answers[0]["start"] + len(text.rstrip())
    first = int(np.searchsorted(starts, begin, side="right")) - 1
    if first < 0 or ends[first] <= begin:  # the answer's first characters became no sub-word
        first += 1
    # From the first one on: a lone "▁" before it may claim the same single character.
    last = first + int(np.searchsorted(ends[first:], stop, side="left"))
    if last == len(ends) or starts[last] >= stop:
        last -= 1
    return (first, last) if first <= last else None

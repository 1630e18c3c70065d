"""Sub-word tokenisation of whole columns, and the special tokens around them.

Only the `tokenizers` library is used: importing transformers would cost a stage seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from xstilts.artifacts.manifest import check_file
from xstilts.data.ragged import Ints, Ragged, offsets_of
from xstilts.errors import InputError

Arrays = dict[str, npt.NDArray[Any]]
_CHUNK = 4096, 1 << 21  # texts and characters at a time: an Encoding is far larger than its ids


@dataclass(frozen=True)
class Encoding:
    """How a split is encoded; lengths in sub-words.

    Attributes:
        max_length: Most sub-words of a sequence, special tokens included.
        doc_stride: Sub-words by which the windows of a long QA context advance.
        max_query_length: Most sub-words of a question.
        odd_words: Label of tagged words that white space splits (R10); None takes them whole.
        labels: Label names in the order of their class ids.
        split: The split's name.
    """

    max_length: int
    doc_stride: int = 128
    max_query_length: int = 64
    odd_words: str | None = None
    labels: tuple[str, ...] = ()
    split: str = "train"


@dataclass(frozen=True)
class Encoded:
    """One split as sub-words.

    Attributes:
        arrays: The flat arrays of the tokens artifact.
        counts: ``examples``, ``truncated`` and whatever else the format counts.
    """

    arrays: Arrays
    counts: dict[str, int]


@dataclass(frozen=True)
class Template:
    """Special tokens before, between and after the texts of a sequence.

    Attributes:
        gaps: Ids of the special tokens: one gap more than there are texts.
        gap_types: Segment of each gap.
        text_types: Segment of each text.
    """

    gaps: tuple[tuple[int, ...], ...]
    gap_types: tuple[int, ...]
    text_types: tuple[int, ...]

    @property
    def specials(self) -> int:
        """Number of special tokens."""
        return sum(len(gap) for gap in self.gaps)


class SubwordTokenizer:
    """A trained tokenizer with its special tokens.

    Args:
        tokenizer: The tokenizer of a `tokenizer.json`.
        config: Content of its `tokenizer_config.json`.
        where: The place, for messages.

    Attributes:
        vocab_size: Number of ids, special tokens included.
        pad_id: Id of the padding token; likewise mask_id, cls_id, sep_id, unk_id. A decoder's cls
            is what its own post-processor begins a text with and its sep ends a text, -1 where
            there is none; it has no mask (-1), and may have its sep for an unknown token.
        is_decoder: Whether it is a decoder's: it has bos and eos, and no cls, sep and mask.
        uses_type_ids: Whether the second text of a pair is another segment (BERT).
    """

    def __init__(self, tokenizer: Tokenizer, config: Mapping[str, Any], where: str) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._where = where
        self.vocab_size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        self.pad_id = self._special(config, "pad_token")
        self.is_decoder = "cls_token" not in config and "eos_token" in config
        if self.is_decoder:
            self._read_decoder(config)
        else:
            self._read_encoder(config)
        self.uses_type_ids = any(any(t.text_types + t.gap_types) for t in self.templates.values())

    def _read_encoder(self, config: Mapping[str, Any]) -> None:
        self.mask_id = self._special(config, "mask_token")
        self.cls_id = self._special(config, "cls_token")
        self.sep_id = self._special(config, "sep_token")
        self.unk_id = self._special(config, "unk_token")
        self.templates = {1: self._template("a"), 2: self._template("a", "a")}

    def _read_decoder(self, config: Mapping[str, Any]) -> None:
        """Decoders have no template for several texts: each one gets the end-of-text token."""
        first = self._opening()
        end = (self._special(config, "eos_token"),)
        self.mask_id, self.cls_id, self.sep_id = -1, first[0] if first else -1, end[0]
        unknown = config.get("unk_token")
        self.unk_id = self.sep_id if unknown is None else self._special(config, "unk_token")
        self.templates = {
            number: Template((first, *[end] * number), (0,) * (number + 1), (0,) * number)
            for number in (1, 2)
        }

    @classmethod
    def read(cls, folder: Path) -> SubwordTokenizer:
        """Read a tokenizer artifact.

        Raises:
            InputError: If a file is missing, has other bytes than its manifest says, or is no
                tokenizer with the special tokens that its kind of model needs.
        """
        path = check_file(folder, "tokenizer.json")
        config = json.loads(check_file(folder, "tokenizer_config.json").read_text("utf-8"))
        return cls(load_tokenizer(path), config, str(folder))

    def closed_as_in_pairs(self) -> SubwordTokenizer:
        """This tokenizer, but a text alone ends as the first of two does.

        So end the sequences of XTREME's tagging: XLM-R's with two separators, BERT's with one
        (R21). Nothing else does: retrieval has one with both.
        """
        twin = copy(self)
        single, pair = self.templates[1], self.templates[2]
        closed = replace(single, gaps=(single.gaps[0], pair.gaps[1]))
        twin.templates = {**self.templates, 1: closed}
        return twin

    def pieces(self, texts: Sequence[str]) -> Ragged:
        """Sub-word ids of each text, without special tokens."""
        values: list[npt.NDArray[np.int32]] = []
        lengths: list[int] = []
        for chunk in _chunks(texts):
            found = self._tokenizer.encode_batch_fast(chunk, add_special_tokens=False)
            lengths.extend(map(len, found))
            values.append(_flat(encoding.ids for encoding in found))
        return Ragged(np.concatenate([*values, np.empty(0, np.int32)]), offsets_of(lengths))

    def located(self, texts: Sequence[str]) -> tuple[Ragged, Ragged, Ragged]:
        """Sub-word ids of each text, and the characters (code points) where each starts and ends.

        White space at the edges of a sub-word does not belong to it.
        """
        ids: list[Ragged] = []
        spans: list[npt.NDArray[np.int32]] = []
        for chunk in _chunks(texts):
            found = self._tokenizer.encode_batch(chunk, add_special_tokens=False)
            rows = Ragged(_flat(e.ids for e in found), offsets_of([len(e) for e in found]))
            ids.append(rows)
            spans.extend(_trimmed(text, e.offsets) for text, e in zip(chunk, found, strict=True))
        empty = Ragged(np.empty(0, np.int32), offsets_of([]))
        stacked = Ragged.stacked([*ids, empty])
        both = np.concatenate([*spans, np.empty((0, 2), np.int32)])
        starts, ends = (Ragged(both[:, side], stacked.offsets) for side in (0, 1))
        return stacked, starts, ends

    def sequences(self, *texts: Ragged) -> Arrays:
        """Wrap one text or a pair per row in special tokens: input_ids, offsets (and type_ids)."""
        rows = self._wrapped(texts, self.templates[len(texts)].gaps)
        arrays: Arrays = {"input_ids": rows.values.astype(np.int32), "offsets": rows.offsets}
        if self.uses_type_ids:
            arrays["type_ids"] = self._types(texts)
        return arrays

    def alongside(self, texts: Sequence[Ragged], fill: int) -> npt.NDArray[Any]:
        """Values that run along the sub-words of :meth:`sequences`; specials get the fill."""
        gaps = self.templates[len(texts)].gaps
        return self._wrapped(texts, [[fill] * len(gap) for gap in gaps]).values

    def room(self, texts: int, max_length: int) -> int:
        """Sub-words that are left for the texts of a sequence.

        Raises:
            InputError: If there is room for nothing.
        """
        room = max_length - self.templates[texts].specials
        if room < texts:
            raise InputError(
                "max_length",
                "has no room for text",
                expected=f"{texts + self.templates[texts].specials} sub-words or more",
                found=str(max_length),
            )
        return room

    def _wrapped(self, texts: Sequence[Ragged], gaps: Sequence[Sequence[int]]) -> Ragged:
        like = texts[0].values.dtype
        around = [Ragged.constant(gap, len(texts[0]), like) for gap in gaps]
        inner = chain.from_iterable(zip(texts, around[1:], strict=True))
        return Ragged.joined([around[0], *inner])

    def _types(self, texts: Sequence[Ragged]) -> npt.NDArray[np.uint8]:
        template = self.templates[len(texts)]
        types = zip(texts, template.text_types, strict=True)
        rows = [Ragged(np.full_like(text.values, kind), text.offsets) for text, kind in types]
        gaps = [[k] * len(g) for g, k in zip(template.gaps, template.gap_types, strict=True)]
        return self._wrapped(rows, gaps).values.astype(np.uint8)

    def _special(self, config: Mapping[str, Any], name: str) -> int:
        token = config.get(name)
        content = token.get("content") if isinstance(token, dict) else token
        number = None if content is None else self._tokenizer.token_to_id(content)
        if number is None:
            raise InputError(
                f"{self._where}: {name}",
                "the tokenizer has no such special token",
                expected="a token of its vocabulary",
                found=repr(content),
            )
        return int(number)

    def _opening(self) -> tuple[int, ...]:
        """What the tokenizer's own post-processor puts before a text; it may be nothing."""
        made = self._tokenizer.encode("a")
        inside = [place for place, side in enumerate(made.sequence_ids) if side is not None]
        return tuple(made.ids[: inside[0]]) if inside else ()

    def _template(self, *texts: str) -> Template:
        """The tokenizer's own template, read off a sequence that it made."""
        made = self._tokenizer.encode(texts[0], texts[1] if len(texts) > 1 else None)
        gaps: list[list[int]] = [[] for _ in range(len(texts) + 1)]
        gap_types, text_types = [0] * len(gaps), [0] * len(texts)
        seen = 0
        for number, side, kind in zip(made.ids, made.sequence_ids, made.type_ids, strict=True):
            if side is None:
                gaps[seen].append(number)
                gap_types[seen] = kind
            else:
                seen, text_types[side] = side + 1, kind
        if seen < len(texts) or not all((gaps[0], gaps[-1])):
            raise InputError(
                self._where,
                "the tokenizer puts no special tokens around its texts",
                expected="a post-processor in tokenizer.json",
                found=" ".join(made.tokens),
            )
        return Template(tuple(map(tuple, gaps)), tuple(gap_types), tuple(text_types))


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a `tokenizer.json`.

    Raises:
        InputError: If it is none.
    """
    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises bare Exceptions
        raise InputError(str(path), "is no tokenizer.json", found=str(error)) from error


def texts_of(column: Any) -> list[str]:
    """A text column of a prepared table as Python strings."""
    texts: list[str] = column.to_pylist()
    return texts


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    """Texts in runs that fit into memory once they are Encodings."""
    chunk: list[str] = []
    characters = 0
    for text in texts:
        if len(chunk) == _CHUNK[0] or (chunk and characters + len(text) > _CHUNK[1]):
            yield chunk
            chunk, characters = [], 0
        chunk.append(text)
        characters += len(text)
    if chunk:
        yield chunk


def _flat(rows: Iterable[Sequence[int]]) -> npt.NDArray[np.int32]:
    return np.fromiter(chain.from_iterable(rows), np.int32)


def _trimmed(text: str, offsets: Sequence[tuple[int, int]]) -> npt.NDArray[np.int32]:
    """Offsets [n, 2] without white space at the edges of a sub-word."""
    spans = np.array(offsets, np.int32).reshape(-1, 2)
    blank = np.array([character.isspace() for character in text] + [False])
    if not blank.any():
        return spans
    places = np.arange(len(blank))
    # The next character that is not blank, and the end of the last one before.
    after = np.minimum.accumulate(np.where(blank, len(text), places)[::-1])[::-1]
    before = np.maximum.accumulate(np.where(blank, 0, places + 1))
    start = np.minimum(after[spans[:, 0]], spans[:, 1])
    end = np.where(spans[:, 1] > 0, before[np.maximum(spans[:, 1] - 1, 0)], 0)
    return np.stack([start, np.maximum(end, start)], axis=1).astype(np.int32)


def longest_first(a: Ints, b: Ints, room: int) -> tuple[Ints, Ints]:
    """Lengths of two texts after cutting the longer one, piece by piece, until both fit.

    Where both are equally long the second is cut, as in transformers' `truncate_sequences` with
    the strategy `longest_first` (the slow tokenizers', which XTREME's `encode_plus` used).

    Args:
        a: Lengths of the first texts: [n].
        b: Lengths of the second texts: [n].
        room: Sub-words for both.
    """
    second = np.where(a + b <= room, b, np.minimum(b, np.maximum(room // 2, room - a)))
    return np.minimum(a, room - second), second

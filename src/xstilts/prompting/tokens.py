"""Stage prompts: prepared rows become sub-words of contexts and answers, for a decoder.

Arrays of a split. A row is a context with one answer: in the test split of a prompt with choices
one for each choice of each example, else one for each example, with its right answer; in the test
split of a prompt with answers, the context alone.

- `input_ids` int32 [total], `offsets` int64 [rows + 1]: the context's sub-words, then the answer's.
  Of training and dev rows, an answer ends with the token that ends a text.
- `starts` int32 [rows]: sub-words of the context; one or more.
- `choice_offsets` int64 [examples + 1] into the rows and `labels` int32 [examples], the right
  choice, for a prompt with choices.
- `bytes` int32 [rows]: length of each choice in UTF-8; `free_ids`, `free_offsets`, `free_starts`:
  each choice after the context without the question; in its test split.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from xstilts.artifacts.manifest import check_file, read_manifest
from xstilts.artifacts.publish import publishing
from xstilts.data.ragged import offsets_of
from xstilts.data.tables import read_rows
from xstilts.errors import InputError
from xstilts.prompting.encoding import Ids, Pair, PromptTokenizer
from xstilts.prompting.render import Renderer, Row, shared_beginning

Arrays = dict[str, npt.NDArray[Any]]
_CHUNK = 2048  # examples at a time


@dataclass(frozen=True)
class Example:
    """A rendered example.

    Attributes:
        id: The row's id.
        context: What stands before the answers.
        answers: All choices, or the right answer alone; empty where a decoder is to write.
        label: Index of the right choice.
        shared: What all choices begin with, where the question stands in them.
        free: The context without the question.
    """

    id: str
    context: str
    answers: tuple[str, ...]
    label: int = 0
    shared: str = ""
    free: str = ""


@dataclass
class _Rows:
    """Rows as they are made."""

    ids: list[npt.NDArray[np.int32]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)

    def add(self, ids: Sequence[int], start: int) -> None:
        self.ids.append(np.array(ids, np.int32))
        self.starts.append(start)

    def arrays(self, names: tuple[str, str, str]) -> Arrays:
        flat = np.concatenate([*self.ids, np.empty(0, np.int32)])
        offsets = offsets_of([len(row) for row in self.ids])
        return dict(zip(names, (flat, offsets, np.array(self.starts, np.int32)), strict=True))


class Encoder:
    """Rendered examples of one data set as arrays.

    Args:
        tokenizer: The decoder's.
        renderer: The prompt's templates.
        max_length: Most sub-words of a row.
        where: Data set and language, for messages.
    """

    def __init__(
        self, tokenizer: PromptTokenizer, renderer: Renderer, max_length: int, where: str
    ) -> None:
        self._tokenizer, self._renderer, self._where = tokenizer, renderer, where
        self._max_length = max_length

    def examples(self, rows: Sequence[Row], split: str, shots: str = "") -> Iterator[Example]:
        """Render the rows of a split.

        Args:
            rows: Prepared rows.
            split: Its name: training and dev examples have their right answer alone.
            shots: Other examples, before the context of each test example.

        Raises:
            InputError: If a template cannot be rendered, an answer is empty or two choices equal.
        """
        for row in rows:
            context = self._renderer.context(row)
            if split != "test":
                example = self._trained(row, context)
            elif self._renderer.chooses:
                example = self._choosing(row, context, shots)
            else:
                example = Example(str(row["id"]), shots + context, ())
            self._check(example, split)
            yield example

    def encoded(self, examples: Sequence[Example], split: str) -> tuple[Arrays, dict[str, int]]:
        """The arrays of a split, and its counts.

        Raises:
            InputError: If an answer has no sub-word, or no room beside its context.
        """
        rows, free, truncated = _Rows(), _Rows(), 0
        choosing = split == "test" and self._renderer.chooses
        for chunk in _chunks(examples):
            for example, pairs, end in self._paired(chunk, split):
                cut = self._excess(pairs, end, f"{self._where}: {split}: row {example.id}")
                truncated += cut > 0
                for pair in pairs:
                    start = len(pair.context) if split == "test" else end
                    rows.add(_cut(pair, cut), max(start - cut, pair.fixed, 1))
            if choosing:
                self._add_free(free, chunk, split)
        arrays = rows.arrays(("input_ids", "offsets", "starts"))
        if self._renderer.chooses:
            counts = [len(example.answers) for example in examples]
            arrays["choice_offsets"] = offsets_of(counts)
            labels = [example.label if choosing else 0 for example in examples]
            arrays["labels"] = np.array(labels, np.int32)
        if choosing:
            sizes = [len(text.encode()) for example in examples for text in example.answers]
            arrays["bytes"] = np.array(sizes, np.int32)
            arrays |= free.arrays(("free_ids", "free_offsets", "free_starts"))
        return arrays, {"examples": len(examples), "truncated": truncated}

    # ---- rendering

    def _trained(self, row: Row, context: str) -> Example:
        shared = "" if context or not self._renderer.chooses else self._shared(row)
        return Example(str(row["id"]), context, (self._renderer.answer(row),), 0, shared)

    def _choosing(self, row: Row, context: str, shots: str) -> Example:
        choices = tuple(self._renderer.choices(row))
        shared = "" if context else shared_beginning(choices)
        free, label = self._renderer.free(row), int(row["label"])
        return Example(str(row["id"]), shots + context, choices, label, shared, free)

    def _shared(self, row: Row) -> str:
        return shared_beginning(self._renderer.choices(row))

    def _check(self, example: Example, split: str) -> None:
        place = f"{self._where}: {split}: row {example.id}"
        if not all(text.strip() for text in example.answers):
            raise InputError(place, "an answer is rendered as nothing", expected="some text")
        if len(set(example.answers)) < len(example.answers):
            texts = sorted(example.answers)
            same = next(a for a, b in pairwise(texts) if a == b)
            raise InputError(place, "two choices are rendered alike", found=repr(same))

    # ---- sub-words

    def _paired(
        self, examples: Sequence[Example], split: str
    ) -> Iterator[tuple[Example, list[Pair], int]]:
        """Each example with its pairs, and where what may be cut of them ends."""
        delimiter = self._renderer.delimiter
        texts = [
            (example.context, delimiter + answer)
            for example in examples
            for answer in example.answers
        ] or [(example.context.rstrip(), "") for example in examples]
        pairs = iter(self._tokenizer.pairs(texts))
        before = self._tokenizer.pieces([(delimiter + x.shared).rstrip() for x in examples])
        for example, shared in zip(examples, before, strict=True):
            own = [next(pairs) for _ in example.answers or ("",)]
            for pair in own if example.answers else ():
                if not pair.answer:
                    place = f"{self._where}: {split}: row {example.id}"
                    raise InputError(
                        place, "an answer has no sub-word", found=repr(example.answers)
                    )
            if split != "test":
                own = [Pair(p.context, [*p.answer, self._tokenizer.eos_id], p.fixed) for p in own]
            yield example, own, _end(own, len(shared) if example.shared else 0)

    def _excess(self, pairs: Sequence[Pair], end: int, place: str) -> int:
        """How many sub-words all rows of an example lose of their common beginning."""
        longest = max(len(pair.context) + len(pair.answer) for pair in pairs)
        cut = max(0, longest - self._max_length)
        if cut > end - max(pairs[0].fixed, 1):
            raise InputError(
                place,
                "its answer leaves no room for a context",
                expected=f"at most {self._max_length - max(pairs[0].fixed, 1)} sub-words",
                found=str(longest - end),
                hint="Raise encoding.datasets.prompted.max_length",
            )
        return cut

    def _add_free(self, rows: _Rows, examples: Sequence[Example], split: str) -> None:
        delimiter = self._renderer.delimiter
        texts = [
            (example.free, delimiter + answer[len(example.shared) :])
            for example in examples
            for answer in example.answers
        ]
        pairs = iter(self._tokenizer.pairs(texts))
        for example in examples:
            for _ in example.answers:
                pair = next(pairs)
                place = f"{self._where}: {split}: row {example.id}: free"
                cut = self._excess([pair], len(pair.context), place)
                rows.add(_cut(pair, cut), max(len(pair.context) - cut, pair.fixed, 1))


def _end(pairs: Sequence[Pair], shared: int) -> int:
    """Where the common beginning of an example's rows ends that is no answer."""
    shortest = min(len(pair.answer) for pair in pairs)
    return len(pairs[0].context) + min(shared, max(shortest - 1, 0))


def _cut(pair: Pair, cut: int) -> Ids:
    """The sub-words of a pair without the first ones behind the special tokens."""
    whole = [*pair.context, *pair.answer]
    return [*whole[: pair.fixed], *whole[pair.fixed + cut :]]


def _chunks(examples: Sequence[Example]) -> Iterator[Sequence[Example]]:
    for first in range(0, len(examples), _CHUNK):
        yield examples[first : first + _CHUNK]


# ---------------------------------------------------------------- examples before a question


def chosen_shots(rows: Sequence[Row], number: int, seed: int, where: str) -> list[Row]:
    """Some rows, the same for a seed whatever the order of the rows: those of the smallest hash.

    Raises:
        InputError: If there are not as many.
    """
    if number > len(rows):
        expected, found = f"{number} or more", str(len(rows))
        raise InputError(where, "has too few rows for shots", expected=expected, found=found)
    ranked = sorted(rows, key=lambda row: hashlib.sha256(f"{seed} {row['id']}".encode()).digest())
    return ranked[:number]


def _shots(spec: Mapping[str, Any]) -> list[dict[str, str]]:
    shots = spec["shots"]
    if shots is None:
        return []
    folder, prompt = Path(spec["inputs"]["shots"]), spec["prompt"] | {"words": shots["words"]}
    renderer = Renderer(spec["format"], prompt, _labels(folder), str(folder))
    rows = read_rows(folder, "train.parquet").to_pylist()
    return [
        {
            "id": str(row["id"]),
            "text": renderer.context(row) + renderer.delimiter + renderer.answer(row),
        }
        for row in chosen_shots(rows, shots["number"], shots["seed"], str(folder))
    ]


# ---------------------------------------------------------------- the stage


def _labels(prepared: Path) -> tuple[str, ...]:
    report = json.loads(check_file(prepared, "report.json").read_text("utf-8"))
    return tuple(report["labels"] or ())


def _meta(
    spec: Mapping[str, Any], labels: Sequence[str], tokenizer: PromptTokenizer, chooses: bool
) -> dict[str, Any]:
    none = -1  # readers of all tokens artifacts want a number
    return {
        "format": "prompted",
        "kind": "choice" if chooses else "answer",
        "prompt": spec["prompt"]["name"],
        "template_version": spec["prompt"]["version"],
        "labels": list(labels) or None,
        "vocab_size": tokenizer.vocab_size,
        "pad_id": tokenizer.pad_id,
        "bos_id": none if tokenizer.bos_id is None else tokenizer.bos_id,
        "eos_id": tokenizer.eos_id,
        "prefix_id": tokenizer.prefix_id,
        "mask_id": none,
        "cls_id": none if tokenizer.bos_id is None else tokenizer.bos_id,
        "sep_id": tokenizer.eos_id,
        "max_length": spec["encoding"]["max_length"],
        "splits": {},
    }


def _shown(example: Example) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": example.id, "context": example.context}
    if len(example.answers) > 1:
        return shown | {"choices": list(example.answers), "label": example.label}
    return shown | ({"answer": example.answers[0]} if example.answers else {})


def _write(path: Path, content: Any) -> None:
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")


def run(spec: Mapping[str, Any], out: Path) -> None:
    """Render and encode every split of a prepared data set.

    Args:
        spec: ``format``, ``dataset``, ``language``, ``splits``, ``prompt`` (a registry row with the
            words of one language), ``encoding.max_length``, ``shots`` (``number``, ``seed`` and the
            ``words`` of their own language; null for none), and ``inputs``: ``prepared``,
            ``tokenizer`` and, where there are shots, ``shots``.
        out: Artifact folder: ``<split>.safetensors`` each, ``meta.json``, ``shots.json`` (the
            examples before every test question) and ``examples.json`` (the first of each split as
            they are rendered).

    Raises:
        InputError: If an input is damaged, a template cannot be rendered, an answer is empty or
            too long, or two choices of a question are the same.
    """
    prepared, where = Path(spec["inputs"]["prepared"]), f"{spec['dataset']} ({spec['language']})"
    tokenizer = PromptTokenizer.read(Path(spec["inputs"]["tokenizer"]))
    labels = _labels(prepared)
    renderer = Renderer(spec["format"], spec["prompt"], labels, where)
    encoder = Encoder(tokenizer, renderer, spec["encoding"]["max_length"], where)
    shots, shown = _shots(spec), {}
    text = "".join(f"{shot['text']}\n\n" for shot in shots)
    meta = _meta(spec, labels, tokenizer, renderer.chooses)
    there = read_manifest(prepared).files
    with publishing(out, spec) as draft:
        for split in (name for name in spec["splits"] if f"{name}.parquet" in there):
            rows = read_rows(prepared, f"{split}.parquet").to_pylist()
            examples = list(encoder.examples(rows, split, text))
            arrays, counts = encoder.encoded(examples, split)
            save_file(arrays, draft.folder / f"{split}.safetensors")
            sizes = {"sequences": len(arrays["starts"]), "tokens": len(arrays["input_ids"])}
            meta["splits"][split] = counts | sizes
            shown[split] = [_shown(example) for example in examples[:2]]
        for name, content in (("meta", meta), ("shots", shots), ("examples", shown)):
            _write(draft.folder / f"{name}.json", content)
        draft.record.add(splits=meta["splits"])

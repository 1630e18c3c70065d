"""Answer spans: text and character offset are made to agree with the context."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from xstilts.errors import InputError

Answer = dict[str, str | int]


def nearest_occurrence(context: str, text: str, start: int) -> int:
    """Offset of the occurrence of a text that is nearest to an offset, or -1."""
    left = context.rfind(text, 0, max(start, 0) + len(text))
    right = context.find(text, max(start, 0))
    if left < 0 or right < 0:
        return max(left, right)
    return left if start - left <= right - start else right


def _extends(character: str, before: str) -> bool:
    """Whether a character may compose with, or belongs to the white space of, what is before it."""
    if character.isspace():
        return before.isspace()
    is_jamo = "\u1160" <= character <= "\u11ff"  # Hangul vowels and finals, which are no marks
    return is_jamo or unicodedata.category(character).startswith("M")


def _normalised(text: str) -> tuple[str, list[tuple[int, int]]]:
    """NFC text with single spaces, and the original span of each of its characters."""
    starts = [i for i in range(len(text)) if i == 0 or not _extends(text[i], text[i - 1])]
    characters: list[str] = []
    spans: list[tuple[int, int]] = []
    for start, end in pairwise([*starts, len(text)]):
        piece = text[start:end]
        piece = " " if piece.isspace() else unicodedata.normalize("NFC", piece)
        characters.append(piece)
        spans.extend([(start, end)] * len(piece))
    return "".join(characters), spans


def _find_normalised(context: str, text: str, start: int) -> tuple[int, int] | None:
    wanted = _normalised(text)[0].strip()
    plain, spans = _normalised(context)
    near = next((i for i, span in enumerate(spans) if span[1] > start), len(spans))
    found = nearest_occurrence(plain, wanted, near) if wanted else -1
    return None if found < 0 else (spans[found][0], spans[found + len(wanted) - 1][1])


def place_answer(context: str, text: str, start: int, notes: Counter[str], where: str) -> Answer:
    """Text and start of an answer such that ``context[start:start + len(text)] == text``.

    The Hub's copies of XQuAD, TyDiQA and MLQA stripped their contexts and left the offsets, so the
    nearest occurrence of the text is taken where the offset does not hold.

    Args:
        context: The passage.
        text: The answer.
        start: Its offset in code points, as the source has it.
        notes: Counts ``answers refound`` and ``answers normalised``.
        where: Place of the row, for messages.

    Raises:
        InputError: If the text is nowhere in the context.
    """
    if start >= 0 and context.startswith(text, start) and text:
        return {"text": text, "start": start}
    found = nearest_occurrence(context, text, start) if text else -1
    if found >= 0:
        notes["answers refound"] += 1
        return {"text": text, "start": found}
    span = _find_normalised(context, text, start)
    if span is None:
        raise InputError(
            where,
            "the answer is not in the context",
            expected="a span of the context",
            found=repr(text[:80]),
            hint="Correct or remove the row in the source",
        )
    notes["answers normalised"] += 1
    return {"text": context[slice(*span)], "start": span[0]}


def paired(value: object) -> Iterator[tuple[str, int]]:
    """Text and start of each answer of one row, from a dict of lists or a list of dicts."""
    if isinstance(value, dict):
        starts = value["answer_start"] if "answer_start" in value else value["start"]
        yield from zip(value["text"], starts, strict=True)
    elif isinstance(value, list):
        for answer in value:
            yield answer["text"], answer.get("answer_start", answer.get("start"))
    else:
        raise TypeError(f"no answers: {value!r}")

"""XTREME's file tree: one reader per kind of file, checked and aligned with the gold (R44, R45).

`<labels>/<task>/test-<language>.<suffix>` holds the gold, `<predictions>/…` the predictions. Odd
input has the meaning that XTREME's evaluate.py gives it, and is counted in the notes. Where that
code raises, and where its number would say nothing about the model, there is an
:class:`InputError` instead.

As officially:

- A line is what stands between LF, CR LF or CR, without the white space (of any script) around it.
- A blank label line is a label: the empty one.
- In tag files a blank line ends a sentence, so that a second one makes an empty sentence. Tags need
  not be good BIO: an entity may begin with ``I-``.
- A label, tag or line number that the task does not have is wrong, and noted: ``Neutral`` for
  ``neutral``, ``07`` for ``7``, ``[12]`` for ``12`` (R34). So is a BUCC line that is no pair.
- BUCC's pairs are sets: repeated lines count once (R43). No pairs at all score 0.
- A question without prediction scores 0, and ids that no question has are passed over; both are
  noted. A gold id that stands there twice is two questions with one prediction. The articles of a
  QA file may stand in ``data`` or be the whole file.

Errors here, where officially:

- it raises: other numbers of lines or sentences, bytes that are not UTF-8, broken JSON, a question
  without gold answer, a gold file without content;
- every line counts as wrong: no line is a value of the task, no id is one of a question, the
  columns of all pairs are swapped;
- the number is an accident: a sentence with more or fewer tags than its gold (all spans behind it
  move), a byte-order mark (the first line becomes wrong), a predicted id twice (the last wins).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from xstilts.errors import InputError
from xstilts.evaluation.aligned import Aligned

_LAYOUT = "SQuAD's layout: data, paragraphs, qas, answers"
_SHOWN = 60


@dataclass(frozen=True)
class FileKind:
    """A kind of label and prediction file.

    Attributes:
        suffix: The files' suffix, without dot.
        read: ``(labels, predictions, known) -> Aligned``: both files of a language, and the labels
            that the task is known to have (empty for kinds that need none).
    """

    suffix: str
    read: Callable[[Path, Path, Sequence[str]], Aligned]


# ---- labels, a line each


def _read_labels(labels: Path, predictions: Path, known: Sequence[str]) -> Aligned:
    """One label per line."""
    gold, found = _same_number_of_lines(labels, predictions)
    expected = f"one of {', '.join(known)}"
    notes = _odd_values(labels, gold, set(known), "gold", expected)
    notes |= _odd_values(predictions, found, {*known, *gold}, "predicted", expected)
    return Aligned(found, gold, notes)


def _read_numbers(labels: Path, predictions: Path, known: Sequence[str]) -> Aligned:
    """One line number, from 0, per line (R32); numbers are compared as texts (R33)."""
    gold, found = _same_number_of_lines(labels, predictions)
    notes: dict[str, int] = {}
    for path, lines, side in ((labels, gold, "gold"), (predictions, found, "predicted")):
        numbers = {line for line in lines if re.fullmatch(r"0|[1-9][0-9]*", line)}
        expected = "a line number such as 12, without brackets or leading zeros"
        notes |= _odd_values(path, lines, numbers, side, expected)
    return Aligned(found, gold, notes)


def _read_choices(labels: Path, predictions: Path, known: Sequence[str]) -> Aligned:
    """One JSON object per line, with the choice's index under ``label``."""
    gold, found = (
        [_choice(f"{path}: line {number}", line) for number, line in enumerate(lines, start=1)]
        for path, lines in zip(
            (labels, predictions), _same_number_of_lines(labels, predictions), strict=True
        )
    )
    notes: dict[str, int] = {}
    for path, values, side in ((labels, gold, "gold"), (predictions, found, "predicted")):
        notes |= _odd_values(path, values, {0, 1}, side, 'a "label" that is 0 or 1')
    return Aligned(found, gold, notes)


def _choice(where: str, line: str) -> int | str:
    expected = 'an object such as {"label": 0}'
    try:
        content = json.loads(line)
    except ValueError as error:
        raise InputError(where, "is no JSON", expected=expected, found=_short(line)) from error
    value = content.get("label") if isinstance(content, dict) else None
    # A bool is an int in Python.
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InputError(where, "holds no label", expected=expected, found=_short(line))
    return value


def _same_number_of_lines(labels: Path, predictions: Path) -> tuple[list[str], list[str]]:
    gold, found = _lines(labels), _lines(predictions)
    if not gold:
        raise InputError(str(labels), "is empty", expected="a line per example")
    if len(gold) != len(found):
        few = len(found) < len(gold)
        extra = (gold if few else found)[min(len(gold), len(found)) :]
        raise InputError(
            f"{predictions}: line {min(len(gold), len(found)) + 1}",
            "is missing" if few else "is one too many",
            expected=f"{len(gold)} lines, as in {labels}",
            found=str(len(found)),
            hint="The lines that one of them has more are blank" if not any(extra) else None,
        )
    return gold, found


def _odd_values(
    path: Path,
    values: Sequence[Any],
    valid: set[Any],
    side: str,
    expected: str,
    blank: str | None = None,
) -> dict[str, int]:
    """Note the lines whose value the task does not have; `blank` is no value.

    Raises:
        InputError: If no line holds one that it has.
    """
    odd = set(values) - valid - {blank}
    if not odd:
        return {}
    lines = [number for number, value in enumerate(values, start=1) if value in odd]
    first, value = lines[0], _short(values[lines[0] - 1])
    if not any(value in valid for value in set(values)):
        raise InputError(
            f"{path}: line {first}",
            f"neither this nor another line holds a {side} value of this task",
            expected=expected,
            found=value,
        )
    meaning = "wrong" if side == "predicted" else "kept"
    what = (
        f"{side} values, {meaning} as officially, that are not {expected} (line {first}: {value})"
    )
    return {what: len(lines)}


# ---- tags


def _read_tags(labels: Path, predictions: Path, known: Sequence[str]) -> Aligned:
    """One tag per line, a blank line behind each sentence."""
    wanted, given = _lines(labels), _lines(predictions)
    gold, found = _sentences(wanted), _sentences(given)
    if not any(gold):
        raise InputError(str(labels), "holds no tag", expected="a tag per line")
    _same_lengths(labels, gold, predictions, found)
    expected = f"one of {', '.join(known)}"
    notes = _odd_values(labels, wanted, set(known), "gold", expected, blank="")
    notes |= _odd_values(predictions, given, {*known, *wanted}, "predicted", expected, blank="")
    return Aligned(found, gold, notes)


def _sentences(lines: Sequence[str]) -> list[Sequence[str]]:
    blank = [number for number, line in enumerate(lines) if not line]
    starts, ends = [0, *(number + 1 for number in blank)], [*blank, len(lines)]
    sentences = [lines[first:end] for first, end in zip(starts, ends, strict=True)]
    return sentences if sentences[-1] else sentences[:-1]


def _same_lengths(
    labels: Path, gold: Sequence[Sequence[str]], predictions: Path, found: Sequence[Sequence[str]]
) -> None:
    line = 1
    for number, (tags, wanted) in enumerate(zip_longest(found, gold), start=1):
        if tags is None or wanted is None or len(tags) != len(wanted):
            raise InputError(
                f"{predictions}: line {line}",
                f"sentence {number} is not the one of {labels}",
                expected="no such sentence" if wanted is None else f"{len(wanted)} tags",
                found="no such sentence" if tags is None else f"{len(tags)} tags",
                hint="Each gold tag needs its own, those of words cut off for length included",
            )
        line += len(tags) + 1


# ---- pairs


def _read_pairs(labels: Path, predictions: Path, known: Sequence[str]) -> Aligned:
    """Foreign id TAB English id; an example is a foreign sentence, its value a set (R43)."""
    wanted, given = _lines(labels), _lines(predictions)
    if not wanted:
        raise InputError(str(labels), "is empty", expected="a pair of ids per line")
    notes: dict[str, int] = {}
    for path, lines, side in ((labels, wanted, "gold"), (predictions, given, "predicted")):
        pairs = {line for line in lines if re.fullmatch(r"[^\t]+\t[^\t]+", line)}
        notes |= _odd_values(path, lines, pairs, side, "a foreign id TAB an English id")
        if repeated := len(lines) - len(set(lines)):
            notes[f"repeated {side} pairs, counted once"] = repeated
    _not_swapped(labels, set(wanted), predictions, given)
    if not given:
        notes["gold pairs without any prediction, as the file is empty"] = len(set(wanted))
    gold, found = _by_source(wanted), _by_source(given)
    sources = list(gold | found)
    return Aligned(
        [found.get(source, set()) for source in sources],
        [gold.get(source, set()) for source in sources],
        notes,
    )


def _by_source(lines: Iterable[str]) -> dict[str, set[str]]:
    targets: dict[str, set[str]] = {}
    for line in lines:
        source, _, target = line.partition("\t")
        targets.setdefault(source, set()).add(target)
    return targets


def _not_swapped(labels: Path, gold: set[str], predictions: Path, lines: Sequence[str]) -> None:
    if not gold.isdisjoint(lines):
        return
    for number, line in enumerate(lines, start=1):
        first, _, second = line.partition("\t")
        if f"{second}\t{first}" in gold:
            raise InputError(
                f"{predictions}: line {number}",
                f"is a pair of {labels} the other way round, and no line is one as it stands",
                expected="the foreign id first",
                found=_short(line),
            )


# ---- answers and rankings, by id


def _read_answers(labels: Path, predictions: Path, known: Sequence[str]) -> Aligned:
    """Gold in SQuAD's layout; predictions ``{id: text}``, None where there is none."""
    questions = _questions(labels)
    given = _by_id(predictions)
    ids = [id_ for id_, _ in questions]
    notes = _odd_ids(predictions, given, ids)
    for id_ in set(ids) & given.keys():
        if not isinstance(given[id_], str):
            raise InputError(f"{predictions}: id {id_!r}", "is no text", found=_short(given[id_]))
    return Aligned([given.get(id_) for id_ in ids], [texts for _, texts in questions], notes)


def _questions(path: Path) -> list[tuple[str, list[str]]]:
    """Id and answers of each question."""
    content = _json(path)
    holder = content if isinstance(content, dict) else {"data": content}
    questions = [
        _question(where, row)
        for article_at, article in _items(str(path), holder, "data")
        for part_at, part in _items(article_at, article, "paragraphs")
        for where, row in _items(part_at, part, "qas")
    ]
    if not questions:
        raise InputError(str(path), "holds no question", expected=_LAYOUT)
    return questions


def _question(where: str, row: Any) -> tuple[str, list[str]]:
    answers = _items(where, row, "answers")
    id_ = row.get("id")
    if not isinstance(id_, str):
        raise InputError(f"{where}: id", "is no text", found=_short(id_))
    if not answers:
        raise InputError(f"{where} (id {id_!r})", "has no gold answer", expected="at least one")
    texts: list[str] = []
    for place, answer in answers:
        text = answer.get("text") if isinstance(answer, dict) else None
        if not isinstance(text, str):
            raise InputError(place, "has no text", expected=_LAYOUT, found=_short(answer))
        texts.append(text)
    return id_, texts


def _items(where: str, holder: Any, key: str) -> list[tuple[str, Any]]:
    """Place and content of each item of a list."""
    items = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(items, list):
        raise InputError(where, f"has no list {key!r}", expected=_LAYOUT, found=_short(holder))
    return [(f"{where}: {key}[{number}]", item) for number, item in enumerate(items)]


def _read_rankings(labels: Path, predictions: Path, known: Sequence[str]) -> Aligned:
    """``{id: [candidates, best first]}`` on both sides; an empty list where there is none."""
    gold, given = _by_id(labels), _by_id(predictions)
    if not gold:
        raise InputError(str(labels), "is empty", expected="ids with their candidates")
    notes = _odd_ids(predictions, given, list(gold))
    given = {id_: given.get(id_, []) for id_ in gold}
    for path, lists in ((labels, gold), (predictions, given)):
        for id_, items in lists.items():
            right = isinstance(items, list) and all(isinstance(item, str) for item in items)
            if not right or (path == labels and not items):
                raise InputError(
                    f"{path}: id {id_!r}", "is no list of candidates' ids", found=_short(items)
                )
    return Aligned(list(given.values()), list(gold.values()), notes)


def _odd_ids(predictions: Path, given: dict[str, Any], ids: Sequence[str]) -> dict[str, int]:
    """Note gold ids without prediction, repeated ones, and predicted ids without gold."""
    wanted = dict.fromkeys(ids)
    unanswered = [id_ for id_ in wanted if id_ not in given]
    stray = [id_ for id_ in given if id_ not in wanted]
    if given and len(unanswered) == len(wanted):
        raise InputError(
            str(predictions),
            "has no prediction for any id of the gold file",
            expected=f"ids such as {ids[0]!r}",
            found=repr(stray[0]),
        )
    notes: dict[str, int] = {}
    if unanswered:
        notes[f"ids without prediction, scored 0 (first: {unanswered[0]!r})"] = len(unanswered)
    if stray:
        notes[f"predicted ids without gold, not used (first: {stray[0]!r})"] = len(stray)
    if repeated := len(ids) - len(wanted):
        notes["repeated gold ids, scored each time as officially"] = repeated
    return notes


# ---- bytes to lines and JSON


def _text(path: Path) -> str:
    """The file's text, with LF as the only line end.

    Raises:
        InputError: If it cannot be read, is no UTF-8 or begins with a byte-order mark.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8")
    except OSError as error:
        raise InputError(str(path), f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}: line {line}",
            "is not UTF-8",
            found=f"byte {content[error.start]:#04x}",
            hint="Save the file as UTF-8",
        ) from error
    if text.startswith("\ufeff"):
        raise InputError(
            f"{path}: line 1",
            "begins with a byte-order mark, which officially belongs to the first line's text",
            hint="Save the file as UTF-8 without it",
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _lines(path: Path) -> list[str]:
    # Not splitlines: it also splits at characters that are no line ends of a file.
    lines = _text(path).split("\n")
    if not lines[-1]:
        lines.pop()
    return list(map(str.strip, lines))


def _json(path: Path, hook: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    try:
        return json.loads(_text(path), object_pairs_hook=hook)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}: line {error.lineno}", f"is no JSON ({error.msg}, column {error.colno})"
        ) from error


def _by_id(path: Path) -> dict[str, Any]:
    """A JSON object whose keys stand there once."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            keys = [key for key, _ in pairs]
            key = next(key for number, key in enumerate(keys) if key in keys[:number])
            raise InputError(
                _second(path, key), f"holds the id {key!r} again", expected="each id once"
            )
        return content

    content = _json(path, once)
    if not isinstance(content, dict):
        raise InputError(
            str(path), "is no JSON object", expected="{id: prediction}", found=_short(content)
        )
    return content


def _second(path: Path, key: str) -> str:
    """The place of a key's second occurrence; the file alone where it is written with escapes."""
    text = _text(path)
    places = [match.start() for match in re.finditer(rf'"{re.escape(key)}"\s*:', text)]
    return f"{path}: line {text.count(chr(10), 0, places[1]) + 1}" if places[1:] else str(path)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


LABELS = FileKind("tsv", _read_labels)
TAGS = FileKind("tsv", _read_tags)
PAIRS = FileKind("tsv", _read_pairs)
NUMBERS = FileKind("tsv", _read_numbers)
ANSWERS = FileKind("json", _read_answers)
CHOICES = FileKind("jsonl", _read_choices)
RANKINGS = FileKind("json", _read_rankings)

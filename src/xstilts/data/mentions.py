"""Mewsli-X: mentions in their sentences, and the entities they may mean.

How a mention and an entity become a text is XTREME-R's baseline (`utils_mewslix.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from xstilts.data.readers import numbered_lines
from xstilts.errors import InputError
from xstilts.validation import parse


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Span(_Part):
    start: int
    end: int


class _Marked(_Span):
    text: str


class _Mention(_Part):
    example_id: str
    mention_span: _Marked
    entity_id: str


class _Context(_Part):
    text: str
    sentence_spans: tuple[_Span, ...]


class _One(_Part):
    context: _Context
    mention: _Mention


class _Mentions(_Part):
    context: _Context
    mentions: tuple[_Mention, ...]


class _Entity(_Part):
    entity_id: str
    description: str
    sentence_spans: tuple[_Span, ...]


class _Pair(_Part):
    contextual_mention: _One
    entity: _Entity


def mewslix_tables(paths: Sequence[Path], split: str) -> dict[str, pa.Table]:
    """Tables of a split by file stem.

    Args:
        paths: JSONL files: of a test split mentions (`context` and `mentions`, or `mention`) or
            entities, of any other one pairs (`contextual_mention` and `entity`).
        split: ``train``, ``dev`` or ``test``.

    Returns:
        `test.source` (id, text) and `test.gold` of mentions, `test.target` (id, text) of entities,
        or the pairs under the split's name: id, query, text, context (null).

    Raises:
        InputError: If a line is none of these, an id stands there twice, or a mention is not where
            its line says.
    """
    if split != "test":
        return {split: _pairs(paths)}
    _, first = next(_records(paths), ("", {}))
    return {"test.target": _entities(paths)} if "entity_id" in first else _mentions(paths)


def _records(paths: Sequence[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and content of each line."""
    for path in paths:
        for number, line in numbered_lines(path):
            where = f"{path}: line {number}"
            try:
                content = json.loads(line)
            except ValueError as error:
                raise InputError(where, f"is no JSON ({error})", found=repr(line[:80])) from error
            if not isinstance(content, dict):
                raise InputError(where, "is no JSON object", found=repr(line[:80]))
            yield where, content


def _pairs(paths: Sequence[Path]) -> pa.Table:
    queries, entities = dict[str, str](), dict[str, str]()
    for where, record in _records(paths):
        pair = parse(_Pair, record, where)
        one = pair.contextual_mention
        id_ = one.mention.example_id
        _put(queries, id_, mention_text(one.context, one.mention, where), where)
        entities[id_] = entity_text(pair.entity, where)
    table = _texts(queries).rename_columns(["id", "query"])
    table = table.append_column("text", _texts(entities)["text"])
    return table.append_column("context", pa.nulls(len(queries), pa.string()))


def _entities(paths: Sequence[Path]) -> pa.Table:
    found: dict[str, str] = {}
    for where, record in _records(paths):
        entity = parse(_Entity, record, where)
        _put(found, entity.entity_id, entity_text(entity, where), where)
    return _texts(found)


def _mentions(paths: Sequence[Path]) -> dict[str, pa.Table]:
    found, gold = dict[str, str](), dict[str, str]()
    for where, record in _records(paths):
        if "mention" in record:
            record = {**record, "mentions": [record["mention"]]}
        many = parse(_Mentions, record, where)
        for mention in many.mentions:
            if not mention.entity_id:
                raise InputError(
                    f"{where}: mention {mention.example_id!r}",
                    "has no entity_id",
                    expected="the id of the entity that is meant",
                    hint="Write the ids of the labels' file into the mentions' file",
                )
            text = mention_text(many.context, mention, where)
            _put(found, mention.example_id, text, where)
            gold[mention.example_id] = mention.entity_id
    ids = zip(("source_id", "target_id"), (list(gold), list(gold.values())), strict=True)
    table = pa.table({name: pa.array(column, pa.string()) for name, column in ids})
    return {"test.source": _texts(found), "test.gold": table}


def _put(rows: dict[str, str], id_: str, text: str, where: str) -> None:
    if id_ in rows:
        raise InputError(where, "the id stands there twice", found=repr(id_))
    rows[id_] = text


def _texts(rows: dict[str, str]) -> pa.Table:
    columns = {"id": list(rows), "text": list(rows.values())}
    return pa.table({name: pa.array(column, pa.string()) for name, column in columns.items()})


# ---- texts

#: What stands between the marks of a mention already.
_MARKED = re.compile(r"\{(.*?)\}")


def mention_text(context: _Context, mention: _Mention, where: str) -> str:
    """`Mention: its { Mention } in its sentence`, other braces made round.

    The mention comes first so that no cut at the sentence's end takes it away.

    Raises:
        InputError: If the mention is not at its place, or in no sentence.
    """
    span, place = mention.mention_span, f"{where}: mention {mention.example_id!r}"
    if context.text[span.start : span.end] != span.text or not span.text:
        raise InputError(
            place,
            "the mention is not at its place",
            expected=repr(span.text),
            found=repr(context.text[span.start : span.end][:80]),
        )
    sentence = next(
        (s for s in context.sentence_spans if s.start <= span.start and span.end <= s.end), None
    )
    if sentence is None:
        raise InputError(place, "the mention lies in no sentence", found=repr(span.text))
    left, right = (
        _MARKED.sub(r"(\1)", side)
        for side in (
            context.text[sentence.start : span.start],
            context.text[span.end : sentence.end],
        )
    )
    return _flat(f"{span.text}: {left} {{ {span.text} }} {right}")


def entity_text(entity: _Entity, where: str) -> str:
    """The sentences of an entity's description.

    Raises:
        InputError: If a sentence lies outside the description.
    """
    size = len(entity.description)
    for span in entity.sentence_spans:
        if not 0 <= span.start <= span.end <= size:
            raise InputError(
                f"{where}: sentence_spans",
                "a sentence lies outside the description",
                expected=f"0 <= start <= end <= {size}",
                found=f"{span.start} to {span.end}",
            )
    return _flat(" ".join(entity.description[s.start : s.end] for s in entity.sentence_spans))


def _flat(text: str) -> str:
    """One line, and pairs of spaces single, as in XTREME-R (three become two)."""
    return " ".join(text.splitlines()).replace("  ", " ").strip()

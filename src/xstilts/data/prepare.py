"""Stage prepare: raw data become checked parquet files in the canonical schema of their format.

Nothing disappears silently: `report.json` counts every row that was dropped and every text, answer
or id that was changed, split by split.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from xstilts.artifacts.publish import publishing
from xstilts.data import passages
from xstilts.data.columns import Columns, EachItem, FieldSpec, needed_columns
from xstilts.data.conllu import read_conllu, treebank_files
from xstilts.data.labels import DROP, Labels, read_label_file
from xstilts.data.mentions import mewslix_tables
from xstilts.data.readers import (
    Source,
    read_bucc,
    read_ccg,
    read_lines,
    read_tables,
    split_files,
)
from xstilts.data.spans import paired, place_answer
from xstilts.errors import InputError

ANSWERS = pa.list_(pa.struct([("text", pa.string()), ("start", pa.int32())]))
Mask = npt.NDArray[np.bool_]


class Prefix(BaseModel):
    """Keep only rows whose column starts with a prefix; ``{code}`` is the language's code."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: str
    prefix: str


class DataRow(BaseModel):
    """The part of a registry row that decides how its data are prepared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str
    layout: Literal[
        "parquet", "lines", "ccg", "conllu", "bucc", "comparable", "lareqa", "squad", "mewslix"
    ] = "parquet"
    splits: dict[str, str]
    holdout: float = 0.0
    fields: dict[str, FieldSpec]
    labels: tuple[str, ...] | None = None
    labels_file: str | None = None
    label_values: dict[str, str] = {}
    drop_labels: dict[str, str] = {}
    where: Prefix | None = None
    strip: bool = False


@dataclass
class Part:
    """One split on its way from source rows to canonical rows.

    Attributes:
        split: ``train``, ``dev`` or ``test``.
        row: The registry row.
        labels: Its label set.
        source: The source rows that are left.
        notes: What was changed or is odd, counted.
        dropped: Rows that were dropped, counted by reason.
        rows_in: Rows before anything was dropped.
    """

    split: str
    row: DataRow
    labels: Labels
    source: Source
    notes: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    rows_in: int = 0

    @property
    def columns(self) -> Columns:
        """The fields of the rows that are left."""
        return Columns(self.source, self.row.strip, self.notes)

    def name_of(self, field_name: str) -> str:
        """Column or list column that a field names."""
        spec = self.row.fields[field_name]
        return spec.each if isinstance(spec, EachItem) else str(spec).strip("{}")

    def label_ids(self) -> npt.NDArray[np.int32]:
        """Class ids of the field ``label``; rows without a label are dropped and counted."""
        name = self.name_of("label")
        values = self.columns.raw(name)
        ids = self.labels.ids(values, self.source.class_names.get(name), self.source.where)
        keep = ids != DROP
        if not keep.all():
            self.dropped.update(self.labels.reasons(values.filter(pa.array(~keep))))
            self.source = self.source.keep(keep)
        kept: npt.NDArray[np.int32] = ids[keep]
        return kept


# ---------------------------------------------------------------- one builder per format


def _classification(part: Part) -> pa.Table:
    labels = part.label_ids()
    text_a = part.columns.text(part.row.fields["text_a"])
    second = part.row.fields.get("text_b")
    text_b = part.columns.text(second) if second else pa.nulls(len(text_a), pa.string())
    return pa.table({"text_a": text_a, "text_b": text_b, "label": pa.array(labels)})


def _multiple_choice(part: Part) -> pa.Table:
    labels = part.label_ids()
    choices = part.columns.texts(part.row.fields["choices"])
    counts = np.diff(choices.offsets.to_numpy())
    for bad, problem in (
        (counts < 2, "a question needs two choices or more"),
        (labels >= counts, "the label is not one of the choices"),
    ):
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise InputError(
                part.source.where(row),
                problem,
                found=f"{counts[row]} choices, label {part.labels.names[labels[row]]!r}",
            )
    empty = pc.sum(_is_empty(choices.flatten())).as_py()
    part.notes["empty choices"] += empty or 0
    fields = part.row.fields
    named = [name for name in ("prompt", "premise", "question") if name in fields]
    columns: dict[str, Any] = {name: part.columns.text(fields[name]) for name in named}
    columns |= {"choices": choices, "label": pa.array(labels)}
    return pa.table(columns)


def _question_answering(part: Part) -> pa.Table:
    context = part.columns.text(part.row.fields["context"])
    name = part.name_of("answers")
    try:
        answers = [
            [
                place_answer(text, answer, start, part.notes, part.source.where(row))
                for answer, start in paired(value)
            ]
            for row, (text, value) in enumerate(
                zip(context.to_pylist(), part.columns.raw(name).to_pylist(), strict=True)
            )
        ]
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(
            str(part.source.files[0][0]),
            f"column {name!r} holds no answers",
            expected="text and answer_start, as in SQuAD, of equal length",
            found=str(error),
        ) from error
    part.notes["questions without an answer"] += sum(not found for found in answers)
    question = part.columns.text(part.row.fields["question"])
    return pa.table(
        {"context": context, "question": question, "answers": pa.array(answers, ANSWERS)}
    )


def _token_classification(part: Part) -> pa.Table:
    tokens = part.columns.texts(part.row.fields["tokens"])
    name = part.name_of("tags")
    tags = part.columns.lists(name)
    lengths = np.diff(tokens.offsets.to_numpy()), np.diff(tags.offsets.to_numpy())
    if (uneven := lengths[0] != lengths[1]).any():
        row = int(np.flatnonzero(uneven)[0])
        raise InputError(
            part.source.where(row),
            "tokens and tags are of unequal length",
            found=f"{lengths[0][row]} tokens, {lengths[1][row]} tags",
        )
    parents = pc.list_parent_indices(tags)
    ids = Labels(part.labels.names, part.labels.values).ids(
        tags.flatten(),
        part.source.class_names.get(name),
        lambda item: part.source.where(parents[item].as_py()),
    )
    part.notes["empty tokens"] += pc.sum(_is_empty(tokens.flatten())).as_py() or 0
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths[1])]), pa.int32())
    return pa.table({"tokens": tokens, "tags": pa.ListArray.from_arrays(offsets, pa.array(ids))})


def _masked_lm(part: Part) -> pa.Table:
    text = part.columns.text(part.row.fields["text"])
    part.notes["repeated texts"] += len(text) - pc.count_distinct(text).as_py()
    return pa.table({"text": text})


#: Builder and the fields that a training row must not leave empty, by format.
_BUILDERS: dict[str, tuple[Callable[[Part], pa.Table], tuple[str, ...]]] = {
    "sequence_classification": (_classification, ("text_a",)),
    "multiple_choice": (_multiple_choice, ("prompt",)),
    "question_answering": (_question_answering, ("context", "question")),
    "token_classification": (_token_classification, ("tokens",)),
    "masked_lm": (_masked_lm, ("text",)),
}


def _is_empty(array: pa.Array) -> pa.Array:
    if pa.types.is_list(array.type):
        return pc.equal(pc.list_value_length(array), 0)
    return pc.equal(pc.utf8_trim_whitespace(array), "")


# ---------------------------------------------------------------- rows of one split


def _read(raw: Path, row: DataRow, source_split: str) -> Source:
    if row.layout == "lines":
        return read_lines(split_files(raw, source_split))
    if row.layout == "ccg":
        return read_ccg(split_files(raw, source_split))
    extra = [row.where.column] if row.where else []
    columns = needed_columns(row.fields.values(), extra)
    return read_tables(split_files(raw, source_split), columns)


def _filtered(source: Source, where: Prefix | None, code: str) -> tuple[Source, int]:
    """Rows whose column has the prefix, and the number of the others."""
    if where is None:
        return source, 0
    prefix = where.prefix.replace("{code}", code)
    column = Columns(source, False, Counter()).text(where.column)
    mask = pc.starts_with(column, prefix).to_numpy(zero_copy_only=False)
    if not mask.any():
        raise InputError(
            str(source.files[0][0]),
            f"no row's {where.column!r} starts with {prefix!r}",
            found=", ".join(map(repr, column[:3].to_pylist())),
        )
    return source.keep(mask), int((~mask).sum())


def _ids(part: Part) -> pa.Array:
    """Ids of the rows that are left: the source's, or made from the row number."""
    made = np.char.add(f"{part.split}-", part.source.index.astype(str)).tolist()
    spec = part.row.fields.get("id")
    if spec is None:
        return pa.array(made, pa.string())
    if isinstance(spec, str) and "{" not in spec:
        ids = part.columns.raw(spec).cast(pa.string()).to_pylist()
    else:
        ids = part.columns.text(spec).to_pylist()
    seen: set[str] = set()
    for row, name in enumerate(ids):
        if name is None or name in seen:
            part.notes["ids missing" if name is None else "repeated ids"] += 1
            ids[row] = made[row]
        seen.add(ids[row])
    return pa.array(ids, pa.string())


def _without_empty(part: Part, table: pa.Table, fields: tuple[str, ...]) -> pa.Table:
    """Drop training rows with nothing to read; elsewhere only count them."""
    for name in fields:
        empty = _is_empty(table[name].combine_chunks()).to_numpy(zero_copy_only=False)
        if part.split == "train" and empty.any():
            part.dropped[f"empty {name}"] += int(empty.sum())
            table = table.filter(pa.array(~empty))
        elif empty.any():
            part.notes[f"empty {name}"] += int(empty.sum())
    return table


def _build(part: Part) -> pa.Table:
    builder, must = _BUILDERS[part.row.format]
    table = builder(part)  # first: it decides which rows are left
    return _without_empty(part, table.add_column(0, "id", _ids(part)), must)


def _held_out(table: pa.Table, share: float) -> Mask:
    """Rows that become the dev set: a share of the texts, chosen by their hash.

    All rows of one context fall on the same side, whatever else the data hold.
    """
    key = next(
        name
        for name in ("context", "text_a", "prompt", "tokens", "text")
        if name in table.column_names
    )

    def chosen(value: Any) -> bool:
        text = value if isinstance(value, str) else " ".join(value)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) < share * 2**64

    return np.array([chosen(value) for value in table[key].to_pylist()], bool)


# ---------------------------------------------------------------- retrieval


def _aligned(part: Part) -> dict[str, pa.Table]:
    """Row i of one side belongs to row i of the other (Tatoeba).

    In the layout `comparable` a row may lack one side: its sentence then has no translation.
    """
    tables: dict[str, pa.Table] = {}
    ids, whole = pa.chunked_array([_ids(part)]), part.source
    both = np.ones(len(whole), bool)
    for side in ("source", "target"):
        present = np.ones(len(whole), bool)
        if part.row.layout == "comparable":
            raw = part.columns.raw(part.name_of(side))
            present = raw.is_valid().to_numpy(zero_copy_only=False)
        part.source = whole.keep(present)
        text = part.columns.text(part.row.fields[side])
        tables[side] = pa.table({"id": ids.filter(pa.array(present)), "text": text})
        both &= present
        part.source = whole
    shared = ids.filter(pa.array(both))
    return {**tables, "gold": pa.table({"source_id": shared, "target_id": shared})}


def _pools(part: Part, raw: Path, source_split: str, code: str) -> dict[str, pa.Table]:
    """Two pools of sentences and the gold pairs among them (BUCC)."""
    source, target, gold = read_bucc(raw, source_split, code)
    part.source, part.rows_in = gold, len(gold)
    tables: dict[str, pa.Table] = {"gold": gold.table}
    for side, pool in (("source", source), ("target", target)):
        text = Columns(pool, part.row.strip, part.notes).text("text")
        tables[side] = pa.table({"id": pool.table["id"], "text": text})
    return tables


def _retrieval_notes(part: Part, tables: dict[str, pa.Table]) -> None:
    for side in ("source", "target"):
        text = tables[side]["text"].combine_chunks()
        part.notes[f"{side} sentences"] = len(text)
        part.notes[f"repeated {side} texts"] = len(text) - pc.count_distinct(text).as_py()
        part.notes[f"empty {side} texts"] = pc.sum(_is_empty(text)).as_py() or 0


def _answers(spec: Mapping[str, Any], part: Part) -> dict[str, pa.Table]:
    """Queries with their gold candidates; the columns are fixed, a row has no fields."""
    files = split_files(Path(spec["inputs"]["raw"]), _source_split(spec, part.row, part.split))
    if part.row.layout == "mewslix":
        tables = mewslix_tables(files, part.split)
    else:
        if part.row.layout == "lareqa":
            found = passages.read_lareqa(files, part.notes)
        else:
            part.source = read_tables(files, passages.SQUAD_COLUMNS)
            found = passages.squad_paragraphs(part.source, part.notes)
        tables = passages.tables_of(
            found, part.split, spec["language"], part.dropped, str(files[0])
        )
    part.notes |= {name: table.num_rows for name, table in tables.items() if name != part.split}
    # Queries, or where there are none, candidates.
    rows = next(iter(tables.values())).num_rows
    part.rows_in = rows + part.dropped.total()
    return tables


# ---------------------------------------------------------------- the stage


def _new_part(spec: Mapping[str, Any], row: DataRow, labels: Labels, split: str) -> Part:
    raw, code = Path(spec["inputs"]["raw"]), spec["code"]
    empty = Source(pa.table({}), (), np.arange(0))
    part = Part(split, row, labels, empty)
    if row.layout != "bucc" and row.format != "answer_retrieval":
        name = _source_split(spec, row, split)
        if row.layout == "conllu":
            source = read_conllu(treebank_files(raw, name), spec["language"], part.notes)
        else:
            source = _read(raw, row, name)
        part.source, others = _filtered(source, row.where, code)
        part.notes["rows of other languages"] += others
        part.rows_in = len(part.source)
    return part


def _source_split(spec: Mapping[str, Any], row: DataRow, split: str) -> str:
    name: str = row.splits[split].replace("{code}", spec["code"])
    return name


def _tables(spec: Mapping[str, Any], part: Part) -> dict[str, pa.Table]:
    """Canonical tables of a split by file stem."""
    if part.row.format != "sentence_retrieval":
        is_ranked = part.row.format == "answer_retrieval"
        tables = _answers(spec, part) if is_ranked else {part.split: _build(part)}
        is_shared = part.split == "train" and part.row.holdout
        return _split_train(part, tables["train"]) if is_shared else tables
    if part.row.layout == "bucc":
        raw = Path(spec["inputs"]["raw"])
        tables = _pools(part, raw, _source_split(spec, part.row, part.split), spec["code"])
    else:
        tables = _aligned(part)
    _retrieval_notes(part, tables)
    return {f"{part.split}.{side}": table for side, table in tables.items()}


def _split_train(part: Part, table: pa.Table) -> dict[str, pa.Table]:
    held_out = _held_out(table, part.row.holdout)
    part.notes["rows held out for dev"] = int(held_out.sum())
    return {
        "train": table.filter(pa.array(~held_out)),
        "dev": table.filter(pa.array(held_out)),
    }


def _report(part: Part, rows: int, expected: int | None) -> dict[str, Any]:
    notes = Counter(part.notes)
    if expected is not None and part.rows_in != expected:
        kind = "fewer" if part.rows_in < expected else "more"
        notes[f"rows {kind} than expected"] = abs(part.rows_in - expected)
    return {
        "rows_in": part.rows_in,
        "rows": rows,
        "expected": expected,
        "dropped": {reason: n for reason, n in part.dropped.items() if n},
        "notes": {what: n for what, n in notes.items() if n},
    }


def _reports(
    part: Part, tables: dict[str, pa.Table], expected: Mapping[str, int]
) -> dict[str, dict[str, Any]]:
    """Report of the split, and of the dev set that was held out of it."""
    rows = {stem.removesuffix(".gold"): table.num_rows for stem, table in tables.items()}
    # A pool of candidates alone (Mewsli-X's entities) has no gold.
    count = rows[part.split] if part.split in rows else rows[f"{part.split}.target"]
    reports = {part.split: _report(part, count, expected.get(part.split))}
    if part.split == "train" and "dev" in tables:
        dev = Part("dev", part.row, part.labels, part.source, rows_in=rows["dev"])
        reports["dev"] = _report(dev, rows["dev"], None)
    return reports


def _write(table: pa.Table, path: Path, place: str) -> None:
    if table.num_rows == 0:
        raise InputError(place, f"no row is left for {path.name}", expected="one row or more")
    pq.write_table(table.combine_chunks(), path, compression="zstd", row_group_size=1 << 16)


def label_names(row: DataRow, raw: Path) -> tuple[str, ...]:
    """Labels of a data set in the order of their class ids; empty where it has none."""
    return row.labels or (read_label_file(raw, row.labels_file) if row.labels_file else ())


def run(spec: Mapping[str, Any], out: Path) -> None:
    """Prepare one data set in one language.

    Args:
        spec: ``row`` (see :class:`DataRow`), ``code`` for its templates, ``expected`` rows by
            split and ``inputs.raw``.
        out: Artifact folder: ``<split>.parquet`` (retrieval: ``<split>.source.parquet``,
            ``.target.parquet``, ``.gold.parquet``; its rows are counted in gold pairs) and
            ``report.json``.

    Raises:
        InputError: If the raw data are not what the row says; the file and the row are named.
    """
    row = DataRow.model_validate(spec["row"])
    raw, place = Path(spec["inputs"]["raw"]), f"{spec['dataset']} ({spec['language']})"
    if row.holdout and "dev" in row.splits:
        raise InputError(place, "has both a holdout and a dev split", hint="Remove one of them")
    names = label_names(row, raw)
    labels = Labels(names, row.label_values, row.drop_labels)
    with publishing(out, spec) as draft:
        splits: dict[str, Any] = {}
        for split in row.splits:
            part = _new_part(spec, row, labels, split)
            tables = _tables(spec, part)
            for stem, table in tables.items():
                _write(table, draft.folder / f"{stem}.parquet", place)
            splits |= _reports(part, tables, spec.get("expected", {}))
        report = {"format": row.format, "labels": list(names) or None, "splits": splits}
        text = json.dumps(report, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        (draft.folder / "report.json").write_text(text, encoding="utf-8")
        draft.record.add(splits=splits)

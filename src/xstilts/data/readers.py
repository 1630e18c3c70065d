"""Readers of raw artifacts: files of four layouts become one Arrow table per split.

A :class:`Source` remembers where each of its rows came from, so that every later error can name the
file and the row.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq

from xstilts.artifacts.manifest import check_file, read_manifest
from xstilts.errors import InputError, nearest

_REFETCH = "Delete the raw artifact and fetch it again"


@dataclass(frozen=True)
class Source:
    """Rows of one split as they were read.

    Attributes:
        table: The columns asked for.
        files: Path and number of rows of each file, in the order of reading.
        index: Place of each row of the table in the files, counted through from 0.
        unit: What a row is in the files: ``row`` (counted from 0), ``line`` or ``sentence`` (from
            1).
        class_names: Class names by column, where the file's Hub metadata give them.
    """

    table: pa.Table
    files: tuple[tuple[Path, int], ...]
    index: npt.NDArray[np.int64]
    unit: str = "row"
    class_names: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def where(self, row: int) -> str:
        """File and row of a row of the table, for messages."""
        place = int(self.index[row])
        for path, count in self.files:
            if place < count:
                return f"{path}: {self.unit} {place + (self.unit != 'row')}"
            place -= count
        raise IndexError(row)

    def keep(self, mask: npt.NDArray[np.bool_]) -> Source:
        """Only the rows where a mask is true."""
        if mask.all():
            return self
        return replace(self, table=self.table.filter(pa.array(mask)), index=self.index[mask])


def _named(files: Sequence[str], split: str) -> list[str]:
    """Stored files of a split: a folder of that name, or the file of that name."""
    return sorted(
        name for name in files if name.startswith(f"{split}/") or name == f"files/{split}"
    )


def split_files(raw: Path, split: str) -> list[Path]:
    """Files of one source split in name order, checked against the manifest.

    Raises:
        InputError: If there is none, or one of them has other bytes than it was fetched with.
    """
    stored = list(read_manifest(raw).files)
    names = _named(stored, split)
    if not names:
        there = {name.removeprefix("files/").split("/")[0] for name in stored}
        raise InputError(str(raw), f"has no split {split!r}", hint=nearest(split, there))
    return [check_file(raw, name) for name in names]


# ---------------------------------------------------------------- parquet and JSON lines


def _class_names(feature: Any) -> list[str] | None:
    """Names of a Hub feature that is a ClassLabel, or a list of them."""
    if isinstance(feature, list):
        return _class_names(feature[0]) if feature else None
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") == "ClassLabel":
        return feature.get("names")
    return _class_names(feature.get("feature"))


def _features(schema: pa.Schema) -> dict[str, list[str]]:
    """Class names by column from the metadata that the datasets library writes."""
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    features = json.loads(text).get("info", {}).get("features", {})
    named = {column: _class_names(feature) for column, feature in features.items()}
    return {column: names for column, names in named.items() if names}


def _check_columns(path: Path, columns: Sequence[str], there: Sequence[str]) -> None:
    for column in columns:
        if column not in there:
            raise InputError(
                str(path),
                f"has no column {column!r}",
                expected=f"columns {', '.join(columns)}",
                found=f"columns {', '.join(there)}",
                hint=nearest(column, there),
            )


def _read_parquet(path: Path, columns: Sequence[str]) -> tuple[pa.Table, dict[str, list[str]]]:
    try:
        file = pq.ParquetFile(path)
        _check_columns(path, columns, file.schema_arrow.names)
        table = file.read(columns=list(columns), use_threads=False)
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            str(path), "is no whole parquet file with UTF-8 text", found=str(error), hint=_REFETCH
        ) from error
    return table, _features(file.schema_arrow)


def _read_jsonl(path: Path, columns: Sequence[str]) -> tuple[pa.Table, dict[str, list[str]]]:
    _check_utf8(path)
    try:
        with pa.input_stream(str(path)) as stream:  # decompresses by the file's ending
            table = pyarrow.json.read_json(
                stream, pyarrow.json.ReadOptions(use_threads=False, block_size=1 << 26)
            )
    except (pa.ArrowException, OSError) as error:
        raise InputError(str(path), "is no JSON lines file", found=str(error)) from error
    _check_columns(path, columns, table.column_names)
    return table.select(list(columns)), {}


def _reader(path: Path) -> Callable[[Path, Sequence[str]], tuple[pa.Table, dict[str, list[str]]]]:
    suffixes = PurePosixPath(path).suffixes
    if suffixes[-1:] == [".parquet"]:
        return _read_parquet
    if set(suffixes) & {".jsonl", ".json"}:
        return _read_jsonl
    raise InputError(
        str(path), "is of an unknown kind", expected=".parquet, .jsonl or .json (one object a line)"
    )


def read_tables(paths: Sequence[Path], columns: Sequence[str]) -> Source:
    """Read columns of parquet or JSON lines shards, one after the other.

    Raises:
        InputError: If a file is cut short, lacks a column or the shards do not fit together.
    """
    parts = [_reader(path)(path, columns) for path in paths]
    tables = [table.replace_schema_metadata(None) for table, _ in parts]
    try:
        table = pa.concat_tables(tables, promote_options="permissive").combine_chunks()
    except pa.ArrowException as error:
        raise InputError(
            str(paths[0].parent), "the files have columns of different types", found=str(error)
        ) from error
    files = tuple((path, part.num_rows) for path, part in zip(paths, tables, strict=True))
    return Source(table, files, np.arange(table.num_rows), class_names=parts[0][1])


# ---------------------------------------------------------------- plain text


def _open(path: Path) -> Iterator[bytes]:
    if path.suffix == ".gz":
        with gzip.open(path, "rb") as unpacked:
            yield from unpacked
    else:
        with path.open("rb") as file:
            yield from file


def _lines(path: Path) -> Iterator[str]:
    """Lines without their line ends.

    Raises:
        InputError: If a line is not UTF-8; its number is named.
    """
    for number, line in enumerate(_open(path), start=1):
        try:
            yield line.rstrip(b"\r\n").decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}: line {number}",
                "is no UTF-8 text",
                found=f"{error.reason} at byte {error.start} of the line",
                hint="Convert the file to UTF-8",
            ) from error


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of each line that is not blank.

    Raises:
        InputError: If a line is not UTF-8; its number is named.
    """
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            yield number, line


def read_text(path: Path) -> str:
    """The whole text of a file.

    Raises:
        InputError: If it is not UTF-8; the line is named.
    """
    return "\n".join(_lines(path))


def _check_utf8(path: Path) -> None:
    for _ in _lines(path):
        pass


def _from_lines(files: Sequence[tuple[Path, int]], columns: dict[str, pa.Array]) -> Source:
    table = pa.table(columns)
    return Source(table, tuple(files), np.arange(table.num_rows), unit="line")


def read_lines(paths: Sequence[Path]) -> Source:
    """Read one text a line into the column ``text``."""
    texts = [list(_lines(path)) for path in paths]
    files = [(path, len(part)) for path, part in zip(paths, texts, strict=True)]
    return _from_lines(files, {"text": pa.array([t for part in texts for t in part], pa.string())})


def _two_fields(path: Path, form: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(_lines(path), start=1):
        fields = line.split("\t")
        if len(fields) != 2:
            raise InputError(
                f"{path}: line {number}", "has another form", expected=form, found=repr(line[:80])
            )
        yield fields[0], fields[1]


def read_ccg(paths: Sequence[Path]) -> Source:
    """Read jiant's CCG files, ``text TAB tags`` (both space-separated), into ``tokens``, ``tags``.

    Source of the layout: jiant/tasks/lib/ccg.py.
    """
    parts = [list(_two_fields(path, "text, TAB, space-separated tags")) for path in paths]
    rows = [row for part in parts for row in part]
    words = pa.list_(pa.string())
    return _from_lines(
        [(path, len(part)) for path, part in zip(paths, parts, strict=True)],
        {
            "tokens": pa.array([text.split(" ") for text, _ in rows], words),
            "tags": pa.array([tags.split(" ") for _, tags in rows], words),
        },
    )


# ---------------------------------------------------------------- BUCC


def _bucc_file(raw: Path, split: str, suffix: str) -> Path:
    """The one stored file of a split with a suffix, like ``de-en.sample.de``."""
    stored = list(read_manifest(raw).files)
    found = [
        name
        for name in stored
        if name.endswith(f"{split}.{suffix}")
        or (name.startswith(f"{split}/") and name.endswith(f".{suffix}"))
    ]
    if len(found) != 1:
        raise InputError(
            str(raw),
            f"needs one file of split {split!r} that ends in .{suffix}",
            found=", ".join(found or sorted(stored)),
        )
    return check_file(raw, found[0])


def _pairs(path: Path, form: str, names: tuple[str, str]) -> Source:
    pairs = list(_two_fields(path, form))
    columns = {name: pa.array([p[i] for p in pairs], pa.string()) for i, name in enumerate(names)}
    return _from_lines([(path, len(pairs))], columns)


def read_bucc(raw: Path, split: str, code: str) -> tuple[Source, Source, Source]:
    """Read both sentence pools (``id``, ``text``) and the gold pairs of a BUCC split.

    Returns:
        Foreign pool, English pool, gold pairs (``source_id``, ``target_id``).

    Raises:
        InputError: If a file is missing, an id repeats or a gold id is in no pool.
    """
    source, target = (
        _pairs(_bucc_file(raw, split, suffix), "id, TAB, sentence", ("id", "text"))
        for suffix in (code, "en")
    )
    gold = _pairs(_bucc_file(raw, split, "gold"), "id, TAB, English id", ("source_id", "target_id"))
    for pool, column in ((source, "source_id"), (target, "target_id")):
        _check_pool(pool, gold, column)
    return source, target, gold


def _check_pool(pool: Source, gold: Source, column: str) -> None:
    ids = pool.table["id"]
    if pc.count_distinct(ids).as_py() != len(pool):
        seen: set[str] = set()
        row = next(i for i, x in enumerate(ids.to_pylist()) if x in seen or seen.add(x))  # type: ignore[func-returns-value]
        raise InputError(pool.where(row), "the sentence id is not unique", found=str(ids[row]))
    known = pc.is_in(gold.table[column], value_set=ids.combine_chunks())
    if not pc.all(known).as_py():
        row = known.index(False).as_py()
        raise InputError(
            gold.where(row),
            "the gold id is in no sentence file",
            expected=f"an id of {pool.files[0][0]}",
            found=str(gold.table[column][row]),
        )

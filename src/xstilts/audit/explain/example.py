"""A prediction and the row of the prepared data that it answers; a score and what it is over."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Any

from xstilts.audit.ancestry import Reader
from xstilts.audit.results import Artifact
from xstilts.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

Facts = dict[str, Any]


def prediction_at(reader: Reader, artifact: Artifact, file: str, row: int) -> Facts:
    """A line of predictions, the prepared row that it answers, and that row's source files.

    Raises:
        InputError: If there is no such line, or it is no prediction.
    """
    path = reader.results.path / artifact.out / file
    line = _line(path, row)
    try:
        content = json.loads(line)
        known = str(content["id"] if "id" in content else content["source_id"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}:{row}", f"is no prediction ({error})") from error
    language = file.removesuffix(".jsonl")
    found: Facts = {"language": language, "id": known, "line": content}
    prepared = input_of(artifact, "prepared", language)
    if prepared is None:
        return {**found, "unknown": f"the spec names no prepared rows of {language!r}"}
    try:
        found["prepared"] = {"artifact": prepared, "rows": _rows(reader, prepared, content)}
    except (InputError, OSError, LookupError) as error:
        found["unknown"] = str(error)
    return {**found, "source": sources_of(reader, prepared, "test")}


def score_at(reader: Reader, artifact: Artifact, file: str, row: int) -> Facts:
    """A value of `scores.json`, by its line: its predictions and gold rows.

    Raises:
        InputError: If no value stands on that line.
    """
    path = reader.results.path / artifact.out / file
    _line(path, row)
    lines = path.read_text(encoding="utf-8").splitlines()
    try:
        rows = json.loads("\n".join(lines))["rows"]
        # Written with an indent of one: each value is an object on the third level.
        first, last = lines.index(' "rows": ['), lines.index(" ],", lines.index(' "rows": ['))
        if not first < row - 1 < last:
            raise IndexError("it is on no line of `rows`")
        found: Facts = dict(rows[sum(text == "  {" for text in lines[first:row]) - 1])
    except (ValueError, LookupError, TypeError) as error:
        hint = "Name a line of one of its `rows`"
        raise InputError(f"{path}:{row}", f"no score stands there ({error})", hint=hint) from error
    predictions = artifact.roles().get("predictions", [""])[0]
    found["predictions"] = f"{predictions}/{found['language']}.jsonl"
    found["gold"] = input_of(artifact, "gold", found["language"])
    return {"score": found}


def _line(path: Path, row: int) -> str:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(str(path), f"cannot be read ({error})") from error
    if not 0 < row <= len(lines):
        raise InputError(
            f"{path}:{row}", "there is no such line", expected=f"1 to {len(lines)}", found=str(row)
        )
    return lines[row - 1]


def input_of(artifact: Artifact, role: str, language: str) -> str | None:
    """The input of an artifact that is of a language: they stand in the languages' order."""
    named, codes = artifact.spec.get("inputs", {}).get(role), artifact.spec.get("languages")
    if isinstance(named, list) and isinstance(codes, list) and language in codes:
        place = codes.index(language)
        return str(named[place]) if place < len(named) else None
    return None


def _rows(reader: Reader, out: str, line: Mapping[str, Any]) -> Facts:
    """The prepared rows that a line of predictions names, by file."""
    manifest = reader.read(out).manifest
    names = manifest.files if manifest else {}
    found: Facts = {}
    for name, column, value in _named(names, line):
        if name in names and (row := _row(reader.results.path / out, name, column, value)):
            found[name] = row
    if not found:
        raise InputError(out, "no row of its test data has the id of this line")
    return found


def _named(names: Container[str], line: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Files of test rows, a column, and the id that a line of predictions names in it."""
    if "test.parquet" in names:
        return [("test.parquet", "id", line["id"])]
    if "source_id" in line:  # a mined pair
        sides = [
            (f"test.{side}.parquet", "id", line[f"{side}_id"]) for side in ("source", "target")
        ]
        return [*sides, ("test.gold.parquet", "source_id", line["source_id"])]
    if isinstance(line.get("prediction"), str):  # the source sentence found for a target sentence
        return [
            ("test.target.parquet", "id", line["id"]),
            ("test.gold.parquet", "target_id", line["id"]),
            ("test.source.parquet", "id", line["prediction"]),
        ]
    return [
        ("test.source.parquet", "id", line["id"]),
        ("test.gold.parquet", "source_id", line["id"]),
    ]


def _row(folder: Path, name: str, column: str, value: str) -> Facts | None:
    import pyarrow.compute as pc

    from xstilts.data.tables import read_rows

    ids = read_rows(folder, name, [column])[column]
    place = pc.index(ids, value).as_py()
    if place < 0:
        return None
    return {"row": place + 1, "content": read_rows(folder, name).slice(place, 1).to_pylist()[0]}


def sources_of(reader: Reader, prepared: str, split: str) -> Facts | None:
    """The source files of a prepared split, with the sha256 of each."""
    artifact = reader.read(prepared)
    raw = artifact.roles().get("raw") if artifact.manifest else None
    if not raw:
        return None
    there = reader.read(raw[0])
    files = there.manifest.files if there.manifest else {}
    row = artifact.spec.get("row")
    name = row.get("splits", {}).get(split, split) if isinstance(row, Mapping) else split
    chosen = {path: known for path, known in files.items() if path.startswith(f"{name}/")}
    return {
        "artifact": raw[0],
        "split": name,
        "files": {path: known["sha256"] for path, known in (chosen or files).items()},
    }

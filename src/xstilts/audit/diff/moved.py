"""By how much what two artifacts hold differs: scores, predictions, weights, tables, rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from xstilts.audit.diff import tensors
from xstilts.audit.results import Artifact
from xstilts.errors import InputError
from xstilts.evaluation.metrics.table import METRICS

Facts = dict[str, Any]

#: Columns that say what a row of a table is of; the others hold its numbers.
_KEYS = (
    *("study", "model", "recipe", "seed", "target", "language", "languages", "metric", "layer"),
    *("split", "checkpoint", "measure", "predictor", "kind", "way", "k", "place", "first"),
    *("second", "asks", "name", "dataset"),
)


def moved(
    folders: tuple[Path, Path], first: Artifact, second: Artifact
) -> tuple[dict[str, Facts], list[str], list[str]]:
    """How the files of two artifacts differ.

    Args:
        folders: The artifacts' folders.
        first: The one.
        second: The other.

    Returns:
        What differs by file, and names of files that only the first or the second has.
    """
    mine = first.manifest.files if first.manifest else {}
    its = second.manifest.files if second.manifest else {}
    found = {}
    for name in sorted(mine.keys() & its.keys()):
        if mine[name]["sha256"] != its[name]["sha256"]:
            sizes = {"bytes": [mine[name]["size"], its[name]["size"]]}
            paths = (folders[0] / name, folders[1] / name)
            found[name] = {**sizes, **_file(paths, first.stage)}
    return found, sorted(mine.keys() - its.keys()), sorted(its.keys() - mine.keys())


def _file(paths: tuple[Path, Path], stage: str) -> Facts:
    name = paths[0].name
    compare: Callable[[Path, Path], Facts] | None = {
        ".safetensors": tensors.compare,
        ".csv": tables,
        ".parquet": rows,
        ".jsonl": predictions if stage == "evaluate" else None,
    }.get(paths[0].suffix)
    compare = scores if name == "scores.json" else compare
    if compare is None:
        return {}
    try:
        return {"what": _WHAT[compare], **compare(*paths)}
    except (InputError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        # A file that is not what its name says tells no difference; that of its bytes is told.
        return {"unknown": str(error)}


# ---- scores


def scores(first: Path, second: Path) -> Facts:
    """Values by language and metric, and the mean over the languages that both have."""
    contents = [json.loads(path.read_text(encoding="utf-8")) for path in (first, second)]
    mine, its = (
        {(row["language"], row["metric"]): row for row in content["rows"]} for content in contents
    )
    values = [
        {
            "language": key[0],
            "metric": key[1],
            "first": mine[key]["value"],
            "second": its[key]["value"],
            "difference": its[key]["value"] - mine[key]["value"],
            "n": [mine[key]["n"], its[key]["n"]],
        }
        for key in mine
        if key in its
    ]
    return {"values": values, "mean": mean_of(contents[0], contents[1])}


def mean_of(first: Mapping[str, Any], second: Mapping[str, Any]) -> Facts | None:
    """Means over the languages that two scores share, of the value that tables average."""
    metric = METRICS.get(str(first["metric"]))
    name = metric.overall if metric else None
    mine, its = (
        {row["language"]: row["value"] for row in content["rows"] if row["metric"] == name}
        for content in (first, second)
    )
    both = [language for language in mine if language in its]
    if not both or first["metric"] != second["metric"]:
        return None
    before, after = fmean(mine[code] for code in both), fmean(its[code] for code in both)
    return {
        "metric": name,
        "languages": len(both),
        "first": before,
        "second": after,
        "difference": after - before,
    }


# ---- predictions and rows


def predictions(first: Path, second: Path) -> Facts:
    """How many of how many examples are predicted differently."""
    mine, its = (_lines(path) for path in (first, second))
    both = mine.keys() & its.keys()
    return {
        "examples": len(both),
        "differ": sum(mine[key] != its[key] for key in both),
        "only_in_first": len(mine.keys() - both),
        "only_in_second": len(its.keys() - both),
    }


def _lines(path: Path) -> dict[Hashable, Any]:
    """Predictions by example; of a mined pair only that it was found can differ."""
    found: dict[Hashable, Any] = {}
    for text in path.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        if "id" in line:
            found[line["id"]] = line["prediction"]
        else:
            found[line["source_id"], line["target_id"]] = None
    return found


def rows(first: Path, second: Path) -> Facts:
    """How many of how many prepared rows differ, by their ids."""
    import pyarrow.parquet as pq

    mine, its = (
        {_identity(row): row for row in pq.ParquetFile(path).read(use_threads=False).to_pylist()}
        for path in (first, second)
    )
    both = mine.keys() & its.keys()
    return {
        "rows": [len(mine), len(its)],
        "differ": sum(mine[key] != its[key] for key in both),
        "only_in_first": len(mine.keys() - both),
        "only_in_second": len(its.keys() - both),
    }


def _identity(row: Mapping[str, Any]) -> Hashable:
    """What tells a row from the others: its id, or all of it."""
    return row["id"] if "id" in row else json.dumps(row, sort_keys=True, default=str)


# ---- tables


def tables(first: Path, second: Path) -> Facts:
    """Rows of a CSV file that differ, and by how much their numbers do."""
    mine, its = (_table(path) for path in (first, second))
    changed = [_changed(key, mine[key], its[key]) for key in mine if key in its]
    changed = [entry for entry in changed if entry["columns"]]
    return {
        "rows": [len(mine), len(its)],
        "differ": len(changed),
        "only_in_first": len(mine.keys() - its.keys()),
        "only_in_second": len(its.keys() - mine.keys()),
        "changed": sorted(changed, key=lambda entry: -entry["largest"]),
    }


def _table(path: Path) -> dict[tuple[tuple[str, str], ...], Mapping[str, str]]:
    """Rows by what they are of; where several are of the same, with their number among them."""
    with path.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file, restval=""))
    found: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}
    for row in table:
        key = base = tuple((name, row[name]) for name in _KEYS if name in row)
        again = 1
        while key in found:
            again += 1
            key = (*base, ("again", str(again)))
        found[key] = row
    return found


def _changed(
    key: Sequence[tuple[str, str]], mine: Mapping[str, str], its: Mapping[str, str]
) -> Facts:
    columns = {
        name: [mine.get(name, ""), its.get(name, "")]
        for name in dict.fromkeys([*mine, *its])
        if name not in dict(key) and mine.get(name, "") != its.get(name, "")
    }
    apart = (_apart(*values) for values in columns.values())
    return {"row": dict(key), "columns": columns, "largest": max(apart, default=0.0)}


def _apart(first: str, second: str) -> float:
    try:
        return abs(float(second) - float(first))
    except ValueError:
        return 0.0


_WHAT: dict[Callable[[Path, Path], Facts], str] = {
    tensors.compare: "tensors",
    tables: "table",
    rows: "rows",
    predictions: "predictions",
    scores: "scores",
}

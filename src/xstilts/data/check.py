"""The check stage: everything that can be wrong with the data is known before any training starts.

All data stages must have ended well before it; trainings wait for it. It writes one table of all
row counts beside the registry's.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from xstilts.artifacts.manifest import check_file, read_manifest
from xstilts.artifacts.publish import publishing
from xstilts.progress import Progress

COLUMNS = ("dataset", "language", "split", "expected", "rows_in", "rows", "dropped", "notes")


def run(spec: Mapping[str, Any], out: Path) -> None:
    """Write `datasets.csv`: a row per data set, language and split."""
    progress = Progress("check", out.as_posix())
    rows = [row for name in _folders(spec) for row in _rows(Path(name))]
    with publishing(out, spec) as draft:
        path = draft.folder / "datasets.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    differing = sum(row["expected"] not in ("", row["rows_in"]) for row in rows)
    total = sum(row["rows"] for row in rows)
    progress.done(
        f"{len(rows)} splits, {total} rows; {differing} splits differ in size from the registry"
    )


def _folders(spec: Mapping[str, Any]) -> list[str]:
    return sorted({*spec["inputs"]["data"], *spec["inputs"]["held"]})


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    if "report.json" not in read_manifest(folder).files:
        return
    report = json.loads(check_file(folder, "report.json").read_text(encoding="utf-8"))
    dataset, language = folder.parts[-2:]
    for split, counts in report["splits"].items():
        expected = counts.get("expected")
        yield {
            "dataset": dataset,
            "language": language,
            "split": split,
            "expected": "" if expected is None else expected,
            "rows_in": counts["rows_in"],
            "rows": counts["rows"],
            "dropped": _joined(counts["dropped"]),
            "notes": _joined(counts["notes"]),
        }


def _joined(counts: Mapping[str, int]) -> str:
    return "; ".join(f"{name}: {count}" for name, count in sorted(counts.items()))

"""How far languages are from the source language: what the distances stage has written."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from xstilts.artifacts.manifest import check_file
from xstilts.errors import InputError

Row = dict[str, Any]
#: Values by language, or of a language by measure; None where nothing is known.
Values = dict[str, float | None]

DISTANCES, MEASURES = "distances.csv", "measures.json"


def read_distances(folder: Path) -> dict[str, Values]:
    """Values of an artifact by language and measure; None where nothing is known.

    Raises:
        InputError: If it is damaged, or holds what is no number.
    """
    path = check_file(folder, DISTANCES)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found: dict[str, Values] = {}
    for row in rows:
        code = row.pop("language")
        try:
            found[code] = {name: float(text) if text else None for name, text in row.items()}
        except ValueError as error:
            raise InputError(f"{path}: {code}", f"holds what is no number ({error})") from error
    return found


def read_measures(folder: Path) -> list[Row]:
    """What the measures of an artifact mean.

    Raises:
        InputError: If it is damaged.
    """
    found: list[Row] = json.loads(check_file(folder, MEASURES).read_text(encoding="utf-8"))
    return found

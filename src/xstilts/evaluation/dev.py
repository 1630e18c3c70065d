"""The score of a cell on dev data: what a recipe may be chosen by, as no test example is in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from xstilts.artifacts.manifest import check_file, read_manifest


def dev_score(results: Path, predictions: Mapping[str, Any]) -> float | None:
    """Score on dev data of the checkpoint behind predictions, or of its dev pairs.

    Args:
        results: The results folder.
        predictions: The spec of the predictions.

    Returns:
        Percent: the metric of the checkpoint's tasks on their English dev data, for the step that
        was kept (of its adapter, where it was merged from one); for retrieval the F1 of the mined
        dev pairs with the chosen hidden state, mean over languages. None where the target has no
        dev data in the study, or the model is asked in words: its loss on dev is no score.

    Raises:
        InputError: If a file of the checkpoint or of the sweep is missing or was changed.
    """
    inputs = predictions["inputs"]
    if "layer" in inputs:
        path = check_file(results / inputs["layer"], "layers.json")
        found = json.loads(path.read_text(encoding="utf-8"))
        return fmean(row["f1"] for row in found["rows"] if row["layer"] == found["layer"])
    if predictions["head"] is None:
        return None
    folder = results / inputs["checkpoint"]
    merged = read_manifest(folder).spec.get("inputs", {}).get("adapter")
    folder = results / merged if merged else folder
    history = check_file(folder, "history.jsonl").read_text(encoding="utf-8").splitlines()
    scores = [100 * fmean(json.loads(line)["dev"].values()) for line in history]
    selects = read_manifest(folder).spec["settings"]["select"]
    return max(scores) if selects == "best" else scores[-1]


def dev_score_of(scores: Path, results: Path = Path()) -> float | None:
    """The same of a scores artifact, by way of its predictions.

    Raises:
        InputError: If an artifact behind the scores is missing or was changed.
    """
    predictions = results / read_manifest(scores).spec["inputs"]["predictions"]
    return dev_score(results, read_manifest(predictions).spec)

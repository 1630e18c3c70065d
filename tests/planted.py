"""Studies made of planted scores, for tests of the analyses: real classes, no file unless asked."""

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from xstilts.analysis.study import Cell, Study
from xstilts.artifacts.manifest import MANIFEST, Manifest, describe_files

Key = tuple[str, str, str]


def planted_study(
    scores: Mapping[Key, ArrayLike],
    *,
    languages: Mapping[str, Sequence[str]] | Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    targets: Mapping[str, Mapping[str, Any]] | None = None,
    source: str = "en",
    dev: Mapping[Key, Sequence[float]] | None = None,
    **changes: Any,
) -> Study:
    """A study with these scores.

    Args:
        scores: By model, recipe and target: percent [seeds, languages]. A seed whose values are all
            NaN has no cell.
        languages: Codes of the columns, for all targets or by target; `en`, `l1`, `l2` ... if none.
        seeds: Seeds of the rows; 1, 2, 3 ... if none.
        targets: More keys of a target's entry (`kind`, `metric`, `group`, `title`, `train`), by its
            name. A target is fine-tuned unless its `train` is empty.
        source: The source language.
        dev: Dev scores (0 to 1) of the seeds, by cell: publishes checkpoints, predictions and
            scores below the working directory. Cells that are not named have no dev data.
        changes: Other keys of the spec: `models` and `recipes` as mappings with rows, `orders`,
            `inputs`, `languages_rows` ...
    """
    arrays = {key: np.atleast_2d(np.asarray(found, dtype=float)) for key, found in scores.items()}
    columns = {key[2]: found.shape[1] for key, found in arrays.items()}
    codes = {name: _codes(name, number, languages, source) for name, number in columns.items()}
    rows = max(len(found) for found in arrays.values())
    numbers = list(seeds or range(1, rows + 1))
    spec = {
        "study": "planted",
        "source_language": source,
        "models": list(dict.fromkeys(key[0] for key in arrays)),
        "recipes": list(dict.fromkeys(key[1] for key in arrays)),
        "targets": [_entry(name, codes[name], (targets or {}).get(name, {})) for name in columns],
        "languages": [
            {"code": code, "name": code} for code in dict.fromkeys(chain(*codes.values()))
        ],
        "bootstrap": {"samples": 200, "seed": 1},
        "cells": [],
        "inputs": {"scores": [], "layers": [], "checkpoints": []},
        **changes,
    }
    study = Study(spec)
    for key, found in arrays.items():
        for place, values in enumerate(found):
            if np.isnan(values).all():
                continue
            cell = _cell(study, key, numbers[place], dict(zip(codes[key[2]], values, strict=True)))
            study._cells.setdefault(key, []).append(cell)
            if dev is not None:
                _publish_dev(cell, dev[key][place] if key in dev else None)
    return study


def _codes(name: str, number: int, given: Any, source: str) -> list[str]:
    if given is None:
        return [source, *(f"l{place}" for place in range(1, number))]
    return list(given[name] if isinstance(given, Mapping) else given[:number])


def _entry(name: str, codes: Sequence[str], more: Mapping[str, Any]) -> dict[str, Any]:
    entry = {"name": name, "title": name.upper(), "metric": "accuracy", "group": name}
    return {**entry, "languages": list(codes), "train": [name], **more}


def _cell(study: Study, key: Key, seed: int, values: Mapping[str, float]) -> Cell:
    """A cell whose every value is the same: rows as the score stage writes them."""
    metric = study.target(key[2]).metric
    rows = [
        {"language": code, "metric": name, "value": float(value), "n": 100, "split": "test"}
        for code, value in values.items()
        for name in sorted({metric.main, metric.overall})
    ]
    model, recipe, target = key
    folder = Path(f"scores/{model}/{recipe}/seed-{seed}/{target}")
    return Cell(model, recipe, seed, target, folder, rows, {})


def _publish_dev(cell: Cell, value: float | None) -> None:
    """A checkpoint, the predictions and the scores made with it; with a dev score or without."""
    tail = Path(*cell.folder.parts[1:])
    names = [(Path(stage) / tail).as_posix() for stage in ("checkpoints", "predictions", "scores")]
    history = json.dumps({"step": 1, "loss": 1.0, "dev": {cell.target: value}}) + "\n"
    _publish(names[0], {"settings": {"select": "best"}}, {"history.jsonl": history})
    head = None if value is None else cell.target
    _publish(names[1], {"head": head, "inputs": {"checkpoint": names[0]}})
    _publish(names[2], {"inputs": {"predictions": names[1]}})


def _publish(name: str, spec: dict[str, Any], files: Mapping[str, str] | None = None) -> None:
    """An artifact, written in place and without syncing: hundreds of them must take no time."""
    folder = Path(name)
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in (files or {}).items():
        (folder / file).write_text(text, encoding="utf-8")
    manifest = Manifest(name, spec, {}, describe_files(folder))
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")

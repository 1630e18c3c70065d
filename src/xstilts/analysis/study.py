"""The cells of a study: the scores of each model, recipe, seed and target, read and checked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from xstilts.analysis.bootstrap import Floats
from xstilts.artifacts.manifest import check_file
from xstilts.errors import InputError
from xstilts.evaluation.metrics.metric import Metric
from xstilts.evaluation.metrics.table import metric_named
from xstilts.evaluation.score import SCORES, STATISTICS

Row = dict[str, Any]

#: The recipe that changes are measured against.
BASELINE = "none"


@dataclass(frozen=True)
class Cell:
    """The scores of a model, recipe and seed on a target.

    Attributes:
        folder: The scores artifact.
        rows: Its rows, one per language and value.
        layers: The metric's overall value of every hidden state, by language; in retrieval only.
    """

    model: str
    recipe: str
    seed: int
    target: str
    folder: Path
    rows: list[Row]
    layers: dict[str, list[float]]

    def values(self, name: str) -> dict[str, float]:
        """One of the metric's values, by language."""
        return {row["language"]: row["value"] for row in self.rows if row["metric"] == name}

    def statistics(self, language: str) -> Floats:
        """The statistics of a language [examples, columns]."""
        with safe_open(self.folder / STATISTICS, framework="numpy") as file:
            found: Floats = file.get_tensor(language)
        return found


@dataclass(frozen=True)
class Target:
    """A target as the tables need it.

    Attributes:
        group: XTREME's group of targets.
        main: The metric's value reported per language.
    """

    name: str
    title: str
    group: str
    metric: Metric
    main: str
    languages: tuple[str, ...]


class Study:
    """A study's cells in the order of its models, recipes, targets and seeds."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.name: str = spec["study"]
        self.source: str = spec["source_language"]
        self.models: list[str] = list(spec["models"])
        self.recipes: list[str] = list(spec["recipes"])
        self.targets = [_target(entry) for entry in spec["targets"]]
        self.languages: list[Row] = list(spec["languages"])
        self.samples: int = spec["bootstrap"]["samples"]
        self.seed: int = spec["bootstrap"]["seed"]
        self.sweeps = [_read_sweep(Path(name)) for name in spec["inputs"]["layers"]]
        self._cells = _read_cells(spec["cells"], {target.name: target for target in self.targets})

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Every model with every recipe."""
        return ((model, recipe) for model in self.models for recipe in self.recipes)

    def cells(self, model: str, recipe: str, target: str) -> list[Cell]:
        """The cells of all seeds that there are, by seed."""
        return self._cells.get((model, recipe, target), [])

    def groups(self) -> dict[str, list[str]]:
        """Names of the targets of each group that has several."""
        found: dict[str, list[str]] = {}
        for target in self.targets:
            found.setdefault(target.group, []).append(target.name)
        return {name: targets for name, targets in found.items() if len(targets) > 1}

    def target(self, name: str) -> Target:
        """A target by its name."""
        return next(target for target in self.targets if target.name == name)

    def all_cells(self) -> Iterator[Cell]:
        """Every cell."""
        for model, recipe in self.pairs():
            for target in self.targets:
                yield from self.cells(model, recipe, target.name)


def _read_sweep(folder: Path) -> Row:
    """The choice of a hidden state on dev pairs, with the checkpoint that it was made for."""
    model, recipe, seed = folder.parts[-3:]
    content = json.loads(check_file(folder, "layers.json").read_text(encoding="utf-8"))
    keys = {"model": model, "recipe": recipe, "seed": int(seed.removeprefix("seed-"))}
    return {**keys, **content}


def _target(entry: Mapping[str, Any]) -> Target:
    where = f"target {entry['name']}"
    metric = metric_named(entry["metric"], f"{where}: metric")
    main = entry.get("main_metric", metric.main)
    languages = tuple(entry["languages"])
    return Target(entry["name"], entry["title"], entry["group"], metric, main, languages)


def _read_cells(
    entries: Iterable[Mapping[str, Any]], targets: Mapping[str, Target]
) -> dict[tuple[str, str, str], list[Cell]]:
    found: dict[tuple[str, str, str], list[Cell]] = {}
    for entry in sorted(entries, key=lambda entry: int(entry["seed"])):
        cell = _read_cell(entry, targets[entry["target"]])
        found.setdefault((cell.model, cell.recipe, cell.target), []).append(cell)
    return found


def _read_cell(entry: Mapping[str, Any], target: Target) -> Cell:
    folder = Path(entry["scores"])
    path = check_file(folder, SCORES)
    check_file(folder, STATISTICS)
    content = json.loads(path.read_text(encoding="utf-8"))
    rows: list[Row] = content["rows"]
    languages = {row["language"] for row in rows}
    wanted = (target.name, target.metric.name, sorted(target.languages))
    found = (content["target"], content["metric"], sorted(languages))
    if found != wanted:
        raise InputError(
            str(path),
            "holds other scores than the study asks for",
            expected=f"target, metric and languages {wanted}",
            found=str(found),
            hint="Run snakemake again",
        )
    return Cell(
        model=entry["model"],
        recipe=entry["recipe"],
        seed=entry["seed"],
        target=target.name,
        folder=folder,
        rows=rows,
        layers=content["layers"],
    )

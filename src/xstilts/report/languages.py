"""A page per language: targets by recipes, facts of the registry, distances."""

from __future__ import annotations

import csv
import json
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from xstilts.analysis.numbers import plain, whole
from xstilts.artifacts.manifest import check_file
from xstilts.report.charts import Chart, dots
from xstilts.report.material import BASELINE, Material
from xstilts.report.site import Site
from xstilts.report.view import Cell, Column, Table, score


def write(site: Site, material: Material) -> None:
    """Write `languages.html` and `languages/<code>.html`."""
    distances = Distances(material)
    tables = [_index(material, model) for model in material.models]
    site.write("languages.html", "languages.html", "Languages", tables=tables)
    codes = list(material.languages)
    for place, code in enumerate(codes):
        row = material.languages[code]
        site.write(
            f"languages/{code}.html",
            "language.html",
            str(row["name"]),
            language=row,
            is_source=code == material.source,
            tables=[_targets(material, code, model) for model in material.models],
            charts=_charts(material, code),
            distances=distances.table(code),
            before=codes[place - 1] if place else None,
            after=codes[place + 1] if place + 1 < len(codes) else None,
        )


class Distances:
    """Measures of the languages, as the stage `distances` wrote them for each model.

    Args:
        material: The study; without the role `distances`, nothing is known.
    """

    def __init__(self, material: Material) -> None:
        value = material.spec["inputs"].get("distances", [])
        self.material = material
        self.folders = [Path(name) for name in ([value] if isinstance(value, str) else value)]
        self.read = cache(self._read)

    def _read(self, folder: Path) -> tuple[list[dict[str, Any]], dict[str, dict[str, str]]]:
        measures = json.loads(check_file(folder, "measures.json").read_text(encoding="utf-8"))
        with check_file(folder, "distances.csv").open(encoding="utf-8", newline="") as file:
            return measures, {row["language"]: row for row in csv.DictReader(file)}

    def table(self, code: str) -> Table | None:
        """The measures of a language, or None where none is known."""
        source = self.material.language_name(self.material.source)
        rows: dict[str, list[Cell]] = {}
        for folder in self.folders:
            measures, values = self.read(folder)
            for measure in measures:
                text = values.get(code, {}).get(measure["name"]) or ""
                cells = rows.setdefault(measure["name"], [Cell(str(measure["title"]))])
                cells.append(Cell(plain(float(text) if text else None, 2)))
        for measure in self.read(self.folders[0])[0] if self.folders else ():
            rows[measure["name"]].append(Cell(f"{measure['meaning']} ({measure['source']})"))
        if not rows:
            return None
        models = [self.material.model_title(folder.name) for folder in self.folders]
        columns = [Column("Measure"), *(Column(title, True) for title in models), Column("Meaning")]
        return Table(f"Distance from {source}", columns, list(rows.values()), sortable=False)


def _index(material: Material, model: str) -> Table:
    """Languages with their facts, and per recipe the mean over the targets that have them."""
    recipes = [name for name in material.recipes if _any(material, model, name)]
    distance = any(row.get("distance") is not None for row in material.languages.values())
    rows = []
    for code, row in material.languages.items():
        known = _by_recipe(material, model, code)
        targets = set.intersection(*map(set, known.values())) if known else set()
        cells = [
            Cell(str(row["name"]), href=f"languages/{code}.html"),
            Cell(code, code=True),
            Cell(str(row.get("script", "–"))),
            Cell(str(row.get("family", "–"))),
            Cell(whole(len(targets)), len(targets)),
        ]
        if distance:
            cells.append(Cell(plain(row.get("distance"), 2), row.get("distance")))
        cells += [_mean(material, model, recipe, known, targets) for recipe in recipes]
        rows.append(cells)
    columns = [
        *map(Column, ("Language", "Code", "Script", "Family")),
        Column("Targets", True),
        *([Column("Planted distance", True)] if distance else []),
        *(Column(name, True) for name in recipes),
    ]
    about = (
        "Means over the targets that have the language and of which all recipes have scores; "
        "languages with other targets cannot be compared."
    )
    title = f"Languages, {material.model_title(model)}"
    return Table(title, columns, rows, about=about)


def _any(material: Material, model: str, recipe: str) -> bool:
    return any(material.seeds_of(model, recipe, target) for target in material.targets)


def _by_recipe(material: Material, model: str, code: str) -> dict[str, dict[str, float]]:
    """By recipe and target, the value reported for a language."""
    found: dict[str, dict[str, float]] = {}
    for recipe in material.recipes:
        for target in material.targets:
            if row := material.by_language.get((target, model, recipe, code)):
                found.setdefault(recipe, {})[target] = row["mean"]
    return found


def _mean(
    material: Material,
    model: str,
    recipe: str,
    known: dict[str, dict[str, float]],
    targets: set[str],
) -> Cell:
    """A recipe's mean over some targets, and its change."""
    if not targets or recipe not in known:
        return Cell("–")
    mean = fmean(known[recipe][target] for target in sorted(targets))
    change = None
    if recipe != BASELINE and BASELINE in known:
        change = mean - fmean(known[BASELINE][target] for target in sorted(targets))
    return score(mean, change, material.lineage(model, recipe))


def _targets(material: Material, code: str, model: str) -> Table:
    recipes = [name for name in material.recipes if _any(material, model, name)]
    rows = []
    for name, target in material.targets.items():
        if code not in target["languages"]:
            continue
        examples, metric, cells = None, "", []
        for recipe in recipes:
            row = material.by_language.get((name, model, recipe, code))
            if row is None:
                cells.append(Cell("–"))
                continue
            examples, metric = row["n"], str(row["metric"]).replace("_", " ")
            href, bounds = material.lineage(model, recipe, name), (row["lower"], row["upper"])
            cells.append(score(row["mean"], row["change"], href, bounds=bounds))
        first = Cell(str(target["title"]), href=f"targets/{name}.html")
        rows.append([first, Cell(metric or "–"), Cell(whole(examples), examples), *cells])
    columns = [Column("Target"), Column("Metric"), Column("Examples", True)]
    columns += [Column(name, True) for name in recipes]
    title = f"{material.language_name(code)}, {material.model_title(model)}"
    return Table(title, columns, rows)


def _charts(material: Material, code: str) -> list[Chart]:
    found = []
    for model in material.models:
        gains: dict[str, dict[str, float]] = {}
        for recipe in material.recipes:
            for target in material.targets:
                row = material.by_language.get((target, model, recipe, code))
                if row and row["change"] is not None:
                    gains.setdefault(recipe, {})[material.target_title(target)] = row["change"]
        title = f"Gain of each recipe by target, {material.model_title(model)}"
        found.append(dots(title, gains, "target"))
    return [chart for chart in found if chart is not None]

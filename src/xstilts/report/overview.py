"""The first page: what the study is, what to know first, the overview, and the ways onward."""

from __future__ import annotations

import re
from collections.abc import Iterator

from xstilts.analysis.numbers import counted, listed, plain
from xstilts.artifacts.manifest import check_file
from xstilts.report.material import ALL, AVERAGE, ZERO_SHOT, Material
from xstilts.report.site import Site
from xstilts.report.view import Cell, Column, Table, score

_FIGURE = "figures/gains.svg"
_KINDS = {ALL: "All languages", ZERO_SHOT: "Zero-shot"}


def write(site: Site, material: Material) -> None:
    """Write `index.html`."""
    tables = [
        (kind, _KINDS[kind], model, _table(material, model, kind))
        for kind in (ALL, ZERO_SHOT)
        for model in material.models
    ]
    site.write(
        "index.html",
        "index.html",
        "Overview",
        about=about(material),
        counts=_counts(material),
        warnings=material.warnings(),
        tables=tables,
        kinds=_KINDS,
        answers=material.answers,
        figure=_FIGURE if _FIGURE in material.table_files else "",
        width=_width(material),
        downloads=list(_downloads(material)),
    )


def _width(material: Material) -> str:
    """The width that the heat map was drawn with."""
    if _FIGURE not in material.table_files:
        return ""
    text = check_file(material.tables, _FIGURE).read_text(encoding="utf-8")
    found = re.search(r'<svg[^>]*? width="([\d.]+pt)"', text)
    return found.group(1) if found else ""


def about(material: Material) -> str:
    """What the study is, in a few sentences."""
    models = listed([material.model_title(name) for name in material.models])
    source = material.language_name(material.source)
    recipes = counted(len(material.recipes), "recipe")
    targets = listed([str(row["title"]) for row in material.targets.values()])
    text = (
        f"This study trains {models} on intermediate tasks ({recipes}), fine-tunes on data in "
        f"{source} and tests in {counted(len(material.languages), 'language')} on {targets}. "
        f"The recipe none has no intermediate task; gains are measured against it."
    )
    if "none" not in material.recipes:
        text = text.partition(" The recipe none")[0]
        text += " It has no recipe none, so no gains are known."
    made_up = [row for row in material.languages.values() if row.get("family") == "Synthetic"]
    if made_up:
        text += " Its languages are made up: scores say nothing about real languages."
    return text


def _counts(material: Material) -> list[tuple[str, str, str]]:
    entries = (
        (len(material.models), "model", "targets.html"),
        (len(material.recipes), "recipe", "methods.html#recipes"),
        (len(material.targets), "target", "targets.html"),
        (len(material.languages), "language", "languages.html"),
        (len(material.seeds), "seed", "methods.html"),
        (len(material.cells), "test run", "lineage.html"),
    )
    texts = [(counted(count, noun), href) for count, noun, href in entries]
    return [(*text.partition(" ")[::2], href) for text, href in texts]


def _table(material: Material, model: str, kind: str) -> Table:
    names = [*material.targets, *material.means]
    rows = []
    for recipe in material.recipes:
        cells = []
        for name in names:
            row = material.overview.get((model, kind, recipe, name))
            if row is None:
                cells.append(Cell("–"))
                continue
            spread = "" if row["sd"] is None else f"± {plain(row['sd'])}"
            href = material.lineage(model, recipe, name)
            cells.append(score(row["mean"], row["change"], href, note=spread))
        rows.append([Cell(recipe, href=material.lineage(model, recipe), code=True), *cells])
    columns = [Column("Recipe")]
    for name in names:
        href = f"targets/{name}.html" if name in material.targets else ""
        first = name == (material.means or [""])[0]
        columns.append(Column(material.target_title(name), True, href, edge=first))
    several = f", {material.model_title(model)}" if len(material.models) > 1 else ""
    return Table(f"{_KINDS[kind]}{several}", columns, rows, download="files/tables/overview.csv")


def _downloads(material: Material) -> Iterator[tuple[str, str, str]]:
    """File, name and what it holds."""
    meanings = {
        "scores.csv": "every value of every model, recipe, seed, target and language",
        "overview.csv": "recipes by targets: mean, spread over seeds, change",
        "languages.csv": "languages beside their planted distance",
        "layers.csv": "retrieval by hidden state",
        "trainings.csv": "trainings: steps, best score on dev, restarts, collapse",
    }
    for name in material.table_files:
        if name.endswith(".csv"):
            target = name.removeprefix("by_language/").removesuffix(".csv")
            meaning = meanings.get(
                name, f"{material.target_title(target)} by recipe and language, with intervals"
            )
            yield f"files/tables/{name}", name, meaning
    for answer in material.answers:
        for table in answer.tables:
            name = f"{answer.question}/{table.name}.csv"
            yield f"files/analysis/{name}", name, table.title


__all__ = ["AVERAGE", "about", "write"]

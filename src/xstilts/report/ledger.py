"""Lineage and methods: what each number was made from, and how."""

from __future__ import annotations

from typing import Any

from xstilts.analysis.numbers import whole
from xstilts.report.lineage import STAGES, Artifact, Lineage
from xstilts.report.material import Material
from xstilts.report.methods import Methods
from xstilts.report.site import Site
from xstilts.report.view import Cell, Column, Table


def write(site: Site, material: Material, lineage: Lineage, methods: Methods) -> None:
    """Write `methods.html`, `lineage.html` and the pages below `lineage/`."""
    site.write(
        "methods.html",
        "methods.html",
        "Methods",
        sections=methods.sections(),
        tables=methods.tables(),
    )
    site.write(
        "lineage.html",
        "lineage.html",
        "Lineage",
        cells=_cells(material),
        stages=_stages(lineage),
        pages=[(path, *_titles(material, methods, path)) for path in lineage.pages],
        gone=lineage.gone,
        changed=lineage.changed,
    )
    counts = methods.rows_of_data()
    for model, recipe in material.pairs():
        _cell_page(site, material, lineage, model, recipe)
    for path, artifacts in lineage.pages.items():
        if path.startswith("lineage/cells/"):
            continue
        kind, title = _titles(material, methods, path)
        name = path.split("/")[-1].removesuffix(".html")
        rows = [row for row in counts if row["dataset"] == name]
        site.write(
            path,
            "artifacts.html",
            title,
            kind=kind,
            artifacts=artifacts,
            counts=_counts(material, rows) if kind == "Data" else None,
            facts=material.spec.get("datasets", {}).get(name) if kind == "Data" else None,
        )


def _titles(material: Material, methods: Methods, path: str) -> tuple[str, str]:
    """Kind and title of a page of lineage."""
    parts = path.removesuffix(".html").split("/")
    if parts[1] == "cells":
        return "Scores", f"{parts[3]}, {material.model_title(parts[2])}"
    if parts[1] == "models":
        return "Model", material.model_title(parts[2])
    if parts[1] == "data":
        title = methods.datasets.get(parts[2], {}).get("title")
        return "Data", str(title or parts[2])
    return "Other", "Other artifacts"


def _cells(material: Material) -> Table:
    """Recipes by models, each leading to its page."""
    rows = [
        [Cell(recipe, code=True)]
        + [
            Cell(
                whole(sum(len(material.seeds_of(model, recipe, t)) for t in material.targets)),
                href=material.lineage(model, recipe),
            )
            for model in material.models
        ]
        for recipe in material.recipes
    ]
    columns = [Column("Recipe"), *(Column(material.model_title(m), True) for m in material.models)]
    return Table("Test runs of each recipe and model", columns, rows)


def _stages(lineage: Lineage) -> Table:
    rows = []
    for stage, title in STAGES.items():
        if items := lineage.of(stage):
            codes = {item.spec.get("fingerprint", "") for item in items} - {""}
            size = sum(item.bytes for item in items)
            rows.append(
                [
                    Cell(title),
                    Cell(stage, code=True),
                    Cell(whole(len(items)), len(items)),
                    Cell(whole(len(codes)), len(codes)),
                    Cell(_size(size), size),
                ]
            )
    titles = ("Artifacts", "Versions of the code", "Size")
    columns = [Column("What"), Column("Stage"), *(Column(title, True) for title in titles)]
    return Table("Artifacts by stage", columns, rows, sortable=False)


def _size(size: int) -> str:
    from xstilts.analysis.numbers import size as text

    return text(size)


def _cell_page(site: Site, material: Material, lineage: Lineage, model: str, recipe: str) -> None:
    """The page of a model and recipe: its checkpoints, then scores and predictions by target."""
    path = f"lineage/cells/{model}/{recipe}.html"
    artifacts = lineage.pages.get(path, [])
    folders = {
        (cell["target"], cell["seed"]): cell["scores"]
        for cell in material.cells
        if (cell["model"], cell["recipe"]) == (model, recipe)
    }
    targets = []
    for name, row in material.targets.items():
        runs = [
            (seed, _run(lineage, folders[name, seed]))
            for seed in material.seeds_of(model, recipe, name)
        ]
        if runs:
            score = material.overview.get((model, "all", recipe, name))
            targets.append((row, score, runs))
    site.write(
        path,
        "cells.html",
        f"{recipe}, {material.model_title(model)}",
        model=model,
        recipe=recipe,
        checkpoints=[
            item for item in artifacts if item.out.startswith(("checkpoints", "merged", "layers"))
        ],
        targets=targets,
    )


def _run(lineage: Lineage, out: str) -> dict[str, Any]:
    """Chain of a cell and the artifacts that are its own."""
    chain = list(lineage.chain(out))
    own = [item for item in chain if item.stage in ("score", "evaluate")]
    testset: Artifact | None = None
    for item in own:
        name = item.spec.get("inputs", {}).get("testset")
        if isinstance(name, str):
            testset = lineage.artifacts.get(name)
    return {"chain": chain, "own": own, "testset": testset}


def _counts(material: Material, rows: list[dict[str, str]]) -> Table | None:
    if not rows:
        return None
    cells = [
        [
            Cell(
                material.language_name(row["language"]),
                href=f"languages/{row['language']}.html"
                if row["language"] in material.languages
                else "",
            ),
            Cell(row["split"]),
            Cell(whole(int(row["rows_in"])), int(row["rows_in"])),
            Cell(whole(int(row["rows"])), int(row["rows"])),
            Cell(whole(int(row["expected"])) if row["expected"] else "–"),
            Cell(row["dropped"] or "–"),
            Cell(row["notes"] or "–"),
        ]
        for row in rows
    ]
    numeric = ("Rows of the source", "Rows used", "Rows known")
    titles = ("Language", "Split", *numeric, "Left out", "Notes")
    columns = [Column(title, title in numeric) for title in titles]
    return Table("Rows", columns, cells)

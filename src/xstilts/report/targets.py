"""A page per target: languages by recipes with intervals, hidden states, trainings."""

from __future__ import annotations

from statistics import fmean

from xstilts.analysis.numbers import plain, whole
from xstilts.report.charts import Chart, dots, lines
from xstilts.report.material import ALL, BASELINE, ZERO_SHOT, Material
from xstilts.report.site import Site
from xstilts.report.view import Cell, Column, Table, score


def write(site: Site, material: Material) -> None:
    """Write `targets.html` and `targets/<target>.html`."""
    site.write("targets.html", "targets.html", "Targets", tables=_index(material))
    names = list(material.targets)
    for place, name in enumerate(names):
        row = material.targets[name]
        site.write(
            f"targets/{name}.html",
            "target.html",
            str(row["title"]),
            target=row,
            metric=_metric(material, name),
            tables=[_languages(material, name, model) for model in material.models],
            charts=_charts(material, name),
            trainings=_trainings(material, name),
            before=names[place - 1] if place else None,
            after=names[place + 1] if place + 1 < len(names) else None,
        )


def _index(material: Material) -> list[Table]:
    """Targets with the scores of `none` and of the recipe that gains most, by model."""
    found = []
    for model in material.models:
        rows = [_line(material, model, name) for name in material.targets]
        columns = [
            *map(Column, ("Target", "Group")),
            Column("Languages", True),
            Column("none", True),
            Column("Highest mean"),
            Column("Score", True),
            Column("Zero-shot", True),
        ]
        title = f"Targets, {material.model_title(model)}"
        about = (
            "Means over languages and seeds. The highest mean is not chosen on dev data and need "
            "not be told apart from the others."
        )
        found.append(Table(title, columns, rows, about=about, download="files/tables/overview.csv"))
    return found


def _line(material: Material, model: str, name: str) -> list[Cell]:
    row = material.targets[name]
    scores = {
        recipe: found
        for recipe in material.recipes
        if (found := material.overview.get((model, ALL, recipe, name)))
    }
    cells = [
        Cell(str(row["title"]), href=f"targets/{name}.html"),
        Cell(str(row["group"])),
        Cell(whole(len(row["languages"])), len(row["languages"])),
    ]
    if not scores:
        return [*cells, *(Cell("–") for _ in range(4))]
    before = scores.get(BASELINE, {}).get("mean")
    best = max(scores, key=lambda recipe: float(scores[recipe]["mean"]))
    found, href = scores[best], material.lineage(model, best, name)
    zero = material.overview.get((model, ZERO_SHOT, best, name))
    return [
        *cells,
        Cell(plain(before), before, href=material.lineage(model, BASELINE, name)),
        Cell(best, href=href, code=True),
        score(found["mean"], found["change"], href),
        score(zero["mean"], zero["change"], href) if zero else Cell("–"),
    ]


def _metric(material: Material, target: str) -> str:
    """The value that is shown per language."""
    found = {row["metric"] for key, row in material.by_language.items() if key[0] == target}
    return ", ".join(sorted(str(name) for name in found)).replace("_", " ")


def _languages(material: Material, target: str, model: str) -> Table:
    recipes = [name for name in material.recipes if material.seeds_of(model, name, target)]
    columns = [Column("Language"), Column("Examples", True)]
    columns += [Column(name, True) for name in recipes]
    rows = [
        _of_language(material, target, model, recipes, code) for code in _codes(material, target)
    ]
    title = f"{material.target_title(target)} by language, {material.model_title(model)}"
    download = f"files/tables/by_language/{target}.csv"
    return Table(title, columns, rows, download=download)


def _of_language(
    material: Material, target: str, model: str, recipes: list[str], code: str
) -> list[Cell]:
    examples, cells = None, []
    for recipe in recipes:
        row = material.by_language.get((target, model, recipe, code))
        if row is None:
            cells.append(Cell("–"))
            continue
        examples, href = row["n"], material.lineage(model, recipe, target)
        bounds = (row["lower"], row["upper"])
        cells.append(score(row["mean"], row["change"], href, bounds=bounds))
    name = material.language_name(code)
    return [Cell(name, href=f"languages/{code}.html"), Cell(whole(examples), examples), *cells]


def _codes(material: Material, target: str) -> list[str]:
    return list(material.targets[target]["languages"])


def gains(material: Material, model: str, target: str) -> dict[str, dict[str, float]]:
    """By recipe, points gained over `none` by language."""
    found: dict[str, dict[str, float]] = {}
    for recipe in material.recipes:
        for code in _codes(material, target):
            row = material.by_language.get((target, model, recipe, code))
            if row and row["change"] is not None:
                found.setdefault(recipe, {})[material.language_name(code)] = row["change"]
    return found


def _charts(material: Material, target: str) -> list[Chart]:
    found = []
    for model in material.models:
        title = f"Gain of each recipe by language, {material.model_title(model)}"
        found.append(dots(title, gains(material, model, target), "language"))
        title = f"Retrieval by hidden state, {material.model_title(model)}"
        curve = _layers(material, model, target)
        found.append(lines(title, curve, "mean over languages and seeds"))
    return [chart for chart in found if chart is not None]


def _layers(material: Material, model: str, target: str) -> dict[str, list[float]]:
    """By recipe, the mean over languages and seeds of each hidden state."""
    values: dict[str, dict[int, list[float]]] = {}
    for row in material.table("layers.csv"):
        if (row["model"], row["target"], row["split"]) == (model, target, "test"):
            by_layer = values.setdefault(row["recipe"], {})
            by_layer.setdefault(int(row["layer"]), []).append(float(row["value"]))
    return {
        recipe: [fmean(values[recipe][layer]) for layer in sorted(values[recipe])]
        for recipe in material.recipes
        if recipe in values
    }


def _trainings(material: Material, target: str) -> Table | None:
    """The fine-tunings behind a target's scores."""
    train = list(material.targets[target].get("train", ()))
    stages = ["-then-".join(train[: place + 1]) for place in range(len(train))]
    rows = []
    for model, recipe in material.pairs():
        for seed in material.seeds:
            for stage in stages:
                out = f"checkpoints/{model}/{recipe}/seed-{seed}/{stage}"
                if row := material.trainings.get(out):
                    rows.append(
                        [
                            Cell(recipe, href=material.lineage(model, recipe), code=True),
                            Cell(material.model_title(model)),
                            Cell(str(seed), seed),
                            Cell(stage.replace("-then-", ", then "), code=True),
                            Cell(whole(row["steps"]), row["steps"]),
                            Cell(plain(row["dev"], 3), row["dev"]),
                            Cell(whole(row["dev_step"]), row["dev_step"]),
                            Cell(whole(row["restarts"]), row["restarts"]),
                            Cell(str(row["collapsed"] or "no")),
                        ]
                    )
    if not rows:
        return None
    numeric = ("Seed", "Steps", "Best on dev", "at step", "Restarts")
    titles = ("Recipe", "Model", "Seed", "Task", "Steps", "Best on dev", "at step", "Restarts")
    columns = [Column(title, title in numeric) for title in (*titles, "Collapsed")]
    about = "The score on dev is the one that chooses the weights, not the reported metric."
    download = "files/tables/trainings.csv"
    return Table("Fine-tunings", columns, rows, download=download, about=about)

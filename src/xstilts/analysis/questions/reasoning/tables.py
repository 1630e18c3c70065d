"""Tables of the question of reasoning."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from xstilts.analysis.answer import Column, Table
from xstilts.analysis.questions.phrases import columns_of
from xstilts.analysis.questions.reasoning.contrasts import Contrast, Gain
from xstilts.analysis.questions.reasoning.kinds import Kinds, Level, Size, kind_of, parameters_of
from xstilts.analysis.stats.estimate import tidy
from xstilts.analysis.study import Row, Study, Target
from xstilts.analysis.tables import language_rows


def _described(study: Study, model: str) -> Row:
    return {
        "model": model,
        "kind": kind_of(study, model),
        "parameters": parameters_of(study, model),
    }


_MODEL = (
    Column("model", "Model", "model"),
    Column("kind", "Kind of model"),
    Column("parameters", "Parameters", "n"),
    Column("recipe", "Recipe", "recipe"),
)


def gain_table(study: Study, gains: Sequence[Gain]) -> Table:
    """Reasoning first, then NLI, then the rest."""
    order = {"reasoning": 0, "nli": 1}
    rows = [
        {
            **_described(study, gain.model),
            "recipe": gain.recipe,
            "target": gain.target.name,
            "asks": gain.target.kind,
            "seeds": len(gain.grid.seeds),
            "languages": len(gain.grid.languages),
            **gain.wide.row("wide_"),
            **gain.here.row("here_"),
            **({} if gain.items is None else gain.items.row("items_")),
        }
        for gain in sorted(gains, key=lambda gain: order.get(gain.target.kind, 2))
    ]
    columns = (
        *_MODEL,
        Column("target", "Target", "target"),
        Column("asks", "Kind of target"),
        Column("seeds", "Seeds", "n"),
        Column("languages", "Languages", "n"),
        *columns_of("wide_", "Gain", why=True),
        *columns_of("here_", "In these languages")[1:],
        *columns_of("items_", "Over examples", why=True),
    )
    return Table("gains", "Gain over none, zero-shot, by model, recipe and target", columns, rows)


def contrast_table(contrasts: Sequence[Contrast]) -> Table:
    """Gains on reasoning against gains on NLI."""
    rows = [
        {
            "model": contrast.first.model,
            "recipe": contrast.first.recipe,
            "first": contrast.first.target.name,
            "second": contrast.second.target.name,
            "languages": len(contrast.languages),
            "seeds": contrast.difference.seeds,
            **contrast.difference.row("difference_"),
            "pearson": tidy(contrast.together.pearson),
            "pearson_low": tidy(contrast.together.low),
            "pearson_high": tidy(contrast.together.high),
        }
        for contrast in contrasts
    ]
    columns = (
        Column("model", "Model", "model"),
        Column("recipe", "Recipe", "recipe"),
        Column("first", "Reasoning", "target"),
        Column("second", "NLI", "target"),
        Column("languages", "Languages", "n"),
        Column("seeds", "Seeds", "n"),
        *columns_of("difference_", "Gain, reasoning - NLI", why=True),
        Column("pearson", "Correlation of gains", "number"),
        Column("pearson_low", "Correlation: low", "number"),
        Column("pearson_high", "Correlation: high", "number"),
    )
    return Table("contrast", "Gain on reasoning against gain on NLI", columns, rows)


def level_table(study: Study, levels: Sequence[Level], languages: Sequence[Row]) -> Table:
    """Scores against chance, with the languages that lie above it over the test examples."""
    rows = []
    for level in levels:
        key = level.model, level.recipe, level.target.name
        own = [row for row in languages if (row["model"], row["recipe"], row["target"]) == key]
        chance = level.target.chance
        sure = None if chance is None else sum(row["lower"] > chance for row in own)
        rows.append(
            {
                **_described(study, level.model),
                "recipe": level.recipe,
                "target": level.target.name,
                "score": tidy(level.score),
                "chance": tidy(chance),
                **({} if level.above is None else level.above.row("above_")),
                "sure": sure,
                "languages": len(own),
            }
        )
    columns = (
        *_MODEL,
        Column("target", "Target", "target"),
        Column("score", "Score", "points"),
        Column("chance", "Chance", "points"),
        *columns_of("above_", "Above chance", why=True),
        Column("sure", "Languages surely above", "n"),
        Column("languages", "of", "n"),
    )
    return Table("levels", "Scores against chance, zero-shot", columns, rows)


def kind_table(kinds: Sequence[Kinds]) -> Table:
    """Encoders against decoders."""
    rows = [
        {
            "recipe": found.recipe,
            "target": found.target.name,
            "encoders": ", ".join(found.encoders),
            "decoders": ", ".join(found.decoders),
            **found.means[0].row("encoder_"),
            **found.means[1].row("decoder_"),
            **found.difference.row("difference_"),
        }
        for found in kinds
    ]
    columns = (
        Column("recipe", "Recipe", "recipe"),
        Column("target", "Target", "target"),
        Column("encoders", "Encoders"),
        Column("decoders", "Decoders"),
        *columns_of("encoder_", "Gain of encoders")[:3],
        *columns_of("decoder_", "Gain of decoders")[:3],
        *columns_of("difference_", "Decoders - encoders", why=True),
    )
    return Table("kinds", "Gains of encoders and of decoders", columns, rows)


def size_table(sizes: Sequence[Size]) -> Table:
    """Gains against sizes."""
    rows = [
        {
            "recipe": size.recipe,
            "target": size.target.name,
            "models": size.found.n,
            "pearson": tidy(size.found.pearson),
            "low": tidy(size.found.low),
            "high": tidy(size.found.high),
            "spearman": tidy(size.found.spearman),
        }
        for size in sizes
    ]
    columns = (
        Column("recipe", "Recipe", "recipe"),
        Column("target", "Target", "target"),
        Column("models", "Models", "n"),
        Column("pearson", "Correlation", "number"),
        Column("low", "Correlation: low", "number"),
        Column("high", "Correlation: high", "number"),
        Column("spearman", "Rank correlation", "number"),
    )
    return Table("sizes", "Gain against the logarithm of a model's parameters", columns, rows)


#: How a decoder's likelihoods of choices are compared, as `xstilts.evaluation.score` names them.
RULES = {"sum": "Sum", "token": "Per sub-word", "byte": "Per byte", "pmi": "PMI"}


def rule_table(study: Study) -> Table:
    """What each way to compare likelihoods would score, of decoders that choose by them."""
    rows = []
    for model, recipe in study.pairs():
        for target in study.targets:
            found = _by_rule(study, model, recipe, target)
            if found is not None:
                rows.append(
                    {
                        **_described(study, model),
                        "recipe": recipe,
                        "target": target.name,
                        "chance": tidy(target.chance),
                        **{rule: tidy(value) for rule, value in found.items()},
                    }
                )
    columns = (
        *_MODEL,
        Column("target", "Target", "target"),
        Column("chance", "Chance", "points"),
        Column("main", "The study's", "points"),
        *(Column(rule, title, "points") for rule, title in RULES.items()),
    )
    title = "Scores by the way in which likelihoods of choices are compared, zero-shot"
    return Table("normalisations", title, columns, rows)


def _by_rule(study: Study, model: str, recipe: str, target: Target) -> dict[str, float] | None:
    """Mean over languages and seeds by rule, and of the study's own; None where there are none."""
    names = {"main": target.main} | {rule: f"{target.main}_{rule}" for rule in RULES}
    cells = study.cells(model, recipe, target.name)
    codes = [code for code in target.languages if code != study.source]
    known = [{row["metric"] for row in cell.rows} for cell in cells]
    if not cells or not codes or not all(set(names.values()) <= values for values in known):
        return None
    return {
        rule: fmean(cell.values(name)[code] for cell in cells for code in codes)
        for rule, name in names.items()
    }


def rows_by_language(study: Study, target: Target) -> list[Row]:
    """Scores and changes of each language but the source, with bootstrap intervals."""
    rows = [row for row in language_rows(study, target) if row["language"] != study.source]
    return [{**row, "target": target.name} for row in rows]


def language_table(study: Study, languages: Sequence[Row]) -> Table:
    """What :func:`rows_by_language` gives, with what is known of the models."""
    points = ("mean", "lower", "upper")
    changes = ("change", "change_lower", "change_upper")
    named = ("recipe", "target", "language", "n", "seeds")
    rows = [
        {
            **_described(study, row["model"]),
            **{name: row[name] for name in named},
            **{name: tidy(row.get(name)) for name in (*points, *changes)},
        }
        for row in languages
    ]
    titles = ("Score", "Score: low", "Score: high", "Gain", "Gain: low", "Gain: high")
    columns = (
        *_MODEL,
        Column("target", "Target", "target"),
        Column("language", "Language", "language"),
        Column("n", "Test examples", "n"),
        Column("seeds", "Seeds", "n"),
        *(Column(k, t, "points") for k, t in zip(points, titles[:3], strict=True)),
        *(Column(k, t, "gain") for k, t in zip(changes, titles[3:], strict=True)),
    )
    title = "Scores and gains by language; intervals of a bootstrap over test examples"
    return Table("by_language", title, columns, rows)

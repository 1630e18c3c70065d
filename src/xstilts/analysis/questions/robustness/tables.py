"""Tables of the question of robustness."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from xstilts.analysis.answer import Column, Table
from xstilts.analysis.questions.phrases import columns_of
from xstilts.analysis.questions.robustness.pairings import Change, Pairing, Part, Parts, estimated
from xstilts.analysis.stats.crossed import Components, components
from xstilts.analysis.stats.estimate import Estimate, tidy
from xstilts.analysis.study import Row, Study, Target
from xstilts.analysis.tables import language_rows

#: Languages named as the lowest.
_WORST = 5

_CELL = (
    Column("model", "Model", "model"),
    Column("recipe", "Recipe", "recipe"),
    Column("target", "Target", "target"),
)


def tables_of(
    parts: Parts, pairings: Sequence[Pairing], changes: Sequence[Change], noise: Sequence[Row]
) -> list[Table]:
    """All tables of the answer, empty ones too."""
    return [
        _comparison_table([_pairing_row(pairing) for pairing in pairings]),
        _paired_table([row for pairing in pairings for row in _paired_rows(pairing)]),
        _spread_table([spread_row(part) for part in parts.values()]),
        _change_table([_change_row(change) for change in changes]),
        _worst_table([row for part in parts.values() for row in _worst_rows(part)]),
        _noise_table(noise),
    ]


def _values(estimate: Estimate | None, prefix: str) -> Row:
    return {} if estimate is None else estimate.row(prefix)


def _pairing_row(pairing: Pairing) -> Row:
    together = pairing.together
    return {
        "model": pairing.first.model,
        "recipe": pairing.first.recipe,
        "first": pairing.first.target.name,
        "second": pairing.second.target.name,
        "languages": len(pairing.languages),
        "seeds": pairing.points.seeds if pairing.points else None,
        **_values(pairing.share, "share_"),
        **_values(pairing.points, "points_"),
        **_values(pairing.beyond, "beyond_"),
        **_values(pairing.narrowing, "narrowing_"),
        "pearson": tidy(together.pearson) if together else None,
        "pearson_low": tidy(together.low) if together else None,
        "pearson_high": tidy(together.high) if together else None,
        "spearman": tidy(together.spearman) if together else None,
    }


def _comparison_table(rows: Sequence[Row]) -> Table:
    columns = (
        *_CELL[:2],
        Column("first", "NER", "target"),
        Column("second", "NLI", "target"),
        Column("languages", "Languages", "n"),
        Column("seeds", "Seeds", "n"),
        *columns_of("share_", "Share kept, NER - NLI", why=True),
        *columns_of("narrowing_", "Change of it against none"),
        *columns_of("points_", "Gap in points, NER - NLI"),
        *columns_of("beyond_", "Share kept, NLI above chance"),
        Column("pearson", "Correlation", "number"),
        Column("pearson_low", "Correlation: low", "number"),
        Column("pearson_high", "Correlation: high", "number"),
        Column("spearman", "Rank correlation", "number"),
    )
    return Table("comparison", "NER against NLI, over the languages that both have", columns, rows)


def _paired_rows(pairing: Pairing) -> Iterator[Row]:
    """By language, the means over seeds of both targets and their difference."""
    for code in pairing.languages:
        row: Row = {
            "model": pairing.first.model,
            "recipe": pairing.first.recipe,
            "language": code,
        }
        for name, part in (("first", pairing.first), ("second", pairing.second)):
            row[name] = part.target.name
            row[f"{name}_score"] = mean_of(part, "score", code)
            row[f"{name}_gap"] = mean_of(part, "points", code)
            row[f"{name}_share"] = mean_of(part, "shares", code)
        for what in ("gap", "share"):
            pair = row[f"first_{what}"], row[f"second_{what}"]
            row[f"{what}_difference"] = None if None in pair else tidy(pair[0] - pair[1])
        yield row


def mean_of(part: Part, what: str, code: str) -> float | None:
    """A language's mean over seeds: of its score, or of its gap."""
    grid = part.zero_shot if what == "score" else getattr(part.gaps, what, None)
    if grid is None or code not in grid.languages:
        return None
    return tidy(float(grid.values[:, grid.languages.index(code)].mean()))


def _paired_table(rows: Sequence[Row]) -> Table:
    both = [("first", "NER"), ("second", "NLI")]
    columns = (
        *_CELL[:2],
        Column("language", "Language", "language"),
        *(Column(key, title, "target") for key, title in both),
        *(Column(f"{key}_score", title, "points") for key, title in both),
        *(Column(f"{key}_gap", f"{title}: gap", "gain") for key, title in both),
        Column("gap_difference", "Gap, NER - NLI", "gain"),
        *(Column(f"{key}_share", f"{title}: gap, % of source", "gain") for key, title in both),
        Column("share_difference", "Gap in %, NER - NLI", "gain"),
    )
    return Table("paired", "NER and NLI by language, means over seeds", columns, rows)


def spread_row(part: Part) -> Row:
    """A target's spread over languages and seeds, and its gaps; without scores, only its name."""
    row: Row = {
        **dict(zip(("model", "recipe", "target"), part.key, strict=True)),
        "kind": part.target.kind,
        "source": _source(part),
    }
    if part.zero_shot is None:
        return row
    means = part.zero_shot.values.mean(axis=0)
    quarters = np.percentile(means, (25, 75))
    spread = components(part.zero_shot.values)
    row |= {
        "seeds": len(part.zero_shot.seeds),
        "languages": len(means),
        "mean": tidy(float(means.mean())),
        "sd": tidy(float(means.std(ddof=1))) if len(means) > 1 else None,
        "iqr": tidy(float(quarters[1] - quarters[0])) if len(means) > 1 else None,
        "lowest": tidy(float(means.min())),
        "highest": tidy(float(means.max())),
        "sd_language": tidy(spread.language),
        "sd_seed": tidy(spread.seed),
        "sd_residual": tidy(spread.residual),
        "sd_one": _of_one_language(spread),
    }
    if part.gaps is not None:
        row |= _values(estimated(part.gaps.points), "gap_")
        row |= _values(estimated(part.gaps.shares), "share_")
        row |= _values(estimated(part.gaps.beyond), "beyond_")
    return row


def _of_one_language(spread: Components) -> float | None:
    """Standard deviation over seeds of one language's score."""
    if spread.seed is None:
        return None
    return tidy(math.hypot(spread.seed, spread.residual or 0.0))


def _source(part: Part) -> float | None:
    return None if part.source is None else tidy(float(part.source.values.mean()))


def _spread_table(rows: Sequence[Row]) -> Table:
    named = ("value", "low", "high", "why")
    gaps = [column for column in columns_of("gap_", "Gap", why=True) if column.key[4:] in named]
    shares = columns_of("share_", "Gap, % of source")[:3]
    points = {
        "source": "Source language",
        "mean": "Other languages",
        "sd": "SD over languages",
        "iqr": "Interquartile range",
        "lowest": "Lowest",
        "highest": "Highest",
        "sd_language": "SD component: languages",
        "sd_seed": "SD component: seeds",
        "sd_residual": "SD component: rest",
        "sd_one": "SD of one language over seeds",
    }
    columns = (
        *_CELL,
        Column("kind", "Kind"),
        Column("seeds", "Seeds", "n"),
        Column("languages", "Languages", "n"),
        *(Column(key, title, "points") for key, title in points.items()),
        *gaps,
        *shares,
        Column("beyond_value", "Gap, % of source above chance", "gain"),
    )
    return Table("spread", "Spread and gap of every target, zero-shot", columns, rows)


def _change_row(change: Change) -> Row:
    return {
        **dict(zip(("model", "recipe", "target"), change.part.key, strict=True)),
        "kind": change.part.target.kind,
        **_values(change.scores, "scores_"),
        **_values(change.source, "source_"),
        **_values(change.gap, "gap_"),
        **_values(change.share, "share_"),
    }


def _change_table(rows: Sequence[Row]) -> Table:
    columns = (
        *_CELL,
        Column("kind", "Kind"),
        *columns_of("scores_", "Other languages", why=True),
        *columns_of("source_", "Source language")[:3],
        *columns_of("gap_", "Gap"),
        *columns_of("share_", "Share kept"),
    )
    return Table("changes", "What each recipe changes against none", columns, rows)


def _worst_rows(part: Part) -> Iterator[Row]:
    if part.zero_shot is None:
        return
    for place, code in enumerate(worst(part), 1):
        yield {
            **dict(zip(("model", "recipe", "target"), part.key, strict=True)),
            "place": place,
            "language": code,
            "score": mean_of(part, "score", code),
            "gap": mean_of(part, "points", code),
            "share": mean_of(part, "shares", code),
        }


def worst(part: Part) -> list[str]:
    """The languages with the lowest means over seeds, the lowest first; ties by code."""
    assert part.zero_shot is not None
    means = part.zero_shot.values.mean(axis=0)
    order = sorted(
        (tidy(float(v)), c) for v, c in zip(means, part.zero_shot.languages, strict=True)
    )
    return [code for _, code in order[:_WORST]]


def _worst_table(rows: Sequence[Row]) -> Table:
    columns = (
        *_CELL,
        Column("place", "From below", "n"),
        Column("language", "Language", "language"),
        Column("score", "Score", "points"),
        Column("gap", "Gap", "gain"),
        Column("share", "Gap, % of source", "gain"),
    )
    return Table("worst", f"The {_WORST} lowest languages of every target", columns, rows)


def noise_rows(study: Study, target: Target, parts: Parts) -> Iterator[Row]:
    """By language, how far other test examples could move its score and its change."""
    for row in language_rows(study, target):
        if row["language"] == study.source:
            continue
        part = parts[row["model"], row["recipe"], target.name]
        source = _source(part)
        inside = source is not None and row["lower"] <= source <= row["upper"]
        change = row.get("change")
        hidden = change is not None and row["change_lower"] <= 0 <= row["change_upper"]
        yield {
            **{key: row[key] for key in ("model", "recipe", "language", "seeds", "n")},
            "target": target.name,
            **{key: tidy(row.get(key)) for key in _INTERVALS},
            "gap": mean_of(part, "points", row["language"]),
            "gap_hidden": "" if source is None else "yes" if inside else "no",
            "change_hidden": "" if change is None else "yes" if hidden else "no",
        }


_INTERVALS = ("mean", "lower", "upper", "change", "change_lower", "change_upper")


def _noise_table(rows: Sequence[Row]) -> Table:
    columns = (
        *_CELL,
        Column("language", "Language", "language"),
        Column("n", "Test examples", "n"),
        Column("seeds", "Seeds", "n"),
        Column("mean", "Score", "points"),
        Column("lower", "Score: low", "points"),
        Column("upper", "Score: high", "points"),
        Column("gap", "Gap", "gain"),
        Column("gap_hidden", "Gap within the noise"),
        Column("change", "Change", "gain"),
        Column("change_lower", "Change: low", "gain"),
        Column("change_upper", "Change: high", "gain"),
        Column("change_hidden", "Change within the noise"),
    )
    title = "The noise of each language's test set: bootstrap over its examples"
    return Table("noise", title, columns, rows)

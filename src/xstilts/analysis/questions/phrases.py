"""Words for numbers, alike in all answers: signs, intervals, verdicts, names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from xstilts.analysis.answer import Column, Figure, Kind
from xstilts.analysis.numbers import listed, signed
from xstilts.analysis.stats.estimate import Estimate
from xstilts.analysis.study import Study

#: Recipes without a result that are named one by one.
_NAMED = 6


def ranged(estimate: Estimate, digits: int = 1) -> str:
    """A signed value with its interval: `+1.2 [+0.4, +2.0]`; bare where there is none."""
    value = signed(estimate.value, digits)
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} [{signed(estimate.low, digits)}, {signed(estimate.high, digits)}]"


def bounds(estimate: Estimate | None) -> tuple[float, float] | None:
    """The interval, for a figure; None where there is none."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return None
    return estimate.low, estimate.high


def model_title(study: Study, model: str) -> str:
    """A model's title, or its name."""
    return str(study.model_rows[model].get("title") or model)


def language_name(study: Study, code: str) -> str:
    """A language's name, or its code."""
    names = {row["code"]: row["name"] for row in study.languages}
    return str(names.get(code, code))


def first_named(question: str, figures: Iterable[Figure]) -> tuple[Figure, ...]:
    """Figures of an answer; the first takes the question's name, as `write_answer` wants it."""
    return tuple(
        replace(figure, name=question) if place == 0 else figure
        for place, figure in enumerate(figures)
    )


def sorted_out(entries: Sequence[tuple[str, Estimate]], more: str, less: str) -> str:
    """Recipes by what can be said of their changes, in sentences.

    Args:
        entries: Names of recipes, and changes.
        more: Begins the sentence of those that are higher, as `Scores rise with`.
        less: Likewise of those that are lower.
    """
    sentences = []
    for verdict, text in (("higher", more), ("lower", less)):
        own = [f"{name} ({ranged(e)})" for name, e in entries if e.verdict == verdict]
        if own:
            sentences.append(f"{text} {listed(own)}.")
    for verdict, text in (
        ("cannot be told apart", "No effect can be told with"),
        ("cannot be said", "No test is possible of"),
    ):
        rest = [(name, e.value) for name, e in entries if e.verdict == verdict]
        if len(rest) > _NAMED:
            low, high = (signed(function(value for _, value in rest)) for function in (min, max))
            sentences.append(f"{text} {len(rest)} recipes ({low} to {high}).")
        elif rest:
            sentences.append(f"{text} {listed([f'{n} ({signed(v)})' for n, v in rest])}.")
    return " ".join(sentences)


def columns_of(prefix: str, title: str, kind: Kind = "gain", why: bool = False) -> list[Column]:
    """Columns of an estimate as :meth:`Estimate.row` names them.

    Args:
        prefix: Of the keys.
        title: Of the value.
        kind: Of the value and its bounds.
        why: With the reasons for missing intervals.
    """
    named = f"{title}: " if title else ""
    columns = [
        Column(f"{prefix}value", title, kind),
        Column(f"{prefix}low", f"{named}low", kind),
        Column(f"{prefix}high", f"{named}high", kind),
        Column(f"{prefix}adjusted", f"{named}corrected p", "p"),
        Column(f"{prefix}verdict", f"{named}verdict"),
    ]
    return [*columns, Column(f"{prefix}why", f"{named}no interval because")] if why else columns

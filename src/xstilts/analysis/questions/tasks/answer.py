"""Which English intermediate tasks transfer best to the non-English parts of XTREME?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from xstilts.analysis.answer import Answer, Column, Figure, Table
from xstilts.analysis.numbers import counted, listed, plain, signed
from xstilts.analysis.questions.phrases import columns_of, language_name, model_title, ranged
from xstilts.analysis.questions.tasks.choice import (
    BY_TARGET,
    ON_TEST,
    ONE_FOR_ALL,
    Choice,
    Total,
    best_on_test,
    choose,
    dev_means,
    totals,
)
from xstilts.analysis.questions.tasks.comparison import Comparison, Gain
from xstilts.analysis.questions.tasks.figures import Panel, by_target, by_target_size, forest
from xstilts.analysis.stats.estimate import Estimate, tidy
from xstilts.analysis.study import BASELINE, Row, Study
from xstilts.analysis.tables import ALL, ZERO_SHOT

QUESTION = "tasks"
TITLE = "Which English intermediate tasks transfer best to the non-English parts of XTREME?"
#: Names in a sentence; of more, their number.
_MOST_NAMES = 8


@dataclass(frozen=True)
class _Model:
    """A model's recipes, without the source language where there is any other, and with it."""

    study: Study
    name: str
    scopes: dict[str, Comparison]

    @cached_property
    def dev(self) -> dict[str, dict[str, float | None]]:
        return {t.name: dev_means(self.study, self.name, t.name) for t in self.study.targets}

    @cached_property
    def choices(self) -> dict[str, Choice]:
        return {target: choose(target, means) for target, means in self.dev.items()}

    def totals(self, languages: str) -> list[Total]:
        compared = self.scopes[languages]
        chosen = [self.choices[target] for target in compared.targets]
        return totals(compared, chosen, self.dev)

    @property
    def main(self) -> Comparison:
        """What the question is about: without the source language, if there is another."""
        return self.scopes.get(ZERO_SHOT) or self.scopes[ALL]

    @property
    def title(self) -> str:
        return model_title(self.study, self.name)

    def names(self, targets: Sequence[str]) -> str:
        return listed([self.study.target(target).title for target in targets])


def answer(study: Study) -> Answer:
    """Rank the recipes by target and over all targets, with and without the source language."""
    models = [_model(study, name) for name in study.models]
    cannot = [text for model in models for text in _cannot(model)]
    told = [model for model in models if _comparable(model)]
    if not told:
        return Answer(QUESTION, TITLE, cannot=tuple(cannot), methods=_methods(study))
    return Answer(
        question=QUESTION,
        title=TITLE,
        says=tuple(text for model in told for text in _says(model)),
        cannot=tuple(cannot),
        methods=_methods(study),
        tables=tuple(_tables(told)),
        figures=tuple(_figures(told)),
    )


def _model(study: Study, name: str) -> _Model:
    scopes = {ZERO_SHOT: Comparison(study, name, True), ALL: Comparison(study, name, False)}
    return _Model(study, name, {kind: found for kind, found in scopes.items() if found.targets})


def _comparable(model: _Model) -> bool:
    """Whether there are two recipes with scores on the same target."""
    return any(
        sum(gain.score is not None for gain in model.main.on(target)) > 1
        for target in model.main.targets
    )


# ---- paragraphs


def _says(model: _Model) -> Iterator[str]:
    for kind, compared in model.scopes.items():
        if first := compared.first():
            yield _first(model, kind, compared, first)
    if text := _against_none(model.main):
        yield text
    if text := _by_target(model):
        yield text
    if found := model.totals(ALL if ALL in model.scopes else ZERO_SHOT):
        yield _chosen(model, found)
    if ZERO_SHOT in model.scopes and (found := model.totals(ZERO_SHOT)):
        yield f"Without {_source(model)}: {_of_ways(found)}"


def _source(model: _Model) -> str:
    return language_name(model.study, model.study.source)


def _first(model: _Model, kind: str, compared: Comparison, first: Gain) -> str:
    """What ranks first over all targets, and what cannot be told apart from it."""
    assert first.score is not None
    assert first.rank is not None
    how = "without" if kind == ZERO_SHOT else "with"
    over = counted(len(compared.counted), "target")
    text = f"{model.title}, {how} {_source(model)}: over {over} {first.recipe} ranks first"
    text += f" with a mean score of {plain(first.score)}"
    if first.general is not None:
        text += f", {ranged(first.general)} points over {BASELINE}"
    text += "."
    if first.rank.low is not None and first.rank.high is not None:
        text += f" The 95 % set of its rank is {_range(first.rank.low, first.rank.high)}"
        text += f" of {sum(gain.rank is not None for gain in compared.overall)}."
    verdicts = compared.verdicts(first.recipe)
    alike = [name for name, verdict in verdicts.items() if verdict == "cannot be told apart"]
    unsaid = [name for name, verdict in verdicts.items() if verdict == "cannot be said"]
    if alike:
        text += f" Tested pair by pair, it cannot be told apart from {_named(alike, verdicts)}."
    elif verdicts and not unsaid:
        text += " Tested pair by pair, it is higher than all others."
    if unsaid:
        text += f" It could not be tested against {_named(unsaid, verdicts)}."
    return text


def _range(low: int, high: int) -> str:
    return f"{low}" if low == high else f"{low} to {high}"


def _named(names: Sequence[str], among: Any = ()) -> str:
    """Names in a sentence; all of them, or of too many, their number."""
    if len(names) > 1 and len(names) == len(among):
        return f"any of the other {len(names)} recipes"
    return listed(names) if len(names) <= _MOST_NAMES else f"{len(names)} recipes"


def _against_none(compared: Comparison) -> str:
    """Which recipes are better or worse than `none` over all targets."""
    tested = {g.recipe: g.general.verdict for g in compared.overall if g.general is not None}
    parts = []
    for verdict, words in (
        ("higher", "{} higher than none over all targets"),
        ("lower", "{} lower than none"),
        ("cannot be told apart", "{} not to be told apart from none"),
    ):
        names = [recipe for recipe, found in tested.items() if found == verdict]
        if names:
            parts.append(words.format(f"{_named(names)} {'is' if len(names) == 1 else 'are'}"))
    if not parts:
        return ""
    return f"Tested against {BASELINE} only, {'; '.join(parts)}."


def _by_target(model: _Model) -> str:
    """How many pairs of recipe and target are told apart from `none`, and the largest of them."""
    tested = [g for g in model.main.gains if g.general is not None]
    verdicts = [gain.general.verdict for gain in tested if gain.general is not None]
    if not any(verdict != "cannot be said" for verdict in verdicts):
        return ""
    text = f"Of {counted(len(tested), 'pair')} of recipe and target, {verdicts.count('higher')}"
    text += f" {'is' if verdicts.count('higher') == 1 else 'are'} higher than {BASELINE}, "
    text += f"{verdicts.count('lower')} lower, and {verdicts.count('cannot be told apart')} cannot"
    text += " be told apart from it"
    if unsaid := verdicts.count("cannot be said"):
        text += f"; {unsaid} could not be tested"
    highest = max(tested, key=lambda gain: gain.value or 0.0)
    lowest = min(tested, key=lambda gain: gain.value or 0.0)
    parts = [f"{_pair(model, gain)}" for gain in dict.fromkeys((highest, lowest))]
    return f"{text}. The {'extremes are' if len(parts) > 1 else 'only one is'} {listed(parts)}."


def _pair(model: _Model, gain: Gain) -> str:
    assert gain.general is not None
    assert gain.target is not None
    return f"{gain.recipe} on {model.study.target(gain.target).title} ({ranged(gain.general)})"


def _chosen(model: _Model, found: Sequence[Total]) -> str:
    """The recipe of each target chosen on dev data, and what that gives."""
    by_recipe: dict[str, list[str]] = {}
    for target, recipe in found[0].recipes.items():
        if model.choices[target].dev is not None:
            by_recipe.setdefault(recipe, []).append(target)
    if not by_recipe:
        return f"{model.title}: no target has dev data to choose a recipe on."
    chosen = [f"{recipe} for {model.names(targets)}" for recipe, targets in by_recipe.items()]
    source = _source(model)
    text = f"{model.title}: the {source} dev data choose {'; '.join(chosen)}."
    return f"{text} With {source}, as XTREME counts: {_of_ways(found)}"


def _of_ways(found: Sequence[Total]) -> str:
    """The total gains of the ways to choose."""
    ways = {total.way: total for total in found}
    parts = []
    if total := ways.get(BY_TARGET):
        over = counted(len(total.recipes), "target")
        parts.append(
            f"the recipes chosen on dev for each target give {_gained(total.gain)} over "
            f"{BASELINE}, a mean score of {plain(total.score)} over {over}"
        )
    if total := ways.get(ONE_FOR_ALL):
        name = next(iter(total.recipes.values()))
        parts.append(f"the one recipe best on dev, {name}, gives {_gained(total.gain)}")
    if (total := ways.get(ON_TEST)) and (dev := ways.get(BY_TARGET)):
        parts.append(
            f"choosing on test would have given {signed(total.gain.value)}, so choosing on dev "
            f"costs {plain(dev.regret)}"
        )
    return "; ".join(parts) + "."


def _gained(gain: Estimate) -> str:
    told = gain.verdict == "cannot be told apart"
    return ranged(gain) + (" (cannot be told apart from 0)" if told else "")


# ---- what cannot be said


def _cannot(model: _Model) -> Iterator[str]:
    study, compared, title = model.study, model.main, model.title
    if not _comparable(model):
        yield f"{title}: no target has scores of two recipes. Add a recipe to the study."
        return
    if ZERO_SHOT not in model.scopes:
        yield f"{title}: no target has another language than {_source(model)}. Add languages."
    unmeasured = [name for name in compared.targets if compared.grid(BASELINE, name) is None]
    if unmeasured:
        yield (
            f"{title}: there are no gains on {model.names(unmeasured)}, as recipe {BASELINE} has "
            f"no scores there. Add it to the study, or run what is missing."
        )
    for gain in compared.overall:
        missing = [n for n in compared.targets if compared.grid(gain.recipe, n) is None]
        if gain.recipe != BASELINE and missing:
            outside = " It has no rank over all targets." if gain.rank is None else ""
            yield f"{title}: {gain.recipe} has no scores on {model.names(missing)}.{outside}"
        elif gain.score is not None and gain.why and not unmeasured:
            yield f"{title}: {gain.recipe} over all targets: {gain.why}"
    yield from _without_interval(model)
    without = [name for name, choice in model.choices.items() if choice.dev is None]
    without = [name for name in without if name in compared.targets and model.dev[name]]
    if without:
        has = "has" if len(without) == 1 else "have"
        yield (
            f"{title}: {model.names(without)} {has} no dev data in the study, so no recipe can be "
            f"chosen before the test; {BASELINE} is kept there.{_dev_pairs(study, without)}"
        )
    if len(study.targets) == 1:
        yield f"{title}: with one target, the mean over targets is that target's."


def _dev_pairs(study: Study, targets: Sequence[str]) -> str:
    """How a target without fine-tuning may get dev data."""
    if all(study.target(name).train for name in targets):
        return ""
    return " For retrieval, bucc2018 with evaluation.retrieval.layer: dev gives mined dev pairs."


def _without_interval(model: _Model) -> Iterator[str]:
    """Why gains have no interval, each reason with its targets."""
    reasons: dict[str, dict[str, None]] = {}
    gains = [gain for gain in model.main.gains if gain.general is not None]
    for gain in gains:
        if gain.general is not None and gain.target is not None and gain.general.why:
            reasons.setdefault(gain.general.why, {})[gain.target] = None
    for why, targets in reasons.items():
        all_of_them = all(gain.general and gain.general.why == why for gain in gains)
        where = "gains have" if all_of_them else f"some gains on {model.names([*targets])} have"
        yield f"{model.title}: {where} no interval. {why}"


def _methods(study: Study) -> tuple[str, ...]:
    source = language_name(study, study.source)
    return (
        "A target's score is the mean over its languages, then over seeds; the score over all "
        f"targets is the mean over targets, as in XTREME. {ALL} counts {source}, {ZERO_SHOT} "
        "leaves it out.",
        f"A gain is the difference to {BASELINE}, paired by seed and language. Its 95 % interval "
        "is for other languages and other seeds than these, both random and crossed (two-way "
        "analysis of variance, t after Cochran and Cox 1957; p-values after Banerjee 1960, which "
        "are a little stricter); beside it stands the interval for these languages and other "
        "seeds (Student's t on the mean of each seed).",
        "Targets are fixed. What a seed or a language adds to several targets is summed before it "
        "is squared: variances over targets are clustered by seed and by language (CR2 of Bell and "
        "McCaffrey 2002 for languages).",
        "Tests are corrected by Holm's method: gains over all recipes and targets of a model, "
        "gains over all targets over the recipes, pairs of recipes for each list of ranks. The "
        "95 % sets of ranks follow Mogstad, Romano, Shaikh and Wilhelm (2024). The effect size is "
        "Hedges' g.",
        "The recipe of a target is the one with the highest mean dev score over seeds; of equal "
        "ones the first in the study. The dev data are those of the target's fine-tuning, or mined "
        "pairs. Dev and test scores are of the same trainings, so a choice may follow the luck of "
        "the seeds, and the interval of its gain does not know of the choice. Choices on test are "
        "a bound, without interval.",
    )


# ---- tables


def _tables(models: Sequence[_Model]) -> Iterator[Table]:
    scoped = [
        (model, kind, compared) for model in models for kind, compared in model.scopes.items()
    ]
    yield Table(
        "ranking",
        "Recipes over all targets",
        (*_KEYS, Column("recipe", "Recipe", "recipe"), *_RANKS, *_GAINS, Column("why", "Why not")),
        [_row(model, kind, gain) for model, kind, c in scoped for gain in _sorted(c.overall)],
    )
    yield Table(
        "chosen",
        "The recipe of each target, chosen on dev",
        _CHOSEN,
        [row for model, kind, c in scoped for row in _chosen_rows(model, kind, c)],
    )
    yield Table(
        "totals",
        "What choosing gives over all targets",
        _TOTALS,
        [row for model, kind, _ in scoped for row in _total_rows(model, kind)],
    )
    yield Table(
        "gains",
        "Recipes on each target",
        (*_KEYS, *_PAIR, *_RANKS, *_GAINS, Column("why", "Why not")),
        [_row(model, kind, gain) for model, kind, c in scoped for gain in c.gains],
    )


_KEYS = (Column("model", "Model", "model"), Column("languages", "Languages"))
_PAIR = (Column("target", "Target", "target"), Column("recipe", "Recipe", "recipe"))
_RANKS = (
    Column("rank", "Rank", "n"),
    Column("rank_low", "Best rank", "n"),
    Column("rank_high", "Worst rank", "n"),
    Column("score", "Score", "points"),
)
_GAINS = (
    *columns_of("", "Gain"),
    Column("effect", "Hedges' g", "number"),
    *columns_of("these_", "These languages"),
    Column("gaining", "Languages that gain, %", "number", 0),
    Column("seed_count", "Seeds", "n"),
    Column("language_count", "Number of languages", "n"),
)
_CHOSEN = (
    *_KEYS,
    *_PAIR,
    Column("dev", "Dev score", "points"),
    Column("score", "Score", "points"),
    *columns_of("", "Gain"),
    Column("best", "Best on test", "recipe"),
    Column("best_score", "Its score", "points"),
    Column("regret", "Regret", "points"),
    Column("note", "Note"),
)
_TOTALS = (
    *_KEYS,
    Column("way", "Recipes"),
    Column("targets", "Targets", "n"),
    Column("score", "Score", "points"),
    *columns_of("", "Gain", why=True),
    Column("regret", "Regret", "points"),
)


def _sorted(gains: Sequence[Gain]) -> list[Gain]:
    return sorted(gains, key=lambda gain: (gain.rank is None, gain.rank.rank if gain.rank else 0))


def _row(model: _Model, kind: str, gain: Gain) -> Row:
    found: Row = {"model": model.name, "languages": kind, "recipe": gain.recipe}
    if gain.target is not None:
        found["target"] = gain.target
    if gain.rank is not None:
        found |= {"rank": gain.rank.rank, "rank_low": gain.rank.low, "rank_high": gain.rank.high}
    found |= {"score": tidy(gain.score), "gaining": tidy(gain.gaining)}
    if gain.general is not None:
        found |= gain.general.row()
        found |= {"seed_count": gain.general.seeds, "language_count": gain.general.languages}
    if gain.these is not None:
        found |= gain.these.row("these_")
    found["why"] = gain.why or found.get("why", "")
    return found


def _chosen_rows(model: _Model, kind: str, compared: Comparison) -> Iterator[Row]:
    for target in compared.targets:
        choice = model.choices[target]
        if choice.recipe is None:
            continue
        gain = compared.of(choice.recipe, target)
        best = compared.of(best_on_test(compared, target), target)
        row = _row(model, kind, gain)
        row |= {"dev": tidy(choice.dev), "best": best.recipe, "best_score": tidy(best.score)}
        if best.score is not None and gain.score is not None:
            row["regret"] = tidy(max(0.0, best.score - gain.score))
        yield {**row, "note": _note(choice)}


def _note(choice: Choice) -> str:
    if choice.dev is None:
        return f"No dev data: {BASELINE} is kept."
    parts = []
    if choice.ties:
        parts.append(f"The same dev score: {listed(choice.ties)}.")
    if choice.without:
        parts.append(f"Without dev score: {listed(choice.without)}.")
    return " ".join(parts)


def _total_rows(model: _Model, kind: str) -> Iterator[Row]:
    for total in model.totals(kind):
        keys = {"model": model.name, "languages": kind, "way": total.way}
        numbers = {"score": tidy(total.score), "regret": tidy(total.regret)}
        yield {**keys, **total.gain.row(), **numbers, "targets": len(total.recipes)}


# ---- figures


def _figures(models: Sequence[_Model]) -> Iterator[Figure]:
    scopes = {kind for model in models for kind in model.scopes}
    titles = {
        ZERO_SHOT: f"without {_source(models[0])}",
        ALL: f"with {_source(models[0])}",
    }
    kinds = [kind for kind in titles if kind in scopes]
    panels = [
        [
            Panel(f"{model.title}, {titles[kind]}", _sorted(model.scopes[kind].overall))
            for kind in kinds
            if kind in model.scopes
        ]
        for model in models
    ]
    rows = sum(max(len(panel.gains) for panel in line) for line in panels)
    yield Figure(
        QUESTION,
        f"Gain of each recipe over {BASELINE}, mean over all targets",
        f"Recipes from the first rank down, by model; across, points gained over {BASELINE} as "
        "the mean over all targets: a point with a thin line, the 95 % interval for other "
        "languages and seeds, and a wide pale line, the interval for these languages and other "
        "seeds. At the right, the rank and the 95 % set of ranks. " + _alt(models),
        "ranking",
        partial(forest, panels),
        (7.0, 0.9 + 0.55 * len(panels) + 0.2 * rows),
    )
    for model in models:
        compared = model.main
        small = [
            Panel(
                model.study.target(target).title,
                compared.on(target),
                model.choices[target].recipe if model.choices[target].dev is not None else None,
            )
            for target in compared.targets
        ]
        yield Figure(
            f"by_target_{model.name}",
            f"{model.title}: gain of each recipe over {BASELINE} on each target, "
            f"{titles[ZERO_SHOT if ZERO_SHOT in model.scopes else ALL]}",
            f"A panel for each target, a line for each recipe; across, points gained over "
            f"{BASELINE}, with 95 % intervals for other languages and seeds. Triangles that point "
            "up are higher after correction, those that point down lower, circles cannot be told "
            "apart; hollow points have no interval. A ring marks the recipe that dev data choose.",
            "gains",
            partial(by_target, small),
            by_target_size(small),
        )


def _alt(models: Sequence[_Model]) -> str:
    """What the forest plot shows, for one who cannot see it."""
    found = []
    for model in models:
        gains = [g for g in _sorted(model.main.overall) if g.value is not None]
        parts = [f"{gain.recipe} {signed(gain.value or 0.0)}" for gain in gains]
        found.append(f"{model.title}: {', '.join(parts)}." if parts else "")
    return " ".join(filter(None, found))

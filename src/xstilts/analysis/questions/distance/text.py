"""What was found in plain sentences, made from the numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from xstilts.analysis.numbers import counted, listed, plain, signed
from xstilts.analysis.questions.distance.findings import Findings
from xstilts.analysis.questions.distance.joint import LANGUAGES_PER_MEASURE, MOST_INFLATION, Joint
from xstilts.analysis.questions.distance.ranking import Ranking
from xstilts.analysis.questions.distance.relations import FEWEST, Flattening, Relation
from xstilts.analysis.questions.distance.values import Subject
from xstilts.analysis.questions.phrases import language_name
from xstilts.analysis.study import BASELINE, Study
from xstilts.analysis.tables import AVERAGE

#: Findings named in a sentence; the table has the others.
_NAMED = 3
_BENDS = ("flattens", "steepens")


def says(study: Study, own: Findings) -> list[str]:
    """Paragraphs on one model."""
    first = own.first
    if first is None or not any(one.correlation for one in own.main):
        return []
    paragraphs = [
        f"{_drop(study, own, first)} {_measures(own, first)}",
        " ".join(_other(own, subject) for subject in own.subjects if subject != first),
        _bends(own, first),
        " ".join(_together(one) for one in own.joints if one.parts and one.subject in own.heads),
        _ranking(own),
    ]
    return [paragraph for paragraph in (text.strip() for text in paragraphs) if paragraph]


def _drop(study: Study, own: Findings, subject: Subject) -> str:
    """How much the languages of a subject lose."""
    grid = own.grids[subject.name]
    means = dict(zip(grid.languages, grid.values.mean(axis=0).tolist(), strict=True))
    low, high = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    whole = float(grid.values.mean())
    unit = signed if subject.drops else plain
    where = f"{own.title}, {own.recipe}, {_named(subject)}"
    minus = f" minus that of {language_name(study, study.source)}" if subject.drops else ""
    return (
        f"{where}: the score of the {len(grid.languages)} other languages{minus} is "
        f"{unit(whole)} points on average, from {unit(means[low])} ({low}) to "
        f"{unit(means[high])} ({high})."
    )


def _named(subject: Subject) -> str:
    if len(subject.targets) == 1:
        return subject.title
    return f"{subject.title.lower()} ({listed([target.title for target in subject.targets])})"


def _measures(own: Findings, subject: Subject) -> str:
    """Which measures go with the values of a subject."""
    tested = [one for one in own.of(subject) if one.correlation and one.correlation.p is not None]
    if not tested:
        return "No measure can be tested here."
    holding = sorted((one for one in tested if one.holds), key=lambda one: -one.strength)
    if holding:
        named = "; ".join(_relation(one) for one in holding[:_NAMED])
        more = f"; {len(holding) - _NAMED} more" if len(holding) > _NAMED else ""
        return (
            f"{len(holding)} of {counted(len(tested), 'measure')} "
            f"{'holds' if len(holding) == 1 else 'hold'} after correction: {named}{more}."
        )
    best = max(tested, key=lambda one: one.strength)
    which = "The one measure" if len(tested) == 1 else f"None of {len(tested)} measures"
    cannot = "cannot" if len(tested) == 1 else "can"
    return (
        f"{which} {cannot} be told apart from no relation after correction; "
        f"{'it is' if len(tested) == 1 else 'the strongest is'} {_relation(best)}."
    )


def _relation(one: Relation) -> str:
    found, slope = one.correlation, one.slope
    assert found is not None
    assert found.pearson is not None
    assert slope is not None
    assert found.low is not None
    assert found.high is not None
    line = f"{signed(slope.value)} points per standard deviation farther"
    if slope.low is not None and slope.high is not None:
        line += f" ({signed(slope.low)} to {signed(slope.high)})"
    return (
        f"{lower(one.measure.title)}, r = {signed(found.pearson, 2)} ({signed(found.low, 2)} to "
        f"{signed(found.high, 2)}, corrected {probability(one.adjusted)}, n = {found.n}), {line}"
    )


def _other(own: Findings, subject: Subject) -> str:
    """One sentence on another subject."""
    tested = [one for one in own.of(subject) if one.correlation and one.correlation.p is not None]
    if not tested:
        return ""
    best = max(tested, key=lambda one: one.strength)
    assert best.correlation is not None
    assert best.correlation.pearson is not None
    holding = sum(one.holds for one in tested)
    name = f"{lower(best.measure.title)} (r = {signed(best.correlation.pearson, 2)})"
    if len(tested) == 1:
        end = "holds after correction" if holding else "cannot be told apart from no relation"
        return f"{_title(subject)}: {name} {end}."
    return f"{_title(subject)}: {holding} of {len(tested)} hold, the strongest is {name}."


def _title(subject: Subject) -> str:
    group = len(subject.targets) > 1
    return f"{subject.title} ({len(subject.targets)} targets)" if group else subject.title


def _bends(own: Findings, first: Subject) -> str:
    """What intermediate training does to the slopes."""
    tested = {name: _tested(found) for name, found in own.flattenings.items()}
    if not any(tested.values()):
        return ""
    start = f"{own.title}: does intermediate training flatten the slope?"
    sentences = [_bent(first, tested[first.name])] if tested[first.name] else []
    others = [one for name, found in tested.items() if name != first.name for one in found]
    return " ".join([start, *sentences, *_other_bends(others)])


def _tested(found: Sequence[Flattening]) -> list[Flattening]:
    return [one for one in found if one.change is not None and one.change.p is not None]


def _other_bends(tested: Sequence[Flattening]) -> Iterator[str]:
    """How often each recipe bends the lines of the other subjects."""
    quiet = []
    for recipe in dict.fromkeys(one.recipe for one in tested):
        own = [one for one in tested if one.recipe == recipe]
        bends = {bend: [one for one in own if one.bend == bend] for bend in _BENDS}
        said = [
            f"{bend} {len(found)} ({_distinct(one.subject.title for one in found)})"
            for bend, found in bends.items()
            if found
        ]
        if said:
            slopes = counted(len(own), "slope")
            yield f"Of {slopes} of the other targets and groups, {recipe} {listed(said)}."
        else:
            quiet.append(recipe)
    if quiet:
        yield (
            f"In the other targets and groups no slope under {listed(quiet)} can be told apart "
            f"from that of {BASELINE}."
        )


def _bent(subject: Subject, tested: Sequence[Flattening]) -> str:
    recipes = {one.recipe for one in tested}
    known = {one.measure.name for one in tested}
    bent = [one for one in tested if one.bend in _BENDS]
    if not bent:
        return (
            f"{_title(subject)}: no slope can be told apart from that of {BASELINE} "
            f"({counted(len(recipes), 'recipe')}, {counted(len(known), 'measure')}, corrected)."
        )
    order = sorted(bent, key=lambda one: (one.change.adjusted or 0.0) if one.change else 1.0)
    named = "; ".join(_change(one) for one in order[:_NAMED])
    more = f"; {len(bent) - _NAMED} more" if len(bent) > _NAMED else ""
    rest = len(tested) - len(bent)
    others = f"; {rest} of {len(tested)} tests cannot be told apart" if rest else ""
    return f"{_title(subject)}: {named}{more}{others}."


def _change(one: Flattening) -> str:
    change, before = one.change, one.before
    assert change is not None
    assert before is not None
    assert change.low is not None
    assert change.high is not None
    return (
        f"{one.recipe} {one.bend} it along {lower(one.measure.title)}, from {signed(before)} to "
        f"{signed(before + change.value)} points per standard deviation (change "
        f"{signed(change.value)}, {signed(change.low)} to {signed(change.high)}, corrected "
        f"{probability(change.adjusted)})"
    )


def _together(one: Joint) -> str:
    """What each measure adds to the others."""
    holding = [part for part in one.parts if part.slope.verdict in ("higher", "lower")]
    names = listed([lower(part.measure.title) for part in one.parts])
    start = f"{_title(one.subject)}, {names} at once ({len(one.languages)} languages): "
    if not holding:
        return f"{start}none can be told apart from adding nothing to the others."
    said = []
    for part in holding:
        slope = part.slope
        assert slope.low is not None
        assert slope.high is not None
        said.append(
            f"{lower(part.measure.title)} {signed(slope.value)} points per standard deviation "
            f"({signed(slope.low)} to {signed(slope.high)})"
        )
    verb = "adds" if len(holding) == 1 else "add"
    return f"{start}{verb} to the others: {'; '.join(said)}."


def _ranking(own: Findings) -> str:
    """The recovered order of the languages against the planted one."""
    one = next((found for found in own.rankings if found.recipe == own.recipe), None)
    if one is None or one.kendall is None or one.spearman is None:
        return ""
    order = sorted(zip(one.recovered, one.planted, one.languages, strict=True))
    test = f", exact {probability(one.p)}" if one.p is not None else ""
    text = (
        f"{own.title}: from the nearest to the farthest, the planted order of languages is "
        f"{', '.join(one.languages)}; by zero-shot score ({one.recipe}, "
        f"{'mean over all targets' if one.subject.name == AVERAGE else one.subject.title}) it is "
        f"{', '.join(code for _, _, code in order)}: "
        f"Spearman {signed(one.spearman, 2)}, Kendall {signed(one.kendall, 2)}{test}."
    )
    return f"{text} {_other_rankings(own, one)}".strip()


def _other_rankings(own: Findings, one: Ranking) -> str:
    of_recipes = [
        found
        for found in own.rankings
        if found.subject == one.subject and found.recipe != one.recipe and found.kendall is not None
    ]
    if not of_recipes:
        return ""
    values = [found.kendall for found in of_recipes if found.kendall is not None]
    spread = signed(min(values), 2)
    if max(values) > min(values):
        spread += f" to {signed(max(values), 2)}"
    return f"Under the other {counted(len(values), 'recipe')}, Kendall is {spread}."


def cannot(study: Study, own: Findings) -> list[str]:
    """What a model's scores and distances do not say."""
    if not own.measures:
        return [
            f"{own.title}: no distance of any language is known, so nothing can be related to it; "
            "the study needs languages that the stage `distances` has a measure for."
        ]
    if not own.grids:
        return [
            f"{own.title}: no target has scores of {own.recipe} in another language than "
            f"{study.source}; add languages to the study."
        ]
    sentences = [*_without_scores(own), *_unsaid(own), *_no_joint(own), *_no_bends(study, own)]
    return [f"{own.title}: {sentence}" for sentence in sentences]


def _without_scores(own: Findings) -> Iterator[str]:
    names = [subject.title for subject in own.subjects if subject.name not in own.grids]
    if names:
        yield (
            f"{listed(names)} cannot be looked at under {own.recipe}: scores are missing, or its "
            "targets share too few languages or seeds."
        )


def _unsaid(own: Findings) -> Iterator[str]:
    """Relations that there are not, by their reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for one in own.main:
        if one.why:
            key = (one.measure.title, one.why.rstrip("."))
            reasons.setdefault(key, []).append(one.subject.title)
    for (measure, why), names in reasons.items():
        where = "any target" if len(names) == len(own.grids) > 1 else listed(names)
        yield f"{measure} cannot be related to {where}: {lower(why)}."


def _no_joint(own: Findings) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for one in own.joints:
        if one.why:
            reasons.setdefault(one.why.rstrip("."), []).append(one.subject.title)
    for why, names in reasons.items():
        yield f"no regression on several measures at once for {listed(names)}: {lower(why)}."


def _no_bends(study: Study, own: Findings) -> Iterator[str]:
    if BASELINE not in study.recipes:
        yield f"without the recipe {BASELINE} there is no slope to flatten; add it to the study."
    elif len(study.recipes) == 1:
        yield (
            f"with {BASELINE} alone nothing can be said of intermediate training; "
            "add recipes to the study."
        )


def methods(study: Study, found: Sequence[Findings]) -> tuple[str, ...]:
    """How it was computed."""
    subjects = found[0].subjects if found else []
    scores = [s.title for s in subjects if not s.drops]
    mixed = {
        target.title: None
        for s in subjects
        if s.drops
        for target in s.targets
        if study.source not in target.languages
    }
    groups = any(len(subject.targets) > 1 for subject in subjects)
    planted = any(own.rankings for own in found)
    return tuple(_methods(study, [*scores, *mixed], groups, planted))


def _methods(study: Study, scores: Sequence[str], groups: bool, planted: bool) -> Iterator[str]:
    yield (
        f"The drop of a language is its score minus that of {language_name(study, study.source)}, "
        "per seed; negative drops are losses."
    )
    if scores:
        yield (
            "The score itself is taken where the source language has none (retrieval pairs each "
            f"language with it): {_distinct(scores)}. Slopes and correlations mean the "
            "same, levels do not."
        )
    if groups:
        yield (
            "A group has one value per language and seed: the effect of the language in a "
            "least-squares fit of targets and languages, so that targets with other languages can "
            "be put together."
        )
    yield (
        "Every measure is turned so that larger means farther, and divided by its standard "
        "deviation over the languages of the target. Correlations are over languages, of means "
        f"over seeds, with Fisher's interval, from {FEWEST + 1} languages on; slopes are of a "
        "mixed-effects regression with random languages and seeds. P-values are corrected by Holm "
        "over all measures, targets and groups of a model and recipe."
    )
    yield (
        f"Flattening: the drop under a recipe minus that under {BASELINE}, paired by seed and "
        "language, regressed on the measure; Holm over the recipes and measures of a target. A "
        "recipe flattens a slope if it brings it nearer to 0, and steepens it otherwise."
    )
    yield (
        f"Several measures at once: at least {LANGUAGES_PER_MEASURE} languages per measure (two "
        "are enough for coefficients and intervals, Austin and Steyerberg 2015; measures that go "
        "together need more), in an order fixed before any score is seen (syntax and size of the "
        "pretraining data first, after Lauscher et al. 2020), without those whose variance "
        f"inflation reaches {MOST_INFLATION:.0f} (Kutner et al. 2005); languages and seeds "
        "random, targets fixed; Holm over the measures of a regression."
    )
    if planted:
        yield (
            "The planted order is compared with the order of mean zero-shot scores; the p-value of "
            "Kendall's tau is exact up to 8 languages. Equal values share the mean of their ranks."
        )


def probability(p: float | None) -> str:
    """A p-value in a sentence."""
    if p is None:
        return "p not known"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _distinct(names: Iterable[str]) -> str:
    return listed(list(dict.fromkeys(names)))


def lower(text: str) -> str:
    """A title inside a sentence: its first letter small, unless it is an abbreviation."""
    return text if text[:2].isupper() or not text else text[0].lower() + text[1:]

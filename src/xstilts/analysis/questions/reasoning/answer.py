"""Do models gain on reasoning?

Gains over `none` on targets that ask for reasoning, beside those on NLI and the rest, by model and
kind of model. How a score was made, by an encoder or a decoder, plays no part here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xstilts.analysis.answer import Answer, Figure
from xstilts.analysis.numbers import counted, listed, plain
from xstilts.analysis.questions.phrases import first_named, model_title, ranged, sorted_out
from xstilts.analysis.questions.reasoning.contrasts import Contrast, Gain, contrasts_of, gains_of
from xstilts.analysis.questions.reasoning.figures import against_nli, gains_by_model
from xstilts.analysis.questions.reasoning.kinds import (
    SIZES,
    Kinds,
    Level,
    Size,
    kind_of,
    kinds_of,
    levels_of,
    parameters_of,
    sizes_of,
)
from xstilts.analysis.questions.reasoning.tables import (
    contrast_table,
    gain_table,
    kind_table,
    language_table,
    level_table,
    rows_by_language,
    rule_table,
    size_table,
)
from xstilts.analysis.study import BASELINE, Study, Target

QUESTION = "reasoning"
TITLE = "Do models gain on reasoning?"
KIND, BESIDE = "reasoning", "nli"
#: With fewer seeds, the comparison over examples is told, too.
_FEW = 3


def answer(study: Study) -> Answer:
    """Gains on reasoning by model and recipe, against NLI, chance, and kinds of models."""
    scored = [target for target in study.targets if _has_scores(study, target)]
    asked = [target for target in scored if target.kind == KIND]
    if not asked:
        planned = any(target.kind == KIND for target in study.targets)
        return Answer(QUESTION, TITLE, cannot=(_no_target(planned),))
    beside = [target for target in scored if target.kind == BESIDE]
    gains = gains_of(study, [target.name for target in (*asked, *beside)])
    own = [gain for gain in gains if gain.target in asked]
    contrasts = contrasts_of(gains, (KIND, BESIDE))
    levels = [level for target in (*asked, *beside) for level in levels_of(study, target)]
    kinds = kinds_of(study, own)
    sizes = sizes_of(study, own)
    languages = [row for target in (*asked, *beside) for row in rows_by_language(study, target)]
    tables = (
        gain_table(study, gains),
        contrast_table(contrasts),
        level_table(study, levels, languages),
        kind_table(kinds),
        size_table(sizes),
        language_table(study, languages),
        rule_table(study),
    )
    return Answer(
        question=QUESTION,
        title=TITLE,
        says=tuple(_says(study, asked, levels, gains, contrasts, kinds, sizes)),
        cannot=tuple(_cannot(study, asked, beside, own, contrasts)),
        methods=_methods(study, asked, beside),
        tables=tuple(table for table in tables if table.rows),
        figures=first_named(QUESTION, _figures(study, own, contrasts)),
    )


def _has_scores(study: Study, target: Target) -> bool:
    return any(study.cells(*pair, target.name) for pair in study.pairs())


# ---- what cannot be said


def _no_target(planned: bool) -> str:
    scores = " with scores" if planned else ""
    return (
        f"The study has no target of kind {KIND}{scores}: nothing can be said of reasoning. Add "
        "one (xcopa) to `targets`."
    )


def _cannot(
    study: Study,
    asked: Sequence[Target],
    beside: Sequence[Target],
    gains: Sequence[Gain],
    contrasts: Sequence[Contrast],
) -> Iterator[str]:
    if BASELINE not in study.recipes:
        yield (
            f"The study has no recipe {BASELINE}: gains are not known. Add `{BASELINE}:` to "
            "`recipes`."
        )
    elif not gains:
        yield f"No recipe but {BASELINE} has scores on reasoning beyond the source language."
    if not beside:
        yield (
            f"The study has no target of kind {BESIDE} with scores: gains on reasoning have "
            "nothing to stand against. Add one (xnli) to `targets`."
        )
    elif gains and not contrasts:
        names = listed([target.title for target in (*asked, *beside)])
        yield f"{names} share no language, seed or recipe: their gains cannot be compared."
    yield from _cannot_kinds(study)
    for target in asked:
        if target.chance is None:
            yield f"What a blind guess scores on {target.title} is not known."
    for why in sorted({gain.wide.why for gain in gains if gain.wide.why}):
        hint = " Add seeds to the study." if why.startswith("One seed") else ""
        yield f"A gain has no interval: {why}{hint}"


def _cannot_kinds(study: Study) -> Iterator[str]:
    kinds = {kind_of(study, model) for model in study.models}
    for kind in ("encoder", "decoder"):
        if kind not in kinds:
            yield (
                f"The study has no {kind} models: encoders and decoders cannot be compared. Add "
                f"{kind} models to `models`."
            )
    sizes = [size for model in study.models if (size := parameters_of(study, model))]
    if len(sizes) < SIZES:
        yield (
            f"{counted(len(sizes), 'model')} of known size: whether gains go with size cannot be "
            f"said. It takes {SIZES}."
        )


# ---- paragraphs


def _says(
    study: Study,
    asked: Sequence[Target],
    levels: Sequence[Level],
    gains: Sequence[Gain],
    contrasts: Sequence[Contrast],
    kinds: Sequence[Kinds],
    sizes: Sequence[Size],
) -> Iterator[str]:
    for target in asked:
        own = [gain for gain in gains if gain.target == target]
        if own:
            yield _says_all(study, target, own)
        for model in study.models:
            yield from _says_level(
                study, [v for v in levels if (v.model, v.target) == (model, target)]
            )
            mine = [gain for gain in own if gain.model == model]
            if mine:
                yield _says_gains(study, mine)
            yield from _says_contrasts(
                study, [c for c in contrasts if (c.first.model, c.first.target) == (model, target)]
            )
    yield from _says_kinds(study, kinds)
    for size in sizes:
        if size.found.pearson is not None:
            yield _says_size(size)


def _says_all(study: Study, target: Target, gains: Sequence[Gain]) -> str:
    models = list(dict.fromkeys(gain.model for gain in gains))
    text = []
    for verdict, verb in (("higher", "gain"), ("lower", "lose")):
        own = {gain.model for gain in gains if gain.wide.verdict == verdict}
        names = listed([model_title(study, model) for model in models if model in own])
        named = f": {names}" if names else ""
        text.append(f"{len(own)} of {counted(len(models), 'model')} {verb} with some recipe{named}")
    return f"On {target.title}, {text[0]}; {text[1]}."


def _title(study: Study, model: str) -> str:
    known = [kind_of(study, model)]
    parameters = parameters_of(study, model)
    known += [f"{parameters / 1e6:,.0f} M parameters"] if parameters else []
    inside = ", ".join(filter(None, known))
    return model_title(study, model) + (f" ({inside})" if inside else "")


def _says_level(study: Study, levels: Sequence[Level]) -> Iterator[str]:
    for level in levels:
        if level.recipe != BASELINE:
            continue
        text = (
            f"{_title(study, level.model)}: without intermediate training the mean score on "
            f"{level.target.title} is {level.score:.1f} in other languages than the source"
        )
        chance = level.target.chance
        if level.above is None or chance is None:
            yield f"{text}."
            continue
        others = "other languages" if level.fixed else "other languages and seeds"
        where = {
            "higher": f"above it for {others}, too",
            "lower": f"below it for {others}, too",
            "cannot be told apart": "which cannot be told apart from it",
            "cannot be said": "without an interval",
        }[level.above.verdict]
        yield f"{text}. Chance is {chance:.1f}; the distance is {ranged(level.above)}, {where}."


def _says_gains(study: Study, gains: Sequence[Gain]) -> str:
    rise, fall = "Scores rise with", "Scores fall with"
    entries = [(gain.recipe, gain.wide) for gain in gains]
    first = gains[0]
    text = (
        f"{model_title(study, first.model)}, {first.target.title} against {BASELINE}, for other "
        f"languages and seeds: {sorted_out(entries, rise, fall)}"
    )
    few = [gain for gain in gains if len(gain.grid.seeds) < _FEW and gain.items is not None]
    examples = [(gain.recipe, gain.items) for gain in few if gain.items is not None]
    if examples:
        count = counted(len(few[0].grid.seeds), "seed")
        text += (
            f" With {count}, over the test examples, for these trainings and languages only: "
            f"{sorted_out(examples, rise, fall)}"
        )
    return text


def _says_contrasts(study: Study, contrasts: Sequence[Contrast]) -> Iterator[str]:
    families: dict[str, list[Contrast]] = {}
    for contrast in contrasts:
        families.setdefault(contrast.second.target.title, []).append(contrast)
    for name, own in families.items():
        first = own[0].first
        entries = [(contrast.first.recipe, contrast.difference) for contrast in own]
        more, less = f"{first.target.title} gains more with", f"{name} gains more with"
        count = counted(len(own[0].languages), "language")
        yield (
            f"{model_title(study, first.model)}, gain on {first.target.title} minus gain on {name} "
            f"in the {count} that both have: {sorted_out(entries, more, less)}"
        )


def _says_kinds(study: Study, kinds: Sequence[Kinds]) -> Iterator[str]:
    by_target: dict[str, list[Kinds]] = {}
    for found in kinds:
        by_target.setdefault(found.target.title, []).append(found)
    for name, own in by_target.items():
        entries = [(found.recipe, found.difference) for found in own]
        sides = []
        for kind, models in (("encoder", own[0].encoders), ("decoder", own[0].decoders)):
            titles = listed([model_title(study, model) for model in models])
            sides.append(f"{counted(len(models), kind)} ({titles})")
        yield (
            f"{name}, gain of {sides[1]} minus gain of {sides[0]}, of these models only: "
            f"{sorted_out(entries, 'Decoders gain more with', 'Encoders gain more with')}"
        )


def _says_size(size: Size) -> str:
    found = size.found
    text = f"{size.target.title}, {size.recipe}: over {found.n} models the gain correlates with "
    assert found.pearson is not None
    text += f"the logarithm of the parameters by {plain(found.pearson, 2)}"
    if found.low is None or found.high is None:
        return f"{text}, without an interval."
    return f"{text} [{plain(found.low, 2)}, {plain(found.high, 2)}]."


# ---- methods and figures


def _methods(study: Study, asked: Sequence[Target], beside: Sequence[Target]) -> tuple[str, ...]:
    chances = [f"{t.title} {t.chance:.1f}" for t in (*asked, *beside) if t.chance is not None]
    chance = f"Chance is 100 over the number of answers to choose from: {listed(chances)}."
    return (
        "A gain is a score minus that of none with the same seed in the same language, the source "
        "language left out. Its 95 % interval is for other languages and other seeds, both random "
        "and crossed. Tests are corrected by Holm's method over the recipes of a model and target.",
        f"Over examples, a recipe is compared with none by a BCa bootstrap ({study.samples:,} "
        "resamples) and a permutation test. An example is drawn together with its translations in "
        "all languages; the trainings are taken as they are.",
        *([chance] if chances else []),
        "Kinds of models are compared by the means of the models at hand; this says nothing of "
        "other models, and kinds may differ in size and data as well.",
    )


def _figures(
    study: Study, gains: Sequence[Gain], contrasts: Sequence[Contrast]
) -> Iterator[Figure]:
    if gains:
        yield gains_by_model(study, gains)
    if contrasts:
        yield against_nli(study, contrasts)

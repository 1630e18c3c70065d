"""How robust is zero-shot transfer for NER against NLI?

Both are held against their own score in the source language. The comparison is paired: the same
model, recipe, seeds and languages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xstilts.analysis.answer import Answer, Figure
from xstilts.analysis.numbers import counted, listed, plain, signed
from xstilts.analysis.questions.phrases import (
    first_named,
    language_name,
    model_title,
    ranged,
    sorted_out,
)
from xstilts.analysis.questions.robustness.figures import context, distribution, narrowing, slopes
from xstilts.analysis.questions.robustness.gaps import LEAST
from xstilts.analysis.questions.robustness.pairings import (
    Change,
    Pairing,
    Part,
    Parts,
    changes_of,
    pairings_of,
    parts_of,
)
from xstilts.analysis.questions.robustness.tables import (
    mean_of,
    noise_rows,
    spread_row,
    tables_of,
    worst,
)
from xstilts.analysis.stats.estimate import CONFIDENCE, Estimate
from xstilts.analysis.study import BASELINE, Row, Study, Target

QUESTION = "robustness"
TITLE = "How robust is zero-shot transfer for NER against NLI?"
#: The two kinds of targets that are compared: the first minus the second.
KINDS = ("ner", "nli")
_NAMES = {"ner": "NER", "nli": "NLI"}


def answer(study: Study) -> Answer:
    """Spread, gaps and their changes of every target; NER and NLI side by side."""
    parts = parts_of(study)
    asked = [target for kind in KINDS for target in _of(study, kind)]
    asked = [target for target in asked if any(key[2] == target.name for key in parts)]
    if not asked:
        return Answer(QUESTION, TITLE, cannot=tuple(_missing(study, parts)))
    pairings = pairings_of(study, parts, KINDS)
    changes = changes_of(study, parts)
    noise = [row for target in asked for row in noise_rows(study, target, parts)]
    tables = tables_of(parts, pairings, changes, noise)
    return Answer(
        question=QUESTION,
        title=TITLE,
        says=tuple(_says(study, asked, parts, pairings, changes, noise)),
        cannot=tuple(_cannot(study, asked, parts, pairings)),
        methods=_methods(study, asked),
        tables=tuple(table for table in tables if table.rows),
        figures=first_named(QUESTION, _figures(study, asked, parts, pairings, changes)),
    )


# ---- what cannot be said


def _missing(study: Study, parts: Parts) -> Iterator[str]:
    for kind in KINDS:
        if not any(key[2] == target.name for target in _of(study, kind) for key in parts):
            planned = " with scores" if _of(study, kind) else ""
            yield (
                f"The study has no target of kind {kind}{planned}: NER and NLI cannot be compared. "
                f"Add one to `targets` (the registry's key `kind` names it)."
            )


def _cannot(
    study: Study, asked: Sequence[Target], parts: Parts, pairings: Sequence[Pairing]
) -> Iterator[str]:
    yield from _missing(study, parts)
    for target in asked:
        if study.source not in target.languages:
            yield (
                f"{target.title} has no scores in the source language ({study.source}): its gap is "
                f"not known. Add {study.source} to its languages."
            )
    if BASELINE not in study.recipes:
        yield (
            f"The study has no recipe {BASELINE}: what intermediate training changes is not known. "
            f"Add `{BASELINE}:` to `recipes`."
        )
    yield from _cannot_pair(study, parts, pairings)
    for part in parts.values():
        if part.target in asked and part.gaps is not None and part.gaps.why:
            yield f"{model_title(study, part.model)}, {part.recipe}, {_name(part)}: {part.gaps.why}"
    reasons = {p.share.why for p in pairings if p.share is not None and p.share.why}
    for why in sorted(reasons):
        hint = " Add seeds to the study." if why.startswith("One seed") else ""
        yield f"A difference of NER and NLI has no interval: {why}{hint}"


def _cannot_pair(study: Study, parts: Parts, pairings: Sequence[Pairing]) -> Iterator[str]:
    paired = {(pairing.first.key, pairing.second.key) for pairing in pairings}
    for part in parts.values():
        if part.target.kind != KINDS[0]:
            continue
        for target in _of(study, KINDS[1]):
            other = (part.model, part.recipe, target.name)
            where = f"{model_title(study, part.model)}, {part.recipe}"
            if other not in parts:
                yield f"{where}: {target.title} has no scores to compare {_name(part)} with."
            elif (part.key, other) not in paired and parts[other].gaps and part.gaps:
                yield f"{where}: {_name(part)} and {target.title} share no language or no seed."


def _of(study: Study, kind: str) -> list[Target]:
    return [target for target in study.targets if target.kind == kind]


def _name(part: Part) -> str:
    return part.target.title


# ---- paragraphs


def _says(
    study: Study,
    asked: Sequence[Target],
    parts: Parts,
    pairings: Sequence[Pairing],
    changes: Sequence[Change],
    noise: Sequence[Row],
) -> Iterator[str]:
    shown = shown_recipe(study)
    for model in study.models:
        own = [pairing for pairing in pairings if pairing.first.model == model]
        yield from (_says_pair(study, p) for p in own if p.first.recipe == shown)
        yield from _says_changes(study, model, own, [c for c in changes if c.part.target in asked])
        for target in asked:
            part = parts.get((model, shown, target.name))
            if part is not None and part.zero_shot is not None:
                yield _says_spread(study, part)
    yield from _says_noise(study, asked, noise)


def shown_recipe(study: Study) -> str:
    """The recipe that stands for the model itself: `none`, or the first."""
    return BASELINE if BASELINE in study.recipes else study.recipes[0]


def _says_pair(study: Study, pairing: Pairing) -> str:
    first, second = pairing.first, pairing.second
    count = counted(len(pairing.languages), "language")
    text = (
        f"{model_title(study, first.model)}, {first.recipe}: in the {count} that {_name(first)} "
        f"and {_name(second)} share, {_name(first)} keeps {_kept(pairing, first)} of its score in "
        f"{language_name(study, study.source)} and {_name(second)} {_kept(pairing, second)}."
    )
    if pairing.share is None:
        return f"{text} They cannot be compared in shares."
    verdict = _verdict(pairing, pairing.share)
    text += f" The difference is {ranged(pairing.share)} percentage points: {verdict}."
    if pairing.beyond is not None and second.target.chance is not None:
        text += (
            f" Counted from chance ({plain(second.target.chance)} on {_name(second)}), it is "
            f"{ranged(pairing.beyond)}: {_verdict(pairing, pairing.beyond)}."
        )
    together = pairing.together
    if together is not None and together.pearson is not None:
        text += f" Over these languages the two correlate with {plain(together.pearson, 2)}"
        if together.low is not None and together.high is not None:
            text += f" [{plain(together.low, 2)}, {plain(together.high, 2)}]"
        text += "."
    return text


def _kept(pairing: Pairing, part: Part) -> str:
    """What is kept of the source score over the languages of a pairing."""
    if part.gaps is None or part.gaps.shares is None:
        return "a share that cannot be said"
    return f"{100 + float(part.gaps.shares.of(pairing.languages).values.mean()):.1f} %"


def _verdict(pairing: Pairing, share: Estimate) -> str:
    match share.verdict:
        case "higher":
            return f"{_name(pairing.second)} loses more"
        case "lower":
            return f"{_name(pairing.first)} loses more"
        case "cannot be told apart":
            corrected = share.p is not None and share.p <= 1 - CONFIDENCE
            after = " after correction for several tests" if corrected else ""
            return f"the two cannot be told apart{after}"
    return f"it has no interval ({_small(share.why)})"


def _small(why: str) -> str:
    """A reason within a sentence."""
    return why[:1].lower() + why[1:].rstrip(".")


def _says_changes(
    study: Study, model: str, pairings: Sequence[Pairing], changes: Sequence[Change]
) -> Iterator[str]:
    title = model_title(study, model)
    by_target: dict[str, list[tuple[str, Estimate]]] = {}
    for change in changes:
        if change.part.model == model and change.share is not None:
            entry = change.part.recipe, change.share
            by_target.setdefault(_name(change.part), []).append(entry)
    for name, entries in by_target.items():
        more, less = "More is kept with", "Less is kept with"
        yield f"{title}, {name}, share kept against none: {sorted_out(entries, more, less)}"
    by_pair: dict[tuple[str, str], list[tuple[str, Estimate]]] = {}
    for pairing in pairings:
        if pairing.narrowing is not None:
            names = _name(pairing.first), _name(pairing.second)
            by_pair.setdefault(names, []).append((pairing.first.recipe, pairing.narrowing))
    for (first, second), entries in by_pair.items():
        more, less = f"{first} gains more than {second} with", f"{second} gains more with"
        both = f"{first} against {second} in the languages that both have"
        yield f"{title}, {both}: {sorted_out(entries, more, less)}"


def _says_spread(study: Study, part: Part) -> str:
    row = spread_row(part)
    count = counted(row["languages"], "language")
    text = (
        f"{model_title(study, part.model)}, {part.recipe}, {_name(part)}: scores in {count} other "
        f"than the source run from {row['lowest']:.1f} to {row['highest']:.1f}"
    )
    if row["sd"] is not None:
        text += f", with a standard deviation of {row['sd']:.1f}"
    if row["sd_one"] is not None:
        text += f" over languages; over {row['seeds']} seeds one language's has {row['sd_one']:.1f}"
    lowest = []
    for code in worst(part):
        gap = mean_of(part, "points", code)
        score = f"{mean_of(part, 'score', code):.1f}"
        behind = score if gap is None else f"{score}, {signed(gap)}"
        lowest.append(f"{language_name(study, code)} ({behind})")
    return f"{text}. The lowest: {listed(lowest)}."


def _says_noise(study: Study, asked: Sequence[Target], noise: Sequence[Row]) -> Iterator[str]:
    for target in asked:
        rows = [row for row in noise if row["target"] == target.name]
        changed = [row for row in rows if row["change_hidden"]]
        hidden = [row for row in changed if row["change_hidden"] == "yes"]
        if not rows:
            continue
        least = min(rows, key=lambda row: (row["n"], row["lower"] - row["upper"], row["language"]))
        text = (
            f"{target.title}: the smallest test set is {language_name(study, least['language'])} "
            f"with {counted(least['n'], 'example')}; {model_title(study, least['model'])}'s score "
            f"there, {least['recipe']}, has an interval of {least['lower']:.1f} to "
            f"{least['upper']:.1f}."
        )
        if changed:
            text += (
                f" In {len(hidden)} of {len(changed)} changes of one language with one recipe, the "
                f"noise of the test set is larger than the change."
            )
        yield text


# ---- methods and figures


def _methods(study: Study, asked: Sequence[Target]) -> tuple[str, ...]:
    chances = [f"{t.title} {t.chance:.1f}" for t in asked if t.chance is not None]
    above = f" Chance: {listed(chances)}." if chances else ""
    return (
        "A gap is a score minus the score in the source language with the same seed. As a share it "
        "is divided by that score, so that F1 and accuracy can be compared. F1 falls to 0 and "
        "accuracy only to chance: a second share counts accuracy from chance." + above,
        f"Nothing is said as a share of a score that is less than {LEAST:g} points above what "
        "it is counted from.",
        "Means have 95 % intervals for other languages and other seeds: both are random and "
        "crossed. Differences are paired by language and seed. Tests are corrected by Holm's "
        "method over the recipes of a model and target, or of a model and pair of targets.",
        "Spread over languages and over seeds are components of variance of a two-way analysis; "
        "the spread of one language over seeds is that of seeds and of the rest together.",
        f"The noise of a test set is a percentile bootstrap over its examples ({study.samples:,} "
        "resamples), paired between recipes, for these trainings. A change lies within the noise "
        "where its interval holds 0, a gap where the interval of the score holds the source score.",
    )


def _figures(
    study: Study,
    asked: Sequence[Target],
    parts: Parts,
    pairings: Sequence[Pairing],
    changes: Sequence[Change],
) -> Iterator[Figure]:
    shown = [p for p in pairings if p.first.recipe == shown_recipe(study) and p.share is not None]
    if shown:
        yield slopes(study, shown)
    if any(pairing.narrowing is not None for pairing in pairings):
        yield narrowing(study, pairings, changes)
    shares = [part for part in parts.values() if part.gaps and part.gaps.shares]
    own = [part for target in asked for part in shares if part.target == target]
    if own:
        yield distribution(study, own)
    beside = [part for part in shares if part.recipe == shown_recipe(study)]
    if len({part.target.name for part in beside}) > len(asked):
        yield context(study, beside)

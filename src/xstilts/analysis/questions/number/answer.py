"""What do more intermediate tasks bring? The curve, its knee, orders, and each task's part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from zlib import crc32

from xstilts.analysis.answer import Answer
from xstilts.analysis.numbers import counted, listed, plain, signed
from xstilts.analysis.questions.number.curve import curve_of
from xstilts.analysis.questions.number.figures import figures
from xstilts.analysis.questions.number.tables import RETRIEVAL, Findings, tables
from xstilts.analysis.questions.phrases import model_title, ranged
from xstilts.analysis.stats.estimate import CONFIDENCE, Estimate
from xstilts.analysis.stats.knee import FEWEST, STEP, Knee
from xstilts.analysis.study import Study

TITLE = "What do more intermediate tasks bring?"


def answer(study: Study) -> Answer:
    """Scores by number of intermediate tasks, on retrieval first and on every other target.

    Args:
        study: A study with nested sets of tasks (`nested`), or else with recipes of different
            numbers of tasks.
    """
    found = [one for model in study.models for one in _of_model(study, model)]
    cannot = tuple(_cannot(study, found))
    if not found:
        return Answer("number", TITLE, cannot=cannot)
    return Answer(
        question="number",
        title=TITLE,
        says=tuple(_says(study, found)),
        cannot=cannot,
        methods=tuple(_methods(study)),
        tables=tables(found),
        figures=figures(study, found),
    )


def _of_model(study: Study, model: str) -> Iterator[Findings]:
    for target in sorted(study.targets, key=lambda target: target.kind not in RETRIEVAL):
        curve = curve_of(study, model, target.name)
        if curve is not None:
            # A drawing of its own for each curve, whatever others there are.
            own = crc32(f"{model}/{target.name}".encode())
            yield Findings(curve, target, study.samples, (study.seed, own))


# ---- what is said


def _says(study: Study, found: Sequence[Findings]) -> Iterator[str]:
    for one in found:
        if one.retrieval:
            yield " ".join(_paragraph(study, one))
    for model in study.models:
        others = [one for one in found if one.curve.model == model and not one.retrieval]
        if others:
            lines = " ".join(_short(one) for one in others)
            yield f"{model_title(study, model)} on the other targets: {lines}"


def _paragraph(study: Study, one: Findings) -> Iterator[str]:
    yield f"{model_title(study, one.curve.model)} on {one.target.title}: {_means(one)}."
    yield _best(one)
    yield _knee(one)
    yield from _further(one)
    yield from _orders(one)
    yield from _parts(one)


def _means(one: Findings) -> str:
    values = [f"{plain(one.means[size].value)} with {_of(size)}" for size in one.curve.sizes]
    return f"the mean score is {listed(values)}"


def _of(size: int) -> str:
    return "no task" if size == 0 else counted(size, "task")


def _best(one: Findings) -> str:
    gain = one.gains.get(one.best)
    text = f"It is highest with {_of(one.best)}"
    if gain is not None:
        text += f": {ranged(gain)} against none"
        text += {
            "cannot be told apart": ", which cannot be told apart from no change",
            "cannot be said": "",
        }.get(gain.verdict, "")
    if one.fewest is None:
        return f"{text}."
    if one.fewest == one.best:
        smaller = [size for size in one.curve.sizes if size < one.best]
        return f"{text}; every smaller number scores lower." if smaller else f"{text}."
    verb = "is" if one.fewest < 2 else "are"
    return (
        f"{text}. {_of(one.fewest).capitalize()} {verb} the fewest that cannot be told apart "
        "from it."
    )


def _knee(one: Findings) -> str:
    bend = one.knee
    if isinstance(bend, str):
        return f"No knee: {bend[0].lower()}{bend[1:]}"
    if bend.why:
        return f"No knee is shown: {bend.why[0].lower()}{bend.why[1:]}"
    return _bend(bend)


def _bend(bend: Knee) -> str:
    assert bend.low is not None
    assert bend.high is not None
    return (
        f"The knee lies at {plain(bend.place)} tasks [{plain(bend.low)}, {plain(bend.high)}]: "
        f"before it a further task brings {signed(bend.before)} points, after it "
        f"{signed(bend.after)}."
    )


def _further(one: Findings) -> Iterator[str]:
    """Which further tasks raise the score, and whether adding harms."""
    for verdict, verb in (("higher", "raises"), ("lower", "lowers")):
        steps = [step for step in one.steps if step.gain.verdict == verdict]
        if steps:
            parts = [f"{step.start} to {step.end} ({ranged(step.gain)})" for step in steps]
            unit = "" if all(step.end - step.start == 1 for step in steps) else ", per task"
            yield f"Going from {listed(parts)} {verb} the score{unit}."
    if all(step.gain.p is None for step in one.steps):
        return
    if not any(step.gain.verdict == "lower" for step in one.steps):
        falls, pairs = (sum(getattr(s, name) for s in one.steps) for name in ("lower", "pairs"))
        yield (
            "No step lowers it on average as far as can be told; the score falls in "
            f"{falls} of {counted(pairs, 'pair')} of sets."
        )


def _orders(one: Findings) -> Iterator[str]:
    spread = one.spread
    if spread is not None:
        differ = "differ" if spread.p <= 1 - CONFIDENCE else "cannot be told apart"
        yield (
            f"Sets of the same number of tasks {differ} (F = {spread.f:.1f} with {spread.df[0]} "
            f"and {spread.df[1]} degrees of freedom, p {_p(spread.p)}): the spread is "
            f"{plain(spread.sets)} points over sets and {plain(spread.seeds)} over seeds."
        )
        sizes = [str(n) for n, p in one.adjusted.items() if p is not None and p <= 1 - CONFIDENCE]
        if sizes and len(one.spreads) > 1:
            yield f"By number they differ with {listed(sizes)} tasks."
    last = one.curve.sizes[-1]
    if len(one.curve.chains) > 1 and len(one.curve.sets[last]) == 1:
        yield f"All orders share the set of {last} tasks: order says nothing there."


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _parts(one: Findings) -> Iterator[str]:
    """What tasks bring when they are added, and against the average task."""
    for verdict, verb in (("higher", "raise"), ("lower", "lower")):
        added = [(part.task, part.gain) for part in one.added if part.gain.verdict == verdict]
        if added:
            yield f"Tasks that {verb} the score when they are added: {_named(added)}."
    if one.added and all(part.gain.verdict == "cannot be told apart" for part in one.added):
        yield "What single tasks bring when they are added cannot be told apart from 0."
    beside = [(part.task, part.beside) for part in one.added if part.beside is not None]
    for verdict, word in (("higher", "more"), ("lower", "less")):
        found = [(task, estimate) for task, estimate in beside if estimate.verdict == verdict]
        if found:
            yield (
                f"At the same number of tasks these bring {word} than the average one: "
                f"{_named(found)}."
            )


def _named(found: list[tuple[str, Estimate]]) -> str:
    found = sorted(found, key=lambda one: -abs(one[1].value))
    return listed([f"{task} ({ranged(estimate)})" for task, estimate in found])


def _short(one: Findings) -> str:
    """One sentence on a target that is not retrieval."""
    first, best = one.curve.sizes[0], one.best
    text = f"{one.target.title} goes from {plain(one.means[first].value)} with {_of(first)} to "
    text += f"its best {plain(one.means[best].value)} with {_of(best)}"
    if best == first:
        text = f"{one.target.title} is best with {_of(best)} ({plain(one.means[best].value)})"
    if one.fewest is not None and one.fewest != best:
        text += f"; {_of(one.fewest)} cannot be told apart from that"
    return f"{text}."


# ---- what cannot be said, and how it was computed


def _cannot(study: Study, found: Sequence[Findings]) -> Iterator[str]:
    if not found:
        yield (
            "No model has scores of two different numbers of intermediate tasks: what more tasks "
            "bring needs sets of several sizes. Add the key `nested` to the study."
        )
        return
    if not any(one.retrieval for one in found):
        yield (
            "The study has no scores on retrieval. Add a target such as tatoeba, bucc2018 or "
            "lareqa_dual."
        )
    if any(len(one.curve.seeds) < 2 for one in found):
        yield (
            "With one seed the spread over seeds is not known: no intervals, tests or knees. Add "
            "seeds to the study."
        )
    if any(0 not in one.curve.sets for one in found):
        yield "Without scores of `none` it is not known what the first task brings."
    if len(study.orders) < 2:
        yield (
            "The study does not nest its sets in several orders, so that the effect of the order "
            "is not known; sets of one number may differ in more than their number. Add the key "
            "`nested` with several orders."
            if not study.orders
            else "With one order, sets and numbers of tasks cannot be told apart. Raise `orders` "
            "under `nested`."
        )
    yield from _gaps(study, found)


def _gaps(study: Study, found: Sequence[Findings]) -> Iterator[str]:
    """Curves that are not there or lack sets."""
    there = {(one.curve.model, one.curve.target) for one in found}
    for model in study.models:
        titles = [t.title for t in study.targets if (model, t.name) not in there]
        if titles:
            yield (
                f"{model_title(study, model)} has no scores of two different numbers of tasks on "
                f"{listed(titles)}."
            )
    for one in found:
        if one.curve.missing:
            yield (
                f"{model_title(study, one.curve.model)} on {one.target.title}: "
                f"{listed(one.curve.missing)} lack scores, or scores of the seeds "
                f"{listed(list(map(str, one.curve.seeds)))}, and are left out."
            )


def _methods(study: Study) -> Iterator[str]:
    orders = len(study.orders)
    if orders:
        yield (
            f"Sets of intermediate tasks are nested in {counted(orders, 'order')}: each adds tasks "
            "to the one before. A set that stands in several orders is trained once and counted "
            "once."
        )
    yield (
        "The score is the value that XTREME averages, the mean over a target's languages. "
        "Intervals of mean scores hold for these languages, and for other sets and seeds than "
        "these. Differences are paired by order, seed and language; their intervals hold for "
        "other orders, seeds and languages, all three random and crossed."
    )
    yield (
        "P-values are corrected by Holm within a model and target: over the numbers of tasks, over "
        "the steps, over the tasks. The fewest tasks that cannot be told apart from the best "
        "number are found by testing it against 0, 1, 2 ... tasks in turn, until a test finds "
        "nothing."
    )
    yield (
        f"A knee is two lines that meet, with the place on a grid of {STEP:g} tasks, and needs "
        f"{FEWEST} numbers of tasks. It is shown only where the Bayesian information criterion "
        "prefers two lines to one and the change of slope differs from 0 over orders and seeds; "
        f"its interval comes from {study.samples:,} drawings of orders and seeds with replacement, "
        "which few orders or seeds make too narrow rather than too wide."
    )
    yield (
        "Sets of the same number of tasks are compared with the F test of sets against sets by "
        "seeds, on means over the languages. What a task brings when it is added is the mean over "
        "the pairs of sets that differ in this task alone, whatever their number. Against the "
        "average task it is a least-squares fit over all sets: the number of tasks, plus what each "
        "task adds; its interval holds for these languages and other sets."
    )

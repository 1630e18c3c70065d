"""Can the best recipe be told before training? Rankings by predictors against measured scores."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from xstilts.analysis.answer import Answer, Column, Table
from xstilts.analysis.numbers import counted, listed, plain
from xstilts.analysis.questions.phrases import model_title
from xstilts.analysis.questions.prediction.figures import figures_of
from xstilts.analysis.questions.prediction.predicted import (
    KS,
    Case,
    Loss,
    bounds_of,
    cases_of,
    gain_of,
    holds,
    losses_of,
    main_kind,
    over_targets,
    score_of,
)
from xstilts.analysis.questions.prediction.predictors import (
    LOGME,
    PREDICTORS,
    SIMILARITY,
    Predictions,
    Predictor,
)
from xstilts.analysis.stats.estimate import Estimate, tidy
from xstilts.analysis.stats.regret import FEWEST_FOR_INTERVAL
from xstilts.analysis.study import BASELINE, Study, Target
from xstilts.analysis.tables import ALL, ZERO_SHOT

Row = dict[str, Any]

QUESTION = "prediction"
TITLE = "Can the best recipe be told before training?"


def answer(study: Study) -> Answer:
    """Rank the recipes for each target by what was known before, and compare with the scores."""
    folders = study.inputs.get("transferability", [])
    if not folders:
        why = (
            "Nothing was measured before fine-tuning: the study has no recipe but 'none', no target"
            " with labels to train on, or `transferability: null`."
        )
        return Answer(QUESTION, TITLE, cannot=(why,))
    predictions = Predictions(folders)
    cases = list(cases_of(study, predictions))
    losses = [loss for model in study.models for loss in losses_of(model, cases)]
    says = [
        text
        for model in study.models
        for text in _paragraphs(study, predictions, model, cases, losses)
    ]
    return Answer(
        QUESTION,
        TITLE,
        says=tuple(says),
        cannot=tuple(_cannot(study, predictions, cases)),
        methods=_METHODS,
        tables=(
            _loss_table(losses),
            _ranking_table(predictions, cases),
            _prediction_table(study, predictions),
        ),
        figures=tuple(figures_of(study, predictions, cases, losses)),
    )


# ---- tables


def _loss_table(losses: Sequence[Loss]) -> Table:
    rows = [
        {
            "model": loss.model,
            "predictor": loss.predictor.title,
            "languages": loss.kind,
            "k": loss.k,
            "targets": len(loss.by_target),
            "regret": tidy(loss.mean.value),
            **bounds_of(loss.mean),
            "random": tidy(loss.random),
            **{key: cell for key, cell in loss.less.row("less_").items() if key in _LESS},
            "why": loss.mean.why or loss.less.why,
        }
        for loss in losses
    ]
    columns = (
        Column("model", "Model", "model"),
        Column("predictor", "Predictor"),
        Column("languages", "Languages"),
        Column("k", "k", "n"),
        Column("targets", "Targets", "n"),
        Column("regret", "Regret, %", "number", 1),
        Column("low", "from", "number", 1),
        Column("high", "to", "number", 1),
        Column("random", "Random choice, %", "number", 1),
        Column("less_value", "Less than random", "number", 1),
        Column("less_low", "from", "number", 1),
        Column("less_high", "to", "number", 1),
        Column("less_adjusted", "p (Holm)", "p"),
        Column("less_verdict", "Verdict"),
        Column("why", "Why not"),
    )
    return Table(
        "regret", "What is lost by following a predictor, mean over targets", columns, rows
    )


_LESS = ("less_value", "less_low", "less_high", "less_adjusted", "less_verdict")


def _ranking_table(predictions: Predictions, cases: Sequence[Case]) -> Table:
    rows = [_ranking(predictions, case, one) for case in cases for one in PREDICTORS]
    columns = (
        Column("model", "Model", "model"),
        Column("target", "Target", "target"),
        Column("languages", "Languages"),
        Column("predictor", "Predictor"),
        Column("recipes", "Recipes", "n"),
        Column("first", "Predicted best"),
        Column("best", "Best"),
        *(Column(f"regret_{k}", f"Regret@{k}, %", "number", 1) for k in KS),
        Column("spearman", "Spearman", "number"),
        Column("low", "from", "number"),
        Column("high", "to", "number"),
        Column("kendall", "Kendall", "number"),
        Column("why", "Why not"),
    )
    return Table("rankings", "Predicted and measured order of the recipes", columns, rows)


def _ranking(predictions: Predictions, case: Case, predictor: Predictor) -> Row:
    row: Row = {
        "model": case.model,
        "target": case.target.name,
        "languages": case.kind,
        "predictor": predictor.title,
        "recipes": sum(value is not None for value in case.predicted[predictor.name]),
        "best": case.best,
    }
    if case.silent(predictor):
        why = predictions.why(predictor, case.model, case.target)
        return row | {"why": why}
    found = case.correlation(predictor)
    return row | {
        "first": case.first(predictor),
        **{f"regret_{k}": tidy(case.regret(predictor, k)) for k in KS},
        "spearman": tidy(found.spearman),
        "low": tidy(found.low),
        "high": tidy(found.high),
        "kendall": tidy(found.kendall),
        "why": found.why,
    }


def _prediction_table(study: Study, predictions: Predictions) -> Table:
    rows = [
        _prediction(study, predictions, model, recipe, target)
        for model, recipe in study.pairs()
        for target in study.targets
    ]
    columns = (
        Column("model", "Model", "model"),
        Column("target", "Target", "target"),
        Column("recipe", "Recipe", "recipe"),
        Column("logme", LOGME.title, "number", 3),
        Column("similarity", SIMILARITY.title, "number", 3),
        Column("size", "Examples", "n"),
        Column(ZERO_SHOT, "Zero-shot score", "points"),
        Column(f"{ZERO_SHOT}_gain", "Gain", "gain"),
        Column(ALL, "Score, all languages", "points"),
        Column(f"{ALL}_gain", "Gain", "gain"),
    )
    return Table("predictions", "What was predicted, and what was measured", columns, rows)


def _prediction(
    study: Study, predictions: Predictions, model: str, recipe: str, target: Target
) -> Row:
    row: Row = {"model": model, "target": target.name, "recipe": recipe}
    for one in PREDICTORS:
        row[one.name] = tidy(predictions.value(one, model, recipe, target))
    for kind in (ZERO_SHOT, ALL):
        row[kind] = tidy(score_of(study, model, recipe, target, kind))
        if recipe != BASELINE:
            row[f"{kind}_gain"] = tidy(gain_of(study, model, recipe, target, kind))
    return row


# ---- text


def _paragraphs(
    study: Study,
    predictions: Predictions,
    model: str,
    cases: Sequence[Case],
    losses: Sequence[Loss],
) -> list[str]:
    """Zero-shot where the study has such languages, else all languages."""
    kind = main_kind(model, cases)
    own = [case for case in cases if case.model == model and case.kind == kind]
    if not own:
        return []
    title = model_title(study, model)
    shown = "zero-shot scores" if kind == ZERO_SHOT else "scores in all languages"
    texts = []
    for predictor in PREDICTORS:
        found = [
            loss
            for loss in losses
            if (loss.model, loss.kind) == (model, kind) and loss.predictor is predictor
        ]
        if found:
            texts.append(_loss_text(title, shown, found, own))
    if text := _skip_text(study, predictions, title, own):
        texts.append(text)
    return texts


def _loss_text(title: str, shown: str, losses: Sequence[Loss], cases: Sequence[Case]) -> str:
    """What a predictor loses with one recipe tried, then with several, and how well it orders."""
    first, *more = losses
    predictor, n = first.predictor, len(first.by_target)
    over = f"on average over {n} targets" if n > 1 else "on the one target that it ranks for"
    sentences = [
        f"{title}, {shown}: {predictor.title} needs {predictor.needs}.",
        f"The recipe that it puts first is {_percent(first.mean.value)} below the best one {over}"
        f"{_interval(first.mean, above=0)}; a random one is {_percent(first.random)} below it"
        f"{_verdict(first)}.",
        *(
            f"The best of its first {loss.k} is {_percent(loss.mean.value)} below, that of "
            f"{loss.k} random ones {_percent(loss.random)}{_verdict(loss)}."
            for loss in more
        ),
        _order_text(predictor, cases),
    ]
    return " ".join(filter(None, sentences))


def _order_text(predictor: Predictor, cases: Sequence[Case]) -> str:
    found = [case.correlation(predictor).spearman for case in cases if not case.silent(predictor)]
    values = [value for value in found if value is not None]
    if not values:
        return ""
    if len(values) == 1:
        return f"Its rank correlation with the scores is {plain(values[0], 2)} on one target."
    mean = over_targets(values)
    bounds = _interval(mean, above=-1, below=1, digits=2)
    return (
        f"Its rank correlation with the scores is {plain(mean.value, 2)} on average over "
        f"{len(values)} targets{bounds}."
    )


def _skip_text(study: Study, predictions: Predictions, title: str, cases: Sequence[Case]) -> str:
    """Whether LogME tells where intermediate training as such is of use."""
    known = agree = useful = 0
    for case in cases:
        before = predictions.value(LOGME, case.model, BASELINE, case.target)
        gains = [gain_of(study, case.model, r, case.target, case.kind) for r in case.recipes]
        values = [value for value in case.predicted[LOGME.name] if value is not None]
        measured = [gain for gain in gains if gain is not None]
        if before is None or not values or not measured:
            continue
        known += 1
        useful += max(measured) > 0
        agree += (max(values) > before) == (max(measured) > 0)
    if not known:
        return ""
    return (
        f"{title}, against no recipe at all: some recipe is better than 'none' on {useful} of "
        f"{counted(known, 'target')}. LogME is right about that on {agree}, if a recipe is "
        "expected to be better where its LogME is higher than that of 'none'."
    )


def _percent(value: float) -> str:
    return f"{value:.1f} %"


def _interval(
    found: Estimate, above: float = -math.inf, below: float = math.inf, digits: int = 1
) -> str:
    """An interval in brackets, cut to what values there can be; nothing where there is none."""
    if found.low is None or found.high is None:
        return ""
    low, high = max(above, found.low), min(below, found.high)
    return f" (95 % interval {plain(low, digits)} to {plain(high, digits)})"


def _verdict(loss: Loss) -> str:
    """What the test of the difference to a random choice says."""
    if loss.less.verdict == "cannot be said":
        return ""
    word = {"higher": "it is better than chance", "lower": "it is worse than chance"}
    p = loss.less.p if loss.less.adjusted is None else loss.less.adjusted
    shown = "p < 0.001" if p is not None and p < 0.001 else f"p = {p:.3f}"
    return f": {word.get(loss.less.verdict, 'the two cannot be told apart')} ({shown})"


def _cannot(study: Study, predictions: Predictions, cases: Sequence[Case]) -> Iterator[str]:
    if not cases:
        yield "No target has scores of two recipes or more beside 'none': there is nothing to rank."
        return
    for model in study.models:
        kind = main_kind(model, cases)
        own = [case for case in cases if case.model == model and case.kind == kind]
        for text in (
            *_silences(predictions, model, own),
            *_own_tasks(study, own),
            *_few(own),
            *_zeros(own),
        ):
            yield f"{model_title(study, model)}: {text}"


def _silences(predictions: Predictions, model: str, cases: Sequence[Case]) -> Iterator[str]:
    """Targets, and recipes, of which a predictor says nothing."""
    for predictor in PREDICTORS:
        reasons: dict[str, list[str]] = {}
        for case in cases:
            if case.silent(predictor):
                why = predictions.why(predictor, model, case.target)
                reasons.setdefault(why, []).append(case.target.title)
        for why, names in reasons.items():
            yield f"{predictor.title} says nothing of {listed(names)}: {why}."
        left = {
            recipe
            for case in cases
            if not case.silent(predictor)
            for recipe, value in zip(case.recipes, case.predicted[predictor.name], strict=True)
            if value is None
        }
        if left:
            yield f"{predictor.title} says nothing of {listed(sorted(left))}, ranked last."


def _own_tasks(study: Study, cases: Sequence[Case]) -> Iterator[str]:
    """Recipes that hold the task on which a target is fine-tuned anyway."""
    found = [
        f"{recipe} that of {case.target.title}"
        for case in cases
        for recipe in case.recipes
        if holds(study, recipe, case.target)
    ]
    if found:
        yield (
            f"some recipes hold the training task of a target itself ({listed(found)}). Its "
            "data are then similar to themselves, and its labels have been seen: to rank such a "
            "recipe first takes no prediction."
        )


def _few(cases: Sequence[Case]) -> Iterator[str]:
    """What too few recipes cannot say."""
    most = max((len(case.recipes) for case in cases), default=0)
    if without := [f"regret@{k}" for k in KS if k >= most]:
        yield (
            f"{listed(without)} of {most} recipes would be 0 whatever is chosen; it takes "
            "more recipes than are tried."
        )
    if 0 < most < FEWEST_FOR_INTERVAL:
        yield (
            f"{most} recipes are too few for an interval of a target's rank correlation; "
            f"it takes {FEWEST_FOR_INTERVAL}."
        )


def _zeros(cases: Sequence[Case]) -> Iterator[str]:
    names = [case.target.title for case in cases if max(case.scores) <= 0]
    if names:
        yield f"no recipe scores above 0 on {listed(names)}, so there is no regret."


_METHODS = (
    "Recipes other than 'none' are ranked for each target by what is known before any fine-tuning, "
    "and by their measured scores: means over languages, then over seeds.",
    "LogME (You et al. 2021, arXiv 2102.11005) is the largest log evidence, per row, of a linear "
    "model of the labels on frozen features: the last hidden states of the checkpoint after "
    "intermediate training, for a sample of the target's training data in the source language. "
    "Rows are texts, by the mean over their sub-words (classification); first sub-words of words "
    "(tagging); contrasts of a question's choices (multiple choice); sub-words at which an "
    "answer may begin or end, with a column for each (question answering). It is compared "
    "between recipes of one target only, and averaged over seeds.",
    "Data similarity (TextEmb, Vu et al. 2020, arXiv 2005.00770) is the cosine between the mean "
    "embedding of the target's training texts and that of the recipe's tasks, weighted by their "
    "shares of the steps. Embeddings are the base model's, mean-pooled, of samples. Raw text of a "
    "recipe is not in them.",
    "Data size is the number of training examples of a recipe's tasks, each up to its cap.",
    "Regret@k is by how many percent the best of the k recipes predicted best falls short of the "
    "best of all (Poth et al. 2021, arXiv 2104.08247, after Renggli et al. 2022, arXiv "
    "2010.06866). Among equal predictions it is the expected value over random orders; a recipe "
    "without a prediction comes last. A random choice has the expected regret of k recipes drawn "
    "without replacement.",
    "Intervals over targets are Student's. The difference to a random choice is tested in pairs "
    "by target, with Holm's correction over predictors and k of a model and kind of languages.",
)

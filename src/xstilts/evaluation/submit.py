"""A run's predictions as the file tree that XTREME's leaderboard and scorer read (R44).

Which recipe stands for a target is chosen on English dev data alone, or named; the choice and its
evidence are written beside the predictions.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from xstilts.artifacts.manifest import MANIFEST, check_file, sha256_file
from xstilts.data.tables import read_rows
from xstilts.errors import InputError, nearest
from xstilts.evaluation import tree
from xstilts.evaluation.aligned import LIKELIHOODS, Aligned, align
from xstilts.evaluation.benchmark import Report, Task, Values, score_tree, tasks_of
from xstilts.evaluation.dev import dev_score
from xstilts.evaluation.metrics.ranking import TOP
from xstilts.evaluation.metrics.table import metric_named
from xstilts.evaluation.score import SCORES
from xstilts.evaluation.tree import FileKind
from xstilts.plan import Job
from xstilts.session import Session


@dataclass(frozen=True)
class Wish:
    """What the user names; the rest is chosen on dev data.

    Attributes:
        recipes: Recipe by target; under ``*`` the one of all other targets.
        model: The model, if the study has several.
        seed: The seed; None for the one with the best dev score.
    """

    recipes: Mapping[str, str]
    model: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Chosen:
    """The cell that stands for a target.

    Attributes:
        dev: Its dev score in percent; None where the target has no dev data in the study.
        predictions: Folder of its predictions below the results folder.
        manifest: Sha256 of their manifest.
    """

    target: str
    model: str
    recipe: str
    seed: int
    dev: float | None
    predictions: str
    manifest: str


def submit(
    session: Session, out: Path, wish: Wish, benchmark: str, *, partial: bool = False
) -> tuple[list[Chosen], Report]:
    """Write `predictions/`, `labels/` and `submission.json` of a finished run, and check them.

    Args:
        session: The study.
        out: A new folder.
        wish: What the user names.
        benchmark: `xtreme` or `xtreme-r`.
        partial: Go on although tasks or languages of the benchmark are not in the study.

    Returns:
        The cells, and the scores of the written tree, which are the run's own.

    Raises:
        InputError: If the run is not finished, a choice cannot be made, the folder is there,
            something is missing, or the tree's scores are not the run's.
    """
    if out.exists():
        raise InputError(str(out), "is there already", hint="Name a new folder, or remove this one")
    tasks = _tasks(session, benchmark, partial)
    _check_wish(session, wish, list(tasks))
    chosen = [_choose(session, target, wish) for target in tasks]
    draft = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for cell in chosen:
        _write_target(session, cell, tasks[cell.target], draft)
    report = score_tree(draft / "predictions", draft / "labels", benchmark, partial)
    for cell in chosen:
        _compare(session.results, cell, report.values[tasks[cell.target].name])
    content: dict[str, Any] = {"study": session.study.study, "benchmark": benchmark}
    content |= {"chosen": [asdict(cell) for cell in chosen]}
    (draft / "submission.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draft.rename(out)
    return chosen, report


def _tasks(session: Session, benchmark: str, partial: bool) -> dict[str, Task]:
    """The benchmark's tasks that the study has, by the name of the target."""
    tasks = tasks_of(benchmark)
    found = {task.target: task for task in tasks if task.target in session.study.targets}
    missing = [task.target for task in tasks if task.target not in found and not task.optional]
    if not found or (missing and not partial):
        raise InputError(
            f"{session.where}: targets",
            f"{benchmark} has targets that are not in the study: {', '.join(missing)}",
            hint="Add them, or write what is there with --partial",
        )
    return found


def _compare(results: Path, cell: Chosen, scored: Mapping[str, Values]) -> None:
    """The round trip: the tree's scores must be the run's own."""
    folder = results / cell.predictions.replace("predictions/", "scores/", 1)
    path = check_file(folder, SCORES)
    for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
        if row["metric"] == _UNCUT or row["metric"].rpartition("_")[2] in LIKELIHOODS:
            continue  # the tree does not hold what these are of
        found = scored[row["language"]][row["metric"]]
        if abs(found - row["value"]) > 1e-9:
            raise InputError(
                f"{path}: {row['language']}, {row['metric']}",
                "the written files have another score than the run",
                expected=str(row["value"]),
                found=str(found),
                hint="A label or text of this language does not survive XTREME's file format",
            )


# ---- the choice


def _check_wish(session: Session, wish: Wish, targets: Sequence[str]) -> None:
    study = session.study
    checks: list[tuple[str, Sequence[Any], Sequence[Any]]] = [
        ("--recipe: target", [name for name in wish.recipes if name != "*"], targets),
        ("--recipe", list(wish.recipes.values()), list(study.recipes)),
        ("--model", [wish.model] if wish.model else [], list(study.models)),
        ("--seed", [wish.seed] if wish.seed is not None else [], study.seeds),
    ]
    for where, given, known in checks:
        for name in given:
            if name not in known:
                raise InputError(
                    where,
                    "is not in the study",
                    expected=f"one of {', '.join(map(str, known))}",
                    found=repr(name),
                    hint=nearest(str(name), [str(value) for value in known]),
                )


def _choose(session: Session, target: str, wish: Wish) -> Chosen:
    """The recipe with the highest mean dev score over its seeds, and of these the best seed."""
    named = wish.recipes.get(target, wish.recipes.get("*"))
    cells = [
        cell
        for job in session.plan.of("evaluate")
        if job.spec["target"] == target
        and (cell := _cell(session, job))
        and (wish.model in (None, cell.model))
        and (named in (None, cell.recipe))
    ]
    groups: dict[tuple[str, str], list[Chosen]] = {}
    for cell in cells:
        groups.setdefault((cell.model, cell.recipe), []).append(cell)
    if len(groups) > 1 and any(cell.dev is None for cell in cells):
        raise InputError(
            f"target {target}",
            "has no dev data to choose a recipe on",
            hint=f"Name one: --recipe {target}=RECIPE; or let mined dev pairs choose: "
            "evaluation.retrieval.layer: dev",
        )
    best = max(groups.values(), key=lambda seeds: fmean(cell.dev or 0.0 for cell in seeds))
    # Retrieval without intermediate training is the same for every seed and has only the first.
    wanted = [cell for cell in best if wish.seed in (None, cell.seed)] or best
    return max(wanted, key=lambda cell: cell.dev or 0.0)


def _cell(session: Session, job: Job) -> Chosen:
    folder = session.results / job.out
    if not (folder / MANIFEST).exists():
        raise InputError(
            str(folder), "the run is not finished: these predictions are missing", hint=_FINISH
        )
    _, model, recipe, seed, target = job.out.split("/")
    dev = dev_score(session.results, job.spec)
    digest = sha256_file(folder / MANIFEST)
    number = int(seed.removeprefix("seed-"))
    return Chosen(target, model, recipe, number, dev, job.out, digest)


#: Full mAP: the files hold the first 20 candidates only.
_UNCUT = "map"
_FINISH = "Run snakemake with this study until its tables are there"


# ---- the files


def _write_target(session: Session, cell: Chosen, task: Task, out: Path) -> None:
    score = session.plan.jobs[cell.predictions.replace("predictions/", "scores/", 1)].spec
    metric = metric_named(score["metric"])
    writer = _WRITERS[task.kind]
    pool = [session.results / name for name in score["inputs"].get("pool", ())]
    for language, gold in zip(score["languages"], score["inputs"]["gold"], strict=True):
        prepared = session.results / gold
        predictions = session.results / cell.predictions / f"{language}.jsonl"
        found = writer(align(metric, score["format"], predictions, prepared, pool), prepared)
        for kind, text in zip(("predictions", "labels"), found, strict=True):
            path = task.file(out / kind, language)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")


Texts = tuple[str, str]
Writer = Callable[[Aligned, Path], Texts]


def _lines(values: Sequence[Any]) -> str:
    return "".join(f"{value}\n" for value in values)


def _one_a_line(aligned: Aligned, prepared: Path) -> Texts:
    return _lines(aligned.predictions), _lines(aligned.gold)


def _tags(aligned: Aligned, prepared: Path) -> Texts:
    predicted, gold = (
        "\n".join(_lines(sentence) for sentence in sentences)
        for sentences in (aligned.predictions, aligned.gold)
    )
    return predicted, gold


def _answers(aligned: Aligned, prepared: Path) -> Texts:
    rows = read_rows(prepared, "test.parquet", ["id", "context", "question", "answers"]).to_pylist()
    predicted = {row["id"]: text for row, text in zip(rows, aligned.predictions, strict=True)}
    paragraphs = []
    for row in rows:
        answers = [{"text": a["text"], "answer_start": a["start"]} for a in row["answers"]]
        asked = {"id": row["id"], "question": row["question"], "answers": answers}
        paragraphs.append({"context": row["context"], "qas": [asked]})
    gold = {"version": "1.1", "data": [{"title": "", "paragraphs": paragraphs}]}
    return json.dumps(predicted, ensure_ascii=False), json.dumps(gold, ensure_ascii=False)


def _line_numbers(aligned: Aligned, prepared: Path) -> Texts:
    """Tatoeba: foreign line numbers, in the order of the sorted English sentences (R32)."""
    english = read_rows(prepared, "test.target.parquet", ["text"])["text"].to_pylist()
    foreign = read_rows(prepared, "test.source.parquet", ["id"])["id"].to_pylist()
    line = {id_: number for number, id_ in enumerate(foreign)}
    order = sorted_lines(english)
    predicted, gold = (
        _lines([line[values[row]] for row in order])
        for values in (aligned.predictions, aligned.gold)
    )
    return predicted, gold


def sorted_lines(sentences: Sequence[str]) -> list[int]:
    """Rows in XTREME's order of the English side: by code points of the stripped sentence (R32)."""
    return sorted(range(len(sentences)), key=lambda row: sentences[row].strip())


def _pairs(aligned: Aligned, prepared: Path) -> Texts:
    """BUCC: foreign id TAB English id."""
    ids = read_rows(prepared, "test.source.parquet", ["id"])["id"].to_pylist()
    predicted, gold = (
        "".join(
            f"{source}\t{target}\n"
            for source, targets in zip(ids, values, strict=True)
            for target in sorted(targets)
        )
        for values in (aligned.predictions, aligned.gold)
    )
    return predicted, gold


def _rankings(aligned: Aligned, prepared: Path) -> Texts:
    """Mewsli-X and LAReQA: the first 20 candidates of every query."""
    ids = read_rows(prepared, "test.source.parquet", ["id"])["id"].to_pylist()
    best = [list(getattr(ranked, "best", ranked))[:TOP] for ranked in aligned.predictions]
    predicted = json.dumps(dict(zip(ids, best, strict=True)))
    return predicted, json.dumps(dict(zip(ids, map(sorted, aligned.gold), strict=True)))


def _choices(aligned: Aligned, prepared: Path) -> Texts:
    predicted, gold = (
        _lines([json.dumps({"label": value}) for value in values])
        for values in (aligned.predictions, aligned.gold)
    )
    return predicted, gold


_WRITERS: dict[FileKind, Writer] = {
    tree.LABELS: _one_a_line,
    tree.CHOICES: _choices,
    tree.TAGS: _tags,
    tree.ANSWERS: _answers,
    tree.NUMBERS: _line_numbers,
    tree.PAIRS: _pairs,
    tree.RANKINGS: _rankings,
}

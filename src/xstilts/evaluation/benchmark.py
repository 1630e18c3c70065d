"""XTREME's and XTREME-R's scores of a file tree of predictions, from whatever system they come.

Numbers, names and averages are those of XTREME's evaluate.py (R44-R47). Beside them stand, under
keys of their own (:data:`OWN_KEYS`), the same averages without English, tagging's token accuracy
(R24), what was odd in the files, and which languages are missing.

A task's score is the unweighted mean over its languages, English included; a group has a score when
all its tasks have one, and so has the benchmark. For XTREME-R the official code gives no total (it
has no languages for LAReQA and fails on its folder): here it is the mean of the task scores, with
LAReQA where there are predictions of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from xstilts.errors import InputError, nearest
from xstilts.evaluation import tree
from xstilts.evaluation.metrics.metric import Metric
from xstilts.evaluation.metrics.table import metric_named
from xstilts.registry import load_registry

#: Top-level keys of the scores that the official code does not write.
OWN_KEYS = ("benchmark", "zero_shot", "token_accuracy", "partial", "notes")

#: Values of our metrics that the official code does not have, or calls by another name.
_OWN_VALUES = frozenset({"mean", "token_accuracy", "map"})
_OFFICIAL_NAMES = {"mrr@20": "map@20"}
#: XTREME-R's multi_choice is XCOPA once more.
_GROUPS = ("classification", "tagging", "qa", "retrieval", "multi_choice")
_ALL = "all_task"
#: What a QA task's score is the mean of.
_SHOWN = {"mean": "em+f1"}
_SOURCE = "en"

Values = Mapping[str, float]
Notes = list[dict[str, Any]]


@dataclass(frozen=True)
class _Row:
    """A task's folder in the tree.

    Attributes:
        name: The folder.
        kind: What its files are.
        target: The registry's target that has its metric, group, languages and labels.
        languages: Languages beside the target's.
        labels: Labels beside those of the target's data.
        groups: Groups beside the target's.
        optional: Whether groups are complete without it.
    """

    name: str
    kind: tree.FileKind
    target: str | None = None
    languages: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    optional: bool = False


#: Tags that XTREME's own files and taggers have beside UD's (R16, R19).
_UDPOS = ("_", "O")
#: By benchmark, in the official order. A new task is a row here, and a metric if it needs one.
_ROWS: dict[str, tuple[_Row, ...]] = {
    "xtreme": (
        _Row("pawsx", tree.LABELS),
        _Row("xnli", tree.LABELS),
        _Row("panx", tree.TAGS),
        _Row("udpos", tree.TAGS, labels=_UDPOS),
        _Row("bucc2018", tree.PAIRS),
        _Row("tatoeba", tree.NUMBERS),
        _Row("xquad", tree.ANSWERS),
        _Row("mlqa", tree.ANSWERS),
        _Row("tydiqa", tree.ANSWERS),
    ),
    # The languages here are those that the Hub's copies do not have.
    "xtreme-r": (
        _Row("xnli", tree.LABELS),
        _Row("panx", tree.TAGS, "panx_r"),
        _Row("udpos", tree.TAGS, "udpos_r", labels=_UDPOS),
        _Row("tatoeba", tree.NUMBERS, languages=("az", "lt", "pl", "ro", "uk")),
        _Row("xcopa", tree.CHOICES, groups=("multi_choice",)),
        _Row("lareqa", tree.RANKINGS, "lareqa_dual", optional=True),
        _Row("mewslix", tree.RANKINGS),
        _Row("xquad", tree.ANSWERS, languages=("ro",)),
        _Row("mlqa", tree.ANSWERS),
        _Row("tydiqa", tree.ANSWERS),
    ),
}


@dataclass(frozen=True)
class Task:
    """A task of a benchmark.

    Attributes:
        name: Its folder in the tree.
        target: The registry's target.
        kind: What its files are.
        metric: What scores a language.
        groups: The groups whose mean it is part of.
        languages: All its languages.
        labels: Known labels; empty where the files hold none.
        optional: Whether groups are complete without it.
    """

    name: str
    target: str
    kind: tree.FileKind
    metric: Metric
    groups: tuple[str, ...]
    languages: tuple[str, ...]
    labels: tuple[str, ...] = ()
    optional: bool = False

    def file(self, folder: Path, language: str) -> Path:
        """The task's file of a language in a tree (R44)."""
        return folder / self.name / f"test-{language}.{self.kind.suffix}"

    def score(
        self, labels: Path, predictions: Path, language: str
    ) -> tuple[dict[str, float], dict[str, int]]:
        """All values of one language in percent, and what was odd in its two files.

        Raises:
            InputError: If a file is broken or does not fit the other (see :mod:`tree`).
        """
        aligned = self.kind.read(labels, predictions, self.labels)
        counts = self.metric.statistics(aligned.predictions, aligned.gold, language)
        return self.metric.values(counts), aligned.notes


def tasks_of(benchmark: str) -> tuple[Task, ...]:
    """The tasks of a benchmark, in the official order.

    Raises:
        InputError: If there is no such benchmark.
    """
    if benchmark not in _ROWS:
        raise InputError("--benchmark", f"unknown {benchmark!r}", hint=nearest(benchmark, _ROWS))
    return tuple(_task(row) for row in _ROWS[benchmark])


def _task(row: _Row) -> Task:
    registry = load_registry()
    target = registry.targets[row.target or row.name]
    data = registry.datasets[target.dataset]
    return Task(
        row.name,
        target.name,
        row.kind,
        metric_named(target.metric),
        (target.group, *row.groups),
        tuple(dict.fromkeys([*(target.languages or data.languages), *row.languages])),
        (*(data.labels or ()), *row.labels),
        row.optional,
    )


@dataclass(frozen=True)
class Report:
    """The scores of a tree.

    Attributes:
        benchmark: Which benchmark.
        tasks: All its tasks.
        values: Task to language to value in percent, of what was scored.
        missing: Missing languages by task, of tasks that were scored without them.
        notes: What was odd, as ``{task, language, what, count}``; language and count may be null.
    """

    benchmark: str
    tasks: tuple[Task, ...]
    values: Mapping[str, Mapping[str, Values]]
    missing: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: Notes = field(default_factory=list)

    def scores(self) -> dict[str, Any]:
        """The official scores: totals, then by task the values by language and their averages."""
        return self._scores(self.values)

    @cached_property
    def zero_shot(self) -> dict[str, Any]:
        """The official averages without English."""
        values = {
            task: {code: row for code, row in rows.items() if code != _SOURCE}
            for task, rows in self.values.items()
        }
        scores = self._scores({task: rows for task, rows in values.items() if rows})
        return {
            name: {key: mean for key, mean in value.items() if key.startswith("avg_")}
            if isinstance(value, dict)
            else value
            for name, value in scores.items()
        }

    def content(self) -> dict[str, Any]:
        """All scores as JSON values: the official keys, and :data:`OWN_KEYS`."""
        accuracy = {
            name: _by_value({code: {key: row[key]} for code, row in rows.items()})
            for name, rows in self.values.items()
            for key in ["token_accuracy"]
            if all(key in row for row in rows.values())
        }
        own = (self.benchmark, self.zero_shot, accuracy, dict(self.missing), self.notes)
        return {**self.scores(), **dict(zip(OWN_KEYS, own, strict=True))}

    def _scores(self, values: Mapping[str, Mapping[str, Values]]) -> dict[str, Any]:
        scored = {
            task.name: _by_value(_official(values[task.name]))
            | {"avg_metric": fmean(row[task.metric.overall] for row in values[task.name].values())}
            for task in self.tasks
            if task.name in values
        }
        return {
            **self._totals({name: task["avg_metric"] for name, task in scored.items()}),
            **scored,
        }

    def _totals(self, scores: Values) -> dict[str, float]:
        """Overall and group scores, as far as they are complete."""
        members = {_ALL: self.tasks} | {
            group: tuple(task for task in self.tasks if group in task.groups) for group in _GROUPS
        }
        return {
            name: fmean(scores[task.name] for task in tasks if task.name in scores)
            for name, tasks in members.items()
            if tasks and all(task.name in scores or task.optional for task in tasks)
        }

    # ---- for people

    def table(self) -> str:
        """Plain text: languages × tasks, their means with and without English, groups, notes."""
        tasks = [task for task in self.tasks if task.name in self.values]
        languages = sorted({code for rows in self.values.values() for code in rows})
        lines = [["", *(task.name + self._mark(task) for task in tasks)]]
        lines.append(["", *(_SHOWN.get(name := task.metric.overall, name) for task in tasks)])
        for code in languages:
            cells = [
                self.values[task.name].get(code, {}).get(task.metric.overall) for task in tasks
            ]
            lines.append([code, *map(_number, cells)])
        official = self.scores()
        for title, scores in (("mean", official), ("without English", self.zero_shot)):
            means = [scores.get(task.name, {}).get("avg_metric") for task in tasks]
            lines.append([title, *map(_number, means)])
        totals = [["", "mean", "without English"]]
        for name in (*_GROUPS, _ALL):
            if any(name in task.groups for task in self.tasks) or name == _ALL:
                cells = [official.get(name), self.zero_shot.get(name)]
                totals.append([name, *map(_number, cells)])
        parts = [_aligned(lines), _aligned(totals), "\n".join(self._remarks())]
        return "\n\n".join(part for part in parts if part)

    def _mark(self, task: Task) -> str:
        return "*" if task.name in self.missing else ""

    def _remarks(self) -> Iterator[str]:
        for name, languages in self.missing.items():
            yield f"* partial: {name} is without {', '.join(languages)}"
        for note in self.notes:
            where = " ".join(part for part in (note["task"], note["language"]) if part)
            count = "" if note["count"] is None else f": {note['count']}"
            yield f"note: {where}: {note['what']}{count}"


def _official(rows: Mapping[str, Values]) -> dict[str, dict[str, float]]:
    return {
        code: {
            _OFFICIAL_NAMES.get(name, name): value
            for name, value in row.items()
            if name not in _OWN_VALUES
        }
        for code, row in rows.items()
    }


def _by_value(rows: Mapping[str, Values]) -> dict[str, Any]:
    """``{value: {language: number}}``, then ``avg_<value>``."""
    names = list(next(iter(rows.values())))
    values = {name: {code: row[name] for code, row in rows.items()} for name in names}
    return {**values, **{f"avg_{name}": fmean(values[name].values()) for name in names}}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


# ---- the tree


def score_tree(
    predictions: Path, labels: Path, benchmark: str = "xtreme", partial: bool = False
) -> Report:
    """Score every task that has a folder in both trees.

    Args:
        predictions: Folder with a folder per task, as XTREME's evaluate.py reads it (R44).
        labels: The same with the gold.
        benchmark: `xtreme` or `xtreme-r`.
        partial: Score tasks of which languages are missing, too, over those that are there.

    Raises:
        InputError: If languages of a task are missing (all of them are named), or a file is
            broken or does not fit its gold.
    """
    tasks = tasks_of(benchmark)
    for folder in (predictions, labels):
        if not folder.is_dir():
            raise InputError(str(folder), "is no folder", expected="a folder per task in it")
    present = [
        task for task in tasks if all((top / task.name).is_dir() for top in (predictions, labels))
    ]
    missing = _missing(present, predictions, labels)
    if missing and not partial:
        raise _incomplete(missing, present, predictions)
    notes = [*_strangers(tasks, present, predictions, benchmark)]
    values: dict[str, dict[str, Values]] = {}
    for task in present:
        for code in task.languages:
            if code in missing.get(task.name, ()):
                continue
            files = task.file(labels, code), task.file(predictions, code)
            row, odd = task.score(*files, code)
            values.setdefault(task.name, {})[code] = row
            notes += [_note(task.name, what, count, code) for what, count in odd.items()]
    if benchmark == "xtreme-r":
        what = f"official code has no total; a total here is the mean over {', '.join(values)}"
        notes.append(_note(benchmark, what))
    without = {name: list(codes) for name, codes in missing.items()}
    return Report(benchmark, tasks, values, without, notes)


def _note(
    task: str, what: str, count: int | None = None, language: str | None = None
) -> dict[str, Any]:
    return {"task": task, "language": language, "what": what, "count": count}


def _missing(
    tasks: Sequence[Task], predictions: Path, labels: Path
) -> dict[str, dict[str, list[Path]]]:
    """Files that are not there, by task and language."""
    missing: dict[str, dict[str, list[Path]]] = {}
    for task in tasks:
        for code in task.languages:
            files = [task.file(folder, code) for folder in (predictions, labels)]
            if absent := [path for path in files if not path.is_file()]:
                missing.setdefault(task.name, {})[code] = absent
    return missing


def _incomplete(
    missing: Mapping[str, Mapping[str, list[Path]]], tasks: Sequence[Task], predictions: Path
) -> InputError:
    absent = [str(path) for codes in missing.values() for paths in codes.values() for path in paths]
    others = [name for task in tasks if task.name in missing for name in _others(task, predictions)]
    found = f"other files: {', '.join(others[:5])}" if others else None
    count = sum(map(len, missing.values()))
    return InputError(
        ", ".join(missing),
        f"{count} of the tasks' languages are missing: {', '.join(absent)}",
        found=found,
        hint="Add the files, or score what is there with --partial",
    )


def _others(task: Task, predictions: Path) -> list[str]:
    """Files in a task's folder that are none of its languages'; hidden ones aside."""
    known = {task.file(predictions, code).name for code in task.languages}
    names = sorted(path.name for path in (predictions / task.name).iterdir())
    return [f"{task.name}/{name}" for name in names if name not in known and name[0] != "."]


def _strangers(
    tasks: Sequence[Task], present: Sequence[Task], predictions: Path, benchmark: str
) -> Iterator[dict[str, Any]]:
    """What is there and not scored, and what is not there."""
    for task in tasks:
        if task not in present:
            inside = (predictions / task.name).is_dir()
            where = "labels" if inside else "predictions"
            yield _note(task.name, f"no folder in the {where}: not scored")
    for task in present:
        if others := _others(task, predictions):
            what = f"files of no language of the task, not read (first: {others[0]})"
            yield _note(task.name, what, len(others))
    known = [task.name for task in tasks]
    for path in sorted(predictions.iterdir()):
        if path.is_dir() and path.name not in known and path.name[0] != ".":
            what = f"folder of no task of {benchmark}, not read. {nearest(path.name, known)}"
            yield _note(path.name, what)

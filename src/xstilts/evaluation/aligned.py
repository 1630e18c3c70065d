"""Predictions and gold of one language, read, checked and aligned line by line."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xstilts.artifacts.manifest import check_file
from xstilts.errors import InputError, nearest
from xstilts.evaluation.metrics.metric import Metric
from xstilts.evaluation.metrics.ranking import Ranking

#: What a decoder's choices may be compared by: its likelihood as it is, by sub-word, by byte, and
#: less that without the question.
LIKELIHOODS = ("sum", "token", "byte", "pmi")

_REMAKE = "Delete the predictions' folder and run snakemake again"

#: Says what was expected where a prediction (row, value) cannot be one of this example.
Check = Callable[[int, Any], str | None]


@dataclass(frozen=True)
class Aligned:
    """What a metric is given.

    Attributes:
        predictions: One value per example.
        gold: One value per example.
        notes: What was left out or merged, by reason.
        layers: Predictions of every hidden state [layers][examples]; none but in retrieval.
        by: Predictions by each likelihood of the choices; none but of decoders that choose.
    """

    predictions: list[Any]
    gold: list[Any]
    notes: dict[str, int] = field(default_factory=dict)
    layers: list[list[Any]] = field(default_factory=list)
    by: dict[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Gold:
    ids: list[str]
    values: list[Any]
    check: Check


def align(
    metric: Metric,
    format_: str,
    predictions: Path,
    prepared: Path,
    pool: Sequence[Path] = (),
) -> Aligned:
    """Read a language's predictions and the gold of its prepared test split.

    Args:
        metric: The metric that scores them.
        format_: The target's format.
        predictions: The `<language>.jsonl` of a predictions artifact.
        prepared: The prepared artifact of the language.
        pool: The prepared artifacts whose candidates are ranked; of answer retrieval only.

    Raises:
        InputError: If a file is broken, or a line is not the prediction of its example.
    """
    if format_ not in metric.formats:
        raise InputError(
            f"metric {metric.name}",
            "cannot score this format",
            expected=" or ".join(metric.formats),
            found=format_,
        )
    path = check_file(predictions.parent, predictions.name)
    if metric.name == "bucc_f1":
        return _aligned_pairs(path, prepared)
    if format_ == "answer_retrieval":
        return _aligned_rankings(path, prepared, pool)
    if metric.name == "squad_v2_f1":
        gold = _answers(prepared, unanswered=True)
    else:
        gold = _READERS[format_](prepared)
    if not gold.ids:
        raise InputError(str(prepared / "test.parquet"), "has no rows", expected="a test split")
    lines = _read_predictions(path, gold)
    by_layer = [line["layers"] for line in lines if "layers" in line]
    layers = [list(found) for found in zip(*by_layer, strict=True)]
    by = {name: [line["by"][name] for line in lines] for name in lines[0].get("by", ())}
    return Aligned([line["prediction"] for line in lines], gold.values, layers=layers, by=by)


# ---- gold


def _columns(folder: Path, name: str, *columns: str) -> dict[str, list[Any]]:
    from xstilts.data.tables import read_rows

    table = read_rows(folder, name, columns)
    return {column: table.column(column).to_pylist() for column in columns}


def _labels(folder: Path) -> list[str]:
    report = json.loads(check_file(folder, "report.json").read_text(encoding="utf-8"))
    return list(report["labels"])


def _classification(folder: Path) -> _Gold:
    names = _labels(folder)
    table = _columns(folder, "test.parquet", "id", "label")
    check = _expect_one_of(names)
    return _Gold(table["id"], [names[label] for label in table["label"]], lambda _, x: check(x))


def _choice(folder: Path) -> _Gold:
    table = _columns(folder, "test.parquet", "id", "choices", "label")
    counts = [len(choices) for choices in table["choices"]]

    def check(row: int, value: Any) -> str | None:
        # A bool is an int in Python.
        right = type(value) is int and 0 <= value < counts[row]
        return None if right else f"an integer from 0 to {counts[row] - 1}"

    return _Gold(table["id"], table["label"], check)


def _answers(folder: Path, unanswered: bool = False) -> _Gold:
    """Gold answers; only SQuAD v2.0's metric takes questions without any."""
    table = _columns(folder, "test.parquet", "id", "answers")
    texts = [[answer["text"] for answer in answers] for answers in table["answers"]]
    for id_, answers in zip(table["id"], texts, strict=True):
        if not (answers or unanswered):
            raise InputError(
                f"{folder / 'test.parquet'}: id {id_!r}",
                "the question has no gold answer",
                expected="at least one answer in a test split",
                hint="The metric squad_v2_f1 is for targets whose questions may have none",
            )
    return _Gold(table["id"], texts, lambda _, x: None if isinstance(x, str) else "a text")


def _tags(folder: Path) -> _Gold:
    names = _labels(folder)
    table = _columns(folder, "test.parquet", "id", "tags")
    gold = [[names[tag] for tag in tags] for tags in table["tags"]]
    one_of = _expect_one_of(names)

    def check(row: int, value: Any) -> str | None:
        if not isinstance(value, list) or len(value) != len(gold[row]):
            return f"a list of {len(gold[row])} labels, one per token"
        return next((wrong for tag in value if (wrong := one_of(tag))), None)

    return _Gold(table["id"], gold, check)


def _translations(folder: Path) -> _Gold:
    """Tatoeba: the English sentences are the queries, the foreign ones the answers."""
    queries = _columns(folder, "test.target.parquet", "id")["id"]
    pool = set(_columns(folder, "test.source.parquet", "id")["id"])
    table = _columns(folder, "test.gold.parquet", "source_id", "target_id")
    gold = dict(zip(table["target_id"], table["source_id"], strict=True))
    if len(gold) != len(table["target_id"]) or set(gold) != set(queries):
        raise InputError(
            str(folder / "test.gold.parquet"),
            "does not give each target sentence one source sentence",
            expected=f"{len(queries)} target ids, each once",
            found=f"{len(table['target_id'])} lines with {len(gold)} target ids",
        )

    def check(_: int, value: Any) -> str | None:
        return None if isinstance(value, str) and value in pool else "a source sentence's id"

    return _Gold(queries, [gold[query] for query in queries], check)


_READERS: dict[str, Callable[[Path], _Gold]] = {
    "sequence_classification": _classification,
    "multiple_choice": _choice,
    "question_answering": _answers,
    "token_classification": _tags,
    "sentence_retrieval": _translations,
}


def _expect_one_of(names: Sequence[str]) -> Callable[[Any], str | None]:
    known = frozenset(names)

    def check(value: Any) -> str | None:
        if isinstance(value, str) and value in known:
            return None
        return f"a label ({', '.join(names)})"

    return check


# ---- predictions


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and content of each line of a JSONL file."""
    lines = path.read_bytes().split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    for number, line in enumerate(lines, start=1):
        where = f"{path}: line {number}"
        try:
            content = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise InputError(
                where,
                "is not UTF-8",
                found=f"byte {line[error.start]:#04x} at column {error.start + 1}",
                hint=_REMAKE,
            ) from error
        except ValueError as error:
            raise InputError(
                where, f"is no JSON ({error})", found=_short(line), hint=_REMAKE
            ) from error
        if not isinstance(content, dict):
            raise InputError(where, "is no JSON object", found=_short(line), hint=_REMAKE)
        yield where, content


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _value(where: str, line: dict[str, Any], key: str) -> Any:
    if key not in line:
        raise InputError(
            where, f"has no key {key!r}", found=", ".join(map(repr, line)), hint=nearest(key, line)
        )
    return line[key]


def _read_predictions(path: Path, gold: _Gold) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for row, (where, line) in enumerate(_lines(path)):
        if row >= len(gold.ids):
            raise InputError(
                where, "is one too many", expected=f"{len(gold.ids)} lines", hint=_REMAKE
            )
        id_, value = _value(where, line, "id"), _value(where, line, "prediction")
        if id_ != gold.ids[row]:
            raise InputError(
                where,
                "is the prediction of another example",
                expected=f"id {gold.ids[row]!r}",
                found=f"id {id_!r}",
                hint="Lines stand in the order of the prepared test split",
            )
        by = _by(where, line, found[0] if found else line)
        for predicted in (value, *line.get("layers", ()), *by.values()):
            if (expected := gold.check(row, predicted)) is not None:
                raise InputError(
                    f"{where} (id {id_!r})",
                    "holds no prediction of this target",
                    expected=expected,
                    found=_short(predicted),
                )
        if found and len(line.get("layers", ())) != len(found[0].get("layers", ())):
            raise InputError(where, "has another number of layers than line 1", hint=_REMAKE)
        found.append(line)
    if len(found) < len(gold.ids):
        raise InputError(
            str(path),
            "has too few lines",
            expected=f"{len(gold.ids)}, the next of id {gold.ids[len(found)]!r}",
            found=str(len(found)),
            hint=_REMAKE,
        )
    return found


def _by(where: str, line: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    """What each likelihood would choose; the same ones in all lines, the main one among them."""
    by: Any = line.get("by", {})
    wanted: dict[str, Any] = first["by"] if isinstance(first.get("by"), dict) else {}
    whole = (
        isinstance(by, dict) and by.keys() == wanted.keys() and wanted.keys() <= set(LIKELIHOODS)
    )
    if not whole or (by and line["prediction"] not in by.values()):
        raise InputError(
            where,
            "the choices by each likelihood do not fit",
            expected=f"those of line 1, {', '.join(wanted) or 'none'}, one of them the prediction",
            found=_short(by),
            hint=_REMAKE,
        )
    return {**by}


def _aligned_pairs(path: Path, folder: Path) -> Aligned:
    """BUCC: an example is a source sentence, its value the set of its target sentences."""
    sources = _columns(folder, "test.source.parquet", "id")["id"]
    targets = frozenset(_columns(folder, "test.target.parquet", "id")["id"])
    row = {id_: number for number, id_ in enumerate(sources)}
    if not row:
        raise InputError(str(folder / "test.source.parquet"), "has no rows")
    predictions: list[set[str]] = [set() for _ in sources]
    gold: list[set[str]] = [set() for _ in sources]
    table = _columns(folder, "test.gold.parquet", "source_id", "target_id")
    for pair in zip(table["source_id"], table["target_id"], strict=True):
        line = dict(zip(("source_id", "target_id"), pair, strict=True))
        source, target = _pair(f"{folder / 'test.gold.parquet'}", line, row, targets)
        gold[row[source]].add(target)
    repeated = 0
    for where, line in _lines(path):
        source, target = _pair(where, line, row, targets)
        repeated += target in predictions[row[source]]
        predictions[row[source]].add(target)
    return Aligned(predictions, gold, {"repeated pairs": repeated} if repeated else {})


def _pair(
    where: str, line: dict[str, Any], sources: Container[str], targets: Container[str]
) -> tuple[str, str]:
    return _pool_id(where, line, "source_id", sources), _pool_id(where, line, "target_id", targets)


def _pool_id(where: str, line: dict[str, Any], key: str, pool: Container[str]) -> str:
    value = _value(where, line, key)
    if not isinstance(value, str) or value not in pool:
        raise InputError(
            where,
            f"{key} names no sentence",
            expected=f"an id of the {key.removesuffix('_id')} side",
            found=_short(value),
        )
    return value


# ---- rankings


def _aligned_rankings(path: Path, folder: Path, pool: Sequence[Path]) -> Aligned:
    """Answer retrieval: an example is a query, its gold the candidates of the whole pool."""
    from xstilts.evaluation.pools import candidate_ids, gold_of

    ids = _columns(folder, "test.source.parquet", "id")["id"]
    known = {id_ for part in pool for id_ in candidate_ids(part)}
    found = gold_of([folder, *pool])
    gold = [_in_pool(folder, id_, found.get(id_, []), known) for id_ in ids]

    def check(row: int, value: Any) -> str | None:
        whole = isinstance(value, list) and all(isinstance(id_, str) for id_ in value)
        if whole and len(set(value)) == len(value) and known.issuperset(value):
            return None
        return "a list of candidates' ids, each once"

    lines = _read_predictions(path, _Gold(ids, gold, check))
    values = [
        _ranking(f"{path}: line {number}", line, wanted, len(known))
        for number, (line, wanted) in enumerate(zip(lines, gold, strict=True), start=1)
    ]
    return Aligned(values, gold)


def _in_pool(folder: Path, id_: str, gold: list[str], known: Container[str]) -> frozenset[str]:
    if not gold or not all(candidate in known for candidate in gold):
        raise InputError(
            f"{folder / 'test.gold.parquet'}: query {id_!r}",
            "its gold candidates are not all in the pool",
            expected="one or more ids of the pool",
            found=_short(gold),
        )
    return frozenset(gold)


def _ranking(where: str, line: dict[str, Any], gold: frozenset[str], size: int) -> Any:
    """The line's list, or with `ranks` a ranking of which the gold's places are known."""
    best = line["prediction"]
    if "ranks" not in line:
        return best
    ranks = line["ranks"]
    places = list(ranks.values()) if isinstance(ranks, dict) else []
    right = (
        bool(places)
        and ranks.keys() == gold
        and all(type(rank) is int and 1 <= rank <= size for rank in places)
        and len(set(places)) == len(places)
        # The head says the same of the gold as the ranks.
        and {id_: rank for id_, rank in ranks.items() if rank <= len(best)}
        == {id_: rank for rank, id_ in enumerate(best, start=1) if id_ in gold}
    )
    if not right:
        raise InputError(
            where,
            "ranks do not fit",
            expected=f"the rank, 1 to {size}, of each of the {len(gold)} gold candidates",
            found=_short(ranks),
            hint=_REMAKE,
        )
    return Ranking(best, ranks)

"""What each job of a plan has to do: steps, sub-words, rows; counted where data are there.

Counts come, in this order, from the artifacts of the results folder (`counted`), or from the row
counts that the registry or the study knows (`known`), where needed with assumptions (`assumed`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Literal

from xstilts.artifacts.manifest import MANIFEST
from xstilts.cluster.memory import answers_of, rows_of_unit
from xstilts.cluster.rates import shipped
from xstilts.cluster.sizes import parameters_of
from xstilts.plan import Job, Plan
from xstilts.registry.rows import DatasetRow

Source = Literal["counted", "known", "assumed", "unknown"]
SOURCES: tuple[Source, ...] = ("counted", "known", "assumed", "unknown")
SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Counts:
    """One split of a data set in sub-words.

    Attributes:
        units: What is shuffled and batched: examples, windows, sequences, pairs.
        tokens: Sub-words, special ones included.
        examples: Rows.
        source: Where the number of units is from.
        lengths: Where the number of sub-words is from.
    """

    units: float
    tokens: float
    examples: float
    source: Source
    lengths: Source


@dataclass(frozen=True)
class Work:
    """What a job has to do.

    Attributes:
        steps: Optimiser steps; None where it trains nothing, or rows are not known.
        tokens: Sub-words that go through the model, forward and backward.
        forward: Sub-words that go through it forward only: predictions, looks at dev.
        rows: Rows that are read; of a merge, parameters.
        source: Where the least sure of these is from.
        at_most: Whether early stopping may end it sooner.
        missing: Data sets of which the number of rows is not known.
        written: Steps in which a decoder writes a sub-word of each of a batch's answers.
    """

    steps: int | None = None
    tokens: float = 0.0
    forward: float = 0.0
    rows: float = 0.0
    source: Source = "known"
    at_most: bool = False
    missing: tuple[str, ...] = ()
    written: float = 0.0


def worst(sources: Iterable[Source]) -> Source:
    """The least sure of several sources."""
    return max(sources, key=SOURCES.index, default="counted")


class Data:
    """Sizes of the data of a plan.

    Args:
        plan: The plan.
        results: The study's results folder; it need not exist.
    """

    def __init__(self, plan: Plan, results: Path) -> None:
        self.plan, self.results = plan, results
        self._there: dict[str, bool] = {}
        self._rows: dict[str, dict[str, tuple[float, Source]]] = {}
        self._counts: dict[str, dict[str, Counts]] = {}

    def there(self, out: str) -> bool:
        """Whether what lies in a data artifact's folder is of this plan, but perhaps of older code.

        An edit of the code that made it changes no number by much, and the plan is to be of use
        before it has been made again.
        """
        if out not in self._there:
            self._there[out] = self._is_there(out)
        return self._there[out]

    def _is_there(self, out: str) -> bool:
        try:
            made = json.loads((self.results / out / MANIFEST).read_text(encoding="utf-8"))["spec"]
        except (OSError, ValueError, KeyError):
            return False
        job = self.plan.jobs[out]
        if _without_code(made) != _without_code(job.spec):
            return False
        return all(self.there(name) for name in job.inputs)

    # ---- rows

    def rows(self, prepared: str) -> dict[str, tuple[float, Source]]:
        """Rows of each split of a prepared or translated data set, and where that is from."""
        if prepared not in self._rows:
            self._rows[prepared] = self._reported(prepared) or self._expected(prepared)
        return self._rows[prepared]

    def _reported(self, prepared: str) -> dict[str, tuple[float, Source]]:
        if self.plan.jobs[prepared].stage != "prepare" or not self.there(prepared):
            return {}
        text = (self.results / prepared / "report.json").read_text(encoding="utf-8")
        splits = json.loads(text)["splits"]
        return {split: (float(found["rows"]), "counted") for split, found in splits.items()}

    def _expected(self, prepared: str) -> dict[str, tuple[float, Source]]:
        job = self.plan.jobs[prepared]
        if job.stage == "translate":
            found = self.rows(job.spec["inputs"]["prepared"])
            return {split: found[split] for split in ("train", "dev") if split in found}
        row = self.plan.registry.datasets[job.spec["dataset"]]
        raw = self.plan.jobs[job.spec["inputs"]["raw"]].spec
        made = raw.get("toyworld", {}).get("sizes")
        known = made or row.known_rows(job.spec["language"]) or shipped().rows.get(row.name, {})
        counts: dict[str, tuple[float, Source]] = {
            split: (float(number), "known") for split, number in known.items()
        }
        if row.holdout and "train" in counts:
            number = counts["train"][0]
            counts["train"] = (number * (1 - row.holdout), "assumed")
            counts["dev"] = (number * row.holdout, "assumed")
        return counts

    # ---- sub-words

    def counts(self, tokens: str) -> dict[str, Counts]:
        """Sizes of each split of a tokens artifact; a split of unknown size is missing."""
        if tokens not in self._counts:
            made = self._made(tokens) if self.there(tokens) else self._estimated(tokens)
            self._counts[tokens] = made
        return self._counts[tokens]

    def _made(self, tokens: str) -> dict[str, Counts]:
        text = (self.results / tokens / "meta.json").read_text(encoding="utf-8")
        meta, found = json.loads(text), dict[str, Counts]()
        for split, sizes in meta["splits"].items():
            sequences = sizes["sequences"]
            units = {"multiple_choice": sizes["examples"], "answer_retrieval": sequences // 2}
            units["prompted"] = sizes["examples"]
            number = units.get(meta["format"], sequences)
            examples = float(sizes["examples"])
            found[split] = Counts(number, sizes["tokens"], examples, "counted", "counted")
        return found

    def _estimated(self, tokens: str) -> dict[str, Counts]:
        spec = self.plan.jobs[tokens].spec
        row = self.plan.registry.datasets[spec["dataset"]]
        rows = self.rows(spec["inputs"]["prepared"])
        if spec["stage"] == "prompts":
            return {
                split: _estimate_prompts(row, spec, split, number, source)
                for split, (number, source) in rows.items()
                if split in spec["splits"]
            }
        return {
            split: _estimate(row, spec["encoding"], number, source)
            for split, (number, source) in rows.items()
        }

    def joined(self, folders: Iterable[str], split: str) -> Counts | None:
        """One split of several artifacts together; None where one of unknown size must have it."""
        found = list[Counts]()
        for folder in folders:
            counts = self.counts(folder)
            if split in counts:
                found.append(counts[split])
            elif split == "train" or not counts:
                return None
        if not found:
            return None
        return Counts(
            sum(one.units for one in found),
            sum(one.tokens for one in found),
            sum(one.examples for one in found),
            worst(one.source for one in found),
            worst(one.lengths for one in found),
        )


def _without_code(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key != "fingerprint"}


def _estimate(row: DatasetRow, encoding: Mapping[str, Any], rows: float, source: Source) -> Counts:
    """Sizes of a split from its rows and the mean words of one."""
    known, longest = shipped(), int(encoding["max_length"])
    words = known.words.get(row.name, known.usual.get(row.format))
    if row.layout in ("bucc", "comparable"):
        rows, source = rows * known.pool, "assumed"
    length = float(longest)
    if words is not None:
        length = words * known.subwords["word"] + known.subwords["special"]
    units = rows
    if row.format == "masked_lm":  # text is packed
        units, source = max(1.0, rows * length / longest), "assumed"
        return Counts(units, units * longest, rows, source, "assumed")
    if row.format == "question_answering":
        windows = max(1, 1 + ceil((length - longest) / encoding["doc_stride"]))
        units, source = rows * windows, "assumed"
    elif row.format == "token_classification":
        source = worst([source, "assumed"])  # long sentences are cut
    sequences = units * rows_of_unit(row) * (2 if row.format == "sentence_retrieval" else 1)
    return Counts(units, sequences * min(length, longest), rows, source, "assumed")


def _estimate_prompts(
    row: DatasetRow, spec: Mapping[str, Any], split: str, rows: float, source: Source
) -> Counts:
    """Sizes of a split as prompts: every choice is a row of the test split, with its context.

    What stands before several choices goes through the model once, so that a test split takes less
    than this.
    """
    known = shipped()
    words = known.words.get(row.name, known.usual.get(row.format))
    longest, shots = int(spec["encoding"]["max_length"]), (spec["shots"] or {}).get("number", 0)
    one = float(longest)
    if words is not None:
        one = words * known.subwords["word"] + known.subwords["prompt"]
    sequences = rows * (answers_of(row) if split == "test" else 1)
    return Counts(rows, sequences * min(one * (1 + shots), longest), rows, source, "assumed")


# ---- jobs


def work_of(job: Job, data: Data) -> Work:
    """What a job has to do."""
    if job.stage in ("pretrain", "intermediate", "finetune"):
        return _training(job, data)
    if job.stage in ("evaluate", "sweep"):
        return _prediction(job, data)
    if job.stage == "transferability":
        return _look(job, data)
    if job.stage in ("tokens", "prompts"):
        return _read([job.spec["inputs"]["prepared"]], data)
    if job.stage in ("prepare", "translate"):
        return _read([job.out], data)
    if job.stage == "score":
        return _read(job.spec["inputs"]["gold"], data, ("test",))
    if job.stage == "distances":
        return _read(job.spec["inputs"]["prepared"], data, ("test",))
    if job.stage == "merge":
        model = data.plan.registry.models[job.out.split("/")[1]]
        return Work(rows=float(parameters_of(model)))
    if job.stage == "tokenizer" and "corpus" in job.spec["inputs"]:
        return _read(job.spec["inputs"]["corpus"], data)
    return Work()


def _read(folders: Iterable[str], data: Data, splits: tuple[str, ...] = SPLITS) -> Work:
    found = [data.rows(folder) for folder in folders]
    known = [rows[split] for rows in found for split in splits if split in rows]
    source = worst(source for _, source in known) if known else "unknown"
    return Work(rows=sum(number for number, _ in known), source=source)


@dataclass(frozen=True)
class _Set:
    """Data of one task: as `xstilts.training.stages` reads them."""

    name: str
    batch_size: int
    train: Counts | None
    dev: Counts | None

    @property
    def per_epoch(self) -> int:
        """Optimiser steps of a pass."""
        return ceil(self.train.units / self.batch_size) if self.train else 0

    def tokens(self, steps: float) -> float:
        """Sub-words of so many steps: each pass sees every unit once."""
        return steps * self.train.tokens / max(1, self.per_epoch) if self.train else 0.0


def _training(job: Job, data: Data) -> Work:
    """Steps by the rule of `xstilts.training.stages`, and the sub-words that they take."""
    spec, settings = job.spec, job.spec["settings"]
    sets = [
        _Set(
            entry["name"],
            entry["batch_size"],
            data.joined(entry["tokens"], "train"),
            data.joined(entry["tokens"], "dev"),
        )
        for entry in spec.get("tasks", ())
    ]
    sampling = spec.get("sampling", {"exponent": 1.0, "cap": None})
    weights = [_weight(one, sampling) for one in sets]
    steps = settings["max_steps"] or sum(
        _epochs(settings["epochs"], _capped(one, sampling["cap"])) for one in sets
    )
    if mlm := spec["mlm"]:
        folders = mlm.get("tokens") or spec["inputs"]["tokens"]
        text = _Set("text", mlm["batch_size"], data.joined(folders, "train"), None)
        share = mlm.get("share", 0.0)
        weights.append((sum(weights) or 1.0) * share / (1 - share) if sets else 1.0)
        if settings["max_steps"] is None and sets:
            steps = round(steps / (1 - share))
        steps = steps or _epochs(settings["epochs"], text.per_epoch)
        text = text if text.train else _filled(text, folders, data)
        sets.append(text)
    return _training_work(sets, weights, steps, settings)


def _filled(text: _Set, folders: Iterable[str], data: Data) -> _Set:
    """Raw text of unknown size: every sequence is as long as may be."""
    longest = max(data.plan.jobs[name].spec["encoding"]["max_length"] for name in folders)
    batch = text.batch_size
    return _Set(text.name, batch, Counts(batch, batch * longest, 0, "unknown", "assumed"), None)


def _training_work(
    sets: list[_Set], weights: list[float], steps: int, settings: Mapping[str, Any]
) -> Work:
    missing = tuple(one.name for one in sets if one.train is None)
    if missing and settings["max_steps"] is None:
        return Work(source="unknown", missing=missing)
    total = sum(weights) or 1.0
    parts = list(zip(sets, weights, strict=True))
    trained = sum(one.tokens(steps * weight / total) for one, weight in parts)
    looks, dev = ceil(steps / settings["evaluate_every"]), 0.0
    for one in sets:
        if one.dev is not None:
            wanted = settings["evaluate_examples"] or one.dev.examples
            dev += one.dev.tokens * min(1.0, wanted / max(1.0, one.dev.examples))
    # With max_steps the data decide no step, only how long each is.
    decide = [one.train for one in sets if one.train and settings["max_steps"] is None]
    source = worst(counts.source for counts in decide if counts.examples) if decide else "known"
    stops = settings["patience"] is not None and looks > settings["patience"]
    selects = any(one.dev is not None for one in sets)
    return Work(
        steps,
        trained,
        looks * dev,
        sum(one.train.examples for one in sets if one.train),
        source,
        stops and selects,
        missing,
    )


def _weight(data: _Set, sampling: Mapping[str, Any]) -> float:
    size = data.train.units if data.train else 0.0
    return float(min(size, sampling["cap"] or size) ** sampling["exponent"])


def _capped(data: _Set, cap: int | None) -> int:
    size = data.train.units if data.train else 0.0
    return ceil(min(size, cap or size) / data.batch_size)


def _epochs(epochs: float, per_epoch: int) -> int:
    return max(1, round(epochs * per_epoch)) if per_epoch else 0


def _prediction(job: Job, data: Data) -> Work:
    """Sub-words of the test sets of all languages, and of the candidates that are ranked."""
    split = "dev" if job.stage == "sweep" else "test"
    inputs = job.spec["inputs"]
    found, missing = list[Counts](), list[str]()
    for folder in dict.fromkeys([*inputs["tokens"], *inputs.get("pool_tokens", ())]):
        counts = [one for name, one in data.counts(folder).items() if name.startswith(split)]
        found += counts
        if not counts:
            missing.append(folder)
    source = worst(max(one.source, one.lengths, key=SOURCES.index) for one in found)
    tokens, rows = sum(one.tokens for one in found), sum(one.examples for one in found)
    new = (job.spec.get("decode") or {}).get("max_new_tokens", 0)
    batches = ceil((tokens + rows * new) / data.plan.study.evaluation.batch_tokens) if new else 0
    return Work(
        forward=tokens + rows * new,
        rows=rows,
        written=float(batches * new),
        source="unknown" if missing else source,
        missing=tuple(missing),
    )


def _look(job: Job, data: Data) -> Work:
    """Sub-words of a sample of each task's training data, for labels and for embeddings."""
    spec, found, missing = job.spec, list[tuple[Counts, float]](), list[str]()
    embedded = spec["tasks"] or (spec["targets"] if "model" in spec["inputs"] else [])
    for entry in [*spec["targets"], *embedded]:
        counts = data.joined(entry["tokens"], "train")
        if counts is None:
            missing.append(entry["name"])
        else:
            found.append((counts, min(1.0, spec["examples"] / max(1.0, counts.units))))
    source = worst(max(one.source, one.lengths, key=SOURCES.index) for one, _ in found)
    return Work(
        forward=sum(one.tokens * share for one, share in found),
        rows=sum(one.examples * share for one, share in found),
        source="unknown" if missing else source,
        missing=tuple(missing),
    )

"""A model card for each checkpoint that a study trained, in the form that the Hub reads.

Everything in it comes from manifests and from files that fit them: data with revisions and rows,
hyper-parameters, and the scores that stand on the checkpoint itself.

The Hub takes ISO 639 codes of two or three letters as `language`. The toy world's languages have
codes of the range qaa to qtz, which ISO 639-2 keeps for private use and which name no language:
they stand in `language_bcp47`, where such codes are valid.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from xstilts.architectures import is_decoder
from xstilts.artifacts.manifest import check_file
from xstilts.audit.finished import Finished
from xstilts.audit.results import Artifact

#: Stages that train a checkpoint.
TRAINED = ("pretrain", "intermediate", "finetune")

_WEIGHTS = "model.safetensors"
_ADAPTER = "adapter_model.safetensors"
#: Tasks of the Hub, by format.
_TASKS = {
    "sequence_classification": "text-classification",
    "multiple_choice": "multiple-choice",
    "question_answering": "question-answering",
    "token_classification": "token-classification",
    "masked_lm": "fill-mask",
    "causal_lm": "text-generation",
    "prompted": "text-generation",
    "sentence_retrieval": "sentence-similarity",
    "answer_retrieval": "sentence-similarity",
}
_STAGES = {
    "pretrain": "pretrained from scratch by language modelling",
    "intermediate": "trained on intermediate tasks",
    "finetune": "fine-tuned for a target",
}
_ISO = re.compile(r"(?!q[a-t][a-z]$)[a-z]{2,3}")


@dataclass(frozen=True)
class Data:
    """Training data of a checkpoint.

    Attributes:
        dataset: Name of the data set.
        language: Code of its language.
        rows: Rows of its training split; None where no account says so.
        hub: Repository on the Hub; None where it is from elsewhere.
        revision: Its commit.
        licence: As the study's registry has it.
        translator: What translated it, if something did.
        labelled: Whether it has labels, unlike raw text.
    """

    dataset: str
    language: str
    rows: int | None
    hub: str | None
    revision: str | None
    licence: str
    translator: str
    labelled: bool


@dataclass(frozen=True)
class Score:
    """A row of scores, and the data behind it."""

    target: str
    row: Mapping[str, Any]
    result: EvalResult


def write_cards(study: Finished, folder: Path, licence: str | None) -> int:
    """Write `<checkpoint>/README.md` for each checkpoint that a study trained.

    Args:
        study: The study.
        folder: Where.
        licence: Licence of the checkpoints: an identifier of the Hub, a name, or a URL.

    Returns:
        The number of cards.

    Raises:
        InputError: If a file that is read has other bytes than in its manifest.
    """
    shelf = Shelf(study)
    found = study.of(*TRAINED)
    for out in found:
        text = shelf.card(out, licence)
        place = folder / out / "README.md"
        place.parent.mkdir(parents=True)
        ModelCard(text).save(place)
    return len(found)


class Shelf:
    """Makes the cards of a study."""

    def __init__(self, study: Finished) -> None:
        self.study = study

    def card(self, out: str, licence: str | None) -> str:
        """The card of a checkpoint."""
        steps = list(self._steps(out))
        data = {item.out: list(self._data(item)) for item in steps}
        scores = list(self._scores(out))
        meta = self._meta(steps, data, scores, licence)
        body = "\n".join(self._body(steps, data, scores, licence))
        return f"---\n{meta.to_yaml()}\n---\n\n{body}"

    # ---- what is behind a checkpoint

    def _steps(self, out: str) -> Iterator[Artifact]:
        """A checkpoint and what it was trained from, the base model last."""
        seen: set[str] = set()
        while out in self.study.artifacts and out not in seen:
            seen.add(out)
            item = self.study.artifacts[out]
            if item.stage != "merge":
                yield item
            # Merged weights are those of the adapter, and it is trained on a base of its own.
            roles = item.roles()
            out = next(iter([*roles.get("adapter", ()), *roles.get("model", ())]), "")

    def _data(self, item: Artifact) -> Iterator[Data]:
        """What a checkpoint was trained on in its own step."""
        for tokens in item.roles().get("tokens", ()):
            prepared, translators = self._prepared(tokens)
            if prepared is None:
                continue
            raw = self._raw(prepared)
            name = str(prepared.spec.get("dataset", ""))
            yield Data(
                name,
                str(prepared.spec.get("language", "")),
                self._rows(prepared),
                raw.get("hub"),
                raw.get("revision"),
                str(self.study.datasets.get(name, {}).get("licence") or "not recorded"),
                ", ".join(translators),
                prepared.spec.get("row", {}).get("format") != "masked_lm",
            )

    def _prepared(self, out: str) -> tuple[Artifact | None, list[str]]:
        """The prepared rows behind sub-words, and what translated them."""
        translators = []
        while (item := self.study.artifacts.get(out)) and item.stage != "prepare":
            if item.stage == "translate":
                translators.append(str(item.spec.get("translator", {}).get("name", "")))
            out = next(iter(item.roles().get("prepared", ())), "")
        return item, translators

    def _raw(self, prepared: Artifact) -> dict[str, Any]:
        """Repository, configuration and revision of prepared rows."""
        raw = self.study.artifacts.get(next(iter(prepared.roles().get("raw", ())), ""))
        if raw is None:
            return {}
        source, lock = raw.spec.get("source") or {}, raw.spec.get("lock") or {}
        revision = lock.get("revision") or source.get("revision")
        return {"hub": source.get("hub"), "revision": revision, "config": raw.spec.get("config")}

    def _rows(self, prepared: Artifact) -> int | None:
        splits = self._read(prepared, "report.json").get("splits", {})
        rows = splits.get("train", {}).get("rows")
        return None if rows is None else int(rows)

    def _read(self, item: Artifact, name: str) -> dict[str, Any]:
        """A JSON file of an artifact, checked against its manifest; empty where it has none."""
        if item.manifest is None or name not in item.manifest.files:
            return {}
        path = check_file(self.study.results.path / item.out, name)
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}

    # ---- scores

    @cached_property
    def _evaluated(self) -> dict[str, list[tuple[Artifact, Artifact]]]:
        """Predictions and scores that stand on each checkpoint."""
        scored = {
            name: item
            for item in self.study.of("score").values()
            for name in item.roles().get("predictions", ())
        }
        adapters = {out: item.roles()["adapter"][0] for out, item in self.study.of("merge").items()}
        found: dict[str, list[tuple[Artifact, Artifact]]] = {}
        for out, item in self.study.of("evaluate").items():
            for checkpoint in item.roles().get("checkpoint", ()):
                if out in scored:
                    trained = adapters.get(checkpoint, checkpoint)
                    found.setdefault(trained, []).append((item, scored[out]))
        return found

    def _scores(self, out: str) -> Iterator[Score]:
        found = [
            self._score(predictions, score, content, row)
            for predictions, score in self._evaluated.get(out, ())
            for content in [self._read(score, "scores.json")]
            for row in content.get("rows", ())
        ]
        # A result of the Hub is known by task, data set, configuration and split: where a
        # configuration holds several languages, the language belongs to its name.
        places = {(item.result.unique_identifier, item.row["language"]) for item in found}
        count = Counter(place for place, _ in places)
        for item in found:
            if count[item.result.unique_identifier] > 1:
                config = f"{item.result.dataset_config or 'default'}/{item.row['language']}"
                yield replace(item, result=replace(item.result, dataset_config=config))
            else:
                yield item

    def _score(
        self,
        predictions: Artifact,
        score: Artifact,
        content: Mapping[str, Any],
        row: Mapping[str, Any],
    ) -> Score:
        target, language = str(content.get("target", "")), str(row["language"])
        prepared = self._gold(score, language)
        raw = self._raw(prepared) if prepared else {}
        name = str(prepared.spec.get("dataset", target)) if prepared else target
        format_ = str(score.spec.get("format") or predictions.spec.get("format") or "")
        result = EvalResult(
            task_type=_TASKS.get(format_, "feature-extraction"),
            task_name=target,
            dataset_type=raw.get("hub") or name,
            dataset_name=f"{self._title(name)} ({language})",
            dataset_config=raw.get("config"),
            dataset_split=str(row["split"]),
            dataset_revision=raw.get("revision"),
            dataset_args={"examples": row["n"]},
            metric_type=str(row["metric"]),
            metric_name=str(row["metric"]),
            metric_value=row["value"],
        )
        return Score(target, row, result)

    def _gold(self, score: Artifact, language: str) -> Artifact | None:
        """The prepared rows that a language's scores were made from."""
        gold = (self.study.artifacts.get(name) for name in score.roles().get("gold", ()))
        return next((item for item in gold if item and item.spec.get("language") == language), None)

    def _title(self, dataset: str) -> str:
        return str(self.study.datasets.get(dataset, {}).get("title") or dataset)

    # ---- the card

    def _meta(
        self,
        steps: Sequence[Artifact],
        data: Mapping[str, Sequence[Data]],
        scores: Sequence[Score],
        licence: str | None,
    ) -> ModelCardData:
        used = [row for rows in data.values() for row in rows]
        codes = {row.language for row in used} | {str(item.row["language"]) for item in scores}
        iso = sorted(code for code in codes if _ISO.fullmatch(code))
        other = sorted(code for code in codes - set(iso) if code)
        more: dict[str, Any] = _licence(licence) | ({"language_bcp47": other} if other else {})
        out = steps[0].out
        return ModelCardData(
            language=iso or None,
            library_name="peft" if is_adapter(steps[0]) else "transformers",
            base_model=_base(steps),
            datasets=sorted({row.hub for row in used if row.hub}) or None,
            metrics=sorted({item.result.metric_type for item in scores}) or None,
            tags=["xstilts", "stilts", steps[0].stage, self.study.root.study, *_tags(steps[0])],
            model_name=out if scores else None,
            eval_results=[item.result for item in scores] or None,
            **more,
        )

    def _body(
        self,
        steps: Sequence[Artifact],
        data: Mapping[str, Sequence[Data]],
        scores: Sequence[Score],
        licence: str | None,
    ) -> Iterator[str]:
        item = steps[0]
        yield f"# {item.out}\n"
        yield (
            f"{'An adapter' if is_adapter(item) else 'A checkpoint'} of the study "
            f"`{self.study.root.study}`, {_STAGES[item.stage]}. It was "
            "made with xstilts; every number here is from the manifests of its results.\n"
        )
        yield "## Training\n"
        yield from self._training(steps)
        yield "\n## Training data\n"
        yield from _data_table(data)
        yield "\n## Hyper-parameters\n"
        yield from _settings(item)
        yield "\n## Scores\n"
        yield from _score_table(scores)
        yield "\n## Files\n"
        yield from self._files(item)
        yield "\n## Limits\n"
        yield from self._limits(steps, data, scores, licence)

    def _training(self, steps: Sequence[Artifact]) -> Iterator[str]:
        rows = [
            [
                f"`{step.out}`",
                step.stage,
                ", ".join(str(task["name"]) for task in step.spec.get("tasks", ())),
                step.spec.get("seed"),
                self._read(step, "training.json").get("steps"),
            ]
            for step in reversed(steps)
        ]
        yield from _table(("Artifact", "Stage", "Tasks", "Seed", "Steps"), rows)

    def _files(self, item: Artifact) -> Iterator[str]:
        files = item.manifest.files if item.manifest else {}
        rows = ([f"`{name}`", row["size"], f"`{row['sha256']}`"] for name, row in files.items())
        yield from _table(("File", "Bytes", "sha256"), rows)
        yield (
            f"\nThe sha256 of its `manifest.json` is `{item.sha256}`. "
            f"`sha256sum {_ADAPTER if is_adapter(item) else _WEIGHTS}` "
            "checks the weights; `xstilts audit verify` checks them and all that they were "
            "made from, in the study's results."
        )

    def _limits(
        self,
        steps: Sequence[Artifact],
        data: Mapping[str, Sequence[Data]],
        scores: Sequence[Score],
        licence: str | None,
    ) -> Iterator[str]:
        item = steps[0]
        used = [row for rows in data.values() for row in rows]
        codes = {row.language for row in used}
        collapsed = self._read(item, "training.json").get("collapsed") or []
        for row in collapsed:
            yield f"- The training on {row['task']} learnt nothing: {row['reason']}."
        yield _loading(steps)
        yield "- It is one training with one seed; another seed gives other scores."
        labelled = {row.language for row in used if row.labelled}
        if other := sorted({str(score.row["language"]) for score in scores} - labelled):
            yield f"- It saw no labels in {', '.join(other)}: those scores are zero-shot."
        if made_up := sorted(code for code in codes if not _ISO.fullmatch(code)):
            yield (
                f"- {', '.join(made_up)} are codes of made-up languages or for private use: the "
                "scores say nothing about languages that people speak."
            )
        if licence is None:
            yield "- No licence is stated for it; the licences of its training data are above."
        yield ""


def is_adapter(item: Artifact) -> bool:
    """Whether a training made adapters alone."""
    return bool((item.spec.get("settings") or {}).get("lora"))


def _tags(item: Artifact) -> list[str]:
    return ["lora"] if is_adapter(item) else []


def _loading(steps: Sequence[Artifact]) -> str:
    """How the weights are loaded."""
    architecture = (steps[-1].spec.get("model") or {}).get("architecture") or "bert"
    if is_adapter(steps[0]):
        base = steps[1].out if len(steps) > 1 else "its base"
        how = (
            f"`PeftModel.from_pretrained` puts the adapter, `{_ADAPTER}`, into the weights of "
            f"`{base}` and into no others: `adapter.json` holds the sha256 of their manifest"
        )
    elif is_decoder(architecture):
        how = f"`AutoModelForCausalLM.from_pretrained` loads `{_WEIGHTS}`"
    else:
        how = f"`AutoModel.from_pretrained` loads the encoder, `{_WEIGHTS}`"
    return (
        f"- {how}. The heads stand in `heads.safetensors` in a layout of xstilts; the tokenizer is "
        "an artifact of its own."
    )


def _base(steps: Sequence[Artifact]) -> str | None:
    """The Hub's name of the model that a checkpoint goes back to."""
    if steps[-1].stage != "fetch_model":
        return None
    hub: str | None = steps[-1].spec["model"].get("hub")
    return hub


def _licence(text: str | None) -> dict[str, str]:
    """A licence as the Hub has it: an identifier, or `other` with a name and an address."""
    if text is None:
        return {}
    if re.fullmatch(r"[A-Za-z0-9.+-]+", text):
        return {"license": text.lower()}
    name = re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
    link = {"license_link": text} if text.startswith("http") else {}
    return {"license": "other", "license_name": name, **link}


def _data_table(data: Mapping[str, Sequence[Data]]) -> Iterator[str]:
    rows = [
        [f"`{out}`", *astuple(row)[:-1]]
        for out, found in reversed(list(data.items()))
        for row in found
    ]
    titles = ("Data set", "Language", "Rows", "Hub", "Revision", "Licence", "Translator")
    yield from _table(("Used by", *titles), rows)


def _settings(item: Artifact) -> Iterator[str]:
    settings = dict(item.spec.get("settings", {}))
    for key in ("mlm", "sampling"):
        settings |= {f"{key}.{name}": value for name, value in (item.spec.get(key) or {}).items()}
    yield from _table(
        ("Setting", "Value"),
        ([f"`{key}`", json.dumps(value)] for key, value in settings.items() if value is not None),
    )


def _score_table(scores: Sequence[Score]) -> Iterator[str]:
    if not scores:
        yield "No predictions were made with it: what is trained from it is scored."
        return
    rows = (
        [score.target, row["language"], row["metric"], f"{row['value']:.2f}", row["n"]]
        for score in scores
        for row in [score.row]
    )
    yield from _table(("Target", "Language", "Metric", "Score", "Examples"), rows)


def _table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield "|" + "---|" * len(titles)
    for row in rows:
        cells = ("–" if cell in (None, "") else str(cell).replace("|", "\\|") for cell in row)
        yield f"| {' | '.join(cells)} |"

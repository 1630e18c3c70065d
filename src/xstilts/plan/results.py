"""Jobs of the study as a whole: the check of all data, distances, tables, answers, report."""

from __future__ import annotations

from typing import Any

from xstilts.analysis.questions import QUESTIONS
from xstilts.artifacts.fingerprint import fingerprint
from xstilts.nested import chains
from xstilts.plan.evaluations import EvaluationJobs
from xstilts.plan.jobs import ANALYSIS, CHECK, REPORT, TABLES, TRAININGS, Job
from xstilts.plan.names import languages_of
from xstilts.registry.rows import DatasetRow, ModelRow, TargetRow
from xstilts.report.assets import assets_sha256
from xstilts.report.facts import facts

#: Rows of each test set that are looked at to say what a tokenizer does.
READ = 1000


class ResultJobs(EvaluationJobs):
    """What is made once, from everything before it."""

    def _distances(self, model: ModelRow) -> None:
        """How far each language is from the source language, as a model sees it."""
        study, registry = self.study, self.registry
        texts = self._test_texts()
        corpus: list[tuple[str, str]] = []
        known = {"unit": "GiB", "source": "not known"}
        if model.pretraining:
            known["source"] = model.pretraining.source
        if model.scratch and study.pretraining:
            settings = study.pretraining
            corpus = self._corpus(settings.corpus, settings.languages, "pretraining")
            known = {"unit": "sub-words", "source": f"{', '.join(settings.corpus)}, as encoded"}
        spec = {
            "stage": "distances",
            "fingerprint": fingerprint("xstilts.analysis.languages.distances"),
            "source_language": study.source_language,
            "languages": {
                code: self._described(model, code)
                for code in registry.languages
                if code in {study.source_language, *(entry["language"] for entry in texts.values())}
            },
            "texts": list(texts.values()),
            "max_rows": READ,
            "corpus": [code for _, code in corpus],
            "pretraining": known,
            "inputs": {
                "prepared": list(texts),
                "tokenizer": f"models/{model.name}/tokenizer",
                "tokens": [self._tokens(model, name, code) for name, code in corpus],
            },
        }
        files = ("distances.csv", "measures.json")
        self._add(Job("distances", f"distances/{model.name}", spec, files=files))

    def _test_texts(self) -> dict[str, dict[str, Any]]:
        """What the test sets of all targets are, by their folder."""
        found = {}
        for target in self.targets:
            row = self.registry.datasets[target.dataset]
            paired = row.format == "sentence_retrieval" and row.pivot == self.study.source_language
            for language in languages_of(self.study, self.registry, target, self.where):
                found[self._prepared(row, language)] = {
                    "dataset": row.name,
                    "format": row.format,
                    "language": language,
                    "against_source": paired,
                }
        return found

    def _described(self, model: ModelRow, code: str) -> dict[str, Any]:
        """What is known of a language before anything is measured."""
        row, entry = self.registry.languages[code], self._language_entry(code)
        gib = model.pretraining.gib if model.pretraining else {}
        return {
            "script": row.script,
            "spaced": row.spaced,
            "lang2vec": row.lang2vec,
            "planted": entry.get("distance"),
            "pretraining": gib.get(code),
        }

    def _check_stage(self) -> None:
        made = ("prepare", "translate", "tokens", "prompts", "testset")
        stages = (*made, "fetch_model", "fetch_translator")
        data = [out for stage in stages for out in self._outs(stage)]
        # Snakemake compares every input of this job with each file that any job asks for, so it is
        # shown only the last artifact of each chain.
        held = {name for out in data for name in self.jobs[out].inputs}
        spec = {
            "stage": "check",
            "fingerprint": fingerprint("xstilts.data.check"),
            "inputs": {
                "data": sorted(set(data) - held),
                "held": sorted(held.intersection(data)),
            },
        }
        self._add(Job("check", CHECK, spec, implied=("held",), files=("datasets.csv",)))

    def _results(self) -> None:
        """Tables, the answers to the questions, and the report."""
        grid = self._grid()
        scored = {
            "scores": [cell["scores"] for cell in grid["cells"]],
            "layers": self._outs("sweep"),
            "checkpoints": [out for stage in TRAININGS for out in self._outs(stage)],
        }
        stages = ("distances", "transferability")
        measured = {stage: outs for stage in stages if (outs := self._outs(stage))}
        # The scores' manifests hold the checkpoints', through the predictions'.
        held = ("checkpoints",)
        tables = {
            "stage": "aggregate",
            "fingerprint": fingerprint("xstilts.analysis.aggregate"),
            **grid,
            "inputs": scored,
        }
        files = ("scores.csv", "overview.csv")
        self._add(Job("aggregate", TABLES, tables, implied=held, files=files))
        asked = [f"xstilts.analysis.questions.{name}.answer" for name in QUESTIONS]
        analysis = {
            "stage": "analyse",
            "fingerprint": fingerprint("xstilts.analysis.analyse", *asked),
            **grid,
            "questions": list(QUESTIONS),
            "published": self._published(),
            "inputs": scored | measured,
        }
        answers = tuple(f"{name}/answer.json" for name in QUESTIONS)
        self._add(Job("analyse", ANALYSIS, analysis, implied=held, files=answers))
        site = {
            "stage": "report",
            "fingerprint": fingerprint("xstilts.report.build"),
            "assets": assets_sha256(),
            **grid,
            **facts(self.registry, (job.spec for job in self.jobs.values())),
            "questions": list(QUESTIONS),
            "inputs": {
                "tables": TABLES,
                "analysis": ANALYSIS,
                "check": CHECK,
                **scored,
                **measured,
            },
        }
        # The manifests of tables and analysis hold those of all scores and distances.
        implied = (*scored, *measured)
        self._add(Job("report", REPORT, site, implied=implied, files=("index.html",)))

    def _published(self) -> list[dict[str, Any]]:
        """Published figures of the study's models and targets."""
        found, own = [], {}
        for target in self.registry.targets.values():
            own[target.name] = len(
                target.languages or self.registry.datasets[target.dataset].languages
            )
        for row in self.registry.published.values():
            named = {*row.scores, *(name for mean in row.means for name in mean.targets)}
            if row.model in self.study.models and named & set(self.study.targets):
                entry = row.model_dump(mode="json")
                found.append(entry | {"own_languages": {name: own[name] for name in sorted(named)}})
        return found

    def _grid(self) -> dict[str, Any]:
        """What tables and analyses are told of the study: its rows and columns, and its cells."""
        study, evaluation = self.study, self.study.evaluation
        cells = []
        for out in self._outs("score"):
            _, model, recipe, seed, target = out.split("/")
            number = int(seed.removeprefix("seed-"))
            cells.append(
                {"model": model, "recipe": recipe, "seed": number, "target": target, "scores": out}
            )
        codes = {code for job in self._of("score") for code in job.spec["languages"]}
        return {
            "study": study.study,
            "source_language": study.source_language,
            "models": {model.name: self._model_entry(model) for model in self.models},
            "recipes": {
                name: {
                    "tasks": list(recipe.tasks),
                    "mlm": recipe.mlm is not None,
                    "translate": list(recipe.translate),
                }
                for name, recipe in study.recipes.items()
            },
            **({"orders": chains(study)} if study.nested else {}),
            "seeds": list(study.seeds),
            "targets": [self._target_entry(target) for target in self.targets],
            "languages": [
                self._language_entry(code) for code in self.registry.languages if code in codes
            ],
            "bootstrap": {
                "samples": evaluation.bootstrap_samples,
                "seed": evaluation.bootstrap_seed,
            },
            "cells": cells,
        }

    def _model_entry(self, model: ModelRow) -> dict[str, Any]:
        decoder = model.kind == "decoder"
        return {
            "title": model.title,
            "kind": model.kind,
            "layers": model.layers,
            "parameters": model.parameters,
            "pretrained": model.hub is not None,
            **({"tuned": self.study.prompting.tuning != "none"} if decoder else {}),
        }

    def _target_entry(self, target: TargetRow) -> dict[str, Any]:
        return {
            "name": target.name,
            "title": target.title,
            "metric": target.metric,
            "group": target.group,
            "kind": target.kind,
            "choices": _choices(self.registry.datasets[target.dataset]),
            "train": list(target.train),
            "languages": languages_of(self.study, self.registry, target, self.where),
        }

    def _language_entry(self, code: str) -> dict[str, Any]:
        row = self.registry.languages[code]
        entry: dict[str, Any] = {
            "code": code,
            "name": row.name,
            "script": row.script,
            "family": row.family,
        }
        if row.synthetic:
            from xstilts.toyworld.languages import distance

            entry["distance"] = distance(code)
        return entry


def _choices(row: DatasetRow) -> int | None:
    """How many answers an example has to choose from, where each has one of so many."""
    one_of = row.format in ("sequence_classification", "multiple_choice")
    return len(row.labels) if one_of and row.labels else None

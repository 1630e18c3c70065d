"""Jobs that look through a checkpoint: what it says before fine-tuning, and how it scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from xstilts.artifacts.fingerprint import fingerprint
from xstilts.config import Study
from xstilts.data.lock import Lock
from xstilts.errors import InputError
from xstilts.plan.jobs import Job
from xstilts.plan.names import languages_of
from xstilts.plan.trainings import TrainingJobs
from xstilts.prompting.chosen import decoding, is_prompted
from xstilts.registry import Registry
from xstilts.registry.rows import DatasetRow, ModelRow, TargetRow

#: Candidates that a ranking writes down: XTREME-R looks at no more.
RANKED = 20


class EvaluationJobs(TrainingJobs):
    """Predictions and scores of a checkpoint on a target, in all languages."""

    def __init__(self, study: Study, registry: Registry, lock: Lock, where: str) -> None:
        super().__init__(study, registry, lock, where)
        # It is the same for all recipes and seeds.
        self._tested = cache(self._test)

    def _transferability(self, model: ModelRow, recipe: str, seed: int, start: str) -> None:
        """What the data and a checkpoint say of a recipe; nothing where there is no choice.

        Targets that are fine-tuned on the same task share what is said. The data say the same for
        all seeds: they are looked at with the first one.
        """
        if model.kind == "decoder":
            return  # LogME and its kin are of features that heads see
        settings, first = self.study.transferability, seed == self.study.seeds[0]
        targets, is_base = self._target_tasks(model), start.startswith("models/")
        if settings is None or not targets or set(self.study.recipes) <= {"none"}:
            return
        if is_base and not first:
            return  # nothing random has happened yet
        trained = {} if is_base else self.jobs[start].spec
        tasks = [_data_of(entry) for entry in trained.get("tasks", ())] if first else []
        roles = {"targets": targets, "tasks": tasks}
        base = {"model": f"models/{model.name}/base"} if first and (is_base or tasks) else {}
        spec = {
            "stage": "transferability",
            "fingerprint": fingerprint(
                "xstilts.analysis.transferability",
                *sorted({f"xstilts.formats.{one['format']}.head" for one in [*targets, *tasks]}),
            ),
            **settings.model_dump(mode="json"),
            **roles,
            "sampling": trained["sampling"] if tasks else None,
            "inputs": {
                "checkpoint": start,
                **base,
                **{role: _tokens_of(entries) for role, entries in roles.items() if entries},
            },
        }
        out = f"transferability/{model.name}/seed-{seed}/{recipe}"
        files = ("transferability.json",) + (("embeddings.safetensors",) if base else ())
        implied = () if is_base else ("model", "tasks")  # by the checkpoint
        self._add(Job("transferability", out, spec, implied=implied, files=files))

    def _target_tasks(self, model: ModelRow) -> list[dict[str, Any]]:
        """Tasks whose labels the study's targets ask for, each once."""
        names = {
            target.train[-1]
            for target in self.targets
            if self._head(model, target, self.registry.datasets[target.dataset])
        }
        return [_data_of(self._tuned(model.name, name)[0]) for name in sorted(names)]

    def _is_tuned(self, model: ModelRow, target: TargetRow) -> bool:
        """Whether a target has training data and the model is fine-tuned on them."""
        tuned = model.kind == "encoder" or self.study.prompting.tuning != "none"
        return bool(target.train) and tuned

    def _evaluate(
        self, model: ModelRow, recipe: str, seed: int, target: TargetRow, checkpoint: str
    ) -> None:
        name = f"{model.name}/{recipe}/seed-{seed}/{target.name}"
        row, test = self.registry.datasets[target.dataset], self._tested(model.name, target.name)
        languages, given = test["languages"], test["inputs"]
        layer = self._layer(model, recipe, seed, row, checkpoint)
        spec = test | {"inputs": {"checkpoint": checkpoint, **given, **layer}}
        files = tuple(f"{language}.jsonl" for language in languages)
        out = f"predictions/{name}"
        implied = tuple(role for role in given if role != "testset")
        predictions = self._add(Job("evaluate", out, spec, implied=implied, files=files))
        pool = given.get("pool_prepared")
        score = {
            "stage": "score",
            "fingerprint": fingerprint("xstilts.evaluation.score"),
            "target": target.name,
            "metric": target.metric,
            "format": row.format,
            "languages": languages,
            "inputs": {
                "predictions": predictions,
                "gold": given["prepared"],
                **({"pool": pool} if pool else {}),
            },
        }
        implied = ("gold", "pool")
        self._add(Job("score", f"scores/{name}", score, implied=implied, files=("scores.json",)))

    def _test(self, model_name: str, target_name: str) -> dict[str, Any]:
        """Spec of a model's predictions for a target, whatever the checkpoint."""
        model, target = self.registry.models[model_name], self.registry.targets[target_name]
        row = self.registry.datasets[target.dataset]
        languages = languages_of(self.study, self.registry, target, self.where)
        texts = [self._prepared(row, language) for language in languages]
        if is_prompted(model, target, row, self.study.prompting, self.where):
            return self._prompted_test(model, target, row, languages, texts)
        sets = [self._tokens(model, row.name, language) for language in languages]
        pool = self._pool(model, row)
        return {
            "stage": "evaluate",
            "fingerprint": fingerprint(
                "xstilts.evaluation.evaluate",
                f"xstilts.formats.{row.format}.head",
                f"xstilts.formats.{row.format}.decode",
            ),
            "target": target.name,
            "format": row.format,
            "metric": target.metric,
            "head": self._head(model, target, row),
            "languages": languages,
            "decode": self._decoding(model, target, row),
            "inputs": {
                "testset": self._testset(model, target, languages, sets, pool),
                "tokens": sets,
                "prepared": texts,
                **pool,
            },
        }

    def _prompted_test(
        self,
        model: ModelRow,
        target: TargetRow,
        row: DatasetRow,
        languages: list[str],
        texts: list[str],
    ) -> dict[str, Any]:
        """The same for a decoder that is asked in words."""
        sets = [self._questions(model, target, code) for code in languages]
        return {
            "stage": "evaluate",
            "fingerprint": fingerprint(
                "xstilts.evaluation.evaluate", "xstilts.formats.prompted.decode"
            ),
            "target": target.name,
            "format": "prompted",
            "metric": target.metric,
            "head": None,
            "languages": languages,
            "decode": decoding(row, self.study.prompting),
            "inputs": {
                "testset": self._testset(model, target, languages, sets),
                "tokens": sets,
                "prepared": texts,
            },
        }

    def _head(self, model: ModelRow, target: TargetRow, row: DatasetRow) -> str | None:
        """The trained head that predicts; None where only the encoder is used."""
        if not self._is_tuned(model, target):
            return None
        task = self.registry.tasks[target.train[-1]]
        trained = self.registry.datasets[task.datasets[0]]
        return task.head_name if trained.format == row.format else None

    def _pool(self, model: ModelRow, row: DatasetRow) -> dict[str, list[str]]:
        """All candidates that are ranked, whatever languages the study evaluates."""
        if row.format != "answer_retrieval":
            return {}
        pool = self.registry.datasets[row.pool or row.name]
        codes = [code for code in pool.languages if "test" in pool.splits_of(code)]
        return {
            "pool_tokens": [self._tokens(model, pool.name, code) for code in codes],
            "pool_prepared": [self._prepared(pool, code) for code in codes],
        }

    def _layer(
        self, model: ModelRow, recipe: str, seed: int, row: DatasetRow, checkpoint: str
    ) -> dict[str, str]:
        """The artifact that chooses the hidden state, where the study leaves that to dev pairs."""
        retrieval = self.study.evaluation.retrieval
        if row.format != "sentence_retrieval" or retrieval.layer != "dev":
            return {}
        mined = [target for target in self.targets if target.metric == "bucc_f1"]
        if len(mined) != 1:
            raise InputError(
                f"{self.where}: evaluation.retrieval.layer",
                "dev needs one target whose dev pairs are mined",
                expected="one target with the metric bucc_f1, such as bucc2018",
                found=", ".join(target.name for target in mined) or "none",
                hint="Add bucc2018 to the targets, or give the number of a hidden state",
            )
        (target,) = mined
        languages = languages_of(self.study, self.registry, target, self.where)
        pools = self.registry.datasets[target.dataset]
        sets = [self._tokens(model, pools.name, language) for language in languages]
        spec = {
            "stage": "sweep",
            "fingerprint": fingerprint("xstilts.evaluation.sweep"),
            "target": target.name,
            "languages": languages,
            "pooling": retrieval.pooling,
            "inputs": {
                "checkpoint": checkpoint,
                "testset": self._testset(model, target, languages, sets),
                "tokens": sets,
                "prepared": [self._prepared(pools, language) for language in languages],
            },
        }
        out = f"layers/{model.name}/{recipe}/seed-{seed}"
        job = Job("sweep", out, spec, implied=("tokens", "prepared"), files=("layers.json",))
        return {"layer": self._add(job)}

    def _testset(
        self,
        model: ModelRow,
        target: TargetRow,
        languages: list[str],
        sets: list[str],
        pool: Mapping[str, list[str]] | None = None,
    ) -> str:
        more = [out for out in (pool or {}).get("pool_tokens", ()) if out not in sets]
        names = ["/".join(out.split("/")[-2:]) for out in more]  # data set and language
        spec = {
            "stage": "testset",
            "fingerprint": fingerprint("xstilts.data.testset"),
            "target": target.name,
            "languages": [*languages, *names],
            "inputs": {"tokens": [*sets, *more]},
        }
        return self._add(Job("testset", f"data/testsets/{model.name}/{target.name}", spec))

    def _decoding(self, model: ModelRow, target: TargetRow, row: DatasetRow) -> dict[str, Any]:
        evaluation = self.study.evaluation
        if row.format == "question_answering":
            return self._answer_decoding(model, target)
        top = {"top": RANKED} if row.format == "answer_retrieval" else {}
        if top and self._head(model, target, row):
            return top
        if row.format in ("sentence_retrieval", "answer_retrieval"):
            layer, pooling = evaluation.retrieval.layer, evaluation.retrieval.pooling
            if model.kind == "decoder" and pooling == "cls":
                raise InputError(
                    f"{self.where}: evaluation.retrieval.pooling",
                    f"the first sub-word of a decoder such as {model.name!r} sees no other",
                    expected="mean",
                    found=pooling,
                )
            if layer is None or (layer == "dev" and row.format == "answer_retrieval"):
                layer = model.retrieval_layer
            if layer != "dev" and layer > model.layers:
                raise InputError(
                    f"{self.where}: evaluation.retrieval.layer",
                    f"model {model.name!r} has no such hidden state",
                    expected=f"0 to {model.layers}",
                    found=str(layer),
                )
            return {"layer": layer, "pooling": pooling, **top}
        return {}

    def _answer_decoding(self, model: ModelRow, target: TargetRow) -> dict[str, Any]:
        evaluation = self.study.evaluation
        decode: dict[str, Any] = {
            "n_best": evaluation.n_best,
            "max_answer_length": evaluation.max_answer_length,
        }
        if target.metric == "squad_v2_f1":
            decode["null_threshold"] = evaluation.null_threshold
        if evaluation.answer_text == "white_space":
            # The manifests of the tokens hold its checksum, as those of the inputs do.
            decode["tokenizer"] = f"models/{model.name}/tokenizer"
        return decode


def _data_of(task: Mapping[str, Any]) -> dict[str, Any]:
    """What a spec says of a task's data."""
    return {key: task[key] for key in ("name", "format", "tokens")}


def _tokens_of(tasks: Iterable[Mapping[str, Any]]) -> list[str]:
    """Folders of the tokens of some tasks."""
    return list(dict.fromkeys(path for task in tasks for path in task["tokens"]))

"""Jobs of trainings: a recipe's intermediate tasks, then a target's."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from xstilts.artifacts.fingerprint import fingerprint
from xstilts.config import ContinuedMlm, Encoding, Recipe, Study
from xstilts.data.lock import Lock
from xstilts.errors import InputError
from xstilts.plan.jobs import Job
from xstilts.plan.models import ModelJobs, mask_of, training_code
from xstilts.prompting.chosen import COMPARED
from xstilts.registry import Registry
from xstilts.registry.rows import DatasetRow, ModelRow, TaskRow, TranslatorRow
from xstilts.training.settings import Training
from xstilts.validation import parse


class TrainingJobs(ModelJobs):
    """Checkpoints; those of adapters are merged with their base."""

    def __init__(self, study: Study, registry: Registry, lock: Lock, where: str) -> None:
        super().__init__(study, registry, lock, where)
        # It is the same for all recipes and seeds.
        self._tuned = cache(self._tuning)

    def _task(
        self,
        model: ModelRow,
        row: TaskRow,
        stage: str,
        own: dict[str, Any],
        translators: Iterable[TranslatorRow | None] = (None,),
    ) -> dict[str, Any]:
        """A task as a training's spec holds it, with the tokens of its data sets.

        Its batches are those of a training on it alone, unless the recipe says otherwise. Its data
        are read in the translations of the translators; None is the original.
        """
        datasets = [self.registry.datasets[name] for name in row.datasets]
        alone = self._training(model, stage, [row.name], own)
        prompted = self._in_prompts(model, datasets[0], stage)
        read = self._prompts if prompted else self._tokens
        for data in datasets:
            if prompted:
                self._check_prompt_budget(row, model, alone)
            else:
                self._check_budget(row, data, self._encoding(model, data), alone)
        return {
            "name": row.name,
            "head": "causal_lm" if prompted else row.head_name,
            "format": "prompted" if prompted else datasets[0].format,
            "tokens": [
                read(model, data.name, row.language, translator)
                for translator in translators
                for data in datasets
            ],
            "batch_size": alone.batch_size,
            "negatives": None if prompted else alone.negatives,
        }

    def _in_prompts(self, model: ModelRow, row: DatasetRow, stage: str) -> bool:
        """Whether a model is trained on a data set in words: a decoder, unless it gets a head."""
        headed = stage == "finetune" and self.study.prompting.tuning == "head"
        return model.kind == "decoder" and not headed and row.format not in COMPARED

    def _check_prompt_budget(self, task: TaskRow, model: ModelRow, training: Training) -> None:
        needed = self._prompt_length(model)
        if needed > training.micro_batch_tokens:
            raise InputError(
                f"{self.where}: training.tasks.{task.name}.micro_batch_tokens",
                "a prompt has to go through the model at once and does not fit",
                expected=f"at least {needed}",
                found=str(training.micro_batch_tokens),
                hint="Raise it, or lower encoding.datasets.prompted.max_length",
            )

    def _check_budget(
        self, task: TaskRow, data: DatasetRow, encoding: Encoding, training: Training
    ) -> None:
        """The longest example must fit into what goes through the model at once."""
        rows = 1
        if data.format == "answer_retrieval":
            rows = 2 * min(training.negatives or training.batch_size, training.batch_size)
        choices = data.fields.get("choices")
        if isinstance(choices, tuple):
            rows = len(choices)
        needed = rows * encoding.max_length
        if needed > training.micro_batch_tokens:
            raise InputError(
                f"{self.where}: training.tasks.{task.name}.micro_batch_tokens",
                f"{rows} x {encoding.max_length} sub-words of {data.name} have to go through the "
                "model at once and do not fit",
                expected=f"at least {needed}",
                found=str(training.micro_batch_tokens),
                hint="Raise it, or lower encoding's max_length"
                + (" or the task's negatives" if data.format == "answer_retrieval" else ""),
            )

    def _mlm(
        self, model: ModelRow, mlm: ContinuedMlm, training: Training, key: str
    ) -> dict[str, Any]:
        corpus = self._corpus(mlm.corpus, mlm.languages, key)
        return {
            "share": mlm.share,
            "exponent": mlm.exponent,
            "mask": mask_of(model, mlm.mask),
            "learning_rate": mlm.learning_rate,
            "batch_size": mlm.batch_size or training.batch_size,
            "tokens": [self._tokens(model, name, code) for name, code in corpus],
        }

    def _train_job(
        self,
        stage: str,
        out: str,
        base: str,
        tasks: list[dict[str, Any]],
        training: Training,
        **more: Any,
    ) -> str:
        mlm = more.get("mlm")
        text = {"causal_lm" if mlm["mask"] is None else "masked_lm"} if mlm else set[str]()
        formats = sorted({task["format"] for task in tasks} | text)
        read = [path for task in tasks for path in task["tokens"]]
        read += mlm["tokens"] if mlm else []
        spec = {
            "stage": stage,
            "fingerprint": training_code(formats),
            "tasks": tasks,
            "settings": training.model_dump(mode="json"),
            **more,
            "inputs": {"model": base, "tokens": list(dict.fromkeys(read))},
        }
        if training.lora is None:
            files = ("model.safetensors",)
            return self._add(Job(stage, out, spec, files=files, threads=training.threads))
        files = ("adapter_model.safetensors",)
        adapter = self._add(Job(stage, out, spec, files=files, threads=training.threads))
        return self._merged(adapter, base)

    def _merged(self, adapter: str, base: str) -> str:
        """Whole weights from an adapter: all that reads a checkpoint reads these."""
        spec = {
            "stage": "merge",
            "fingerprint": fingerprint("xstilts.training.merge"),
            "inputs": {"adapter": adapter, "model": base},
        }
        out = adapter.replace("checkpoints/", "merged/", 1)
        # The adapter's manifest holds the base's.
        job = Job("merge", out, spec, implied=("model",), files=("model.safetensors",))
        return self._add(job)

    def _intermediate(self, model: ModelRow, name: str, recipe: Recipe, seed: int) -> str:
        base = f"models/{model.name}/base"
        if not recipe.tasks and not recipe.mlm:
            return base
        key = f"recipes.{name}"
        parse(Training, recipe.training, f"{self.where}: {key}.training")
        training = self._training(model, "intermediate", recipe.tasks, recipe.training)
        rows = [self.registry.task(task, f"{self.where}: {key}") for task in recipe.tasks]
        self._check_heads(rows, key)
        tasks = [
            self._task(
                model, row, "intermediate", recipe.training, self._translators(recipe, row, key)
            )
            for row in rows
        ]
        mlm = self._mlm(model, recipe.mlm, training, f"{key}.mlm") if recipe.mlm else None
        out = f"checkpoints/{model.name}/{name}/seed-{seed}/intermediate"
        return self._train_job(
            "intermediate",
            out,
            base,
            tasks,
            training,
            seed=seed,
            sampling={"exponent": recipe.exponent, "cap": recipe.cap},
            mlm=mlm,
            heads={},
        )

    def _translators(self, recipe: Recipe, row: TaskRow, key: str) -> list[TranslatorRow | None]:
        """Translators of a recipe's task; None for the task as it is."""
        place = f"{self.where}: {key}.translate"
        return [self._translator(name, row, place) for name in recipe.translate] or [None]

    def _check_heads(self, rows: Iterable[TaskRow], key: str) -> None:
        """Tasks that share a head must have its format and labels."""
        first: dict[str, DatasetRow] = {}
        for row in rows:
            data = self.registry.datasets[row.datasets[0]]
            other = first.setdefault(row.head_name, data)
            if (data.format, data.labels) != (other.format, other.labels):
                raise InputError(
                    f"{self.where}: {key}.tasks",
                    f"{row.name!r} cannot share the head {row.head_name!r}",
                    expected=f"{other.format} of {', '.join(other.labels or ('no labels',))}",
                    found=f"{data.format} of {', '.join(data.labels or ('no labels',))}",
                    hint="Give its row another head",
                )

    def _finetune(self, model: ModelRow, name: str, seed: int, start: str, train: str) -> str:
        """Fine-tune through a target's tasks, one after the other."""
        checkpoint, done, head = start, list[str](), ""
        for task in train.split("-then-"):
            row = self.registry.task(task, f"{self.where}: targets")
            described, training = self._tuned(model.name, task)
            out = f"checkpoints/{model.name}/{name}/seed-{seed}/{'-then-'.join([*done, task])}"
            # A second task of the same target goes on with the first one's head (XCOPA); a decoder
            # that is trained in words has its language model's alone.
            heads = {row.head_name: head} if head else {}
            head = "" if described["format"] == "prompted" else row.head_name
            checkpoint = self._train_job(
                "finetune",
                out,
                checkpoint,
                [described],
                training,
                seed=seed,
                sampling={"exponent": 1.0, "cap": None},
                mlm=None,
                heads=heads,
            )
            done.append(task)
        return checkpoint

    def _tuning(self, name: str, task: str) -> tuple[dict[str, Any], Training]:
        """A task on which a model is fine-tuned, and how."""
        model, row = self.registry.models[name], self.registry.tasks[task]
        described = self._task(model, row, "finetune", {})
        return described, self._training(model, "finetune", [task], {})

"""From a study to its jobs: the grid, the shared training sets, the specs and the paths.

The plan is made when the Snakefile is parsed, by the driver and again by every cluster job, so it
imports nothing heavy and asks no network. Each job is one artifact; Snakemake takes its inputs,
outputs and its one parameter, the spec, from here. Some jobs it runs together, as one: a bundle.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from xstilts.analysis.questions import QUESTIONS
from xstilts.artifacts.bundle import index_spec
from xstilts.artifacts.fingerprint import fingerprint
from xstilts.artifacts.spec import Spec, canonical
from xstilts.config import ContinuedMlm, Encoding, Recipe, Study
from xstilts.data.lock import Lock
from xstilts.errors import InputError, nearest
from xstilts.nested import chains
from xstilts.prompting.chosen import CHOSEN, COMPARED, decoding, is_prompted, prompt_entry
from xstilts.registry import Registry
from xstilts.registry.rows import (
    DatasetRow,
    ModelRow,
    PromptRow,
    TargetRow,
    TaskRow,
    ToySource,
    TranslatorRow,
)
from xstilts.report.assets import assets_sha256
from xstilts.report.facts import facts
from xstilts.training.settings import Training
from xstilts.validation import parse

CHECK = "data/check"
TABLES = "tables"
ANALYSIS = "analysis"
REPORT = "report"
#: Stages that make weights.
TRAININGS = ("pretrain", "intermediate", "finetune")
#: Stages that only look through a model.
LOOKS = ("sweep", "evaluate", "transferability")
#: Stages that wait for the check of all data.
CHECKED = (*TRAININGS, *LOOKS, "score", "aggregate", "analyse", "report")
#: Stages of which one job makes several artifacts, and the rules of those jobs. Of data they make
#: the rest: what no training reads.
BUNDLED = {
    "fetch": "fetch_rest",
    "prepare": "prepare_rest",
    "tokens": "tokens_rest",
    "prompts": "prompts_rest",
    "testset": "testset",
    "evaluate": "evaluate",
    "score": "score",
    "transferability": "transferability",
}
#: Stages that must not be begun again because other data were added.
TRAINED = ("tokenizer", "translate", *TRAININGS)
#: Formats whose labels stay true in translation, and their texts. Answers of QA are places in a
#: context and tags are of single words: neither survives.
TRANSLATED = {
    "sequence_classification": ("text_a", "text_b"),
    "multiple_choice": ("prompt", "choices"),
}
#: Candidates that a ranking writes down: XTREME-R looks at no more.
RANKED = 20
#: Most sub-words of a prompt with its answer, where neither study nor model has fewer.
PROMPT_LENGTH = 1024
#: Rows of each test set that are looked at to say what a tokenizer does.
READ = 1000


@dataclass(frozen=True)
class Job:
    """One artifact to make.

    Attributes:
        stage: The command of the package that makes it.
        out: The artifact's folder below the results folder.
        spec: Everything that decides its bytes.
        implied: Input roles that another input's manifest already holds by its sha256: they are
            read, but Snakemake need not look at them as well.
        files: Files that must exist afterwards, beside the manifest; a plan looks for them, not
            Snakemake.
        threads: CPU threads it uses.
    """

    stage: str
    out: str
    spec: Mapping[str, Any]
    implied: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    threads: int = 1

    @property
    def inputs(self) -> list[str]:
        """Folders of the artifacts whose manifests decide whether it is made again."""
        return self._inputs(self.implied)

    @property
    def reads(self) -> list[str]:
        """Folders of all artifacts that it reads."""
        return self._inputs(())

    def _inputs(self, without: tuple[str, ...]) -> list[str]:
        found: list[str] = []
        for role, value in self.spec.get("inputs", {}).items():
            if role not in without:
                found.extend([value] if isinstance(value, str) else value)
        return list(dict.fromkeys(found))

    @property
    def rule(self) -> str:
        """The rule that makes it alone."""
        return self.stage

    @property
    def text(self) -> str:
        """The spec in its canonical form: the rule's one tracked parameter."""
        return canonical(self.spec)


@dataclass(frozen=True)
class Bundle:
    """Artifacts of one stage that one job of Snakemake makes, in one process.

    Each is an artifact as any other. The job's own output is a small one, the index: its manifest
    holds the manifests of all members by their sha256.

    Attributes:
        stage: The stage of all members.
        out: The index's folder below the results folder.
        members: The jobs.
    """

    stage: str
    out: str
    members: tuple[Job, ...]

    @property
    def rule(self) -> str:
        """The rule that makes it."""
        return BUNDLED[self.stage]

    @property
    def inputs(self) -> list[str]:
        """Folders of the artifacts that the members read and whose manifests count."""
        return list(dict.fromkeys(name for job in self.members for name in job.inputs))

    @property
    def text(self) -> str:
        """What the job is told: the specs of all members, by their folders."""
        return canonical({"stage": self.stage, "members": self._specs})

    @property
    def index(self) -> Spec:
        """The spec of the index itself."""
        return index_spec(self.stage, self._specs)

    @property
    def threads(self) -> int:
        """CPU threads that it uses."""
        return max(job.threads for job in self.members)

    @property
    def _specs(self) -> dict[str, Spec]:
        return {job.out: job.spec for job in self.members}


@dataclass(frozen=True)
class Plan:
    """All jobs of a study.

    Attributes:
        study: The study.
        registry: The registry's rows.
        where: The study's file, for messages.
        jobs: One job per artifact, by the artifact's folder.
        bundles: Jobs that Snakemake runs as one, by the folder of their index.
    """

    study: Study
    registry: Registry
    where: str
    jobs: dict[str, Job] = field(default_factory=dict)
    bundles: dict[str, Bundle] = field(default_factory=dict)

    @cached_property
    def bundle_of(self) -> dict[str, str]:
        """The index of each member of a bundle."""
        return {job.out: out for out, bundle in self.bundles.items() for job in bundle.members}

    @property
    def runs(self) -> list[Job | Bundle]:
        """What Snakemake runs: each bundle, and each job that is in none."""
        alone = [job for out, job in self.jobs.items() if out not in self.bundle_of]
        return [*alone, *self.bundles.values()]

    def run_of(self, out: str) -> Job | Bundle:
        """What Snakemake runs to make an artifact."""
        index = self.bundle_of.get(out)
        return self.bundles[index] if index else self.jobs[out]

    def inputs(self, out: str) -> list[str]:
        """Folders whose manifests Snakemake looks at before it makes an artifact or a bundle."""
        job = self.bundles.get(out) or self.jobs[out]
        return list(dict.fromkeys(self.bundle_of.get(name, name) for name in job.inputs))

    def is_stale(self, out: str, results: Path) -> bool:
        """Whether an artifact must be made again, whatever becomes of its inputs.

        See `Published.is_stale`; who asks for many artifacts makes one `Published`.
        """
        from xstilts.published import Published

        return Published(self, results).is_stale(out)

    def of(self, stage: str) -> list[Job]:
        """The jobs of one stage."""
        return [job for job in self.jobs.values() if job.stage == stage]


def make_plan(study: Study, registry: Registry, lock: Lock, where: str) -> Plan:
    """Lay out all jobs of a study.

    Args:
        study: The study.
        registry: The registry's rows.
        lock: What is known of the files of data sets and models; what is missing there is planned
            as well and stopped when it is to be fetched.
        where: The study's file, for messages.

    Raises:
        InputError: On a name that the registry does not know, an empty grid, or settings that
            cannot work.
    """
    return _Planner(study, registry, lock, where).plan()


def languages_of(study: Study, registry: Registry, target: TargetRow, where: str) -> list[str]:
    """The languages in which a target is evaluated, in the target's own order.

    Raises:
        InputError: If the study and the target have no language in common.
    """
    own = list(target.languages or registry.datasets[target.dataset].languages)
    choice = study.targets[target.name]
    for code in (*(choice.languages or ()), *choice.without):
        if code not in own:
            place = f"{where}: targets.{target.name}"
            raise InputError(place, f"the target has no {code!r}", hint=nearest(code, own))
    wanted = own if study.languages == "all" else list(study.languages)
    wanted = list(choice.languages) if choice.languages is not None else wanted
    common = [code for code in own if code in wanted and code not in choice.without]
    if not common:
        raise InputError(
            f"{where}: languages",
            f"target {target.name!r} has none of the study's languages",
            expected=f"at least one of {', '.join(own)}",
            found=", ".join(wanted),
            hint="Add one of them, or leave the target out",
        )
    return common


def prepared(dataset: str, language: str) -> str:
    """Folder of a data set's canonical rows in one language."""
    return f"data/prepared/{dataset}/{language}"


def prompts(model: str, dataset: str, language: str) -> str:
    """Folder of the prompts that a decoder is trained on; `language` may be a translator."""
    return f"data/prompts/{model}/{dataset}/{language}"


def questions(model: str, dataset: str, language: str) -> str:
    """Folder of the prompts that a decoder is tested on."""
    return f"data/questions/{model}/{dataset}/{language}"


def tokens(model: str, dataset: str, language: str) -> str:
    """Folder of a data set's sub-words for a model's tokenizer; `language` may be a translator."""
    return f"data/tokens/{model}/{dataset}/{language}"


class _Planner:
    def __init__(self, study: Study, registry: Registry, lock: Lock, where: str) -> None:
        self.study, self.registry, self.lock, self.where = study, registry, lock, where
        self.jobs: dict[str, Job] = {}
        self.targets = [registry.target(name, f"{where}: targets") for name in study.targets]
        self.models = [registry.model(name, f"{where}: models") for name in study.models]
        self.preset = registry.preset(study.preset, f"{where}: preset") if study.preset else None
        # They are the same for all recipes and seeds.
        self._tuned, self._tested = cache(self._tuning), cache(self._test)
        self._check_names()

    def plan(self) -> Plan:
        for model in self.models:
            self._model(model)
            for recipe in self.study.recipes:
                for seed in self.study.seeds:
                    self._cell_column(model, recipe, seed)
        for model in self.models:
            self._distances(model)
        self._check_stage()
        self._results()
        return Plan(self.study, self.registry, self.where, self.jobs, self._bundles())

    def _bundles(self) -> dict[str, Bundle]:
        """One job of Snakemake for all targets of a column, or all languages of a data set.

        A cluster is not to be asked for thousands of jobs of a minute each, nor Snakemake for a
        plan of them. What a training reads stays alone: if the training stood on an index, another
        language would begin it again.
        """
        trained, found = self._read_by_trainings(), dict[str, list[Job]]()
        for job in self.jobs.values():
            if job.stage in BUNDLED and job.out not in trained:
                column = job.out.removeprefix("data/").split("/")[1:-1]
                found.setdefault("/".join(["bundles", job.stage, *column]), []).append(job)
        return {out: Bundle(jobs[0].stage, out, tuple(jobs)) for out, jobs in found.items()}

    def _read_by_trainings(self) -> set[str]:
        """All artifacts that trainings stand on, through others too."""
        found = set[str]()
        waiting = [out for stage in TRAINED for out in self._outs(stage)]
        while waiting:
            new = set(self.jobs[waiting.pop()].reads) - found
            found |= new
            waiting.extend(new)
        return found

    def _add(self, job: Job) -> str:
        if self.jobs.setdefault(job.out, job) != job:
            raise InputError(
                self.where,
                f"two different artifacts would have the folder {job.out}",
                hint="Give the recipe or the task another name",
            )
        return job.out

    # ---- names and settings

    def _check_names(self) -> None:
        self._check_languages()
        self._check_nested()
        for name, recipe in self.study.recipes.items():
            self._check_recipe(name, recipe)
        self._check_sections()

    def _check_languages(self) -> None:
        study, registry = self.study, self.registry
        registry.language(study.source_language, f"{self.where}: source_language")
        own = {
            code
            for target in self.targets
            for code in target.languages or registry.datasets[target.dataset].languages
        }
        for code in () if study.languages == "all" else study.languages:
            registry.language(code, f"{self.where}: languages")
            if code not in own:
                place = f"{self.where}: languages"
                raise InputError(
                    place, f"no target of the study has {code!r}", hint=nearest(code, own)
                )
        for target in self.targets:
            languages_of(study, registry, target, self.where)

    def _check_nested(self) -> None:
        """What all sets share is wrong at its own place, not in each of their recipes."""
        if self.study.nested:
            place = f"{self.where}: nested"
            for task in self.study.nested.tasks:
                self.registry.task(task, f"{place}.tasks")
            parse(Training, self.study.nested.training, f"{place}.training")

    def _check_recipe(self, name: str, recipe: Recipe) -> None:
        place = f"{self.where}: recipes.{name}"
        for task in recipe.tasks:
            self.registry.task(task, place)
            if recipe.tasks.count(task) > 1:
                raise InputError(f"{place}.tasks", f"{task!r} stands there twice")
        if not recipe.tasks and not recipe.mlm and name != "none":
            raise InputError(
                place,
                "the recipe has no tasks",
                hint="Only the recipe 'none' goes from the model straight to the target",
            )
        if name == "none" and (recipe.tasks or recipe.mlm):
            raise InputError(
                place,
                "'none' is the recipe without intermediate training",
                hint="Give the recipe another name",
            )
        self._check_translate(recipe, place)

    def _check_translate(self, recipe: Recipe, place: str) -> None:
        """Names under `translate` must suit all of the recipe's tasks."""
        place = f"{place}.translate"
        if recipe.translate and not recipe.tasks:
            raise InputError(place, "the recipe has no tasks to translate")
        for name in recipe.translate:
            if recipe.translate.count(name) > 1:
                raise InputError(place, f"{name!r} stands there twice")
        for name in recipe.tasks if recipe.translate else ():
            task = self.registry.task(name, place)
            format_name = self.registry.datasets[task.datasets[0]].format
            if format_name not in TRANSLATED:
                raise InputError(
                    place,
                    f"task {name!r} cannot be translated: its spans or tags would not fit",
                    expected=" or ".join(TRANSLATED),
                    found=format_name,
                )
            for source in recipe.translate:
                self._translator(source, task, place)

    def _translator(self, name: str, task: TaskRow, place: str) -> TranslatorRow | None:
        """A translator that can read a task; None where a language means the task as it is."""
        registry = self.registry
        if name in registry.languages:
            if name != task.language:
                raise InputError(
                    place,
                    f"task {task.name!r} is in {task.language!r}; a language stands for the data "
                    "as they are",
                    expected=f"{task.language} or a translator",
                    found=name,
                )
            return None
        if name not in registry.translators:
            hint = nearest(name, [*registry.translators, task.language])
            raise InputError(place, f"unknown translator {name!r}", hint=hint)
        row = registry.translator(name, place)
        if row.source != task.language:
            raise InputError(
                place,
                f"translator {name!r} reads {row.source!r}, and task {task.name!r} is in "
                f"{task.language!r}",
                hint=f"Take a translator whose source is {task.language}",
            )
        return row

    def _check_sections(self) -> None:
        """Settings, and keys that name a task, a model or the like: none may stand there idle."""
        study, rows = self.study, self.registry.datasets
        study.training.check(f"{self.where}: training")
        study.encoding.check(f"{self.where}: encoding")
        trained = {task for target in self.targets for task in target.train}
        trained |= {task for recipe in study.recipes.values() for task in recipe.tasks}
        kinds = {row.source.toyworld for row in rows.values() if isinstance(row.source, ToySource)}
        sections: list[tuple[str, Iterable[str], set[str], str]] = [
            ("training.tasks", study.training.tasks, trained, "the study trains no such task"),
            (
                "training.models",
                study.training.models,
                set(study.models),
                "the study has no such model",
            ),
            (
                "encoding.datasets",
                study.encoding.datasets,
                set(rows) | {"prompted"} | {row.format for row in rows.values()},
                "unknown data set or format",
            ),
            ("toyworld.sizes", study.toyworld.sizes, kinds, "unknown kind of toy data"),
            ("files", study.files, {*rows, *self.registry.models}, "unknown data set or model"),
        ]
        for model, own in study.training.models.items():
            key, problem = f"training.models.{model}.tasks", "the study trains no such task"
            sections.append((key, own.tasks, trained, problem))
        for key, found, valid, problem in sections:
            for name in found:
                if name not in valid:
                    place = f"{self.where}: {key}.{name}"
                    raise InputError(place, problem, hint=nearest(name, valid))

    def _training(
        self, model: ModelRow, stage: str, tasks: Iterable[str], own: dict[str, Any]
    ) -> Training:
        """Settings of one training: the preset's < the study's < its own."""
        names = list(tasks)
        chosen = (stage, model.name, names[0] if len(names) == 1 else None)
        above = self.study.training.merged(*chosen) | own
        below: dict[str, Any] = {}
        if self.preset and stage != "pretraining":
            below = self.preset.training.merged(*chosen)
        # Steps win over a share or epochs, but not the preset's over the study's.
        for key, steps in (("warmup", "warmup_steps"), ("epochs", "max_steps")):
            if key in above:
                below.pop(steps, None)
        settings = parse(Training, below | above, f"{self.where}: training")
        return self._with_adapters(model, stage, settings, own)

    def _with_adapters(
        self, model: ModelRow, stage: str, settings: Training, own: dict[str, Any]
    ) -> Training:
        """Adapters are of pretrained decoders; the study's default may name them for these."""
        pretraining = stage == "pretraining"
        if settings.lora is None or (model.kind == "decoder" and not pretraining):
            return settings
        if pretraining and "lora" not in own:
            return settings.model_copy(update={"lora": None})
        raise InputError(
            f"{self.where}: {'pretraining.' if pretraining else ''}training",
            "adapters of random weights learn nothing"
            if pretraining
            else f"lora is for decoders, and {model.name!r} is an encoder",
            hint="Leave lora out there"
            if pretraining
            else "Set lora under training.models of each decoder, or to null under that of "
            f"{model.name}",
        )

    def _prompt_length(self, model: ModelRow) -> int:
        """Most sub-words of a prompt with its answer."""
        own = self.study.encoding.datasets.get("prompted", {})
        where = f"{self.where}: encoding.datasets.prompted"
        wanted = parse(Encoding, {"max_length": PROMPT_LENGTH} | own, where).max_length
        if own and wanted > model.max_length:
            expected = f"at most {model.max_length}"
            problem = f"max_length is longer than the positions of {model.name}"
            raise InputError(where, problem, expected=expected, found=str(wanted))
        return min(wanted, model.max_length)

    def _encoding(self, model: ModelRow, row: DatasetRow) -> Encoding:
        above = self.study.encoding.merged(row.format, row.name)
        below = self.preset.encoding.merged(row.format, row.name) if self.preset else {}
        if above.get("max_length", math.inf) < below.get("max_length", 0):
            # The preset's windows are those of its own length: with these, none may be left out.
            below = {key: min(value, above["max_length"] // 2) for key, value in below.items()}
        merged: dict[str, Any] = {"max_length": min(128, model.max_length)} | below | above
        for key, usual in (("max_query_length", 64), ("doc_stride", 128)):
            merged.setdefault(key, min(usual, merged["max_length"] // 2))
        encoding = parse(Encoding, merged, f"{self.where}: encoding")
        if encoding.max_length > model.max_length:
            raise InputError(
                f"{self.where}: encoding",
                f"max_length of {row.name} is longer than the positions of {model.name}",
                expected=f"at most {model.max_length}",
                found=str(encoding.max_length),
                hint=self._preset_hint("max_length"),
            )
        if (
            row.format == "question_answering"
            and encoding.max_query_length > encoding.max_length - 8
        ):
            raise InputError(
                f"{self.where}: encoding",
                f"max_query_length leaves no room for the context of {row.name}",
                expected=f"at most {encoding.max_length - 8}",
                found=str(encoding.max_query_length),
            )
        return encoding

    def _preset_hint(self, key: str) -> str | None:
        """What to do about a setting that may be the preset's."""
        if self.preset is None:
            return None
        return f"The study's own {key} under encoding wins over that of preset {self.preset.name!r}"

    # ---- data

    def _raw(self, row: DatasetRow, language: str) -> str:
        config = row.config(language)
        spec: dict[str, Any] = {
            "stage": "fetch",
            "dataset": row.name,
            "config": config,
            "source": row.source_of(language).model_dump(mode="json"),
            "layout": row.layout,
        }
        if isinstance(row.source, ToySource):
            sizes = self.study.toyworld.sizes.get(row.source.toyworld, {})
            splits = row.splits_of(language)
            missing = [split for split in splits if split not in sizes]
            if missing:
                raise InputError(
                    f"{self.where}: toyworld.sizes.{row.source.toyworld}",
                    f"the sizes of {', '.join(missing)} are missing for data set {row.name!r}",
                )
            spec["toyworld"] = {
                "kind": row.source.toyworld,
                "language": language,
                "sizes": {split: sizes[split] for split in splits},
                "seed": self.study.toyworld.seed,
            }
            spec["fingerprint"] = fingerprint("xstilts.toyworld.generate")
        else:
            # The lock's checksums decide the bytes, no code does.
            spec["lock"] = self.lock.dataset(row.name, config)
        return self._add(Job("fetch", f"data/raw/{row.name}/{config}", spec))

    def _prepared(self, row: DatasetRow, language: str) -> str:
        out = prepared(row.name, language)
        if out in self.jobs:
            return out
        if language not in row.languages:
            raise InputError(
                f"{self.where}: languages",
                f"data set {row.name!r} has no {language!r}",
                hint=nearest(language, row.languages),
            )
        spec = {
            "stage": "prepare",
            "fingerprint": fingerprint("xstilts.data.prepare"),
            "dataset": row.name,
            "language": language,
            "code": row.languages[language],
            "row": row.reading(language),
            "expected": row.known_rows(language),
            "inputs": {"raw": self._raw(row, language)},
        }
        return self._add(Job("prepare", out, spec))

    def _tokens(
        self,
        model: ModelRow,
        dataset: str,
        language: str,
        translator: TranslatorRow | None = None,
    ) -> str:
        out = tokens(model.name, dataset, translator.name if translator else language)
        if out in self.jobs:
            return out
        row = self.registry.dataset(dataset, self.where)
        if translator is None:
            texts = self._prepared(row, language)
        else:
            texts, language = self._translated(row, language, translator), translator.target
        causal = model.kind == "decoder" and row.format == "masked_lm"
        format_name = "causal_lm" if causal else row.format
        spec = {
            "stage": "tokens",
            "fingerprint": fingerprint(
                "xstilts.data.tokens", f"xstilts.formats.{format_name}.encode"
            ),
            "format": format_name,
            "dataset": dataset,
            "language": language,
            "encoding": self._encoding(model, row).model_dump(mode="json"),
            **({"odd_words": row.odd_words} if row.odd_words else {}),
            "inputs": {
                "prepared": texts,
                "tokenizer": f"models/{model.name}/tokenizer",
            },
        }
        return self._add(Job("tokens", out, spec))

    def _prompts(
        self,
        model: ModelRow,
        dataset: str,
        language: str,
        translator: TranslatorRow | None = None,
    ) -> str:
        """A data set's training rows as prompts, in words of the source language."""
        row = self.registry.dataset(dataset, self.where)
        out = prompts(model.name, dataset, translator.name if translator else language)
        if translator is None:
            texts = self._prepared(row, language)
        else:
            texts, language = self._translated(row, language, translator), translator.target
        place = f"{self.where}: prompting"
        entry = prompt_entry(
            self.registry.prompt_of(dataset, place), self.study.source_language, place
        )
        return self._prompted(model, out, row, language, texts, entry, ["train", "dev"])

    def _questions(self, model: ModelRow, target: TargetRow, language: str) -> str:
        """A target's test rows as prompts, in words that the study chooses.

        Before them stand examples of the task that encoders are fine-tuned on, if any are wanted.
        """
        row, prompting = self.registry.datasets[target.dataset], self.study.prompting
        place, source = f"{self.where}: prompting", self.study.source_language
        prompt = self.registry.prompt_of(row.name, place)
        entry = prompt_entry(prompt, language if prompting.words == "target" else source, place)
        shots: dict[str, Any] = {}
        if prompting.shots:
            shots = {"number": prompting.shots, "seed": prompting.shots_seed}
            shots["words"] = prompt_entry(prompt, source, place)["words"]
        out = questions(model.name, row.name, language)
        texts, read = self._prepared(row, language), self._shots(prompt, target) if shots else None
        room = 0 if row.format in CHOSEN else self._written(model)
        return self._prompted(model, out, row, language, texts, entry, ["test"], shots, read, room)

    def _written(self, model: ModelRow) -> int:
        """Sub-words that are kept free behind a question, for its answer."""
        most, length = self.study.prompting.max_new_tokens, self._prompt_length(model)
        if most > length // 2:
            raise InputError(
                f"{self.where}: prompting.max_new_tokens",
                f"leaves less than half of a prompt of {model.name!r} for the question",
                expected=f"at most {length // 2}",
                found=str(most),
                hint="Lower it, or raise encoding.datasets.prompted.max_length",
            )
        return most

    def _prompted(
        self,
        model: ModelRow,
        out: str,
        row: DatasetRow,
        language: str,
        texts: str,
        prompt: dict[str, Any],
        splits: list[str],
        shots: dict[str, Any] | None = None,
        shots_of: str | None = None,
        room: int = 0,
    ) -> str:
        spec = {
            "stage": "prompts",
            "fingerprint": fingerprint("xstilts.prompting.tokens"),
            "format": row.format,
            "dataset": row.name,
            "language": language,
            "splits": splits,
            "prompt": prompt,
            "encoding": {"max_length": self._prompt_length(model) - room},
            "shots": shots or None,
            "inputs": {
                "prepared": texts,
                "tokenizer": f"models/{model.name}/tokenizer",
                **({"shots": shots_of} if shots_of else {}),
            },
        }
        return self._add(Job("prompts", out, spec))

    def _shots(self, prompt: PromptRow, target: TargetRow) -> str:
        """The training rows that examples are drawn from."""
        task = self.registry.tasks[target.train[-1]]
        own = [name for name in task.datasets if name in prompt.datasets]
        if not own:
            raise InputError(
                f"{self.where}: prompting.shots",
                f"the data of task {task.name!r} are not rendered by prompt {prompt.name!r}",
                expected=f"one of {', '.join(prompt.datasets)}",
                found=", ".join(task.datasets),
                hint="Set shots: 0, or add the data set to the prompt's row",
            )
        return self._prepared(self.registry.datasets[own[0]], task.language)

    def _translated(self, row: DatasetRow, language: str, translator: TranslatorRow) -> str:
        """A data set's training rows in another language; one for all models, recipes and seeds."""
        spec = {
            "stage": "translate",
            "fingerprint": fingerprint("xstilts.data.translate"),
            "dataset": row.name,
            "translator": translator.model_dump(
                mode="json",
                include={"name", "source", "target", "prefix", "source_code", "target_code"},
            ),
            "fields": [name for name in TRANSLATED[row.format] if name in row.fields],
            "settings": self.study.translation.model_dump(mode="json"),
            "inputs": {
                "prepared": self._prepared(row, language),
                "translator": self._fetched_translator(translator),
            },
        }
        return self._add(Job("translate", f"data/translated/{row.name}/{translator.name}", spec))

    def _fetched_translator(self, row: TranslatorRow) -> str:
        described = row.model_dump(mode="json", include={"name", "hub"})
        lock = self.lock.model(row.name)
        spec = {"stage": "fetch_translator", "translator": described, "lock": lock, "inputs": {}}
        return self._add(Job("fetch_translator", f"translators/{row.name}", spec))

    def _corpus(
        self, names: Iterable[str], languages: Iterable[str], key: str
    ) -> list[tuple[str, str]]:
        """(data set, language) of raw text."""
        found, there = list[tuple[str, str]](), list[str]()
        for name in names:
            row = self.registry.dataset(name, f"{self.where}: {key}.corpus")
            if row.format != "masked_lm":
                raise InputError(
                    f"{self.where}: {key}.corpus",
                    f"{name!r} is no raw text",
                    expected="a data set of format masked_lm",
                    found=row.format,
                )
            wanted = list(row.languages) if languages == "all" else list(languages)
            there.extend(row.languages)
            found.extend((name, language) for language in wanted if language in row.languages)
        for language in () if languages == "all" else languages:
            if language not in there:
                place = f"{self.where}: {key}.languages"
                hint = nearest(language, there)
                raise InputError(place, f"no corpus has {language!r}", hint=hint)
        return found

    # ---- models

    def _model(self, model: ModelRow) -> None:
        described = model.model_dump(
            mode="json", include={"name", "architecture", "hub", "scratch", "layers", "max_length"}
        )
        if model.pad_token:
            described["pad_token"] = model.pad_token
        if model.hub is not None:
            self._hub_model(model, described)
        else:
            self._scratch_model(model, described)

    def _hub_model(self, model: ModelRow, described: dict[str, Any]) -> None:
        lock = self.lock.model(model.name)
        known = (lock or {}).get("files", {})
        index = [name for name in known if name == "model.safetensors.index.json"]
        weights = tuple(index or ["model.safetensors"])
        for stage, out, files in (
            ("tokenizer", "tokenizer", ()),
            ("fetch_model", "base", weights),
        ):
            spec = {"stage": stage, "model": described, "lock": lock, "inputs": {}}
            self._add(Job(stage, f"models/{model.name}/{out}", spec, files=files))

    def _scratch_model(self, model: ModelRow, described: dict[str, Any]) -> None:
        settings = self.study.pretraining
        if settings is None:
            raise InputError(
                f"{self.where}: pretraining",
                f"the key is missing, but model {model.name!r} has no weights",
                hint="Say what it is pretrained on, e.g. pretraining: {corpus: [wikipedia]}",
            )
        corpus = self._corpus(settings.corpus, settings.languages, "pretraining")
        texts = [self._prepared(self.registry.datasets[name], code) for name, code in corpus]
        tokenizer_spec = {
            "stage": "tokenizer",
            "fingerprint": fingerprint("xstilts.data.tokenizer"),
            "model": described,
            "lock": None,
            "training": {"max_lines": settings.max_lines},
            "inputs": {"corpus": texts},
        }
        self._add(Job("tokenizer", f"models/{model.name}/tokenizer", tokenizer_spec))
        parse(Training, settings.training, f"{self.where}: pretraining.training")
        training = self._training(model, "pretraining", (), settings.training)
        spec = {
            "stage": "pretrain",
            "fingerprint": _training_code([_text_format(model)]),
            "model": described,
            "seed": settings.seed,
            "settings": training.model_dump(mode="json"),
            "mlm": {
                "exponent": settings.exponent,
                "mask": _mask(model, settings.mask),
                "learning_rate": None,
                "batch_size": training.batch_size,
            },
            "inputs": {
                "tokenizer": f"models/{model.name}/tokenizer",
                "tokens": [self._tokens(model, name, code) for name, code in corpus],
            },
        }
        self._add(
            Job(
                "pretrain",
                f"models/{model.name}/base",
                spec,
                files=("model.safetensors",),
                threads=training.threads,
            )
        )

    # ---- training

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
            "mask": _mask(model, mlm.mask),
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
            "fingerprint": _training_code(formats),
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
            # A second task of the same target goes on with the first one's head (XCOPA).
            heads = {row.head_name: head} if head else {}
            head = row.head_name
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

    # ---- before fine-tuning

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

    # ---- evaluation

    def _cell_column(self, model: ModelRow, recipe: str, seed: int) -> None:
        start = self._intermediate(model, recipe, self.study.recipes[recipe], seed)
        self._transferability(model, recipe, seed, start)
        for target in self.targets:
            if self._is_tuned(model, target):
                train = "-then-".join(target.train)
                checkpoint = self._finetune(model, recipe, seed, start, train)
            elif start.startswith("models/") and seed != self.study.seeds[0]:
                continue  # nothing random happens between the model and this target
            else:
                checkpoint = start
            self._evaluate(model, recipe, seed, target, checkpoint)

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

    # ---- the study as a whole

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

    def _of(self, stage: str) -> list[Job]:
        return [job for job in self.jobs.values() if job.stage == stage]

    def _outs(self, stage: str) -> list[str]:
        return [job.out for job in self._of(stage)]

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


def _text_format(model: ModelRow) -> str:
    """What a model learns from raw text."""
    return "masked_lm" if model.kind == "encoder" else "causal_lm"


def _mask(model: ModelRow, share: float) -> float | None:
    """Share of the sub-words that is masked; a decoder reads them all."""
    return share if model.kind == "encoder" else None


def _data_of(task: Mapping[str, Any]) -> dict[str, Any]:
    """What a spec says of a task's data."""
    return {key: task[key] for key in ("name", "format", "tokens")}


def _tokens_of(tasks: Iterable[Mapping[str, Any]]) -> list[str]:
    """Folders of the tokens of some tasks."""
    return list(dict.fromkeys(path for task in tasks for path in task["tokens"]))


def _training_code(formats: Iterable[str]) -> str:
    heads = [f"xstilts.formats.{name}.head" for name in formats]
    return fingerprint("xstilts.training.stages", *heads)

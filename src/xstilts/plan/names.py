"""The study and its rows: every name that it gives must be known, and used."""

from __future__ import annotations

from collections.abc import Iterable

from xstilts.config import Recipe, Study
from xstilts.data.lock import Lock
from xstilts.errors import InputError, nearest
from xstilts.plan.jobs import Job
from xstilts.registry import Registry
from xstilts.registry.rows import TargetRow, TaskRow, ToySource, TranslatorRow
from xstilts.training.settings import Training
from xstilts.validation import parse

#: Formats whose labels stay true in translation, and their texts. Answers of QA are places in a
#: context and tags are of single words: neither survives.
TRANSLATED = {
    "sequence_classification": ("text_a", "text_b"),
    "multiple_choice": ("prompt", "choices"),
}


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


class Names:
    """A study, the rows that it names, and the jobs that are planned so far."""

    def __init__(self, study: Study, registry: Registry, lock: Lock, where: str) -> None:
        self.study, self.registry, self.lock, self.where = study, registry, lock, where
        self.jobs: dict[str, Job] = {}
        self.targets = [registry.target(name, f"{where}: targets") for name in study.targets]
        self.models = [registry.model(name, f"{where}: models") for name in study.models]
        self.preset = registry.preset(study.preset, f"{where}: preset") if study.preset else None
        self._check_names()

    def _add(self, job: Job) -> str:
        if self.jobs.setdefault(job.out, job) != job:
            raise InputError(
                self.where,
                f"two different artifacts would have the folder {job.out}",
                hint="Give the recipe or the task another name",
            )
        return job.out

    def _of(self, stage: str) -> list[Job]:
        return [job for job in self.jobs.values() if job.stage == stage]

    def _outs(self, stage: str) -> list[str]:
        return [job.out for job in self._of(stage)]

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

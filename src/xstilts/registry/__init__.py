"""The registry: rows in YAML beside this module, and the users' own files merged over them.

A new data set, task, target, model or language of a known format is one row; no code knows a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from xstilts.errors import InputError, nearest
from xstilts.registry.rows import (
    LABELLED,
    DatasetRow,
    Format,
    LanguageRow,
    Metric,
    ModelRow,
    PresetRow,
    PromptRow,
    PublishedRow,
    Row,
    TargetRow,
    TaskRow,
    TranslatorRow,
)
from xstilts.validation import parse, read_yaml, refuse_repeated_keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_AnyRow = TypeVar("_AnyRow", bound=Row)

#: Section of a registry file, its rows' type and the row's field that the key fills.
SECTIONS: Mapping[str, tuple[type[Row], str]] = {
    "languages": (LanguageRow, "code"),
    "datasets": (DatasetRow, "name"),
    "tasks": (TaskRow, "name"),
    "targets": (TargetRow, "name"),
    "models": (ModelRow, "name"),
    "presets": (PresetRow, "name"),
    "prompts": (PromptRow, "name"),
    "translators": (TranslatorRow, "name"),
    "published": (PublishedRow, "name"),
}
METRICS: Mapping[Format, tuple[Metric, ...]] = {
    "sequence_classification": ("accuracy",),
    "multiple_choice": ("accuracy",),
    "question_answering": ("squad_f1", "squad_v2_f1", "mlqa_f1"),
    "token_classification": ("seqeval_f1",),
    "masked_lm": (),
    "sentence_retrieval": ("bucc_f1", "tatoeba_accuracy"),
    "answer_retrieval": ("lareqa_map", "mewslix_mrr"),
}


@dataclass(frozen=True)
class Registry:
    """All rows by name."""

    datasets: Mapping[str, DatasetRow]
    tasks: Mapping[str, TaskRow]
    targets: Mapping[str, TargetRow]
    models: Mapping[str, ModelRow]
    translators: Mapping[str, TranslatorRow]
    languages: Mapping[str, LanguageRow]
    presets: Mapping[str, PresetRow]
    prompts: Mapping[str, PromptRow]
    published: Mapping[str, PublishedRow]

    def dataset(self, name: str, where: str) -> DatasetRow:
        """The data set of a name; `where` is the place that names it, for the error."""
        return _find("data set", self.datasets, name, where)

    def task(self, name: str, where: str) -> TaskRow:
        """The task of a name."""
        return _find("task", self.tasks, name, where)

    def target(self, name: str, where: str) -> TargetRow:
        """The target of a name."""
        return _find("target", self.targets, name, where)

    def model(self, name: str, where: str) -> ModelRow:
        """The model of a name."""
        return _find("model", self.models, name, where)

    def translator(self, name: str, where: str) -> TranslatorRow:
        """The translator of a name."""
        return _find("translator", self.translators, name, where)

    def language(self, code: str, where: str) -> LanguageRow:
        """The language of a code."""
        return _find("language", self.languages, code, where)

    def preset(self, name: str, where: str) -> PresetRow:
        """The preset of a name."""
        return _find("preset", self.presets, name, where)

    def prompt_of(self, dataset: str, where: str) -> PromptRow:
        """The prompt that renders a data set."""
        for row in self.prompts.values():
            if dataset in row.datasets:
                return row
        known = [name for row in self.prompts.values() for name in row.datasets]
        hint = f"Add a row under `prompts` to a registry file. {nearest(dataset, known)}"
        raise InputError(where, f"no prompt renders the data set {dataset!r}", hint=hint)


def load_registry(extra: Sequence[Path] = ()) -> Registry:
    """The built-in rows with the users' files merged over them, each file read once a process.

    Args:
        extra: Files with any of the sections `datasets`, `tasks`, `targets`, `models`,
            `translators`, `languages`, `presets`, `prompts` and `published`; a row of a known name
            replaces that row as a whole.

    Raises:
        InputError: On a row that is wrong or that does not fit the rows it refers to, with file,
            section, row and key.
    """
    return _load(tuple(Path(path) for path in extra))


def _find(kind: str, rows: Mapping[str, _AnyRow], name: str, where: str) -> _AnyRow:
    if name not in rows:
        raise InputError(where, f"unknown {kind} {name!r}", hint=nearest(name, rows))
    return rows[name]


@cache
def _load(extra: tuple[Path, ...]) -> Registry:
    rows: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    origins: dict[tuple[str, str], str] = {}
    for file, section, row in [
        *_built_in(),
        *(item for path in extra for item in _user_rows(path)),
    ]:
        name = getattr(row, SECTIONS[section][1])
        rows[section][name] = row
        origins[section, name] = file
    registry = Registry(**rows)
    _Checks(registry, origins).run()
    return registry


@cache
def _built_in() -> tuple[tuple[str, str, Row], ...]:
    folder = Path(__file__).parent
    paths = [folder / f"{section}.yaml" for section in SECTIONS]
    return tuple(item for path in paths for item in _rows_of(path, f"registry/{path.name}"))


def _user_rows(path: Path) -> Iterator[tuple[str, str, Row]]:
    yield from _rows_of(path, str(path))
    refuse_repeated_keys(path)


def _rows_of(path: Path, file: str) -> Iterator[tuple[str, str, Row]]:
    content = read_yaml(path)
    if content is None:
        return
    for section, rows in _mapping(content, file).items():
        if section not in SECTIONS:
            raise InputError(
                f"{file}: {section}", "unknown section", hint=nearest(section, SECTIONS)
            )
        for name, row in _mapping(rows, f"{file}: {section}").items():
            yield file, section, _parsed(section, name, row, f"{file}: {section}.{name}")


def _mapping(value: Any, where: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise InputError(
            where, "is not a mapping", expected="names with rows", found=repr(value)[:80]
        )
    return value


def _parsed(section: str, name: Any, content: Any, where: str) -> Row:
    kind, key = SECTIONS[section]
    row = _mapping(content, where)
    if key in row:
        hint = "Remove it: the key above the row is its name"
        raise InputError(f"{where}: {key}", "a row cannot name itself", hint=hint)
    return parse(kind, {key: name, **row}, where)


class _Checks:
    """What no single row can know: that the rows fit each other."""

    def __init__(self, registry: Registry, origins: Mapping[tuple[str, str], str]) -> None:
        self.registry, self.origins = registry, origins

    def run(self) -> None:
        for dataset in self.registry.datasets.values():
            self._known_languages(
                dataset.languages, self._at("datasets", dataset.name, "languages")
            )
            self.registry.language(dataset.pivot, self._at("datasets", dataset.name, "pivot"))
            self._pool(dataset)
        for model in self.registry.models.values():
            if model.pretraining:
                where = self._at("models", model.name, "pretraining.gib")
                self._known_languages(model.pretraining.gib, where)
        for task in self.registry.tasks.values():
            self._task(task)
        for target in self.registry.targets.values():
            self._target(target)
        for preset in self.registry.presets.values():
            self._preset(preset)
        for translator in self.registry.translators.values():
            self._translator(translator)
        for published in self.registry.published.values():
            self._published(published)
        self._prompts()

    def _at(self, section: str, name: str, key: str) -> str:
        return f"{self.origins[section, name]}: {section}.{name}: {key}"

    def _known_languages(self, codes: Iterable[str], where: str) -> None:
        for code in codes:
            self.registry.language(code, where)

    def _pool(self, dataset: DatasetRow) -> None:
        if dataset.pool is not None:
            where = self._at("datasets", dataset.name, "pool")
            pool = self.registry.dataset(dataset.pool, where)
            if pool.format != dataset.format:
                raise InputError(
                    where,
                    f"{pool.name!r} holds no candidates",
                    expected=dataset.format,
                    found=pool.format,
                )
            for language in pool.languages:
                self._has_split(pool, language, "test", where)

    def _task(self, task: TaskRow) -> None:
        where = self._at("tasks", task.name, "datasets")
        rows = [self.registry.dataset(name, where) for name in task.datasets]
        for row in rows[1:]:
            self._agree(where, "format", rows[0], row)
            self._agree(where, "labels", rows[0], row)
            self._agree(where, "labels_file", rows[0], row)
        for row in rows:
            place = self._at("tasks", task.name, "language")
            self._has_split(row, task.language, "train", place)

    def _agree(
        self, where: str, key: str, first: DatasetRow, other: DatasetRow, what: str = "head"
    ) -> None:
        expected, found = getattr(first, key), getattr(other, key)
        if expected != found:
            raise InputError(
                where,
                f"{first.name!r} and {other.name!r} differ in {key}, and they share one {what}",
                expected=_shown(expected),
                found=_shown(found),
            )

    def _has_split(self, row: DatasetRow, language: str, split: str, where: str) -> None:
        if language not in row.languages:
            hint = nearest(language, row.languages)
            raise InputError(
                where, f"data set {row.name!r} has no language {language!r}", hint=hint
            )
        splits = row.splits_of(language)
        if split not in splits:
            raise InputError(
                where,
                f"data set {row.name!r} has no {split} split in {language!r}",
                expected=split,
                found=", ".join(splits),
            )

    def _target(self, target: TargetRow) -> None:
        dataset = self.registry.dataset(target.dataset, self._at("targets", target.name, "dataset"))
        self._training(target, dataset)
        if target.metric not in METRICS[dataset.format]:
            raise InputError(
                self._at("targets", target.name, "metric"),
                f"{target.metric!r} does not measure {dataset.format}",
                expected=" or ".join(METRICS[dataset.format]) or "a format with a metric",
                found=target.metric,
            )
        for language in target.languages or dataset.languages:
            where = self._at("targets", target.name, "languages")
            self._has_split(dataset, language, "test", where)

    def _translator(self, row: TranslatorRow) -> None:
        for key, code in (("source", row.source), ("target", row.target)):
            self.registry.language(code, self._at("translators", row.name, key))
        # A folder of tokens is named after a language or a translator, an entry of the lock after a
        # model or a translator.
        for kind, taken in (
            ("language", self.registry.languages),
            ("model", self.registry.models),
        ):
            if row.name in taken:
                where = f"{self.origins['translators', row.name]}: translators.{row.name}"
                raise InputError(where, f"a {kind} has this name", hint="Give it another name")

    def _training(self, target: TargetRow, dataset: DatasetRow) -> None:
        where = self._at("targets", target.name, "train")
        tasks = [self.registry.task(name, where) for name in target.train]
        if dataset.format == "answer_retrieval":
            # Of a task of another format only the encoder is used.
            for task in tasks[1:]:
                first = self.registry.datasets[tasks[0].datasets[0]]
                self._agree(where, "format", first, self.registry.datasets[task.datasets[0]])
            return
        if not tasks and dataset.format != "sentence_retrieval":
            raise InputError(where, f"a {dataset.format} target needs a task to be trained on")
        if tasks and dataset.format == "sentence_retrieval":
            hint = "The sentences are compared as the intermediate encoder gives them"
            raise InputError(where, "a sentence_retrieval target is not trained", hint=hint)
        for task in tasks:
            self._agree(where, "format", dataset, self.registry.datasets[task.datasets[0]])
        if tasks and dataset.format in LABELLED:
            last = self.registry.datasets[tasks[-1].datasets[0]]
            self._agree(where, "labels", dataset, last)

    def _preset(self, preset: PresetRow) -> None:
        where, registry = self._at("presets", preset.name, "training"), self.registry
        preset.training.check(where)
        for task in preset.training.tasks:
            registry.task(task, f"{where}.tasks")
        for model, own in preset.training.models.items():
            registry.model(model, f"{where}.models")
            for task in own.tasks:
                registry.task(task, f"{where}.models.{model}.tasks")
        where = self._at("presets", preset.name, "encoding")
        preset.encoding.check(where)
        valid = {*registry.datasets, *METRICS}
        for name in preset.encoding.datasets:
            if name not in valid:
                problem = f"unknown data set or format {name!r}"
                raise InputError(f"{where}.datasets", problem, hint=nearest(name, valid))

    def _prompts(self) -> None:
        renders: dict[str, str] = {}
        own = {id(row) for _, _, row in _built_in()}
        for prompt in self.registry.prompts.values():
            where = self._at("prompts", prompt.name, "datasets")
            rows = [self.registry.dataset(name, where) for name in prompt.datasets]
            for row in rows:
                self._agree(where, "format", rows[0], row, "prompt")
                if renders.setdefault(row.name, prompt.name) != prompt.name:
                    problem = f"{renders[row.name]!r} renders the data set {row.name!r} already"
                    hint = "A row of the same name in your own registry file replaces that one"
                    raise InputError(where, problem, hint=hint)
            self._known_languages(prompt.words, self._at("prompts", prompt.name, "words"))
            # A test reads the built-in templates: reading them here would double the loading time.
            if not own.issuperset(map(id, [prompt, *rows])):
                from xstilts.prompting.render import check_prompt

                check_prompt(prompt, rows, where.removesuffix(": datasets"))

    def _published(self, row: PublishedRow) -> None:
        registry = self.registry
        registry.model(row.model, self._at("published", row.name, "model"))
        for task in row.recipe if isinstance(row.recipe, tuple) else ():
            registry.task(task, self._at("published", row.name, "recipe"))
        named = {
            "scores": [*row.scores],
            "means": [name for mean in row.means for name in mean.targets],
            "languages": [*row.languages],
            "notes": [name for name in row.notes if name != "all"],
        }
        for key, targets in named.items():
            for name in targets:
                registry.target(name, self._at("published", row.name, key))
        for name, values in row.scores.items():
            own = registry.targets[name].languages
            own = own or tuple(registry.datasets[registry.targets[name].dataset].languages)
            for value, figure in values.items():
                for code in figure if isinstance(figure, dict) else ():
                    if code not in own:
                        where = self._at("published", row.name, f"scores.{name}.{value}")
                        hint = nearest(code, own)
                        raise InputError(where, f"the target has no {code!r}", hint=hint)


def _shown(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)

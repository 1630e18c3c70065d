"""A study as typed models: models x recipes x targets x languages x seeds, and hyper-parameters.

One definition serves the parser, the error messages and the JSON schema under `workflow/schemas`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from xstilts.errors import InputError
from xstilts.nested import drawn_orders, with_nested
from xstilts.training.settings import Positive, Share, Training
from xstilts.validation import Name, Strict, Text, parse, read_yaml


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


#: Names; one may stand without brackets.
Names = Annotated[tuple[Name, ...], Field(min_length=1), BeforeValidator(_one_or_many)]
#: Language codes, likewise.
Codes = Annotated[tuple[Text, ...], Field(min_length=1), BeforeValidator(_one_or_many)]


def _is_all(value: Any) -> str:
    return "all" if value == "all" else "tagged-codes"


#: Language codes, or all that there are. The tags keep errors of one form out of the other.
Languages = Annotated[
    Annotated[Literal["all"], Tag("all")] | Annotated[Codes, Tag("tagged-codes")],
    Discriminator(_is_all),
]


class Encoding(Strict):
    """How texts become sub-words.

    Attributes:
        max_length: Most sub-words of a sequence, special tokens included.
        doc_stride: Sub-words by which the windows of a long QA context advance; at most half of
            `max_length` where it is not given.
        max_query_length: Most sub-words of a question; likewise.
    """

    max_length: Annotated[int, Field(ge=8)] = 128
    doc_stride: Positive = 128
    max_query_length: Positive = 64


class ContinuedMlm(Strict):
    """Multilingual masked language modelling beside a recipe's tasks.

    Attributes:
        corpus: Raw text data sets.
        languages: Languages of the text, or all that the data sets have.
        share: Share of the optimiser steps that go to it.
        exponent: Languages are drawn in proportion to their size to this power.
        mask: Share of the sub-words that is masked (80 % mask token, 10 % random, 10 % kept).
        learning_rate: Peak learning rate of its steps; null for the recipe's.
        batch_size: Sequences of one of its steps; null for the recipe's.
    """

    corpus: Names
    languages: Languages = "all"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    exponent: Share = 0.3
    mask: Annotated[float, Field(gt=0, lt=1)] = 0.15
    learning_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    batch_size: Positive | None = None


class Recipe(Strict):
    """What happens between the model and the target.

    Attributes:
        tasks: Tasks trained on, mixed step by step; none for the recipe `none`.
        sampling: How the task of a step is drawn: in proportion to its size, uniformly, or in
            proportion to size ** (1 / temperature).
        temperature: That temperature.
        cap: In all of these, larger tasks count as so large, in training examples (QA: windows).
        mlm: Masked language modelling beside them.
        training: Hyper-parameters that differ for this recipe.
        translate: Translators: the tasks are trained on their translations instead of the original;
            the code of the original's language stands for the original beside them.
    """

    tasks: Annotated[tuple[Name, ...], BeforeValidator(_one_or_many)] = ()
    sampling: Literal["proportional", "uniform", "temperature"] = "proportional"
    temperature: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None
    cap: Positive | None = None
    mlm: ContinuedMlm | None = None
    training: dict[str, Any] = {}
    translate: Annotated[tuple[Name, ...], BeforeValidator(_one_or_many)] = ()

    @model_validator(mode="after")
    def _check_sampling(self) -> Recipe:
        if (self.sampling == "temperature") != (self.temperature is not None):
            raise ValueError("`sampling: temperature` and a temperature belong together")
        return self

    @property
    def exponent(self) -> float:
        """Power of a task's size by which it is drawn."""
        if self.temperature is not None:
            return 1 / self.temperature
        return 1.0 if self.sampling == "proportional" else 0.0


def _is_number(value: Any) -> str:
    return "tagged-orders" if isinstance(value, list | tuple) else "tagged-number"


#: How many orders are drawn, or the orders themselves.
Orders = Annotated[
    Annotated[Positive, Tag("tagged-number")]
    | Annotated[tuple[tuple[Name, ...], ...], Field(min_length=1), Tag("tagged-orders")],
    Discriminator(_is_number),
]


class Nested(Recipe):
    """Nested sets of tasks: the first 1, 2, ... tasks of several orders, each set a recipe.

    A set is named after its tasks, whatever order it comes from: `mnli+squad`. Where the study has
    a recipe of the same tasks and settings, that one is taken.

    Attributes:
        tasks: All tasks. Another task makes other drawn orders, of which no set that was trained
            is trained again; lists keep the orders.
        orders: How many orders are drawn, each task first about equally often; or orders as
            lists, each of all tasks.
        seed: Seed of the drawn orders. Order k does not depend on how many there are.
        sizes: Numbers of tasks; all from 1 on where they are not given.
    """

    tasks: Annotated[tuple[Name, ...], Field(min_length=2)]
    orders: Orders
    seed: Annotated[int, Field(ge=0)] = 1
    sizes: Annotated[tuple[Positive, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _check_sets(self) -> Nested:
        for what, values in (("tasks", self.tasks), ("sizes", self.sizes or ())):
            if double := next((value for value in values if values.count(value) > 1), None):
                raise ValueError(f"{double!r} stands twice under {what}")
        if (largest := max(self.numbers)) > len(self.tasks):
            raise ValueError(f"there are no {largest} tasks for a size of {largest}")
        self._check_orders()
        return self

    def _check_orders(self) -> None:
        if isinstance(self.orders, int):
            if self.orders > (most := math.factorial(len(self.tasks))):
                raise ValueError(f"{len(self.tasks)} tasks have {most} orders, not {self.orders}")
            return
        for number, order in enumerate(self.orders, 1):
            if sorted(order) != sorted(self.tasks):
                wrong = sorted({*order} ^ {*self.tasks}) or sorted(order)
                raise ValueError(f"order {number} must hold each task once: see {wrong[0]!r}")
            if self.orders.index(order) != number - 1:
                raise ValueError(f"order {number} stands there twice")

    @property
    def numbers(self) -> list[int]:
        """Numbers of tasks, from the fewest on."""
        return sorted(self.sizes or range(1, len(self.tasks) + 1))

    @property
    def drawn(self) -> list[tuple[str, ...]]:
        """The orders."""
        if isinstance(self.orders, int):
            return drawn_orders(self.tasks, self.orders, self.seed)
        return list(self.orders)

    @property
    def sets(self) -> set[frozenset[str]]:
        """The sets of tasks of all orders and sizes."""
        return {frozenset(order[:size]) for order in self.drawn for size in self.numbers}

    def recipe(self, tasks: Iterable[str]) -> Recipe:
        """The recipe of a set of tasks, which are listed by the alphabet.

        How the task of a step is drawn says nothing where there is one task only, and is left out.
        """
        settings = {name: getattr(self, name) for name in Recipe.model_fields}
        settings["tasks"] = tuple(sorted(tasks))
        if len(settings["tasks"]) == 1:
            settings |= {"sampling": "proportional", "temperature": None}
        return Recipe.model_construct(**settings)


class ModelTraining(Strict):
    """Hyper-parameters that differ for one model.

    Attributes:
        default: Of its every training.
        tasks: Of its training on one task.
    """

    default: dict[str, Any] = {}
    tasks: dict[str, dict[str, Any]] = {}


class TrainingSection(Strict):
    """Hyper-parameters: default < intermediate or finetune < a model's < a task's < a model's task.

    Attributes:
        default: Of every training.
        intermediate: Of intermediate training.
        finetune: Of fine-tuning.
        tasks: Of one task, in both.
        models: Of one model, by registry name.
    """

    default: dict[str, Any] = {}
    intermediate: dict[str, Any] = {}
    finetune: dict[str, Any] = {}
    tasks: dict[str, dict[str, Any]] = {}
    models: dict[str, ModelTraining] = {}

    def check(self, where: str) -> None:
        """Check every hyper-parameter, whether it is used or not.

        Raises:
            InputError: On the first that cannot be, with its key's path after `where`.
        """
        for stage in ("default", "intermediate", "finetune"):
            parse(Training, getattr(self, stage), f"{where}.{stage}")
        for task, part in self.tasks.items():
            parse(Training, part, f"{where}.tasks.{task}")
        for model, own in self.models.items():
            parse(Training, own.default, f"{where}.models.{model}.default")
            for task, part in own.tasks.items():
                parse(Training, part, f"{where}.models.{model}.tasks.{task}")

    def merged(self, stage: str, model: str, task: str | None) -> dict[str, Any]:
        """What holds for one training; `task` is None where several are mixed."""
        own = self.models.get(model, ModelTraining())
        parts = [self.default, getattr(self, stage, {}), own.default]
        if task is not None:
            parts += [self.tasks.get(task, {}), own.tasks.get(task, {})]
        return {key: value for part in parts for key, value in part.items()}


class EncodingSection(Strict):
    """Sub-word settings: of every data set, and of single ones.

    Attributes:
        default: Of every data set.
        datasets: Of one data set or of all data sets of a format, by name.
    """

    default: dict[str, Any] = {}
    datasets: dict[str, dict[str, Any]] = {}

    def check(self, where: str) -> None:
        """Check every setting, whether it is used or not.

        Raises:
            InputError: On the first that cannot be, with its key's path after `where`.
        """
        parse(Encoding, self.default, f"{where}.default")
        for name, part in self.datasets.items():
            parse(Encoding, part, f"{where}.datasets.{name}")

    def merged(self, format_name: str, dataset: str) -> dict[str, Any]:
        """What holds for one data set: default < its format's < its own."""
        named = [self.datasets.get(name, {}) for name in (format_name, dataset)]
        parts = [parse(Encoding, part, "encoding") for part in (self.default, *named)]
        return {
            key: value
            for part in parts
            for key, value in part.model_dump(exclude_unset=True).items()
        }


class Pretraining(Strict):
    """How a model without weights is pretrained by the workflow.

    Attributes:
        corpus: Raw text data sets.
        languages: Languages of the text, or all that the data sets have. They are apart from the
            study's, so that evaluating one more language trains nothing again.
        max_lines: Most lines of a language that the tokenizer is trained on.
        mask: Share of the sub-words that is masked (80 % mask token, 10 % random, 10 % kept).
        exponent: Languages are drawn in proportion to their size to this power.
        seed: Seed of the weights and of the data order.
        training: Hyper-parameters.
    """

    corpus: Names
    languages: Languages = "all"
    max_lines: Positive = 100_000
    mask: Annotated[float, Field(gt=0, lt=1)] = 0.15
    exponent: Share = 0.3
    seed: int = 1
    training: dict[str, Any] = {}


class Translation(Strict):
    """How training data are translated (recipes with `translate`); no sampling, ever.

    `num_beams`, `length_penalty`, `renormalize_logits` and `max_new_tokens` are those of
    transformers' generation and win over the model's own; what is not named here is the model's.

    Attributes:
        num_beams: Width of the beam search; 1 is greedy.
        length_penalty: Above 0 it favours longer translations.
        renormalize_logits: Probabilities sum to 1 after forbidden tokens are left out. OPUS-MT's
            repositories say so on their main branch, and not on older ones with safetensors.
        max_new_tokens: Most sub-words of a translation.
        max_length_factor: A translation is also cut at so many times the length of its source,
            rounded up to a multiple of 16 (Marian's option of this name and value): else one that
            repeats itself without end holds up all others.
        max_source_tokens: A longer text is cut at the ends of its sentences and translated in
            parts; null for what the model can read.
    """

    num_beams: Positive = 4
    length_penalty: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    renormalize_logits: bool = True
    max_new_tokens: Positive = 256
    max_length_factor: Annotated[float, Field(ge=1)] = 3.0
    max_source_tokens: Annotated[int, Field(ge=16)] | None = None


class Retrieval(Strict):
    """Sentence vectors of targets without training.

    Attributes:
        layer: Hidden state (0 = embeddings); null for the model's registry value; `dev` for the
            one that finds the dev pairs of the study's mined target (BUCC) best. That choice is for
            sentences: answers (LAReQA) are then compared by the model's registry value.
        pooling: Mean over all sub-words, special ones included, or the first one.
    """

    layer: Annotated[int, Field(ge=0)] | Literal["dev"] | None = None
    pooling: Literal["mean", "cls"] = "mean"


class Evaluation(Strict):
    """Prediction and scoring.

    Attributes:
        batch_tokens: Tokens of a batch; decides no prediction, only memory and time.
        n_best: Start and end positions looked at per QA window.
        max_answer_length: Longest answer, in sub-words.
        answer_text: How a QA answer's text is made: `offsets` takes its characters from the
            context; `white_space` repeats the reference's way over white-space chunks, for
            comparison (with XLM-R a Chinese answer becomes its whole sentence).
        null_threshold: By how much the score of "no answer" must exceed the best answer's, where
            questions may have none (SQuAD v2.0).
        retrieval: Sentence vectors.
        bootstrap_samples: Resamples behind each interval.
        bootstrap_seed: Seed of the resampling.
    """

    batch_tokens: Positive = 16384
    n_best: Positive = 20
    max_answer_length: Positive = 30
    answer_text: Literal["offsets", "white_space"] = "offsets"
    null_threshold: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    retrieval: Retrieval = Retrieval()
    bootstrap_samples: Positive = 1000
    bootstrap_seed: int = 1


class Prompting(Strict):
    """How decoders are asked.

    Attributes:
        words: The prompts' own words: of the source language, or of the language that is tested
            where the registry has them.
        shots: Examples before a question, of the source language's training data; the same for all
            questions and languages.
        shots_seed: Decides which.
        main: Which likelihood chooses: `sum` of the tokens, per `token`, per `byte`, or `pmi`
            (less the choice's without the question). The others are reported beside it.
        max_new_tokens: Most sub-words of a written answer.
        tuning: Fine-tuning on the targets' own data: `none`, by `prompt`, or with a `head` on the
            last hidden states as encoders have it.
    """

    words: Literal["source", "target"] = "source"
    shots: Annotated[int, Field(ge=0)] = 0
    shots_seed: int = 1
    main: Literal["sum", "token", "byte", "pmi"] = "sum"
    max_new_tokens: Positive = 32
    tuning: Literal["none", "prompt", "head"] = "none"


class Transferability(Strict):
    """What is measured of recipes before any fine-tuning, to predict which of them is best.

    Attributes:
        examples: Training examples of each task that are looked at; fewer where it has not so many.
        seed: Decides which; the same for all checkpoints.
    """

    examples: Annotated[int, Field(ge=2)] = 1000
    seed: int = 1


class ToyWorld(Strict):
    """Sizes of the synthetic data sets.

    Attributes:
        seed: Seed of the world.
        sizes: Rows per kind of data and split.
    """

    seed: int = 1
    sizes: dict[str, dict[Literal["train", "dev", "test"], Positive]] = {}


def _by_name(value: Any) -> Any:
    """A list of names is short for a mapping of each name to nothing."""
    if not isinstance(value, list | tuple):
        return value
    for name in value:
        if isinstance(name, dict | list):
            raise ValueError(f"a list holds names only, {name!r} is none; use a mapping")
        if list(value).count(name) > 1:
            raise ValueError(f"{name!r} stands there twice")
    return dict.fromkeys(value)


def _recipes(value: Any) -> Any:
    """A list of recipe names is short for recipes of one task each; a task needs no body."""
    value = _by_name(_one_or_many(value))
    if not isinstance(value, dict):
        return value
    return {
        name: body if body is not None else ({} if name == "none" else {"tasks": [name]})
        for name, body in value.items()
    }


class TargetChoice(Strict):
    """In which languages a target is evaluated, where it is not all of the study's.

    Attributes:
        languages: Only these.
        without: All but these (a mirror may lack some).
    """

    languages: Codes | None = None
    without: Annotated[tuple[Text, ...], BeforeValidator(_one_or_many)] = ()


def _targets(value: Any) -> Any:
    """A list of names is short for targets in all of the study's languages."""
    value = _by_name(_one_or_many(value))
    if not isinstance(value, dict):
        return value
    return {name: {} if body is None else body for name, body in value.items()}


class Study(Strict):
    """One study. Relative paths are relative to the folder of the Snakefile.

    Attributes:
        study: Its name; results go to ``<results>/<study>/``.
        results: Folder of all results.
        lock: Lock file of the data; default ``studies/<study>.lock.json``.
        mirror: Folder in the Hub's layout to take data and models from instead of the Hub; the
            environment variable ``XSTILTS_MIRROR`` does the same.
        files: Folders of user-supplied files, by data set (CCG, own corpora) or model.
        store: Shared folder of finished artifacts (`xstilts audit store`): what it holds is taken
            instead of made, and nothing is written there; the environment variable
            ``XSTILTS_STORE`` does the same.
        registry: Extra registry files with rows of the user's own.
        models: Pretrained models, by registry name.
        recipes: Recipes by name; a list of task names is a recipe per task.
        nested: Nested sets of tasks, which become recipes too.
        targets: Targets, by registry name; with languages of their own where needed.
        languages: Languages to evaluate in, or ``all``.
        source_language: Language of training; the change against it is reported.
        seeds: One training per seed.
        pretraining: For models from scratch.
        preset: Hyper-parameters and sub-word settings of a published system, by registry name; what
            the study sets itself wins over them.
        training: Hyper-parameters.
        encoding: Sub-word settings.
        translation: How training data are translated.
        evaluation: Prediction and scoring.
        prompting: How decoders are asked.
        transferability: What is measured of recipes before any fine-tuning; null for nothing.
        toyworld: Sizes of synthetic data.
        log_seconds: Seconds between two progress lines of a job.
        save_seconds: Seconds between two saved states of a training; default: two minutes, or a
            fiftieth of the training where that is longer.
        on_collapse: What becomes of a training that learns nothing, after its `restarts`: `fail`
            stops it with the evidence, `report` goes on and writes the evidence down.
        processes: Processes of one training, with a GPU each; they decide no more than the order
            of floating-point sums.
    """

    study: Name
    results: Path = Path("results")
    lock: Path | None = None
    mirror: Path | None = None
    files: dict[str, Path] = {}
    store: Path | None = None
    registry: Annotated[tuple[Path, ...], BeforeValidator(_one_or_many)] = ()
    models: Names
    recipes: Annotated[dict[Name, Recipe], Field(min_length=1), BeforeValidator(_recipes)]
    nested: Nested | None = None
    targets: Annotated[dict[Name, TargetChoice], Field(min_length=1), BeforeValidator(_targets)]
    languages: Languages = "all"
    source_language: Text = "en"
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (1,)
    pretraining: Pretraining | None = None
    preset: Name | None = None
    training: TrainingSection = TrainingSection()
    encoding: EncodingSection = EncodingSection()
    translation: Translation = Translation()
    evaluation: Evaluation = Evaluation()
    prompting: Prompting = Prompting()
    transferability: Transferability | None = Transferability()
    toyworld: ToyWorld = ToyWorld()
    log_seconds: Annotated[float, Field(gt=0)] = 15.0
    save_seconds: Annotated[float, Field(gt=0)] | None = None
    on_collapse: Literal["fail", "report"] = "fail"
    processes: Positive = 1


def load_study(content: Any, where: str) -> Study:
    """Validate a study.

    Args:
        content: The parsed YAML.
        where: Its file, for messages.

    Raises:
        InputError: On the first fault.
    """
    if not isinstance(content, dict):
        hint = "See config.yaml for a study"
        found = "nothing" if content is None else type(content).__name__
        raise InputError(where, "a study is a mapping of keys to values", found=found, hint=hint)
    study = parse(Study, content, where)
    for key in ("models", "seeds", "languages"):
        values = getattr(study, key)
        if values != "all" and len(set(values)) < len(values):
            double = next(value for value in values if list(values).count(value) > 1)
            raise InputError(f"{where}: {key}", f"{double!r} stands there twice")
    return with_nested(study, where)


def read_study(path: Path) -> Study:
    """Read and validate a study file."""
    return load_study(read_yaml(path), str(path))

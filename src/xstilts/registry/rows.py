"""The typed rows of the registry: data sets, tasks, targets, models, languages and the rest.

A row says everything that the workflow knows of a thing; code asks the row and never the name. The
rows themselves stand in the YAML files beside this module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PositiveFloat,
    PositiveInt,
    Tag,
    model_validator,
)

from xstilts.architectures import is_decoder
from xstilts.config import EncodingSection, TrainingSection
from xstilts.errors import nearest
from xstilts.validation import Text

Format = Literal[
    "sequence_classification",
    "multiple_choice",
    "question_answering",
    "token_classification",
    "masked_lm",
    "sentence_retrieval",
    "answer_retrieval",
]
Split = Literal["train", "dev", "test"]
Group = Literal["classification", "tagging", "qa", "retrieval"]
Architecture = Literal[
    "xlm-roberta",
    "bert",
    "apertus",
    "bloom",
    "gemma3_text",
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "smollm3",
]
#: What a target asks of a model; the questions of the analysis choose targets by it.
Kind = Literal[
    "nli",
    "paraphrase",
    "reasoning",
    "pos",
    "ner",
    "qa",
    "bitext",
    "mining",
    "answer_retrieval",
    "entity_linking",
]
Metric = Literal[
    "accuracy",
    "seqeval_f1",
    "squad_f1",
    "squad_v2_f1",
    "mlqa_f1",
    "bucc_f1",
    "tatoeba_accuracy",
    "lareqa_map",
    "mewslix_mrr",
]

#: Fields that each format needs.
FIELDS: Mapping[Format, frozenset[str]] = {
    "sequence_classification": frozenset({"text_a", "label"}),
    "multiple_choice": frozenset({"prompt", "choices", "label"}),
    "question_answering": frozenset({"context", "question", "answers"}),
    "token_classification": frozenset({"tokens", "tags"}),
    "masked_lm": frozenset({"text"}),
    "sentence_retrieval": frozenset({"source", "target"}),
    "answer_retrieval": frozenset(),
}
#: Fields that a data set of a format may have beside these and `id`.
OPTIONAL: Mapping[Format, frozenset[str]] = {
    "sequence_classification": frozenset({"text_b"}),
    "multiple_choice": frozenset({"premise", "question"}),
}
#: Layouts of answer retrieval.
RANKED = ("lareqa", "squad", "mewslix")
#: Scripts that put no space between words (ISO 15924).
UNSPACED = frozenset({"Hani", "Hans", "Hant", "Jpan", "Khmr", "Laoo", "Mymr", "Thai"})
#: Formats whose head has one output per label.
LABELLED = ("sequence_classification", "token_classification", "multiple_choice")


def _code_template(value: str) -> str:
    if stray := re.search(r"{[^}]*}?|}", value.replace("{code}", "")):
        raise ValueError(
            f"unknown placeholder {stray.group()} in {value!r}: only {{code}} is filled in here"
        )
    return value


def _check_template(template: str) -> None:
    """Raise if a field's template is none; what its columns are only the data can say."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"fields: {template!r} is not a template: {error}") from None
    if any(name == "" for _, name, _, _ in parts):
        raise ValueError(f"fields: {template!r} has braces without a column's name")


def _matching(pattern: str, meaning: str) -> AfterValidator:
    """A check of a whole text whose message says what is meant instead of the pattern."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"expected {meaning}")
        return value

    return AfterValidator(check)


#: A row's key; it becomes a folder.
Name = Annotated[
    Text,
    _matching(
        r"[a-z0-9][a-z0-9._-]*",
        "a name that can be a folder's: lower-case letters, digits and . _ - only, beginning with "
        "a letter or digit",
    ),
]
#: A text in which ``{code}`` stands for the language's code in this data set.
CodeTemplate = Annotated[Text, AfterValidator(_code_template)]
#: The name of one file or folder, ``{code}`` allowed.
PlainName = Annotated[
    CodeTemplate,
    _matching(
        r"(\{code\}|[A-Za-z0-9_])(\{code\}|[A-Za-z0-9._+-])*",
        "the plain name of a file or folder: letters, digits and . _ + - only",
    ),
]
#: The name of a file, in folders or not, ``{code}`` allowed.
FileName = Annotated[
    CodeTemplate,
    _matching(
        r"((\{code\}|[A-Za-z0-9_])(\{code\}|[A-Za-z0-9._+-])*(/(?!$)|$))+",
        "the plain name of a file, in folders or not: letters, digits and . _ + - / only",
    ),
]
HubId = Annotated[
    Text,
    _matching(
        r"[\w-][\w.-]*/[\w-][\w.-]*",
        "a namespaced Hub id, owner/name (huggingface_hub >= 1 refuses bare names)",
    ),
]


class Row(BaseModel):
    """A registry row: immutable, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        """Name the nearest key: pydantic's own error of a union cannot."""
        for key in value if isinstance(value, Mapping) else ():
            if key not in cls.model_fields:
                raise ValueError(f"unknown key {key!r}. {nearest(key, cls.model_fields)}")
        return value


class HubSource(Row):
    """A data set repository of the Hugging Face Hub.

    Attributes:
        hub: Namespaced repository id; bare ids fail with huggingface_hub >= 1.
        config: Configuration; ``{code}`` stands for the language's code in this data set.
        first_files: Use only the first files of each split (for very large corpora).
        revision: Branch to take the files from, where ``main`` holds none (data sets whose
            main branch is a loading script: ``refs/convert/parquet``). The lock pins its commit.
    """

    kind: Literal["hub"] = "hub"
    hub: HubId
    config: PlainName
    first_files: PositiveInt | None = None
    revision: str | None = None


class UrlSource(Row):
    """Plain files by URL, whole or as members of an archive.

    Attributes:
        urls: URL of each file or archive (``{code}`` allowed), by the name it is stored under.
        members: For archives: the stored name of each member wanted, by its path in the archive
            (``{code}`` allowed in both).
        sha256: Known checksums by stored name; what is missing is resolved once into the lock.
    """

    kind: Literal["url"] = "url"
    urls: dict[PlainName, Annotated[CodeTemplate, _matching(r"https?://.+", "a URL")]]
    members: dict[CodeTemplate, PlainName] = {}
    sha256: dict[str, Annotated[str, _matching(r"[0-9a-f]{64}", "a sha256 in hex")]] = {}


class UdSource(Row):
    """Treebanks of Universal Dependencies, one CoNLL-U file by URL for each and every split.

    The file of a split is ``<base>/UD_<name>/<release>/<language>_<treebank>-ud-<split>.conllu``,
    where ``<name>`` is the language's name (its code in this data set), ``-`` and the treebank.

    Attributes:
        ud: Tag of the release, like ``r2.5``.
        treebanks: Treebanks with a split, by language and split; ``GSD`` of UD_French-GSD.
        releases: Tag of another release, by language.
        renamed: Repositories that go by another name now, by the one of the release, both
            without ``UD_``; their files keep the old name.
        base: Where the repositories lie.
        sha256: Known checksums by file name; what is missing is resolved once into the lock.
    """

    kind: Literal["ud"] = "ud"
    ud: PlainName
    treebanks: dict[Name, dict[Split, tuple[PlainName, ...]]]
    releases: dict[Name, PlainName] = {}
    renamed: dict[PlainName, PlainName] = {}
    base: Annotated[str, _matching(r"https?://.+[^/]", "a URL without a slash at its end")] = (
        "https://raw.githubusercontent.com/UniversalDependencies"
    )
    sha256: dict[str, Annotated[str, _matching(r"[0-9a-f]{64}", "a sha256 in hex")]] = {}

    def files(self, language: str, name: str, splits: Mapping[Split, str]) -> UrlSource:
        """The files of one language.

        Args:
            language: ISO code, with which the files' names begin.
            name: The language's name in the names of the repositories.
            splits: Split to its name in the files' names.
        """
        release = self.releases.get(language, self.ud)
        urls: dict[str, str] = {}
        for split, source_split in splits.items():
            for treebank in self.treebanks[language][split]:
                file = f"{language}_{treebank.lower()}-ud-{source_split}.conllu"
                repository = f"{name}-{treebank}"
                repository = self.renamed.get(repository, repository)
                urls[file] = f"{self.base}/UD_{repository}/{release}/{file}"
        known = {file: sha256 for file, sha256 in self.sha256.items() if file in urls}
        return UrlSource(urls=urls, sha256=known)


class FileSource(Row):
    """Files that the user supplies (study key ``files``), e.g. for a licence's sake.

    Attributes:
        files: File names in the user's folder; ``{code}`` allowed.
        hint: How the user comes by them.
    """

    kind: Literal["files"] = "files"
    files: tuple[FileName, ...]
    hint: str


class ToySource(Row):
    """A data set of the synthetic languages, made by :mod:`xstilts.toyworld`."""

    kind: Literal["toyworld"] = "toyworld"
    toyworld: str


def _source_kind(value: Any) -> str | None:
    """Which source a mapping means: by its ``kind``, else by the key that only it has."""
    if not isinstance(value, Mapping):
        return getattr(value, "kind", None)
    keys = {"hub": "hub", "urls": "url", "files": "files", "toyworld": "toyworld", "ud": "ud"}
    return value.get("kind") or next((keys[key] for key in keys if key in value), None)


Source = Annotated[
    Annotated[HubSource, Tag("hub")]
    | Annotated[UrlSource, Tag("url")]
    | Annotated[FileSource, Tag("files")]
    | Annotated[ToySource, Tag("toyworld")]
    | Annotated[UdSource, Tag("ud")],
    Discriminator(
        _source_kind,
        custom_error_type="source_kind",
        custom_error_message="a source is a mapping with a key hub, urls, files, toyworld or ud",
    ),
]


class Each(Row):
    """A list field: one template per item of a list column, or per fixed column.

    Attributes:
        each: The list column; ``{each}`` in the template is its item.
        template: Template of one item.
    """

    each: str
    template: str = "{each}"


def _field_kind(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "list"
    return "each" if isinstance(value, Mapping | Each) else "text"


FieldSource = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[tuple[str, ...], Tag("list")]
    | Annotated[Each, Tag("each")],
    Discriminator(_field_kind),
]


def _language_codes(value: Any) -> Any:
    """A list of languages is short for a mapping of each language to itself."""
    return {code: code for code in value} if isinstance(value, list | tuple) else value


class PrefixFilter(Row):
    """Keep only rows whose column starts with a prefix (TyDiQA's language is in the id)."""

    column: str
    prefix: CodeTemplate


#: Keys of a data set's row that decide how its source is read; `splits` come per language.
_READING = {
    *("format", "layout", "holdout", "fields", "labels", "labels_file"),
    *("label_values", "drop_labels", "where", "strip"),
}


class DatasetRow(Row):
    """One data set in one format.

    Attributes:
        name: The row's key.
        title: The name as papers write it.
        format: One of the seven formats.
        source: Where the bytes come from.
        layout: How source files are read: ``parquet`` (also Hub JSONL), ``lines`` (one text a
            line), ``ccg`` (jiant's text TAB tags), ``conllu`` (treebanks of
            Universal Dependencies, converted as XTREME does), ``bucc`` (id TAB sentence, and gold
            pairs), ``comparable`` (parquet; a null side: the other side's sentence has no
            translation), ``lareqa`` (SQuAD's JSON with sentence breaks), ``squad`` (SQuAD's
            columns, sentences found by a rule), ``mewslix`` (JSONL of mentions, of entities, or of
            pairs of both).
        languages: ISO code to the code that templates use for it.
        splits: Canonical split to the source's split: the split's name on the Hub, or the name
            of a file (layout ``bucc``: what precedes ``.{code}``, ``.en`` and ``.gold``).
        only: The languages that have a split, where not all of them have it.
        holdout: Share of the training rows, chosen by a hash of the row's text, that becomes the
            English dev set where the source has none apart from the test set.
        fields: Canonical field to a column name, a template with ``{column}`` (dots reach into
            structs), a list of templates, or an :class:`Each`. Answer retrieval has none. A
            `prompt` of multiple choice may also come apart, for prompts of decoders: as a
            `premise` and a `question`.
        labels: Label names in their canonical order (index = class id).
        labels_file: A supplied JSON file ``{label: id}`` that holds the label set instead.
        label_values: Source value to label name, where the column carries no class names.
        drop_labels: Source values that mark an unlabelled row, with the reason.
        odd_words: Label that a tagged word gets in training where white space splits it, and only
            its first part is read, as XTREME does (R10); without it words are taken whole.
        where: Row filter by prefix.
        strip: Strip white space from texts (Tatoeba rows keep their newline on the Hub).
        pool: Data set whose candidates, those of all its languages, are ranked for each query of
            answer retrieval; default: this one.
        pivot: Language of the target side of sentence pairs.
        rows: Known row counts per language and canonical split, before anything is dropped or
            held out; what a language does not say itself stands under ``*``. Gold pairs for
            sentence retrieval.
        licence: Licence of the data.
        notes: Known faults.
    """

    name: Name
    title: str
    format: Format
    source: Source
    layout: Literal[
        "parquet", "lines", "ccg", "conllu", "bucc", "comparable", "lareqa", "squad", "mewslix"
    ] = "parquet"
    languages: Annotated[dict[Name, PlainName], BeforeValidator(_language_codes)]
    splits: dict[Split, FileName]
    only: dict[Split, tuple[Name, ...]] = {}
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    fields: dict[str, FieldSource]
    labels: tuple[Text, ...] | None = None
    labels_file: PlainName | None = None
    label_values: dict[Text, Text] = {}
    drop_labels: dict[Text, Text] = {}
    odd_words: Text | None = None
    where: PrefixFilter | None = None
    strip: bool = False
    pool: Name | None = None
    pivot: Name = "en"
    rows: dict[Text, dict[Split, PositiveInt]] = {}
    licence: str
    notes: str = ""

    def splits_of(self, language: str) -> dict[Split, str]:
        """Canonical splits that a language has, each with the source's split (codes filled in).

        A dev set that is held out from the training rows is not among them.
        """
        code = self.languages[language]
        return {
            split: name.replace("{code}", code)
            for split, name in self.splits.items()
            if language in self.only.get(split, self.languages)
        }

    def known_rows(self, language: str) -> dict[Split, int]:
        """Known row counts of the splits that a language has; empty where unknown."""
        known = {**self.rows.get("*", {}), **self.rows.get(language, {})}
        return {split: known[split] for split in self.splits_of(language) if split in known}

    def config(self, language: str) -> str:
        """The source's configuration (or folder name) that holds a language."""
        code = self.languages[language]
        if isinstance(self.source, HubSource):
            return self.source.config.replace("{code}", code)
        return code

    def source_of(self, language: str) -> HubSource | UrlSource | FileSource | ToySource:
        """Where the bytes of one language come from."""
        if isinstance(self.source, UdSource):
            splits = self.splits_of(language)
            return self.source.files(language, self.languages[language], splits)
        return self.source

    def reading(self, language: str) -> dict[str, Any]:
        """What decides how a language's source files become canonical rows, as JSON values."""
        read = self.model_dump(mode="json", include=_READING)
        if self.where is not None:
            prefix = self.where.prefix.replace("{code}", self.languages[language])
            read["where"] = {"column": self.where.column, "prefix": prefix}
        return read | {"splits": self.splits_of(language)}

    @model_validator(mode="after")
    def _check_fields(self) -> DatasetRow:
        required, given = FIELDS[self.format], set(self.fields)
        optional = {"id", *OPTIONAL.get(self.format, ())}
        for name in sorted(given - required - optional):
            hint = nearest(name, required | optional)
            raise ValueError(f"fields: a {self.format} data set has no field {name!r}. {hint}")
        if (self.format == "answer_retrieval") != (self.layout in RANKED):
            raise ValueError(f"layout: {self.layout!r} is no layout of {self.format}")
        if self.format == "answer_retrieval" and self.fields:
            raise ValueError("fields: the layouts of answer_retrieval have fixed ones: expected {}")
        if missing := sorted(required - given):
            raise ValueError(f"fields of a {self.format} data set are missing: {missing}")
        for field in self.fields.values():
            for template in _templates(field):
                _check_template(template)
        if self.format in LABELLED and not (self.labels or self.labels_file):
            raise ValueError("labels are missing: give them in the order of their class ids")
        return self

    @model_validator(mode="after")
    def _check_labels(self) -> DatasetRow:
        labels = self.labels or ()
        if repeated := {label for label in labels if labels.count(label) > 1}:
            raise ValueError(f"labels: {min(repeated)!r} stands there twice")
        if labels:
            _refer("label_values", self.label_values.values(), labels)
            _refer("odd_words", filter(None, [self.odd_words]), labels)
        if self.odd_words and self.format != "token_classification":
            raise ValueError(f"odd_words: a {self.format} data set has no words")
        return self

    @model_validator(mode="after")
    def _check_languages(self) -> DatasetRow:
        if not self.languages or not self.splits:
            raise ValueError("languages and splits cannot be empty")
        _refer("only", self.only, self.splits)
        for split, languages in self.only.items():
            _refer(f"only.{split}", languages, self.languages)
        _refer("rows", self.rows, [*self.languages, "*"])
        for language, counts in self.rows.items():
            _refer(f"rows.{language}", counts, self.splits)
        if self.holdout and ("train" not in self.splits or "dev" in self.splits):
            raise ValueError(
                "holdout makes a dev set from train: expected a train and no dev split"
            )
        return self

    @model_validator(mode="after")
    def _check_treebanks(self) -> DatasetRow:
        if not isinstance(self.source, UdSource):
            return self
        treebanks = self.source.treebanks
        _refer("source.treebanks", treebanks, self.languages)
        _refer("source.releases", self.source.releases, self.languages)
        for language in self.languages:
            have = {split for split, names in treebanks.get(language, {}).items() if names}
            if have != (need := self.splits_of(language).keys()):
                raise ValueError(
                    f"source.treebanks.{language}: expected treebanks with {', '.join(need)}; "
                    f"found some with {', '.join(sorted(have)) or 'nothing'}"
                )
        if known := self.source.sha256:
            sources = (
                self.source.files(code, name, self.splits_of(code))
                for code, name in self.languages.items()
            )
            _refer("source.sha256", known, [file for source in sources for file in source.urls])
        return self


def _templates(field: str | tuple[str, ...] | Each) -> tuple[str, ...]:
    if isinstance(field, Each):
        return (field.template,)
    return (field,) if isinstance(field, str) else field


def _refer(key: str, names: Iterable[str], valid: Iterable[str]) -> None:
    """Raise unless every name under a key is one of the row's own."""
    known = list(valid)
    for name in names:
        if name not in known:
            raise ValueError(f"{key}: {name!r} is not in this row. {nearest(name, known)}")


class TaskRow(Row):
    """Something to train on: one or several data sets with one head.

    Attributes:
        title: The name as papers write it.
        datasets: Data sets, all of one format; several share the head (ANLI+ is five).
        language: Language of the training data.
        intermediate: Whether it is one of the paper's nine intermediate tasks.
        head: Name of its head; tasks of one recipe with the same name share it. Default: the
            task's own name.
    """

    name: Name
    title: str
    datasets: Annotated[tuple[Name, ...], Field(min_length=1)]
    language: Name = "en"
    intermediate: bool = False
    head: Name | None = None

    @property
    def head_name(self) -> str:
        """Name of its head."""
        return self.head or self.name

    @model_validator(mode="after")
    def _check_name(self) -> TaskRow:
        if "-then-" in self.name:
            raise ValueError("'-then-' joins the tasks of one target: it cannot be in a name")
        return self


class TargetRow(Row):
    """What is evaluated, per language.

    Attributes:
        title: The name as papers write it.
        train: Tasks to fine-tune on, one after the other (XCOPA: SIQa, then COPA); empty where
            the intermediate encoder is used as it is (retrieval).
        dataset: The data set whose test split is predicted.
        metric: Main metric: accuracy, seqeval_f1, squad_f1, squad_v2_f1, mlqa_f1, bucc_f1,
            tatoeba_accuracy.
        group: XTREME's group of the target.
        kind: What it asks of a model; without it, no question of the analysis is about this target
            alone (NER against NLI, reasoning).
        benchmark: Benchmarks that contain it.
        languages: Languages of the target; default: all of its data set.
    """

    name: Name
    title: str
    train: tuple[Name, ...] = ()
    dataset: Name
    metric: Metric
    group: Group
    kind: Kind | None = None
    benchmark: tuple[Name, ...] = ()
    languages: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None


class ScratchModel(Row):
    """Size of a model that the workflow pretrains itself.

    Attributes:
        layers: Number of transformer blocks.
        hidden: Hidden size.
        heads: Attention heads.
        intermediate: Size of the feed-forward layer.
        vocab_size: Sub-word vocabulary, special tokens included.
    """

    layers: PositiveInt
    hidden: PositiveInt
    heads: PositiveInt
    intermediate: PositiveInt
    vocab_size: PositiveInt

    @model_validator(mode="after")
    def _check(self) -> ScratchModel:
        if self.hidden % self.heads:
            raise ValueError(f"hidden ({self.hidden}) is not a multiple of heads ({self.heads})")
        return self


class PretrainingData(Row):
    """How much text of each language a published model was pretrained on.

    Attributes:
        source: Who says so.
        gib: GiB of text by language; languages that were not in it are left out.
    """

    source: Text
    gib: dict[Name, PositiveFloat]


class ModelRow(Row):
    """A pretrained multilingual encoder or decoder, or the plan of one.

    Attributes:
        title: The name as papers write it.
        architecture: Architecture family in transformers.
        hub: Namespaced repository id, for a pretrained model.
        scratch: Size, for a model pretrained by the workflow.
        layers: Number of transformer blocks.
        max_length: Longest input in sub-words, special tokens included.
        retrieval_layer: Hidden state used for retrieval (0 = embeddings). XTREME takes 14 of 24
            for XLM-R Large and 8 of 12 for mBERT (scripts/run_tatoeba.sh). Of a decoder: the middle
            one; nobody has published another.
        parameters: Parameters of the encoder (embeddings and blocks, no pooler or head); of a
            decoder all of them, its output layer too where that has weights of its own.
        hidden: Hidden size of a pretrained model. This and the following, as its config.json has
            them, are for estimates of time and memory.
        vocab_size: Sub-words of a pretrained decoder.
        intermediate: Size of its feed-forward layers.
        heads: Its attention heads.
        kv_heads: Its heads of keys and values.
        head_size: Size of one of its heads.
        tied: Whether its output layer is its embeddings.
        pretraining: What a pretrained model was pretrained on, where that is known.
        pad_token: A decoder's padding token, where its tokenizer names none.
        licence: Licence of the weights.
    """

    name: Name
    title: str
    architecture: Architecture
    hub: HubId | None = None
    scratch: ScratchModel | None = None
    layers: PositiveInt
    max_length: PositiveInt
    retrieval_layer: int
    parameters: PositiveInt | None = None
    hidden: PositiveInt | None = None
    vocab_size: PositiveInt | None = None
    intermediate: PositiveInt | None = None
    heads: PositiveInt | None = None
    kv_heads: PositiveInt | None = None
    head_size: PositiveInt | None = None
    tied: bool = True
    pretraining: PretrainingData | None = None
    pad_token: Text | None = None
    licence: str

    @property
    def kind(self) -> Literal["encoder", "decoder"]:
        """Which half of a transformer it is."""
        return "decoder" if is_decoder(self.architecture) else "encoder"

    @model_validator(mode="after")
    def _check(self) -> ModelRow:
        if (self.hub is None) == (self.scratch is None):
            raise ValueError("a model has either a hub id or a scratch size")
        if self.scratch is not None and self.scratch.layers != self.layers:
            raise ValueError(f"layers is {self.layers} here and {self.scratch.layers} in scratch")
        if self.scratch is not None and self.pretraining is not None:
            raise ValueError("pretraining is of published models: a study says it of its own")
        if not 0 <= self.retrieval_layer <= self.layers:
            raise ValueError(f"retrieval_layer is not one of 0..{self.layers}")
        return self


class PromptRow(Row):
    """How rows of some data sets become text for a decoder: Jinja templates.

    The templates see the canonical columns of the data set's format and `words`; see
    `xstilts.prompting.render` for their names. None but `choice` and `answer` sees what is asked.

    Attributes:
        title: What it asks, for a table.
        version: Raised with every change of the row.
        source: Whose wording it is.
        datasets: Data sets that it renders, all of one format.
        context: What stands before the answer. Where it is empty, the question stands in the
            choices, and what all choices of a question begin with is no part of an answer: it is
            not trained on, and may be cut.
        delimiter: What stands between them.
        choice: The answer where a decoder chooses: of one label or of one choice, rendered for
            each; by label, or one template for all.
        answer: The answer where a decoder writes.
        free: The context without the question, for PMI (`choice` only): log p(choice | context) -
            log p(choice | free). Empty for the beginning of a text. Where the context is empty,
            the choice that follows it lacks what all choices begin with.
        words: Words of the templates by language; a study needs those of its source language.
    """

    name: Name
    title: str
    version: PositiveInt
    source: Text
    datasets: Annotated[tuple[Name, ...], Field(min_length=1)]
    context: str = ""
    delimiter: str = " "
    choice: Text | dict[Text, Text] | None = None
    answer: Text | None = None
    free: str = ""
    words: dict[Name, dict[Text, Text]] = {}

    @model_validator(mode="after")
    def _check(self) -> PromptRow:
        if (self.choice is None) == (self.answer is None):
            raise ValueError("a prompt has either a choice or an answer")
        return self


class TranslatorRow(Row):
    """A sequence-to-sequence model that translates training data.

    Attributes:
        title: The name as papers write it.
        hub: Namespaced repository id.
        revision: Branch, or commit, to take the files from, where ``main`` has no safetensors
            (``refs/pr/4``). The lock pins its commit.
        source: Language of what it reads.
        target: Language of what it writes.
        prefix: Text before every input, by which a model of several target languages knows the
            target (``>>cmn_Hans<<``).
        source_code: The tokenizer's own code of the source language (``eng_Latn``), for models
            like NLLB and M2M100.
        target_code: Likewise the token with which every output begins.
        licence: Licence of the weights.
    """

    name: Name
    title: str
    hub: HubId
    revision: Text | None = None
    source: Name
    target: Name
    prefix: str = ""
    source_code: Text | None = None
    target_code: Text | None = None
    licence: str

    @model_validator(mode="after")
    def _check(self) -> TranslatorRow:
        if self.source == self.target:
            raise ValueError(f"source and target are both {self.source!r}")
        if (self.source_code is None) != (self.target_code is None):
            raise ValueError("source_code and target_code belong together: give both or none")
        return self


class PresetRow(Row):
    """The settings of a published system, which a study starts from.

    Attributes:
        title: Whose they are.
        source: Where the numbers come from.
        training: Hyper-parameters of intermediate training and fine-tuning, none of pretraining.
        encoding: Sub-word settings.
    """

    name: Name
    title: str
    source: str
    training: TrainingSection = TrainingSection()
    encoding: EncodingSection = EncodingSection()


class PublishedMean(Row):
    """A published mean over several targets.

    Attributes:
        targets: Targets whose scores it is the mean of.
        value: The figure, in percent.
        gain: It is a gain over the model without intermediate training.
    """

    targets: Annotated[tuple[Name, ...], Field(min_length=1)]
    value: float
    gain: bool = False


class PublishedRow(Row):
    """Published figures of one system.

    Attributes:
        title: Where they come from, for a table.
        source: Where they can be looked up.
        model: The model.
        recipe: `none`; `best` for the recipe chosen per target on dev; or the intermediate tasks.
        split: Data they were measured on.
        scores: By target and value of its metric: the mean over languages, or by language.
        languages: Over how many languages a target's mean was taken, where not over all its own.
        means: Figures over several targets.
        notes: Known reasons for differences, by target; under `all` of every figure.
    """

    name: Name
    title: str
    source: str
    model: Name
    recipe: Literal["none", "best"] | Annotated[tuple[Name, ...], Field(min_length=1)]
    split: Literal["dev", "test"] = "test"
    scores: dict[Name, dict[str, float | dict[Name, float]]] = {}
    languages: dict[Name, PositiveInt] = {}
    means: tuple[PublishedMean, ...] = ()
    notes: dict[Name, Text] = {}


class LanguageRow(Row):
    """A language.

    Attributes:
        code: ISO 639-1 code where there is one, as XTREME uses it; the row's key.
        name: English name.
        script: ISO 15924 code of the script in the benchmark's data.
        family: Top-level family.
        lang2vec: ISO 639-3 code that lang2vec (URIEL) knows it by; null for synthetic ones.
    """

    code: Name
    name: str
    script: Annotated[Text, _matching(r"[A-Z][a-z]{3}", "an ISO 15924 code such as Latn")]
    family: str
    lang2vec: Annotated[Text, _matching(r"[a-z]{3}", "an ISO 639-3 code such as deu")] | None
    synthetic: bool = False

    @property
    def spaced(self) -> bool:
        """Whether white space stands between its words."""
        return self.script not in UNSPACED

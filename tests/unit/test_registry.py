"""The registry's rows are complete, true to the real data, and bad rows are refused clearly."""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from xstilts.errors import InputError
from xstilts.registry import load_registry
from xstilts.registry.rows import Each, FileSource, HubSource, ToySource

REGISTRY = load_registry()
DATASETS = REGISTRY.datasets.values()
HUB = [row for row in DATASETS if isinstance(row.source, HubSource)]
FOLDER = Path(sys.modules["xstilts.registry"].__file__ or "").parent


def names(rows) -> list[str]:
    return [row.name for row in rows]


def columns_of(field) -> set[str]:
    """Top-level source columns that a field of a row reads."""
    templates = (
        [field] if isinstance(field, str) else list(field) if isinstance(field, tuple) else []
    )
    if isinstance(field, Each):
        templates = [field.each, field.template]
    found = set()
    for template in templates:
        inside = re.findall(r"{([^}]+)}", template) if "{" in template else [template]
        found |= {name.split(".")[0] for name in inside}
    return found - {"each"}


# ---- rows


@pytest.mark.parametrize("row", DATASETS, ids=names(DATASETS))
def test_dataset_metadata_are_complete(row):
    assert row.title
    assert row.licence
    assert row.languages
    assert all(re.fullmatch(r"[A-Za-z0-9][\w.-]*", row.config(code)) for code in row.languages)
    if isinstance(row.source, HubSource):
        assert re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", row.source.hub)
    for code in row.languages:
        assert row.splits_of(code), f"{code} has no split"
        assert not any("{" in name for name in row.splits_of(code).values())


@pytest.mark.parametrize("row", DATASETS, ids=names(DATASETS))
def test_row_counts_are_known_but_for_five_kinds(row):
    unknown = isinstance(row.source, ToySource) or row.name in {"wikipedia", "ccg"}
    unknown |= row.layout == "mewslix"
    for code in row.languages:
        assert set(row.known_rows(code)) == (set() if unknown else set(row.splits_of(code))), code


@pytest.mark.parametrize(
    "section",
    ["datasets", "tasks", "targets", "models", "translators", "languages", "presets", "prompts"],
)
def test_titles_are_unique_and_no_row_stands_twice(section):
    rows = getattr(REGISTRY, section)
    titles = [getattr(row, "title", row.name) for row in rows.values()]
    assert sorted(set(titles)) == sorted(titles)
    text = (FOLDER / f"{section}.yaml").read_text(encoding="utf-8")
    assert len(re.findall(r"^  [a-z0-9][\w.-]*:", text, re.MULTILINE)) == len(rows)
    assert list(yaml.safe_load(text)) == [section]


def test_hub_labels_are_the_papers():
    labels = {row.name: row.labels for row in DATASETS}
    for name in ("snli", "mnli", "anli_r1", "anli_r2", "anli_r3", "xnli", "xnli_translated"):
        assert labels[name] == ("entailment", "neutral", "contradiction")
    assert labels["qqp"] == ("not_duplicate", "duplicate")
    assert labels["panx"] == ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
    assert len(labels["udpos_hub"]) == 17
    assert labels["udpos"] == (*labels["udpos_hub"], "_")


def test_toy_rows_are_those_of_the_toy_world():
    from xstilts.toyworld.languages import LANGUAGES
    from xstilts.toyworld.lexicon import ENTITY_TAGS, PARTS_OF_SPEECH

    toy = {row.source.toyworld: row for row in DATASETS if isinstance(row.source, ToySource)}
    synthetic = [row for row in REGISTRY.languages.values() if row.synthetic]
    assert {row.code: (row.name, row.script) for row in synthetic} == {
        row.code: (row.name, row.script) for row in LANGUAGES.values()
    }
    assert toy["pos"].labels == PARTS_OF_SPEECH
    assert toy["ner"].labels == ENTITY_TAGS
    for kind, row in toy.items():
        assert ("train" in row.splits_of("qab")) == (kind == "corpus")
        if kind not in {"corpus", "parallel", "comparable"}:
            assert list(row.splits_of("qaa")) == ["train", "dev", "test"]
            assert list(row.splits_of("qaf")) == ["test"]


def test_every_language_with_data_has_a_uriel_code_or_is_synthetic():
    for row in REGISTRY.languages.values():
        assert (row.lang2vec is None) == row.synthetic
    assert len([row for row in REGISTRY.languages.values() if not row.synthetic]) == 50


# ---- what the paper and XTREME fix


def test_the_nine_intermediate_tasks():
    nine = {row.name for row in REGISTRY.tasks.values() if row.intermediate}
    assert nine == {
        *("anli_plus", "mnli", "qqp", "squad", "squad_v2", "hellaswag", "ccg"),
        *("cosmos_qa", "commonsense_qa"),
    }
    assert len(REGISTRY.tasks["anli_plus"].datasets) == 5
    parts = [
        REGISTRY.datasets[name].known_rows("en") for name in REGISTRY.tasks["anli_plus"].datasets
    ]
    # The paper's 1,104,934 and 22,857, plus the 785 and 158 pairs of SNLI without a gold label.
    assert sum(part["train"] for part in parts) == 1_104_934 + 785
    assert sum(part["dev"] for part in parts) == 22_857 + 158


XTREME = {
    "pawsx": 7,
    "xnli": 15,
    "panx": 40,
    "udpos": 33,
    "bucc2018": 4,
    "tatoeba": 36,
    "xquad": 11,
    "mlqa": 7,
    "tydiqa": 9,
}


def test_xtreme_is_nine_targets():
    assert {t.name for t in REGISTRY.targets.values() if "xtreme" in t.benchmark} == set(XTREME)


MORE = {"xcopa": 11, "panx_r": 48, "udpos_r": 38, "udpos_hub": 33}


@pytest.mark.parametrize(("name", "count"), [*XTREME.items(), *MORE.items()])
def test_target_languages_are_the_benchmarks(name, count):
    target = REGISTRY.targets[name]
    languages = target.languages or REGISTRY.datasets[target.dataset].languages
    assert len(set(languages)) == len(languages) == count


@pytest.mark.parametrize("name", ["udpos", "udpos_hub"])
def test_udpos_dev_lacks_four_languages(name):
    row = REGISTRY.datasets[name]
    without = {code for code in row.languages if "dev" not in row.splits_of(code)}
    assert without == {"kk", "th", "tl", "yo"}
    assert [code for code in row.languages if "train" in row.splits_of(code)] == ["en"]


def test_udpos_counts_are_those_of_xtremes_files():
    """The Hub's copy agrees but for the five languages that it mixes with others."""
    ours, hub = REGISTRY.datasets["udpos"], REGISTRY.datasets["udpos_hub"]
    mixed = {"el": (403, 456), "fr": (2903, 5009), "ru": (8108, 8976), "zh": (1000, 3455)}
    mixed |= {"de": (19233, 22358)}
    for code in REGISTRY.targets["udpos"].languages:
        known = ours.known_rows(code)
        if code in mixed:
            assert (known["dev"], known["test"]) == mixed[code]
            assert known["test"] < hub.known_rows(code)["test"]
        else:
            assert known == hub.known_rows(code)
    assert set(REGISTRY.targets["udpos"].languages) == set(hub.languages)
    assert set(ours.languages) - set(hub.languages) == {"lt", "pl", "ro", "uk", "wo"}


#: Sentences of treebanks in dev and test, as they were released.
SIZES = {
    "de": {"GSD": (799, 977), "HDT": (18434, 18459), "LIT": (0, 1922), "PUD": (0, 1000)},
    "el": {"GDT": (403, 456)},
    "ro": {"Nonstandard": (1052, 1052), "RRT": (752, 729), "SiMoNERo": (443, 491)},
    "uk": {"IU": (672, 892)},
    "wo": {"WTB": (449, 470)},
}


@pytest.mark.parametrize("language", SIZES)
def test_treebanks_add_up_to_the_counts(language):
    row = REGISTRY.datasets["udpos"]
    for place, split in enumerate(("dev", "test")):
        sizes = {name: counts[place] for name, counts in SIZES[language].items()}
        assert set(row.source.treebanks[language][split]) == {n for n in sizes if sizes[n]}
        assert sum(sizes.values()) == row.known_rows(language)[split]


def test_udpos_files_are_those_of_the_releases():
    row = REGISTRY.datasets["udpos"]
    urls = [url for code in row.languages for url in row.source_of(code).urls.values()]
    assert len(set(urls)) == len(urls) == 148
    base = "https://raw.githubusercontent.com/UniversalDependencies"
    assert f"{base}/UD_English-EWT/r2.5/en_ewt-ud-train.conllu" in urls
    assert f"{base}/UD_Chinese-GSDSimp/r2.5/zh_gsdsimp-ud-dev.conllu" in urls
    # The repository has another name now, its files had the old one.
    assert f"{base}/UD_French-Rhapsodie/r2.5/fr_spoken-ud-test.conllu" in urls
    assert f"{base}/UD_Wolof-WTB/r2.7/wo_wtb-ud-test.conllu" in urls
    assert {url.split("/")[5] for url in urls} == {"r2.5", "r2.7"}
    assert sum(url.endswith("-ud-train.conllu") for url in urls) == 4


def test_question_answering_targets_share_one_training_set():
    assert REGISTRY.targets["xquad"].train == REGISTRY.targets["mlqa"].train == ("squad",)
    assert REGISTRY.targets["xcopa"].train == ("siqa", "copa")


@pytest.mark.parametrize(
    ("name", "train", "count"),
    [("lareqa", "squad", 11), ("lareqa_dual", "squad_retrieval", 11), ("mewslix", "mewslix", 11)],
)
def test_xtreme_rs_rankings(name, train, count):
    target = REGISTRY.targets[name]
    assert (target.train, target.group) == ((train,), "retrieval")
    assert len(REGISTRY.datasets[target.dataset].languages) == count
    # Zero-shot LAReQA is ours; XTREME-R has the dual encoder.
    assert ("xtreme-r" in target.benchmark) == (name != "lareqa")


def test_tydiqa_reading_names_one_language():
    row = REGISTRY.datasets["tydiqa"]
    assert row.config("sw") == row.config("en") == "tydiqa"
    assert row.reading("sw")["where"] == {"column": "id", "prefix": "swahili-"}
    assert row.reading("sw")["splits"] == {"test": "validation"}
    assert row.reading("en")["splits"] == {"train": "train", "test": "validation"}
    assert sum(row.known_rows(code)["test"] for code in row.languages) == 5077
    json.dumps(row.reading("en"))


def test_file_names_are_filled_in():
    row = REGISTRY.datasets["ntrex"]
    assert row.splits_of("en") == {"train": "newstest2019-src.eng.txt"}
    assert row.splits_of("zh") == {"train": "newstest2019-ref.zho-CN.txt"}
    assert row.config("az") == "ref.aze-Latn"


# ---- against real data


def test_counts_agree_with_the_facts(shared):
    text = (shared / "facts" / "data.md").read_text(encoding="utf-8")
    pattern = r"(?:(PAN-X|MLQA|XQuAD|tatoeba|udpos|bucc18)\.)?([\w.]+) ((?:\w+=\d+/?)+)"
    counts = {
        (config, code): {name: int(n) for name, n in re.findall(r"(\w+)=(\d+)", splits)}
        for config, code, splits in re.findall(pattern, text)
    }
    configs = {"panx": "PAN-X", "bucc2018": "bucc18", "xquad": "XQuAD", "mlqa": "MLQA"}
    configs |= {"udpos_hub": "udpos"}
    source = {"train": "train", "dev": "validation", "test": "test"}
    checked = 0
    for name in ("panx", "mlqa", "xquad", "tatoeba", "udpos_hub", "bucc2018"):
        row = REGISTRY.datasets[name]
        for language, code in row.languages.items():
            key = f"{code}.{code}" if name == "mlqa" else code
            facts = counts.get((configs.get(name, name), key)) or counts["", key]
            for split, rows in row.known_rows(language).items():
                there = source[split] if name == "bucc2018" else row.splits[split]
                assert rows == facts[there], (name, language, split)
                checked += 1
    assert checked == 229


@pytest.mark.parametrize("row", HUB, ids=names(HUB))
def test_hub_row_fits_the_real_slices(row, shared):
    repository = shared / "hub" / row.source.hub
    if not repository.is_dir():
        pytest.skip(f"no slice of {row.source.hub}")
    columns = set().union(*(columns_of(field) for field in row.fields.values()))
    columns |= {row.where.column} if row.where else set()
    label = row.fields.get("label", row.fields.get("tags"))
    seen = 0
    for language in row.languages:
        for split in row.splits_of(language).values():
            for path in (repository / row.config(language)).glob(f"{split}-*.parquet"):
                seen += 1
                schema = pq.read_schema(path)
                assert columns <= set(schema.names), path
                assert class_names(schema, label) in (None, list(row.labels or ())), path
    if row.name == "xnli_translated":
        assert seen == 15, "only dev lies there"
    assert seen >= len(row.languages) * 0.8


def class_names(schema, column) -> list[str] | None:
    """Names of a ClassLabel column, or list of them, in the Hub's parquet metadata."""
    features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {})
    feature = features.get("features", {}).get(column, {})
    return feature.get("names") or feature.get("feature", {}).get("names")


def test_class_names_are_really_compared(shared):
    path = shared / "hub/nyu-mll/glue/qqp/train-00000-of-00001.parquet"
    assert class_names(pq.read_schema(path), "label") == ["not_duplicate", "duplicate"]
    path = next((shared / "hub/unimelb-nlp/wikiann/en").glob("train-*"))
    assert class_names(pq.read_schema(path), "ner_tags") == list(REGISTRY.datasets["panx"].labels)


def test_user_files_are_those_of_the_originals(shared):
    row = REGISTRY.datasets["ntrex"]
    there = {path.name for path in (shared / "files/pretrain/ntrex").glob("newstest2019-*.txt")}
    assert {row.splits_of(code)["train"] for code in row.languages} == there
    assert isinstance(row.source, FileSource)


# ---- the users' own rows


@pytest.fixture
def write(tmp_path):
    def write_file(text: str) -> Path:
        path = tmp_path / "my.yaml"
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return write_file


def test_a_new_dataset_is_one_row(write):
    path = write(
        """
        datasets:
          masakhaner:
            title: MasakhaNER
            format: token_classification
            source: {hub: masakhane/masakhaner2, config: "{code}"}
            languages: {yo: yor, sw: swa}
            splits: {test: test}
            fields: {tokens: tokens, tags: ner_tags}
            labels: [O, B-PER, I-PER, B-ORG, I-ORG, B-LOC, I-LOC]
            licence: CC BY-NC 4.0
        """
    )
    row = load_registry([path]).dataset("masakhaner", "test")
    assert row.config("yo") == "yor"
    assert "masakhaner" not in load_registry().datasets


def test_a_new_language_and_a_new_target_are_one_row_each(write):
    path = write(
        """
        languages:
          "no": {name: Norwegian, script: Latn, family: Indo-European, lang2vec: nob}
        targets:
          panx_far:
            title: NER, far languages
            train: [panx]
            dataset: panx
            metric: seqeval_f1
            group: tagging
            languages: [ja, zh]
        """
    )
    registry = load_registry([path])
    assert registry.language("no", "test").name == "Norwegian"
    assert registry.target("panx_far", "test").languages == ("ja", "zh")


def test_a_row_of_a_known_name_replaces_it(write):
    path = write("tasks: {anli_plus: {title: ANLI only, datasets: [anli_r1, anli_r2, anli_r3]}}")
    assert len(load_registry([path]).tasks["anli_plus"].datasets) == 3
    assert len(load_registry().tasks["anli_plus"].datasets) == 5


def test_later_files_win_and_an_empty_file_adds_nothing(tmp_path):
    files = [tmp_path / name for name in ("a.yaml", "b.yaml", "empty.yaml")]
    for path, title in zip(files, ("A", "B"), strict=False):
        path.write_text(f"tasks: {{mine: {{title: {title}, datasets: [mnli]}}}}")
    files[2].write_text("")
    assert load_registry(files).tasks["mine"].title == "B"


def test_a_number_that_yaml_reads_as_text_is_the_number(write):
    path = write(BASE.format(extra="holdout: 5e-2"))
    assert load_registry([path]).datasets["mine"].holdout == 0.05


# ---- bad rows

BASE = """
datasets:
  mine:
    title: Mine
    format: masked_lm
    source: {{files: [a.txt], hint: ask me}}
    splits: {{train: a.txt}}
    fields: {{text: text}}
    languages: [en]
    licence: mine
    {extra}
"""
DATASET = yaml.safe_load(BASE.format(extra=""))["datasets"]["mine"]
TARGET = {"title": "T", "dataset": "xnli", "train": ["mnli"], "metric": "accuracy"}
TARGET |= {"group": "classification"}
MODEL = {"title": "M", "architecture": "bert", "hub": "a/b", "layers": 2, "max_length": 128}
MODEL |= {"retrieval_layer": 1, "licence": "MIT"}
TASK = {"title": "T", "datasets": ["mnli"]}
LANGUAGE = {"name": "L", "script": "Latn", "family": "F", "lang2vec": "deu"}
NLI = {
    "format": "sequence_classification",
    "fields": {"text_a": "a", "text_b": "b", "label": "l"},
    "labels": ["yes it is", "no it is not"],
}
TAGGED = {
    "format": "token_classification",
    "fields": {"tokens": "a", "tags": "b"},
    "labels": ["O", "X"],
}

BAD = {
    "unknown key": ("datasets", DATASET | {"lisence": "x"}, ["'lisence'", "'licence'"]),
    "unknown key of a source": (
        "datasets",
        DATASET | {"source": {"hub": "a/b", "confg": "x"}},
        ["source", "'confg'", "'config'"],
    ),
    "unknown field": (
        "datasets",
        DATASET | {"fields": {"txt": "a"}},
        ["fields", "'txt'", "'text'"],
    ),
    "missing field": (
        "datasets",
        DATASET | NLI | {"fields": {"text_a": "a"}},
        ["fields", "missing", "label"],
    ),
    "unknown language": (
        "datasets",
        DATASET | {"languages": ["en", "eng"]},
        ["languages", "'eng'", "Did you mean 'en'"],
    ),
    "Norwegian": ("datasets", DATASET | {"languages": [False]}, ["languages", "quotes", "'no'"]),
    "unknown split": (
        "datasets",
        DATASET | {"splits": {"trian": "a"}},
        ["splits", "'trian'", "'train'"],
    ),
    "language of only": (
        "datasets",
        DATASET | {"only": {"train": ["ed"]}},
        ["only.train", "'ed'", "Valid names: en"],
    ),
    "language of rows": (
        "datasets",
        DATASET | {"rows": {"e": {"train": 3}}},
        ["rows", "'e'", "'en'"],
    ),
    "unknown format": ("datasets", DATASET | {"format": "masked_ml"}, ["format", "'masked_lm'"]),
    "no labels": ("datasets", DATASET | NLI | {"labels": None}, ["labels", "order"]),
    "repeated label": (
        "datasets",
        DATASET | NLI | {"labels": ["x", "x"]},
        ["labels", "'x'", "twice"],
    ),
    "label value": (
        "datasets",
        DATASET | NLI | {"label_values": {"0": "yes it si"}},
        ["label_values", "'yes it si'", "'yes it is'"],
    ),
    "odd words' label": (
        "datasets",
        DATASET | TAGGED | {"odd_words": "o"},
        ["odd_words", "'o'", "'O'"],
    ),
    "odd words of no words": (
        "datasets",
        DATASET | NLI | {"odd_words": "yes it is"},
        ["odd_words", "sequence_classification"],
    ),
    "bare hub id": (
        "datasets",
        DATASET | {"source": {"hub": "squad", "config": "x"}},
        ["source", "hub", "'squad'", "owner/name"],
    ),
    "no source": ("datasets", DATASET | {"source": {"path": "x"}}, ["source", "hub, urls, files"]),
    "placeholder": (
        "datasets",
        DATASET | {"source": {"hub": "a/b", "config": "{lang}"}},
        ["config", "{lang}", "{code}"],
    ),
    "placeholder with an attribute": (
        "datasets",
        DATASET | {"splits": {"train": "{code.__class__}"}},
        ["splits.train", "{code.__class__}"],
    ),
    "path out of the folder": (
        "datasets",
        DATASET | {"source": {"files": ["../a"], "hint": "x"}},
        ["source", "files[0]", "'../a'"],
    ),
    "broken template": (
        "datasets",
        DATASET | {"fields": {"text": "{a"}},
        ["'{a'", "not a template"],
    ),
    "negative count": (
        "datasets",
        DATASET | {"rows": {"en": {"train": -1}}},
        ["rows.en.train", "-1"],
    ),
    "holdout with dev": (
        "datasets",
        DATASET | {"holdout": 0.1, "splits": {"train": "a", "dev": "b"}},
        ["holdout", "dev"],
    ),
    "named twice": ("datasets", DATASET | {"name": "other"}, ["name", "key above the row"]),
    "not a row": ("datasets", 3, ["not a mapping", "found 3"]),
    "unknown data set of a task": (
        "tasks",
        TASK | {"datasets": ["mnil"]},
        ["datasets", "'mnil'", "'mnli'"],
    ),
    "two formats in a task": (
        "tasks",
        TASK | {"datasets": ["mnli", "squad"]},
        ["datasets", "format", "question_answering"],
    ),
    "two label sets in a task": (
        "tasks",
        TASK | {"datasets": ["mnli", "qqp"]},
        ["datasets", "labels", "not_duplicate"],
    ),
    "task without training data": (
        "tasks",
        TASK | {"datasets": ["pawsx"], "language": "de"},
        ["language", "train", "'de'"],
    ),
    "unknown task of a target": (
        "targets",
        TARGET | {"train": ["mnil"]},
        ["train", "'mnil'", "'mnli'"],
    ),
    "unknown data set of a target": (
        "targets",
        TARGET | {"dataset": "xnil"},
        ["dataset", "'xnil'", "'xnli'"],
    ),
    "target of another format": ("targets", TARGET | {"train": ["squad"]}, ["train", "format"]),
    "target of other labels": ("targets", TARGET | {"train": ["qqp"]}, ["train", "labels"]),
    "target without training": ("targets", TARGET | {"train": []}, ["train", "task"]),
    "trained retrieval": (
        "targets",
        TARGET | {"dataset": "tatoeba", "metric": "tatoeba_accuracy"},
        ["train", "sentence_retrieval"],
    ),
    "metric of another format": (
        "targets",
        TARGET | {"metric": "squad_f1"},
        ["metric", "accuracy", "squad_f1"],
    ),
    "language of a target": (
        "targets",
        TARGET | {"languages": ["ja"]},
        ["languages", "'ja'", "xnli"],
    ),
    "target without test": (
        "targets",
        TARGET | {"dataset": "mnli"},
        ["languages", "no test split", "'en'"],
    ),
    "model of two kinds": (
        "models",
        MODEL | {"scratch": None, "hub": None},
        ["hub id or a scratch size"],
    ),
    "layer out of range": ("models", MODEL | {"retrieval_layer": 3}, ["retrieval_layer", "0..2"]),
    "key of a scratch size": (
        "models",
        MODEL | {"hub": None, "scratch": {"layer": 2}},
        ["scratch", "'layer'", "'layers'"],
    ),
    "script": ("languages", LANGUAGE | {"script": "latin"}, ["script", "'latin'", "Latn"]),
}


@pytest.mark.parametrize(("section", "row", "parts"), BAD.values(), ids=BAD)
def test_bad_row_is_refused_with_its_place(write, section, row, parts):
    path = write(yaml.safe_dump({section: {"mine": row}}))
    with pytest.raises(InputError) as error:
        load_registry([path])
    message = str(error.value)
    assert message.startswith(f"{path}: {section}.mine")
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("datset: {}", ["datset", "unknown section", "'datasets'"]),
        ("datasets: [a]", ["datasets", "not a mapping"]),
        ("- datasets", ["not a mapping"]),
        ("languages: {no: {name: Norwegian}}", ["languages.False", "quotes"]),
        ("tasks: {'../x': {title: T, datasets: [mnli]}}", ["tasks.../x", "folder"]),
        ("tasks: {a-then-b: {title: T, datasets: [mnli]}}", ["tasks.a-then-b", "-then-"]),
        (
            "tasks:\n  a: {title: T, datasets: [mnli]}\n  a: {title: U, datasets: [mnli]}",
            ["line 3"],
        ),
        ("tasks: {a: [", ["not valid YAML"]),
    ],
)
def test_bad_file_is_refused_with_its_place(write, text, parts):
    path = write(text)
    with pytest.raises(InputError) as error:
        load_registry([path])
    assert str(error.value).startswith(str(path))
    for part in parts:
        assert part in str(error.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.yaml: the file does not exist"):
        load_registry([tmp_path / "gone.yaml"])


def test_replacing_a_row_that_others_need_names_them(write):
    path = write(yaml.safe_dump({"datasets": {"snli": DATASET | NLI}}))
    with pytest.raises(InputError, match=r"registry/tasks\.yaml: tasks\.anli_plus: datasets"):
        load_registry([path])


@pytest.mark.parametrize(
    ("kind", "wrong", "right"),
    [
        ("dataset", "mnil", "mnli"),
        ("task", "anli_pluss", "anli_plus"),
        ("target", "tatoba", "tatoeba"),
        ("model", "xlm-r-large", "xlm-roberta-large"),
        ("language", "dee", "de"),
    ],
)
def test_lookup_suggests_the_nearest_name(kind, wrong, right):
    find = getattr(REGISTRY, kind)
    assert find(right, "x")
    with pytest.raises(InputError, match=rf"^config\.yaml: here: unknown .*'{wrong}'.*'{right}'"):
        find(wrong, "config.yaml: here")


def test_loading_imports_nothing_heavy():
    code = """
        import sys
        import xstilts.registry
        xstilts.registry.load_registry()
        heavy = {"torch", "transformers", "datasets", "pandas", "jinja2"} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)

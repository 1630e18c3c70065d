"""A wrong study ends before anything runs, in one message that says where and what to do."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from xstilts.config import load_study, read_study
from xstilts.errors import InputError
from xstilts.session import Session

STUDY: dict[str, Any] = {
    "study": "bad",
    "models": ["toy-xlmr"],
    "recipes": ["none", "toy_nli"],
    "targets": ["toy_nli", "toy_qa"],
    "languages": ["qaa", "qab"],
    "source_language": "qaa",
    "toyworld": {
        "sizes": {
            "corpus": {"train": 10},
            "nli": {"train": 10, "dev": 5, "test": 5},
            "qa": {"train": 10, "dev": 5, "test": 5},
        }
    },
    "pretraining": {"corpus": ["toy_corpus"]},
    "encoding": {"default": {"max_length": 64}},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    study = copy.deepcopy(STUDY)
    place, keys = study, path.split(".")
    for key in keys[:-1]:
        place = place.setdefault(key, {})
    if value is None:
        place.pop(keys[-1])
    else:
        place[keys[-1]] = value
    return study


CASES = [
    ("modles", ["x"], ["modles", "unknown key", "Did you mean 'models'"]),
    ("training.defaults", {}, ["training.defaults", "unknown key", "'default'"]),
    ("training.default.learning_rat", 1, ["learning_rat", "Did you mean 'learning_rate'"]),
    ("models", ["xlm-roberta-lage"], ["models", "xlm-roberta-lage", "'xlm-roberta-large'"]),
    ("models", None, ["models", "missing"]),
    ("recipes", ["none", "mnlii"], ["recipes.mnlii", "mnlii", "Did you mean 'mnli'"]),
    (
        "recipes",
        {"none": {}, "extra": {"tasks": []}},
        ["recipes.extra", "no tasks", "Only the recipe 'none'"],
    ),
    ("recipes", {"none": {"tasks": ["toy_nli"]}}, ["recipes.none", "without intermediate"]),
    (
        "recipes",
        {"two": {"tasks": ["toy_nli", "toy_qa"], "sampling": "temperature"}},
        ["recipes.two", "`sampling: temperature` and a temperature belong together"],
    ),
    (
        "recipes",
        {"two": {"tasks": ["toy_nli", "toy_qa"], "temperature": 2}},
        ["recipes.two", "belong together"],
    ),
    (
        "recipes",
        {"two": {"tasks": "toy_nli", "sampling": "temperature", "temperature": 0.5}},
        ["recipes.two.temperature", "0.5"],
    ),
    ("recipes", {"two": {"tasks": "toy_nli", "cap": 0}}, ["recipes.two.cap", "0"]),
    (
        "recipes",
        {"two": {"tasks": "toy_nli", "mlm": {"corpus": "toy_corpus", "learning_rate": 2}}},
        ["recipes.two.mlm.learning_rate", "2"],
    ),
    (
        "training.default.micro_batch_tokens",
        63,
        ["training.tasks.toy_nli.micro_batch_tokens", "at least 64", "found 63", "max_length"],
    ),
    ("processes", 0, ["processes", "0"]),
    ("on_collapse", "ignore", ["on_collapse", "ignore"]),
    ("targets", ["xnlii"], ["targets", "xnlii", "Did you mean 'xnli'"]),
    ("targets", ["toy_nli", "toy_nli"], ["targets", "stands there twice"]),
    ("languages", ["qaa", "qax"], ["languages", "qax"]),
    ("languages", ["qaa", "qaa"], ["languages", "stands there twice"]),
    ("languages", ["qaa", False], ["languages", "false", "quotes", "'no'"]),
    ("languages", ["de"], ["languages", "no target of the study has 'de'", "qaa, qab"]),
    ("targets", {"toy_nli": {"without": ["qaa", "qab"]}}, ["languages", "none of the study's"]),
    ("targets", {"toy_nli": {"languages": ["de"]}}, ["targets.toy_nli", "no 'de'"]),
    ("source_language", "e n", ["source_language", "e n"]),
    ("seeds", [1, 1], ["seeds", "twice"]),
    ("seeds", ["one"], ["seeds", "one"]),
    ("seeds", [-1], ["seeds", "-1"]),
    ("study", "../outside", ["study", "becomes part of a path", "../outside"]),
    ("study", "/etc", ["study", "becomes part of a path"]),
    ("training.default.learning_rate", "fast", ["training.default", "learning_rate", "fast"]),
    ("training.default.batch_size", 0, ["training.default", "batch_size", "0"]),
    ("training.tasks.toy_pos", {}, ["training.tasks.toy_pos", "trains no such task"]),
    ("encoding.default.max_length", 512, ["encoding", "longer than the positions", "at most 64"]),
    ("encoding.datasets.toy_nlii", {}, ["encoding.datasets.toy_nlii", "Did you mean 'toy_nli'"]),
    (
        "encoding.datasets.toy_qa",
        {"max_query_length": 64},
        ["encoding", "no room for the context", "found 64"],
    ),
    ("toyworld.sizes.qa", {"train": 10}, ["toyworld.sizes.qa", "test", "toy_qa"]),
    ("pretraining", None, ["pretraining", "no weights", "corpus"]),
    ("pretraining.corpus", ["toy_nli"], ["pretraining.corpus", "no raw text", "masked_lm"]),
    ("evaluation.retrieval.layers", 3, ["evaluation.retrieval", "Did you mean 'layer'"]),
    ("toyworld", "big", ["toyworld", "big"]),
]


@pytest.mark.parametrize(("path", "value", "parts"), CASES)
def test_a_wrong_study_is_explained(
    path: str, value: Any, parts: list[str], repository: Path
) -> None:
    study = changed(path, value)
    with pytest.raises(InputError) as caught:
        Session.of_config(study, "bad.yaml", repository, main=False)
    message = str(caught.value)
    assert message.startswith("bad.yaml")
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_the_unchanged_study_is_right(repository: Path) -> None:
    session = Session.of_config(STUDY, "good.yaml", repository, main=False)
    assert len(session.plan.of("evaluate")) == 4


def test_a_recipe_name_cannot_leave_the_results_folder(repository: Path) -> None:
    study = {**STUDY, "recipes": {"none": {}, "../../x": {"tasks": ["toy_nli"]}}}
    with pytest.raises(InputError, match="becomes part of a path"):
        Session.of_config(study, "bad.yaml", repository, main=False)


def test_numbers_that_yaml_reads_as_text_work() -> None:
    content = yaml.safe_load("{training: {default: {learning_rate: 2e-5}}}")
    assert content["training"]["default"]["learning_rate"] == "2e-5"  # YAML 1.1
    session = Session.of_config({**STUDY, **content}, "good.yaml", Path(), main=False)
    job = session.plan.jobs["checkpoints/toy-xlmr/none/seed-1/toy_nli"]
    assert job.spec["settings"]["learning_rate"] == 2e-5


@pytest.mark.parametrize(
    ("text", "part"),
    [("a: [1", "not valid YAML"), ("", "mapping"), ("- 1", "mapping"), ("\xff", "UTF-8")],
)
def test_a_broken_file_is_named(text: str, part: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=part) as caught:
        read_study(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_study(tmp_path / "none.yaml")


def test_a_word_is_no_study() -> None:
    with pytest.raises(InputError, match="mapping"):
        load_study("toy", "x.yaml")

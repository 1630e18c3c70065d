"""Short forms of a study, and faults that YAML hides."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from xstilts.config import load_study
from xstilts.errors import InputError
from xstilts.validation import read_yaml, refuse_repeated_keys

STUDY = "{study: s, models: m, recipes: none, targets: t}"


def study(text: str = "{}") -> Any:
    return load_study(yaml.safe_load(STUDY) | yaml.safe_load(text), "s.yaml")


def test_one_name_needs_no_brackets() -> None:
    found = study("{languages: de, registry: rows.yaml}")
    assert found.models == ("m",)
    assert found.languages == ("de",)
    assert found.registry == (Path("rows.yaml"),)
    assert list(found.recipes) == ["none"]
    assert list(found.targets) == ["t"]


def test_a_list_of_recipes_is_a_task_each() -> None:
    found = study("recipes: [none, mnli]").recipes
    assert found["none"].tasks == ()
    assert found["mnli"].tasks == ("mnli",)
    assert found == study("{recipes: {none: , mnli: }}").recipes


def test_all_languages_are_a_word() -> None:
    assert study("languages: all").languages == "all"
    assert study("languages: [all]").languages == ("all",)  # then it is looked for, and not found


def test_numbers_that_name_things_are_text() -> None:
    assert study("study: 2024").study == "2024"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipes: [none, mnli, mnli]", "s.yaml: recipes: 'mnli' stands there twice"),
        ("recipes: [none, {mnli: {}}]", "s.yaml: recipes: a list holds names only, {'mnli': {}}"),
        ("targets: [[t]]", "s.yaml: targets: a list holds names only, ['t'] is none"),
        ("languages: []", "s.yaml: languages: list should have at least 1 item, not 0"),
        ("recipes: {}", "s.yaml: recipes: mapping should have at least 1 item"),
        ("seeds: 1", "s.yaml: seeds: input should be a valid list; found 1"),
        ("seeds: [1.5]", "s.yaml: seeds[0]: input should be a valid integer"),
        ("languages: [de, no]", "s.yaml: languages[1]: YAML reads the unquoted word 'no'"),
        ("recipes: {no: {}}", "s.yaml: recipes: YAML reads the unquoted word 'no'"),
        ("recipes: {../x: {}}", "s.yaml: recipes: a name becomes part of a path"),
        ("recipes: {m: mnli}", "s.yaml: recipes.m: input should be a mapping; found 'mnli'"),
        ("recipes: {m: {task: mnli}}", "s.yaml: recipes.m.task: unknown key. Did you mean 'task"),
        ("pretraining: {corpus: []}", "s.yaml: pretraining.corpus: list should have at least"),
        ("log_seconds: .inf", "s.yaml: log_seconds: input should be a finite number"),
    ],
)
def test_faults_are_told_in_the_words_of_yaml(text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        study(text)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "a"),
        ("a:\n  b: {c: 1, c: 2}\n", 2, "c"),
        ("- x\n- a: 1\n  a: 1\n", 3, "a"),
        ("1: x\n2: y\n1: z\n", 3, "1"),
    ],
)
def test_a_key_that_stands_there_twice_is_refused(
    text: str, line: int, key: str, tmp_path: Path
) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    assert read_yaml(path)  # YAML itself has nothing against it
    with pytest.raises(InputError, match=rf"s\.yaml: line {line}: the key '{key}' stands there"):
        refuse_repeated_keys(path)


def test_anchors_and_merges_are_no_repetition(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("a: &a {x: 1}\nb: {<<: *a, x: 2}\nc: [*a, *a]\nd: &d [*d]\n")
    refuse_repeated_keys(path)

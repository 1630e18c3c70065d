"""XTREME's scores: the official code's numbers on golden trees, and what stands beside them."""

import json
import re
import shutil
from pathlib import Path

import pytest

from xstilts.cli import main
from xstilts.errors import InputError
from xstilts.evaluation.benchmark import OWN_KEYS, score_tree, tasks_of
from xstilts.registry import load_registry

LANGUAGES = {
    "xtreme": {
        "pawsx": 7,
        "xnli": 15,
        "panx": 40,
        "udpos": 33,
        "bucc2018": 4,
        "tatoeba": 36,
        "xquad": 11,
        "mlqa": 7,
        "tydiqa": 9,
    },
    "xtreme-r": {
        "xnli": 15,
        "panx": 48,
        "udpos": 38,
        "tatoeba": 41,
        "xcopa": 11,
        "lareqa": 11,
        "mewslix": 11,
        "xquad": 12,
        "mlqa": 7,
        "tydiqa": 9,
    },
}
#: Why ours raises, by what the official code raises.
REASONS = {
    "AssertionError": r"is missing|is one too many|sentence \d+ is not the one",
    "ZeroDivisionError": "is empty",
    "ValueError": "has no gold answer",
}


@pytest.fixture
def golden(shared: Path) -> Path:
    return shared / "golden" / "scores"


def read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def official(content):
    return {key: value for key, value in content.items() if key not in OWN_KEYS}


def same(found, expected):
    """Equal keys, and numbers that are equal to 1e-9."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(
            same(found[key], value) for key, value in expected.items()
        )
    return found == pytest.approx(expected, abs=1e-9)


def part_of(tree: Path, out: Path, tasks, languages=None):
    """A tree that has some tasks and languages of another, as links."""
    for side in ("labels", "predictions"):
        for task in tasks:
            (out / side / task).mkdir(parents=True)
            for path in (tree / side / task).iterdir():
                if languages is None or path.stem.removeprefix("test-") in languages:
                    (out / side / task / path.name).symlink_to(path)
        (out / side).mkdir(exist_ok=True, parents=True)
    return out


def scored(tree: Path, **options):
    return score_tree(tree / "predictions", tree / "labels", **options).content()


# ---- the official numbers


@pytest.mark.parametrize("benchmark", ["xtreme", "xtreme-r"])
def test_languages_are_the_official_ones(benchmark):
    found = {task.name: len(set(task.languages)) for task in tasks_of(benchmark)}
    assert found == LANGUAGES[benchmark]
    assert all(len(task.languages) == found[task.name] for task in tasks_of(benchmark))


@pytest.mark.parametrize("benchmark", ["xtreme", "xtreme-r"])
def test_no_target_of_the_registry_is_left_out(benchmark):
    targets = load_registry().targets.values()
    wanted = {target.dataset for target in targets if benchmark in target.benchmark}
    assert wanted <= {task.name for task in tasks_of(benchmark)}


def test_a_whole_tree_scores_as_officially(golden):
    content, expected = scored(golden), read(golden / "expected.json")
    assert same(official(content), expected)
    assert [key for key in content if key not in OWN_KEYS] == list(expected)
    for task in tasks_of("xtreme"):
        values = next(iter(expected[task.name].values()))
        assert set(task.languages) == set(values)


def _write(folder: Path, case) -> tuple[Path, Path]:
    folder.mkdir()
    paths = folder / "labels", folder / "predictions"
    for path in paths:
        path.write_bytes(case[path.name].encode())
    return paths


def test_edge_cases_score_as_officially(golden, tmp_path):
    tasks = {task.name: task for task in tasks_of("xtreme")}
    for case in read(golden / "edge.json"):
        labels, predictions = _write(tmp_path / case["id"], case)
        task = tasks[case["task"]]
        if "error" in case:
            with pytest.raises(InputError, match=REASONS[case["error"]]) as error:
                task.score(labels, predictions, case["language"])
            assert str(tmp_path) in error.value.where
            continue
        found, _ = task.score(labels, predictions, case["language"])
        for name, value in case["expected"].items():
            assert found[name] == pytest.approx(value, abs=1e-9), (case["id"], name)


def test_parts_of_a_tree_score_as_officially(golden, tmp_path):
    groups = ("all_task", "classification", "tagging", "qa", "retrieval")
    for number, case in enumerate(read(golden / "expected_subsets.json")):
        out = tmp_path / str(number)
        tree = part_of(golden, out, case.get("tasks", LANGUAGES["xtreme"]))
        if removed := case.get("removed"):
            path = tree / removed
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if "error" in case:
            with pytest.raises(InputError, match=Path(removed).name):
                scored(tree)
            continue
        found = scored(tree)
        totals = {name: found[name] for name in groups if name in found}
        assert same(totals, case["expected"]), case


def test_xtremes_own_mock_data(shared):
    found = scored(shared / "files" / "xtreme_mock" / "mock_test_data")
    published = {
        "all_task": 62.173,
        "classification": 41.048,
        "tagging": 63.863,
        "qa": 80.376,
        "retrieval": 54.306,
    }
    assert {name: round(found[name], 3) for name in published} == published


def test_mewslix_is_scored_under_its_official_name(shared, tmp_path):
    folder = shared / "golden" / "retrieval_r" / "mewslix"
    expected = read(folder / "expected.json")
    for gold in folder.glob("gold-*.json"):
        name = gold.name.replace("gold", "test")
        predictions = folder / gold.name.replace("gold", "predictions")
        for side, path in (("labels", gold), ("predictions", predictions)):
            (tmp_path / side / "mewslix").mkdir(parents=True, exist_ok=True)
            text = path.read_text() if path.exists() else "{}"
            (tmp_path / side / "mewslix" / name).write_text(text)
    found = scored(tmp_path, benchmark="xtreme-r")["mewslix"]
    assert found["avg_metric"] == found["avg_map@20"]
    assert found["avg_metric"] == pytest.approx(100 * expected["macro_average_mrr@20"], abs=1e-9)
    for language, row in expected["languages"].items():
        assert found["map@20"][language] == pytest.approx(100 * row["mrr@20"], abs=1e-9)


# ---- a tree by hand


def tree_of(out: Path, **tasks):
    """`tasks`: folder to language to (gold, predictions)."""
    for task, languages in tasks.items():
        for code, texts in languages.items():
            for side, text in zip(("labels", "predictions"), texts, strict=True):
                suffix = "jsonl" if task == "xcopa" else "tsv"
                path = out / side / task / f"test-{code}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    return out


RIGHT, HALF = ("1\n0\n", "1\n0\n"), ("1\n0\n", "1\n1\n")
PAWSX = {
    code: HALF if code == "en" else RIGHT for code in ("de", "en", "es", "fr", "ja", "ko", "zh")
}


def test_zero_shot_leaves_english_out(tmp_path):
    found = scored(tree_of(tmp_path, pawsx=PAWSX))
    assert found["pawsx"]["avg_accuracy"] == pytest.approx(650 / 7)
    assert found["zero_shot"] == {"pawsx": {"avg_accuracy": 100.0, "avg_metric": 100.0}}
    assert found["partial"] == {}
    assert found["benchmark"] == "xtreme"


def test_token_accuracy_stands_beside(tmp_path):
    # As entities all is wrong; as tokens two of three are right.
    texts = "NOUN\nNOUN\nVERB\n", "NOUN\nVERB\nVERB\n"
    tree = tree_of(tmp_path, udpos={"en": texts, "yo": texts})
    found = scored(tree, partial=True)
    assert found["udpos"]["avg_f1"] == 0.0
    assert found["token_accuracy"]["udpos"]["avg_token_accuracy"] == pytest.approx(200 / 3)
    assert "token_accuracy" not in found["udpos"]


def test_missing_languages_are_all_named(tmp_path):
    tree = tree_of(tmp_path, pawsx=PAWSX)
    (tree / "predictions" / "pawsx" / "test-ja.tsv").unlink()
    (tree / "labels" / "pawsx" / "test-ko.tsv").unlink()
    (tree / "predictions" / "pawsx" / "ja.tsv").write_text("1\n0\n")
    with pytest.raises(InputError) as error:
        scored(tree)
    message = str(error.value)
    assert "2 of the tasks' languages" in message
    assert str(tree / "predictions" / "pawsx" / "test-ja.tsv") in message
    assert str(tree / "labels" / "pawsx" / "test-ko.tsv") in message
    assert "pawsx/ja.tsv" in message
    assert "--partial" in message


def test_partial_scores_say_what_is_missing(tmp_path):
    languages = {code: texts for code, texts in PAWSX.items() if code in ("en", "de")}
    report = score_tree(
        *(tree_of(tmp_path, pawsx=languages) / side for side in ("predictions", "labels")),
        partial=True,
    )
    content = report.content()
    assert content["pawsx"]["avg_metric"] == 75.0
    assert content["partial"] == {"pawsx": ["es", "fr", "ja", "ko", "zh"]}
    assert "pawsx*" in report.table()
    assert "partial: pawsx is without es, fr, ja, ko, zh" in report.table()


def test_what_is_not_scored_is_noted(tmp_path):
    tree = tree_of(tmp_path, pawsx={**PAWSX, "it": RIGHT}, xnlli={"en": RIGHT})
    (tree / "predictions" / "xnli").mkdir()
    notes = {note["task"]: note["what"] for note in scored(tree)["notes"]}
    assert notes["pawsx"] == (
        "files of no language of the task, not read (first: pawsx/test-it.tsv)"
    )
    assert notes["xnlli"] == "folder of no task of xtreme, not read. Did you mean 'xnli'?"
    assert notes["xnli"] == "no folder in the labels: not scored"
    assert notes["panx"] == "no folder in the predictions: not scored"


def test_notes_name_task_and_language(tmp_path):
    texts = {**PAWSX, "fr": ("1\n0\n", "1\nzero\n")}
    (note,) = [note for note in scored(tree_of(tmp_path, pawsx=texts))["notes"] if note["language"]]
    assert (note["task"], note["language"], note["count"]) == ("pawsx", "fr", 1)
    assert "(line 2: 'zero')" in note["what"]


def _xtreme_r(out: Path, tasks) -> Path:
    """Every language of some tasks; right but for XCOPA, where half is."""
    gold = {"xnli": "neutral\n", "panx": "B-PER\n", "udpos": "NOUN\n", "tatoeba": "0\n"}
    squad = {"paragraphs": [{"qas": [{"id": "a", "answers": [{"text": "x"}]}]}]}
    for task in tasks_of("xtreme-r"):
        if task.name not in tasks:
            continue
        for code in task.languages:
            if task.name in ("xquad", "mlqa", "tydiqa"):
                texts = json.dumps([squad]), '{"a": "x"}'
            elif task.name in ("mewslix", "lareqa"):
                texts = '{"m": ["Q1"]}', '{"m": ["Q9", "Q1"]}'
            elif task.name == "xcopa":
                texts = '{"label": 0}\n' * 2, '{"label": 0}\n{"label": 1}\n'
            else:
                texts = gold[task.name], gold[task.name]
            for side, text in zip(("labels", "predictions"), texts, strict=True):
                path = task.file(out / side, code)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
    return out


def test_xtreme_r_has_the_total_that_the_official_code_lacks(tmp_path):
    found = scored(_xtreme_r(tmp_path, LANGUAGES["xtreme-r"]), benchmark="xtreme-r")
    assert found["classification"] == 75.0
    assert found["multi_choice"] == 50.0
    assert found["retrieval"] == pytest.approx((100 + 50 + 50) / 3)
    assert found["all_task"] == pytest.approx((7 * 100 + 3 * 50) / 10)
    (note,) = [note for note in found["notes"] if note["task"] == "xtreme-r"]
    assert "official code has no total" in note["what"]


def test_xtreme_r_is_complete_without_lareqa_but_with_no_other_task_missing(tmp_path):
    names = set(LANGUAGES["xtreme-r"])
    found = scored(_xtreme_r(tmp_path / "a", names - {"lareqa"}), benchmark="xtreme-r")
    assert found["retrieval"] == 75.0
    assert found["all_task"] == pytest.approx((7 * 100 + 2 * 50) / 9)
    (note,) = [note for note in found["notes"] if note["task"] == "xtreme-r"]
    assert "lareqa" not in note["what"]
    found = scored(_xtreme_r(tmp_path / "b", names - {"mewslix"}), benchmark="xtreme-r")
    assert not {"retrieval", "all_task"} & found.keys()


def test_unknown_benchmarks_are_errors():
    with pytest.raises(InputError, match="Did you mean 'xtreme-r'"):
        tasks_of("xtreme_r")


# ---- the command


def arguments(tree: Path, *more):
    folders = ("--predictions", str(tree / "predictions"), "--labels", str(tree / "labels"))
    return ["score", *folders, *map(str, more)]


def test_the_command_prints_and_writes_all_scores(tmp_path, capsys):
    tree, out = tree_of(tmp_path, pawsx=PAWSX), tmp_path / "scores.json"
    assert main(arguments(tree, "--out", out)) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[:2] == [["pawsx"], ["accuracy"]]
    assert ["en", "50.00"] in lines
    assert ["mean", "92.86"] in lines
    assert ["without", "English", "100.00"] in lines
    assert ["classification", "-", "-"] in lines
    assert ["all_task", "-", "-"] in lines
    assert read(out) == scored(tree)


def test_the_command_refuses_bad_input_with_status_2(tmp_path, capsys):
    tree = tree_of(tmp_path, pawsx={**PAWSX, "fr": ("1\n0\n", "1\n")})
    assert main(arguments(tree)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("xstilts score: ")
    assert "test-fr.tsv: line 2: is missing" in captured.err


@pytest.mark.parametrize(
    ("make", "message"),
    [
        ((), "is no folder"),
        (("predictions", "labels"), "holds no task of xtreme that .* holds too"),
    ],
)
def test_a_wrong_folder_is_no_empty_result(tmp_path, capsys, make, message):
    for side in make:
        (tmp_path / side).mkdir()
    assert main(arguments(tmp_path)) == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_place_for_the_scores_is_checked_first(tmp_path, capsys):
    tree = tree_of(tmp_path, pawsx=PAWSX)
    assert main(arguments(tree, "--out", tmp_path / "no" / "scores.json")) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "is no file in an existing folder" in captured.err

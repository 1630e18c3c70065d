"""The rerun matrix: what Snakemake plans after a finished run and one change.

Each line compares the whole set of planned jobs with what must be made again: no job too few, and
no training too many.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from copies import Copy, clone, pairs

MODEL = "matrix-xlmr"
RECIPES, TARGETS, TRAINED = (
    ("none", "pairs"),
    ("pairs", "toy_qa", "toy_retrieval"),
    (
        "pairs",
        "toy_qa",
    ),
)
PATTERNS = {
    "fetch": "data/raw/{dataset}/{language}",
    "prepare": "data/prepared/{dataset}/{language}",
    "tokens": f"data/tokens/{MODEL}/{{dataset}}/{{language}}",
    # One job makes what no training reads.
    "fetch_rest": "bundles/fetch/{dataset}",
    "prepare_rest": "bundles/prepare/{dataset}",
    "tokens_rest": f"bundles/tokens/{MODEL}/{{dataset}}",
    "intermediate": f"checkpoints/{MODEL}/{{recipe}}/seed-{{seed}}/intermediate",
    "finetune": f"checkpoints/{MODEL}/{{recipe}}/seed-{{seed}}/{{target}}",
    # One job makes the artifacts of all targets; what it makes of them is `made`.
    "evaluate": f"bundles/evaluate/{MODEL}/{{recipe}}/seed-{{seed}}",
    "score": f"bundles/score/{MODEL}/{{recipe}}/seed-{{seed}}",
}
CHECK = {"check data/check"}
RESULTS = {"aggregate tables", "analyse analysis", "report report"}
TABLES = {"tables", "analysis", "report"}
DISTANCES = {f"distances distances/{MODEL}"}
TRANSFER = {f"transferability bundles/transferability/{MODEL}/seed-1"}
TRANSFERRED = {
    f"bundles/transferability/{MODEL}/seed-1",
    *(f"transferability/{MODEL}/seed-1/{recipe}" for recipe in ("none", "pairs")),
}
TESTSET = {f"testset bundles/testset/{MODEL}"}
REST = "fetch_rest prepare_rest tokens_rest"
PRETRAIN = {f"pretrain models/{MODEL}/base"}


def jobs(rules: str, **axes: Iterable[object]) -> set[str]:
    """Jobs of some rules for all combinations of some values; one value need not be a list."""
    lists = [[axis] if isinstance(axis, str | int) else list(axis) for axis in axes.values()]
    return {
        f"{rule} {PATTERNS[rule].format(**dict(zip(axes, values, strict=True)))}"
        for rule in rules.split()
        for values in product(*lists)
    }


def trained(recipe: Iterable[object], target: Iterable[object], seed: int = 1) -> set[str]:
    return jobs("finetune", recipe=recipe, target=target, seed=seed)


def columns(rules: str, recipe: Iterable[object], seed: int = 1) -> set[str]:
    """Jobs that make the artifacts of all targets."""
    return jobs(rules, recipe=recipe, seed=seed)


def artifacts(kinds: str, recipe: Iterable[str], target: Iterable[str]) -> set[str]:
    """Folders of predictions, scores and checkpoints of seed 1."""
    return {
        f"{kind}/{MODEL}/{one}/seed-1/{name}"
        for kind, one, name in product(kinds.split(), recipe, target)
    }


def indexes(rules: str, recipe: Iterable[str]) -> set[str]:
    return {job.split()[1] for job in columns(rules, recipe)}


EVALUATIONS = columns("evaluate score", RECIPES) | RESULTS
OF_QA = {
    *artifacts("checkpoints predictions scores", RECIPES, ["toy_qa"]),
    *indexes("evaluate score", RECIPES),
    *TABLES,
}
TRAININGS = jobs("intermediate", recipe="pairs", seed=1) | trained(RECIPES, TRAINED) | TRANSFER

LANGUAGE = {
    *jobs(REST, dataset=("pairs", "toy_qa", "toy_parallel")),
    *TESTSET,
    *CHECK,
    *DISTANCES,
    *EVALUATIONS,
}
NER = {
    *jobs("fetch prepare tokens", dataset="toy_ner", language="qaa"),
    *jobs(REST, dataset="toy_ner"),
    *TESTSET,
    *CHECK,
    *DISTANCES,
    *trained(RECIPES, ["toy_ner"]),
    *TRANSFER,
    *EVALUATIONS,
}


# ---- nothing


def test_nothing_changed(finished: Copy) -> None:
    assert finished.planned() == set()


def test_no_artifact_is_stale(finished: Copy) -> None:
    """The plan's own judgement, by which jobs wait for the check of the data."""
    code = (
        "from pathlib import Path; from xstilts.session import Session\n"
        f"root = Path('.'); session = Session.of_file(Path({finished.study_file.name!r}), root)\n"
        "print([out for out in session.plan.jobs if session.plan.is_stale(out, session.results)])"
    )
    assert finished.run(sys.executable, "-c", code).strip() == "[]"


def test_all_files_touched(copy: Copy) -> None:
    for path in sorted(copy.folder.rglob("*"), reverse=True):
        os.utime(path)
    assert copy.planned() == set()


def test_a_fresh_clone_elsewhere_with_the_results_carried_over(
    finished: Copy, tmp_path: Path
) -> None:
    assert clone(finished, tmp_path / "another" / "place", with_times=False).planned() == set()


def test_comments_and_docstrings_edited_in_every_module(copy: Copy) -> None:
    modules = list((copy.folder / "src").rglob("*.py"))
    for path in modules:
        source = path.read_text(encoding="utf-8")
        assert source.startswith('"""'), path
        documented = source.replace('"""', '"""Edited. ', 1)
        documented = re.sub(r'(\n +def \w+\(self\).*:\n +""")', r"\1Edited. ", documented)
        path.write_text(f"# A comment.\n{documented}\n# Another.\n", encoding="utf-8")
    for path in [copy.folder / "Snakefile", *(copy.folder / "workflow").rglob("*.smk")]:
        path.write_text(f"# A comment.\n{path.read_text()}\n# Another.\n", encoding="utf-8")
    assert copy.planned() == set()


def test_what_decides_no_byte(copy: Copy) -> None:
    with copy.study() as study:
        study["evaluation"]["batch_tokens"] = 512
        study["log_seconds"] = 1
        study["save_seconds"] = 5
        study["on_collapse"] = "report"
        study["processes"] = 2
        # Keys in another order, a number as text.
        study["training"]["default"] = dict(reversed(study["training"]["default"].items()))
        study["training"]["default"]["learning_rate"] = "5e-4"
    assert copy.planned() == set()


def test_a_training_knows_the_time_limit_of_its_rule(copy: Copy) -> None:
    """As a cluster's profile sets it; a limit runs nothing again."""
    limit = ("--set-resources", "finetune:runtime=7")
    assert copy.planned(*limit) == set()
    seen = copy.snakemake("-n", "-p", *limit, "--forcerun", "finetune", "intermediate")
    calls = [line for line in seen.splitlines() if "xstilts stage" in line]
    assert len([line for line in calls if "stage finetune" in line and "--minutes 7 " in line]) == 4
    assert len([line for line in calls if "stage intermediate" in line]) == 1
    assert all("--minutes 0 " in line for line in calls if "stage intermediate" in line)


# ---- code


def test_metric_edited(copy: Copy) -> None:
    copy.edit("evaluation/metrics/accuracy.py")
    assert copy.planned() == columns("score", RECIPES) | RESULTS
    assert copy.made() == artifacts("scores", RECIPES, TARGETS) | indexes("score", RECIPES) | {
        *TABLES
    }
    assert copy.planned() == set()


def test_training_loop_edited(copy: Copy) -> None:
    copy.edit("training/loop.py")
    assert copy.planned() == PRETRAIN | TRAININGS | EVALUATIONS


def test_encoder_of_a_format_edited(copy: Copy) -> None:
    copy.edit("formats/question_answering/encode.py")
    assert copy.planned() == {
        *jobs("tokens", dataset="toy_qa", language="qaa"),
        *jobs("tokens_rest", dataset="toy_qa"),
        *TESTSET,
        *CHECK,
        *trained(RECIPES, ["toy_qa"]),
        *TRANSFER,
        *EVALUATIONS,
    }


def test_head_of_a_format_edited(copy: Copy) -> None:
    copy.edit("formats/question_answering/head.py")
    assert copy.planned() == trained(RECIPES, ["toy_qa"]) | TRANSFER | EVALUATIONS
    assert copy.made() == OF_QA | TRANSFERRED
    assert copy.planned() == set()


def test_tables_edited(copy: Copy) -> None:
    copy.edit("analysis/tables.py")
    assert copy.planned() == RESULTS


# ---- the study grows


def test_language_added(copy: Copy) -> None:
    """It is evaluated and nothing is trained; really run, it alone is predicted."""
    with copy.study() as study:
        study["languages"].append("qac")
    assert copy.planned() == LANGUAGE
    folder = copy.results / f"predictions/{MODEL}/pairs/seed-1/pairs"
    before = {path.name: path.read_bytes() for path in folder.glob("*.jsonl")}
    assert sorted(before) == ["qaa.jsonl", "qab.jsonl"]
    others = _data(copy)
    weights = {path: path.stat().st_mtime_ns for path in copy.results.rglob("model.safetensors")}
    (target,) = indexes("evaluate", ["pairs"])
    copy.snakemake(f"{target}/manifest.json", "--cores", "2", "--quiet", "all")
    assert {name: time for name, time in _data(copy).items() if name in others} == others
    assert set(_data(copy)) - set(others) == {
        f"{kind}/{name}/qac"
        for kind in ("raw", "prepared", f"tokens/{MODEL}")
        for name in ("pairs", "toy_qa", "toy_parallel")
    }
    assert json.loads((folder / "provenance.json").read_text())["predicted"] == 1
    after = {path.name: path.read_bytes() for path in folder.glob("*.jsonl")}
    assert sorted(after) == ["qaa.jsonl", "qab.jsonl", "qac.jsonl"]
    assert {name: after[name] for name in before} == before
    assert len(after["qac.jsonl"].splitlines()) == 4
    assert {path: path.stat().st_mtime_ns for path in weights} == weights


def _data(copy: Copy) -> dict[str, int]:
    """When each artifact of data of one language was made."""
    data = copy.results / "data"
    kinds = ("raw", "prepared", "tokens")
    paths = [path for kind in kinds for path in (data / kind).rglob("manifest.json")]
    return {path.parent.relative_to(data).as_posix(): path.stat().st_mtime_ns for path in paths}


def test_seed_added(copy: Copy) -> None:
    with copy.study() as study:
        study["seeds"] = [1, 2]
    assert copy.planned() == {
        *jobs("intermediate", recipe="pairs", seed=2),
        *trained(RECIPES, TRAINED, seed=2),
        *columns("evaluate score", RECIPES, seed=2),
        f"transferability bundles/transferability/{MODEL}/seed-2",
        *RESULTS,
    }


def test_recipe_added(copy: Copy) -> None:
    with copy.study() as study:
        study["recipes"].append("toy_qa")
    assert copy.planned() == {
        *jobs("intermediate", recipe="toy_qa", seed=1),
        *trained(["toy_qa"], TRAINED),
        *columns("evaluate score", ["toy_qa"]),
        *TRANSFER,
        *RESULTS,
    }


def test_target_added(copy: Copy) -> None:
    with copy.study() as study:
        study["targets"].append("toy_ner")
    assert copy.planned() == NER


def test_study_made_smaller(copy: Copy) -> None:
    """Only what tells of the study as a whole is made again."""
    with copy.study() as study:
        study["recipes"], study["targets"] = ["none"], ["pairs", "toy_qa"]
    assert copy.planned() == {
        *(*TESTSET, *CHECK, *DISTANCES, *RESULTS),
        *columns("evaluate score", ["none"]),
    }
    assert copy.made() == {
        *(f"bundles/testset/{MODEL}", "data/check", f"distances/{MODEL}", *TABLES),
        *indexes("evaluate score", ["none"]),
    }
    assert copy.planned() == set()


#: Rows of a study whose tests have training data in two languages.
BOTH: dict[str, Any] = {
    "datasets": {
        "both": {
            "title": "Both",
            "format": "sequence_classification",
            "source": {"toyworld": "paraphrase"},
            "languages": ["qaa", "qab"],
            "splits": {"train": "train", "dev": "dev", "test": "test"},
            "fields": {"text_a": "text_a", "text_b": "text_b", "label": "label"},
            "labels": ["different", "same"],
            "label_values": {"0": "different", "1": "same"},
            "licence": "CC0-1.0",
        }
    },
    "tasks": {"both": {"title": "Both", "datasets": ["both"], "language": "qab"}},
    "targets": {
        "both": {
            "title": "Both",
            "train": ["pairs"],
            "dataset": "both",
            "metric": "accuracy",
            "group": "classification",
            "benchmark": ["toy"],
        }
    },
}


@pytest.mark.parametrize("edited", [False, True])
def test_data_that_only_tests_read_become_a_trainings(copy: Copy, edited: bool) -> None:
    """What a bundle has made stays; Snakemake does not know how, and is told what is stale."""
    rows = copy.folder / "both.yaml"
    rows.write_text(yaml.safe_dump(BOTH))
    with copy.study() as study:
        study["registry"].append("both.yaml")
        study["targets"].append("both")
        study["toyworld"]["sizes"]["paraphrase"] = {"train": 16, "dev": 4, "test": 4}
    assert jobs(REST, dataset="both") <= copy.planned()
    assert f"data/tokens/{MODEL}/both/qab" in copy.made()
    before = _data(copy)
    with copy.study() as study:
        study["recipes"].append("both")
    if edited:
        copy.edit("formats/sequence_classification/encode.py")
    planned = copy.planned()
    assert jobs("intermediate", recipe="both", seed=1) <= planned
    tokens = jobs("tokens", dataset=("both",), language="qab")
    assert planned & jobs("fetch prepare tokens", dataset="both", language="qab") == (
        tokens if edited else set()
    )
    if not edited:
        assert not planned & (TRAININGS - TRANSFER)
        copy.made()
        assert _data(copy) == before
    assert edited or copy.planned() == set()


# ---- two changes at once


def test_language_added_and_training_loop_edited(copy: Copy) -> None:
    """The check of the data runs for the language; what stands behind it is not forgotten."""
    with copy.study() as study:
        study["languages"].append("qac")
    copy.edit("training/loop.py")
    assert copy.planned() == LANGUAGE | PRETRAIN | TRAININGS


def test_target_added_and_files_lost(copy: Copy) -> None:
    with copy.study() as study:
        study["targets"].append("toy_ner")
    (copy.results / f"checkpoints/{MODEL}/none/seed-1/toy_qa/model.safetensors").unlink()
    (copy.results / f"predictions/{MODEL}/none/seed-1/pairs/qab.jsonl").unlink()
    assert copy.planned() == {
        *NER,
        *trained(["none"], ["toy_qa"]),
    }


def test_target_added_and_metric_edited(copy: Copy) -> None:
    with copy.study() as study:
        study["targets"].append("toy_ner")
    copy.edit("evaluation/metrics/accuracy.py")
    assert copy.planned() == NER
    assert artifacts("scores", RECIPES, [*TARGETS, "toy_ner"]) <= copy.made()
    assert copy.planned() == set()


# ---- hyper-parameters


def test_two_hyper_parameters_exchanged(copy: Copy) -> None:
    """The values are the same as a set, which is all that Snakemake compares."""
    with copy.study() as study:
        own = study["training"]["tasks"]["toy_qa"]
        own["batch_size"], own["evaluate_every"] = own["evaluate_every"], own["batch_size"]
    assert copy.planned() == trained(RECIPES, ["toy_qa"]) | EVALUATIONS


def test_hyper_parameter_of_pretraining(copy: Copy) -> None:
    with copy.study() as study:
        study["pretraining"]["mask"] = 0.2
    assert copy.planned() == PRETRAIN | TRAININGS | EVALUATIONS


# ---- files lost


def test_predictions_lost(copy: Copy) -> None:
    """They are put back as they were, and nothing follows."""
    folder = copy.results / f"predictions/{MODEL}/none/seed-1/toy_qa"
    lost = {
        folder / f"{code}.jsonl": (folder / f"{code}.jsonl").read_bytes() for code in ("qaa", "qab")
    }
    (folder / "qab.jsonl").unlink()
    assert copy.planned() == columns("evaluate", ["none"])
    (folder / "qaa.jsonl").unlink()
    assert copy.made() == {
        *artifacts("predictions", ["none"], ["toy_qa"]),
        *indexes("evaluate", ["none"]),
    }
    assert {path: path.read_bytes() for path in lost} == lost
    assert json.loads((folder / "provenance.json").read_text())["predicted"] == 0
    assert copy.planned() == set()


def test_a_whole_artifact_of_a_bundle_lost(copy: Copy) -> None:
    shutil.rmtree(copy.results / f"predictions/{MODEL}/none/seed-1/pairs")
    shutil.rmtree(copy.results / f"scores/{MODEL}/pairs/seed-1/toy_qa")
    assert copy.planned() == columns("evaluate", ["none"]) | columns("score", ["pairs"])
    assert copy.made() == {
        *artifacts("predictions", ["none"], ["pairs"]),
        *artifacts("scores", ["pairs"], ["toy_qa"]),
        *indexes("evaluate", ["none"]),
        *indexes("score", ["pairs"]),
    }
    assert copy.planned() == set()


def test_predictions_lost_that_a_score_needs(copy: Copy) -> None:
    """Scores wait for predictions that are put back."""
    shutil.rmtree(copy.results / f"predictions/{MODEL}/none/seed-1/pairs")
    copy.edit("evaluation/metrics/accuracy.py")
    assert copy.planned() == {
        *columns("evaluate", ["none"]),
        *columns("score", RECIPES),
        *RESULTS,
    }
    assert copy.made() == {
        *artifacts("predictions", ["none"], ["pairs"]),
        *artifacts("scores", RECIPES, TARGETS),
        *indexes("evaluate", ["none"]),
        *indexes("score", RECIPES),
        *TABLES,
    }
    assert copy.planned() == set()


@pytest.mark.parametrize("target", TARGETS)
def test_an_artifact_of_a_bundle_made_by_hand(copy: Copy, target: str) -> None:
    """In a process of its own it gets the same bytes as behind others, and nothing follows."""
    shutil.rmtree(copy.results / "state/predictions")
    for stage, kind in (("evaluate", "predictions"), ("score", "scores")):
        name = f"{kind}/{MODEL}/pairs/seed-1/{target}"
        manifest = copy.results / name / "manifest.json"
        before = manifest.read_bytes()
        spec = json.dumps(json.loads(before)["spec"])
        shutil.rmtree(manifest.parent)
        command = ("xstilts", "stage", stage, "--out", name, "--spec", spec)
        copy.run("env", "-C", str(copy.results), *command)
        assert manifest.read_bytes() == before
    assert copy.planned() == set()


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (
            f"checkpoints/{MODEL}/none/seed-1/toy_qa",
            trained(["none"], ["toy_qa"]) | columns("evaluate score", ["none"]) | RESULTS,
        ),
        (
            f"checkpoints/{MODEL}/pairs/seed-1/intermediate",
            {
                *jobs("intermediate", recipe="pairs", seed=1),
                *trained(["pairs"], TRAINED),
                *columns("evaluate score", ["pairs"]),
                *TRANSFER,
                *RESULTS,
            },
        ),
    ],
    ids=["finetuned", "intermediate"],
)
def test_weights_lost(copy: Copy, weights: str, expected: set[str]) -> None:
    (copy.results / weights / "model.safetensors").unlink()
    assert copy.planned() == expected


# ---- data


def test_mirror_locked_again_with_the_same_files(copy: Copy) -> None:
    """Another description, another commit, but no other byte of data."""
    folder = copy.folder / "mirror/owner/pairs"
    with (folder / "README.md").open("a", encoding="utf-8") as file:
        file.write("Now with a licence.\n")
    note = folder / ".cache/huggingface/download/README.md.metadata"
    note.parent.mkdir(parents=True)
    note.write_text(f"{'ab' * 20}\n")
    before = (copy.folder / "matrix.lock.json").read_bytes()
    said = copy.lock("--refresh")
    assert f"pairs/qab: kept: revision None -> {'ab' * 20} has the same files" in said
    assert (copy.folder / "matrix.lock.json").read_bytes() == before
    assert copy.planned() == set()


def _change_row(copy: Copy, language: str, split: str) -> None:
    table = pairs(language, split)
    texts = table["text_a"].to_pylist()
    texts[0] += " bo"
    file = copy.folder / "mirror/owner/pairs" / language / f"{split}.parquet"
    pq.write_table(table.set_column(0, "text_a", pa.array(texts)), file)


def _of_pairs(jobs_of_language: set[str]) -> set[str]:
    return jobs_of_language | TESTSET | CHECK | DISTANCES | RESULTS


@pytest.mark.parametrize(
    ("language", "split", "expected"),
    [
        ("qab", "test", _of_pairs(jobs(REST, dataset="pairs")) | EVALUATIONS),
        (
            "qaa",
            "train",
            {
                *_of_pairs(jobs("fetch prepare tokens", dataset="pairs", language="qaa")),
                *jobs("intermediate", recipe="pairs", seed=1),
                *trained(["none"], ["pairs"]),
                *trained(["pairs"], TRAINED),
                *TRANSFER,
                *EVALUATIONS,
            },
        ),
    ],
    ids=["test", "train"],
)
def test_row_changed_in_the_mirror(
    copy: Copy, language: str, split: str, expected: set[str]
) -> None:
    _change_row(copy, language, split)
    # The lock still names the old bytes, which are here.
    assert copy.planned() == set()
    said = copy.lock("--refresh")
    assert f"pairs/{language}: changed: {language}/{split}.parquet has other bytes" in said
    assert copy.planned() == expected

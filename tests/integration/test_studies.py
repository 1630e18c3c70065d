"""Whole studies, as a user runs them. Minutes each: marked slow."""

import csv
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

# NLI: three labels. QA: three sentences, one of which has the answer. Tagging: what one label for
# every word would give is far below.
CHANCE = {"toy_nli": 100 / 3, "toy_pos": 30.0, "toy_ner": 30.0, "toy_qa": 100 / 3}


def snakemake(repository: Path, *arguments: str) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["snakemake", "--cores", "2", "--scheduler", "greedy", "--rerun-incomplete", *arguments],
        cwd=repository,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def toy(repository: Path) -> Path:
    snakemake(repository, "--quiet", "all")
    return repository / "results" / "toy" / "tables"


def test_a_finished_toy_study_has_nothing_to_do(repository: Path, toy: Path) -> None:
    assert "Nothing to be done" in snakemake(repository, "-n")


def test_the_toy_model_learns_its_tasks_in_the_source_language(toy: Path) -> None:
    for target, chance in CHANCE.items():
        table = rows(toy / "by_language" / f"{target}.csv")
        source = [float(row["lower"]) for row in table if row["language"] == "qaa"]
        assert len(source) == 4
        assert min(source) > chance, f"{target}: lower bounds {source}"


def test_the_nearest_language_beats_the_farthest_in_every_target(toy: Path) -> None:
    for path in sorted((toy / "by_language").glob("*.csv")):
        scores = defaultdict(list)
        for row in rows(path):
            scores[row["language"]].append(float(row["mean"]))
        mean = {language: sum(values) / len(values) for language, values in scores.items()}
        assert mean["qab"] > mean["qaf"], f"{path.stem}: {mean}"


def test_dev_pairs_choose_the_hidden_state_and_it_is_used(repository: Path) -> None:
    snakemake(repository, "--configfile", "tests/integration/retrieval.yaml", "--quiet", "all")
    results = repository / "results" / "retrieval"
    layers = rows(results / "tables" / "layers.csv")
    dev = defaultdict(list)
    for row in layers:
        if row["split"] == "dev":
            dev[int(row["layer"]), row["chosen"]].append(float(row["value"]))
    means = {layer: sum(values) / len(values) for (layer, _), values in dev.items()}
    (chosen,) = (layer for layer, flag in dev if flag == "True")
    assert len(means) == 4  # the embeddings and three blocks
    assert chosen == max(sorted(means), key=lambda layer: means[layer])
    scores = {
        (row["target"], row["language"]): float(row["value"])
        for row in rows(results / "tables" / "scores.csv")
        if row["metric"] in ("accuracy", "f1")
    }
    for row in layers:
        if row["split"] == "test" and int(row["layer"]) == chosen:
            assert float(row["value"]) == scores["toy_retrieval", row["language"]]
    # Languages close to each other with many names and anchors in common: no vector is random.
    assert min(scores.values()) > 50


@pytest.fixture(scope="module")
def slices(repository: Path, shared: Path) -> Path:
    study = repository / "studies" / "slices.yaml"
    snakemake(repository, "--configfile", str(study), "--quiet", "all")
    return study


def test_a_submission_scores_as_the_run_did(repository: Path, slices: Path, tmp_path: Path) -> None:
    """The tree of XTREME-R's targets, written and scored by the commands."""
    xstilts = str(Path(sys.executable).parent / "xstilts")
    out = tmp_path / "submission"
    options = ["--benchmark", "xtreme-r", "--partial", "--recipe", "mnli", "--recipe", "xnli=none"]
    submit = [xstilts, "submit", str(slices), "--out", str(out), *options]
    subprocess.run(submit, cwd=repository, check=True)
    trees = ["--predictions", str(out / "predictions"), "--labels", str(out / "labels")]
    score = [xstilts, "score", *trees, *options[:3], "--out", str(tmp_path / "scores.json")]
    subprocess.run(score, cwd=repository, check=True)
    scores = json.loads((tmp_path / "scores.json").read_text())
    table = rows(repository / "results" / "slices" / "tables" / "overview.csv")
    run = {
        (row["recipe"], row["target"]): row["mean"] for row in table if row["languages"] == "all"
    }
    folders = {"panx_r": "panx", "lareqa_dual": "lareqa"}
    written = json.loads((out / "submission.json").read_text())["chosen"]
    assert len(written) == 8
    for cell in written:
        assert cell["recipe"] == ("none" if cell["target"] == "xnli" else "mnli")
        found = scores[folders.get(cell["target"], cell["target"])]["avg_metric"]
        assert found == pytest.approx(float(run[cell["recipe"], cell["target"]]), abs=1e-9)


def test_every_slice_of_the_real_data_is_trained_on_and_scored(
    repository: Path, slices: Path
) -> None:
    from xstilts.session import Session

    plan = Session.of_file(slices, repository).plan
    wanted = {
        (job.out.split("/")[2], job.spec["target"], language)
        for job in plan.of("score")
        for language in job.spec["languages"]
    }
    table = rows(repository / "results" / "slices" / "tables" / "scores.csv")
    assert {(row["recipe"], row["target"], row["language"]) for row in table} == wanted
    assert len({row["recipe"] for row in table}) == 10
    assert len({row["target"] for row in table}) == 11
    assert all(0 <= float(row["value"]) <= 100 for row in table)

"""Whole studies, as a user runs them. Minutes each: marked slow."""

import csv
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from xstilts.session import Session

Snakemake = Callable[..., str]

pytestmark = pytest.mark.slow

# NLI: three labels. QA: three sentences, one of which has the answer. Tagging: what one label for
# every word would give is far below.
CHANCE = {"toy_nli": 100 / 3, "toy_pos": 30.0, "toy_ner": 30.0, "toy_qa": 100 / 3}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_finished_toy_study_has_nothing_to_do(
    repository: Path, toy: Path, snakemake: Snakemake
) -> None:
    assert "Nothing to be done" in snakemake("-n")


def test_the_toy_model_learns_its_tasks_in_the_source_language(toy: Path) -> None:
    for target, chance in CHANCE.items():
        table = rows(toy / "tables" / "by_language" / f"{target}.csv")
        source = [float(row["lower"]) for row in table if row["language"] == "qaa"]
        assert len(source) == 4
        assert min(source) > chance, f"{target}: lower bounds {source}"


def test_the_nearest_language_beats_the_farthest_in_every_target(toy: Path) -> None:
    for path in sorted((toy / "tables" / "by_language").glob("*.csv")):
        scores = defaultdict(list)
        for row in rows(path):
            scores[row["language"]].append(float(row["mean"]))
        mean = {language: sum(values) / len(values) for language, values in scores.items()}
        assert mean["qab"] > mean["qaf"], f"{path.stem}: {mean}"


def test_dev_pairs_choose_the_hidden_state_and_it_is_used(
    repository: Path, snakemake: Snakemake
) -> None:
    snakemake("--configfile", "tests/integration/retrieval.yaml", "--quiet", "rules", "progress")
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


@dataclass(frozen=True)
class Part:
    """A part of `studies/slices.yaml`: the whole grid of it takes too long for a test.

    Attributes:
        session: The study.
        scores: What `tables/scores.csv` held when it was finished.
        overview: The same of `tables/overview.csv`.
    """

    session: Session
    scores: list[dict[str, str]]
    overview: list[dict[str, str]]


@pytest.fixture(scope="module")
def parts(
    repository: Path, shared: Path, snakemake: Snakemake, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Part]:
    """All targets with one recipe; then, in the same results folder, all recipes on one target."""
    folder, found = tmp_path_factory.mktemp("slices"), {}
    whole = yaml.safe_load((repository / "studies" / "slices.yaml").read_text("utf-8"))
    whole |= {"study": "slices_parts", "lock": str(folder / "lock.json"), "transferability": None}
    # Few steps: it is shown here that data go the whole way, not that anything is learnt.
    whole["training"]["default"] |= {"max_steps": 8, "evaluate_every": 8}
    whole["pretraining"]["training"]["max_steps"] = 30
    whole["pretraining"]["languages"] = ["en", "de", "ja", "ru", "sw"]
    default = {"default": whole["training"]["default"]}
    contents = {
        "targets": whole | {"recipes": ["none"]},
        "recipes": whole | {"targets": {"pawsx": None}, "training": default},
    }
    for name, content in contents.items():
        study = folder / f"{name}.yaml"
        study.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        snakemake("--configfile", str(study), "--quiet", "rules", "progress")
        session = Session.of_file(study, repository)
        tables = session.results / "tables"
        found[name] = Part(session, rows(tables / "scores.csv"), rows(tables / "overview.csv"))
    return found


def test_a_submission_scores_as_the_run_did(
    repository: Path, parts: dict[str, Part], tmp_path: Path
) -> None:
    """The tree of XTREME-R's targets, written and scored by the commands."""
    xstilts = str(Path(sys.executable).parent / "xstilts")
    out = tmp_path / "submission"
    options = ["--benchmark", "xtreme-r", "--partial"]
    submit = [xstilts, "submit", parts["targets"].session.where, "--out", str(out), *options]
    subprocess.run(submit, cwd=repository, check=True)
    trees = ["--predictions", str(out / "predictions"), "--labels", str(out / "labels")]
    score = [xstilts, "score", *trees, *options, "--out", str(tmp_path / "scores.json")]
    subprocess.run(score, cwd=repository, check=True)
    scores = json.loads((tmp_path / "scores.json").read_text())
    run = {
        (row["recipe"], row["target"]): row["mean"]
        for row in parts["targets"].overview
        if row["languages"] == "all"
    }
    folders = {"panx_r": "panx", "lareqa_dual": "lareqa"}
    written = json.loads((out / "submission.json").read_text())["chosen"]
    assert len(written) == 8
    for cell in written:
        found = scores[folders.get(cell["target"], cell["target"])]["avg_metric"]
        assert found == pytest.approx(float(run[cell["recipe"], cell["target"]]), abs=1e-9)


@pytest.mark.parametrize(("part", "recipes", "targets"), [("targets", 1, 11), ("recipes", 10, 1)])
def test_every_slice_of_the_real_data_is_trained_on_and_scored(
    parts: dict[str, Part], part: str, recipes: int, targets: int
) -> None:
    wanted = {
        (job.out.split("/")[2], job.spec["target"], language)
        for job in parts[part].session.plan.of("score")
        for language in job.spec["languages"]
    }
    table = parts[part].scores
    assert {(row["recipe"], row["target"], row["language"]) for row in table} == wanted
    assert len({row["recipe"] for row in table}) == recipes
    assert len({row["target"] for row in table}) == targets
    assert all(0 <= float(row["value"]) <= 100 for row in table)

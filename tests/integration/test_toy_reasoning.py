"""The decoder of the reasoning study in the toy world, run by Snakemake with one seed."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
#: Steps of pretraining that a decoder needs for these tasks; the encoder needs more. One thread:
#: another test pretrains at the same time.
SHORT = "pretraining={training: {max_steps: 800, threads: 1}}"
STUDY = ("--configfile", "studies/toy_reasoning.yaml", "--config")
STUDY += ("study=toy_decoder", "models=[toy-llama]", "seeds=[1]", SHORT)


@pytest.fixture(scope="module")
def results(repository: Path, snakemake: Callable[..., str]) -> Path:
    snakemake(*STUDY, "--quiet", "rules", "progress")
    return repository / "results" / "toy_decoder"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def scores(results: Path, target: str, metric: str) -> dict[tuple[str, str], float]:
    """Scores of the decoder by recipe and language."""
    return {
        (row["recipe"], row["language"]): float(row["value"])
        for row in rows(results / "tables" / "scores.csv")
        if (row["target"], row["metric"]) == (target, metric)
    }


def test_the_decoder_learns_to_choose(results: Path) -> None:
    """Four choices: chance is 25, and a decoder that never saw the task is near it."""
    found = scores(results, "toy_choice", "accuracy")
    assert found["none", "qaa"] < 45
    assert found["toy_choice", "qaa"] > 60
    assert found["toy_choice", "qab"] > found["toy_choice", "qaf"]


def test_the_decoder_learns_to_write(results: Path) -> None:
    """As it is, it ends a text where the question ends; a few steps later it names somebody."""
    written = {}
    for recipe in ("none", "toy_qa"):
        path = results / f"predictions/toy-llama/{recipe}/seed-1/toy_qa/qaa.jsonl"
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        written[recipe] = sum(bool(line["prediction"]) for line in lines) / len(lines)
    assert written["none"] < 0.1
    assert written["toy_qa"] > 0.9
    found = scores(results, "toy_qa", "f1")
    assert found["toy_qa", "qaa"] > found["none", "qaa"]


def test_every_normalisation_is_in_the_tables(results: Path) -> None:
    table = rows(results / "tables" / "scores.csv")
    ways = {f"accuracy_{way}" for way in ("sum", "token", "byte", "pmi")}
    found = {row["metric"] for row in table if row["target"] == "toy_choice"}
    assert found == {"accuracy"} | ways


def test_predictions_stand_on_merged_adapters(results: Path) -> None:
    folder = "toy-llama/toy_choice/seed-1"
    predictions = json.loads(
        (results / f"predictions/{folder}/toy_choice/manifest.json").read_text()
    )
    assert predictions["spec"]["inputs"]["checkpoint"] == f"merged/{folder}/intermediate"
    adapter = json.loads((results / f"checkpoints/{folder}/intermediate/manifest.json").read_text())
    assert "adapter_model.safetensors" in adapter["files"]
    assert "model.safetensors" not in adapter["files"]


def test_the_question_is_answered(results: Path) -> None:
    folder = results / "analysis" / "reasoning"
    assert {row["kind"] for row in rows(folder / "gains.csv")} == {"decoder"}
    assert {row["recipe"] for row in rows(folder / "normalisations.csv")} > {"none", "toy_choice"}


def test_the_report_shows_the_prompts(results: Path) -> None:
    page = (results / "report/prompts.html").read_text(encoding="utf-8")
    assert "Toy choice" in page
    assert "{{ prompt }}" in page


def test_there_is_nothing_left_to_do(results: Path, snakemake: Callable[..., str]) -> None:
    assert "Nothing to be done" in snakemake(*STUDY, "-n")

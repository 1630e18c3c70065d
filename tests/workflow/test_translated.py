"""A recipe on translated data, from a tiny translator in a mirror to the tables."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import yaml
from copies import PAIRS, copy_repository, pairs, write_mirror

from marian import write_marian

TRANSLATOR = {
    "title": "Tiny",
    "hub": "owner/tiny-mt",
    "source": "qaa",
    "target": "qab",
    "licence": "CC0-1.0",
}
TRANSLATED, CELL = "data/translated/pairs/tiny-qaa-qab", "matrix-xlmr/{}/seed-1"


def jobs(recipe: str) -> set[str]:
    """Jobs of a recipe's own."""
    cell = CELL.format(recipe)
    return {
        f"intermediate checkpoints/{cell}/intermediate",
        f"finetune checkpoints/{cell}/pairs",
        f"evaluate bundles/evaluate/{cell}",
        f"score bundles/score/{cell}",
        "transferability bundles/transferability/matrix-xlmr/seed-1",
        *("aggregate tables", "analyse analysis", "report report"),
    }


def test_a_recipe_is_trained_on_translations(repository: Path, tmp_path: Path) -> None:
    study = yaml.safe_load((repository / "tests/workflow/matrix.yaml").read_text())
    (tmp_path / "rows.yaml").write_text(json.dumps({"translators": {"tiny-qaa-qab": TRANSLATOR}}))
    study |= {
        "recipes": {"pairs_qab": {"tasks": "pairs", "translate": "tiny-qaa-qab"}},
        "targets": ["pairs"],
        "languages": ["qaa"],
        "translation": {"num_beams": 2, "max_new_tokens": 24},
    }
    study["registry"].append("rows.yaml")
    del study["training"]["tasks"]
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    copy = copy_repository(repository, tmp_path / "copy", tmp_path / "study.yaml")
    (tmp_path / "rows.yaml").rename(copy.folder / "rows.yaml")
    write_mirror(copy.folder / "mirror")
    write_marian(copy.folder / "mirror" / "owner" / "tiny-mt")

    said = copy.snakemake("--cores", "2", "--quiet", "rules", "all")
    assert f"translate    {TRANSLATED}" in said
    out = copy.results / TRANSLATED
    report = json.loads((out / "report.json").read_text())["splits"]
    assert {split: report[split]["rows"] for split in report} == {
        "train": PAIRS["train"],
        "dev": PAIRS["validation"],
    }
    made, source = pq.read_table(out / "train.parquet"), pairs("qaa", "train")
    assert made["label"].to_pylist() == source["label"].to_pylist()
    same = zip(made["text_a"].to_pylist(), source["text_a"].to_pylist(), strict=True)
    assert all(new != old for new, old in same)
    table = (copy.results / "data/check/datasets.csv").read_text()
    assert f"pairs,tiny-qaa-qab,train,,{PAIRS['train']},{PAIRS['train']},," in table
    trained = json.loads(
        (
            copy.results / "checkpoints" / CELL.format("pairs_qab") / "intermediate/manifest.json"
        ).read_text()
    )
    assert "data/tokens/matrix-xlmr/pairs/tiny-qaa-qab" in trained["inputs"]
    assert copy.planned() == set()

    # Another recipe with the same translation translates nothing again.
    with copy.study() as study:
        study["recipes"]["pairs_both"] = {"tasks": "pairs", "translate": ["qaa", "tiny-qaa-qab"]}
    assert copy.planned() == jobs("pairs_both")

    with copy.study() as study:
        del study["recipes"]["pairs_both"]
        study["translation"]["num_beams"] = 1
    assert copy.planned() == {
        f"translate {TRANSLATED}",
        "tokens data/tokens/matrix-xlmr/pairs/tiny-qaa-qab",
        "check data/check",
        *jobs("pairs_qab"),
    }

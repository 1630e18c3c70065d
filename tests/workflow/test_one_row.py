"""A data set, a language, a task and a target of known formats are a row each, and no code."""

import csv

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from copies import Copy

from xstilts.toyworld.generate import KINDS, generate

LABELS = list(KINDS["ner"].labels)
ROWS = {
    "languages": {
        "qzz": {"name": "New", "script": "Latn", "family": "Synthetic", "lang2vec": None}
    },
    "datasets": {
        "names": {
            "title": "Names",
            "format": "token_classification",
            "source": {"hub": "owner/names", "config": "in-{code}"},
            "languages": {"qaa": "qaa", "qzz": "new"},
            "splits": {"train": "train", "dev": "validation", "test": "test"},
            "only": {"train": ["qaa"], "dev": ["qaa"]},
            "fields": {"tokens": "words", "tags": "names"},
            "labels": LABELS,
            "licence": "CC0-1.0",
        }
    },
    "tasks": {"names": {"title": "Names", "datasets": ["names"], "language": "qaa"}},
    "targets": {
        "names": {
            "title": "Names",
            "train": ["names"],
            "dataset": "names",
            "metric": "seqeval_f1",
            "group": "tagging",
            "benchmark": ["own"],
        }
    },
}
SPLITS = {"qaa": {"train": 12, "validation": 4, "test": 4}, "new": {"test": 5}}


def _write_mirror(copy: Copy) -> None:
    folder = copy.folder / "mirror" / "owner" / "names"
    configs = []
    for code, sizes in SPLITS.items():
        files = [{"split": split, "path": f"{code}/{split}.parquet"} for split in sizes]
        configs.append({"config_name": f"in-{code}", "data_files": files})
        for split, size in sizes.items():
            # The new language of this test is one that the toy world speaks under another code.
            rows = generate("ner", "qaa" if code == "qaa" else "qac", split, size, seed=1)
            tags = [[LABELS[tag] for tag in row["tags"]] for row in rows]
            table = pa.table({"words": [row["tokens"] for row in rows], "names": tags})
            (folder / code).mkdir(parents=True, exist_ok=True)
            pq.write_table(table, folder / code / f"{split}.parquet")
    card = yaml.safe_dump({"configs": configs})
    (folder / "README.md").write_text(f"---\n{card}---\n", encoding="utf-8")


def test_a_target_and_a_language_are_added_by_rows_and_scored(copy: Copy) -> None:
    _write_mirror(copy)
    (copy.folder / "own.yaml").write_text(yaml.safe_dump(ROWS, sort_keys=False))
    with copy.study() as study:
        study["registry"].append("own.yaml")
        study["targets"].append("names")
        study["languages"].append("qzz")
    weights = {path: path.stat().st_mtime_ns for path in copy.results.rglob("model.safetensors")}
    copy.snakemake("--cores", "2", "--quiet", "all")
    with (copy.results / "tables" / "scores.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["target"] == "names"]
    assert {(row["recipe"], row["language"], row["n"]) for row in rows} == {
        *(("none", "qaa", "4"), ("none", "qzz", "5")),
        *(("pairs", "qaa", "4"), ("pairs", "qzz", "5")),
    }
    assert all(0 <= float(row["value"]) <= 100 for row in rows)
    new = set(copy.results.rglob("model.safetensors")) - set(weights)
    assert {path.parent.name for path in new} == {"names"}
    assert len(new) == 2
    assert {path: path.stat().st_mtime_ns for path in weights} == weights
    assert copy.planned() == set()

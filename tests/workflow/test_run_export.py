"""Exports and the signature of a study that Snakemake finished."""

import json
import shutil
from pathlib import Path
from urllib.parse import unquote

from copies import Copy
from huggingface_hub import ModelCard
from rocrate.rocrate import ROCrate

from xstilts.artifacts.manifest import sha256_file
from xstilts.artifacts.root import ROOT
from xstilts.audit.export.cards import TRAINED
from xstilts.audit.results import REFERENCES, Results


def export(copy: Copy, kind: str, out: Path, *more: str) -> Path:
    copy.run("xstilts", "audit", "export", kind, str(copy.results), "--out", str(out), *more)
    return out


def test_the_crate_of_a_finished_study_names_its_checkpoints_data_sets_and_tables(
    finished: Copy, tmp_path: Path
) -> None:
    out = export(finished, "crate", tmp_path / "crate")
    entities = ROCrate(out).data_entities
    named = {entity["name"]: entity for entity in entities}
    wanted = (*TRAINED, "fetch", "prepare", "aggregate", "analyse")
    artifacts = Results(finished.results).artifacts
    found = [item for item in artifacts.values() if item.stage in wanted and not item.is_index]
    assert {item.stage for item in found} == set(wanted)
    for item in found:
        assert item.manifest
        for name, known in item.manifest.files.items():
            assert named[f"{item.out}/{name}"]["sha256"] == known["sha256"]
    for entity in entities:
        if "sha256" in entity and not entity.id.startswith("arcp://"):
            assert sha256_file(out / unquote(entity.id)) == entity["sha256"]
    assert named["sources/matrix.lock.json"]["sha256"] == sha256_file(
        finished.folder / "matrix.lock.json"
    )


def test_cards_of_a_finished_study_hold_its_scores(finished: Copy, tmp_path: Path) -> None:
    out = export(finished, "cards", tmp_path / "cards")
    artifacts = Results(finished.results).artifacts
    trained = {name for name, item in artifacts.items() if item.stage in TRAINED}
    cards = {path.parent.relative_to(out).as_posix(): path for path in out.rglob("README.md")}
    assert cards.keys() == {name for name in trained if not artifacts[name].is_index}
    results = {name: ModelCard.load(path).data.eval_results for name, path in cards.items()}
    values = [row.metric_value for rows in results.values() for row in rows or ()]
    scored = [item.out for item in artifacts.values() if item.stage == "score"]
    texts = (finished.results / out / "scores.json" for out in scored if out.startswith("scores/"))
    rows = [row for text in texts for row in json.loads(text.read_text())["rows"]]
    assert sorted(values) == sorted(row["value"] for row in rows)


def test_an_archive_unpacks_to_the_study_without_weights_and_rows(
    finished: Copy, tmp_path: Path
) -> None:
    tar = export(finished, "archive", tmp_path / "study.tar.gz", "--data")
    shutil.unpack_archive(tar, tmp_path / "unpacked", filter="data")
    home = tmp_path / "unpacked" / "matrix"
    listed = json.loads((home / REFERENCES).read_text())
    known = Results(finished.results).artifacts
    there = Results(home).artifacts
    assert known.keys() == there.keys()
    for out, item in there.items():
        assert item.manifest
        for name, entry in item.manifest.files.items():
            path = home / out / name
            assert path.exists() != (f"{out}/{name}" in listed)
            assert not path.exists() or sha256_file(path) == entry["sha256"]
        if item.stage == "score":
            gold = [name for role in ("gold", "pool") for name in item.roles().get(role, ())]
            assert all(list((home / name).glob("test*.parquet")) for name in gold)
    assert sha256_file(home / ROOT) == sha256_file(finished.results / ROOT)

"""A study that finds its artifacts in a lab's store, and makes only what it does not find."""

import json
import os
import shutil
from pathlib import Path

import pytest
from copies import Copy

COLUMN = "matrix-xlmr/none/seed-1"


@pytest.fixture
def store(finished: Copy, tmp_path: Path) -> Path:
    """All artifacts of the finished study, for reading only."""
    folder = tmp_path / "store"
    folder.mkdir()
    finished.run("xstilts", "audit", "store", "add", str(folder), str(finished.results))
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    return folder


def everything(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """Size, mode and time of what lies in a folder."""
    found = {path: path.lstat() for path in folder.rglob("*")}
    return {path: (stat.st_size, stat.st_mode, stat.st_mtime_ns) for path, stat in found.items()}


def manifests(copy: Copy) -> dict[str, bytes]:
    found = (path for path in copy.results.rglob("manifest.json") if "state" not in path.parts)
    return {path.parent.relative_to(copy.results).as_posix(): path.read_bytes() for path in found}


def made(copy: Copy) -> set[str]:
    """Artifacts that were not taken; indexes of bundles are made in any case."""
    return {
        out
        for out in manifests(copy)
        if not out.startswith("bundles/")
        and "taken" not in json.loads((copy.results / out / "provenance.json").read_text())
    }


def begin_again(copy: Copy, store: Path) -> None:
    """The same study with a store, and without results but for the tables that a driver prints."""
    for path in copy.results.iterdir():
        if path.name != "tables":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with copy.study() as study:
        study["store"] = os.path.relpath(store, copy.folder)


@pytest.mark.slow
def test_all_is_taken_and_nothing_written_to_the_store(
    finished: Copy, copy: Copy, store: Path
) -> None:
    begin_again(copy, store)
    shutil.rmtree(copy.results / "tables")
    before = everything(store)
    copy.snakemake("--cores", "2", "--quiet", "all")
    assert everything(store) == before
    assert manifests(copy) == manifests(finished)
    assert made(copy) == set()
    assert copy.planned() == set()


@pytest.mark.slow
def test_what_is_damaged_or_other_is_made_and_the_rest_taken(
    finished: Copy, copy: Copy, store: Path
) -> None:
    begin_again(copy, store)
    damage(store, "checkpoints/matrix-xlmr/none/seed-1/pairs")
    with copy.study() as study:
        study["training"]["tasks"]["toy_qa"]["batch_size"] = 4
    target = f"bundles/score/{COLUMN}/manifest.json"
    said = copy.snakemake(target, "--cores", "2", "--quiet", "all")
    assert f"checkpoints/{COLUMN}/pairs  not taken from the store" in said
    of_qa = {f"{kind}/{COLUMN}/toy_qa" for kind in ("checkpoints", "predictions", "scores")}
    assert made(copy) - {"tables"} == {f"checkpoints/{COLUMN}/pairs", *of_qa}
    right, found = manifests(finished), manifests(copy)
    others = {out for out in found if not out.startswith("bundles/")} - of_qa
    assert {out: found[out] for out in others} == {out: right[out] for out in others}


def damage(store: Path, artifact: str) -> None:
    """Change one bit of the weights of a stored checkpoint."""
    (weights,) = (
        path.with_name("model.safetensors")
        for path in store.glob("finetune/*/*/manifest.json")
        if json.loads(path.read_text())["artifact"] == artifact
    )
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(content)


def test_a_missing_store_is_told_before_anything_runs(copy: Copy) -> None:
    begin_again(copy, copy.folder / "lab")
    said = copy.snakemake("--cores", "2", fails=True)
    assert "lab: the folder of the store does not exist" in said
    assert "XSTILTS_STORE" in said
    assert not manifests(copy).keys() - {"tables"}

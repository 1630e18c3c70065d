"""What is stale, beside what Snakemake would make: they agree, or it is said where it is wrong."""

import json
import os
import shutil
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
from copies import Copy

MODEL = "matrix-xlmr"
TUNED = f"checkpoints/{MODEL}/none/seed-1/toy_qa"
EVALUATED = [f"bundles/evaluate/{MODEL}/{recipe}/seed-1" for recipe in ("none", "pairs")]
SCORED = [f"bundles/score/{MODEL}/{recipe}/seed-1" for recipe in ("none", "pairs")]
TABLES = ["analysis", "report", "tables"]


def stale(copy: Copy, fails: bool = False) -> tuple[dict[str, Any], str]:
    """What the command finds, and what it says; the results folder stays as it is."""
    before = _listing(copy.results)
    file = copy.folder / "stale.json"
    said = copy.run("xstilts", "audit", "stale", "matrix.yaml", "--json", str(file), fails=fails)
    assert _listing(copy.results) == before
    return json.loads(file.read_text()), said


def _listing(folder: Path) -> dict[Path, tuple[int, int]]:
    found = {path: path.lstat() for path in folder.rglob("*")}
    return {path: (status.st_ino, status.st_mtime_ns) for path, status in found.items()}


def kinds(found: dict[str, Any]) -> dict[str, list[str]]:
    return {out: [one["kind"] for one in reasons] for out, reasons in found["stale"].items()}


def test_nothing_but_times_has_changed(copy: Copy) -> None:
    for path in sorted(copy.folder.rglob("*"), reverse=True):
        os.utime(path)
    found, said = stale(copy)
    assert (found["stale"], found["behind"], found["differences"]) == ({}, {}, [])
    assert "snakemake -n: agrees, 0 jobs" in said


@pytest.mark.slow
def test_a_hyper_parameter(copy: Copy) -> None:
    with copy.study() as study:
        study["training"]["tasks"]["toy_qa"]["batch_size"] = 4
    found, said = stale(copy)
    both = [TUNED, TUNED.replace("/none/", "/pairs/")]
    assert kinds(found) == {out: ["spec"] for out in both}
    (reason,) = found["stale"][TUNED]
    assert "settings.batch_size: 3 -> 4" in reason["details"]
    assert found["runs"] == sorted([*both, *EVALUATED, *SCORED, *TABLES])
    assert set(found["behind"]) == {
        f"{kind}/{MODEL}/{recipe}/seed-1/toy_qa"
        for kind in ("predictions", "scores")
        for recipe in ("none", "pairs")
    } | set(TABLES)
    assert "snakemake -n: agrees, 9 jobs" in said


def test_a_lost_file(copy: Copy) -> None:
    (copy.results / TUNED / "model.safetensors").unlink()
    found, said = stale(copy)
    assert kinds(found) == {TUNED: ["lost"]}
    assert found["runs"] == sorted([TUNED, EVALUATED[0], SCORED[0], *TABLES])
    assert "snakemake -n: agrees, 6 jobs" in said


def test_a_deleted_checkpoint_is_not_seen_by_snakemake(copy: Copy) -> None:
    """Behind results that are there, it asks for nothing that is gone."""
    shutil.rmtree(copy.results / TUNED)
    assert copy.planned() == set()
    found, said = stale(copy, fails=True)
    assert kinds(found) == {TUNED: ["missing"]}
    (difference,) = found["differences"]
    assert difference["out"] == TUNED
    assert difference["snakemake"] is None
    assert difference["followers"] == [EVALUATED[0], SCORED[0], "tables", "analysis", "report"]
    assert f"it would not make {TUNED}, which is not there" in said


@pytest.mark.slow
def test_a_mark_of_a_job_that_did_not_end(copy: Copy) -> None:
    """As a killed driver leaves it; the artifact under it is whole all the same."""
    name = urlsafe_b64encode(f"{TUNED}/manifest.json".encode()).decode()
    (copy.results / ".snakemake" / "incomplete" / name).write_text('{"external_jobid": null}')
    assert "IncompleteFilesException" in copy.snakemake("-n", fails=True)
    found, _ = stale(copy, fails=True)
    assert found["stale"] == {}
    state = "a whole artifact lies there, as planned"
    assert found["snakemake"]["marks"] == [{"out": TUNED, "state": state}]
    (difference,) = found["differences"]
    assert difference["out"] == TUNED
    assert difference["ours"] is None


@pytest.mark.slow
def test_code_of_a_metric(copy: Copy) -> None:
    copy.edit("evaluation/metrics/accuracy.py")
    found, said = stale(copy)
    assert {"code"} == {kind for one in kinds(found).values() for kind in one}
    assert found["runs"] == sorted([*SCORED, *TABLES])
    assert "snakemake -n: agrees, 5 jobs" in said


@pytest.mark.slow
def test_deleted_data_and_a_deleted_member(copy: Copy) -> None:
    """Data are put back when something reads them; predictions at once, and nothing follows."""
    shutil.rmtree(copy.results / "data/raw/toy_qa/qab")
    shutil.rmtree(copy.results / f"predictions/{MODEL}/none/seed-1/pairs")
    found, said = stale(copy)
    assert found["unneeded"] == ["data/raw/toy_qa/qab"]
    assert found["runs"] == EVALUATED[:1]
    assert "snakemake -n: agrees, 1 jobs" in said


@pytest.mark.slow
def test_a_truncated_file_is_not_seen_by_snakemake(copy: Copy) -> None:
    os.truncate(copy.results / TUNED / "model.safetensors", 100)
    found, _ = stale(copy, fails=True)
    assert kinds(found) == {TUNED: ["damaged"]}
    assert [one["out"] for one in found["differences"]] == [TUNED]


@pytest.mark.slow
def test_after_drop_metadata_snakemake_remembers_the_spec_of_before(copy: Copy) -> None:
    """It runs again what is as planned; and it leaves what is not, when the edit is undone."""
    module = copy.folder / "src/xstilts/evaluation/metrics/accuracy.py"
    before = module.read_bytes()
    copy.edit("evaluation/metrics/accuracy.py")
    copy.snakemake("--drop-metadata", "--cores", "2", "--quiet", "all")
    found, _ = stale(copy, fails=True)
    assert found["stale"] == {}
    assert [one["out"] for one in found["differences"]] == SCORED
    assert set(found["snakemake"]["other"]) == {*SCORED, *TABLES}
    module.write_bytes(before)
    assert copy.planned() == set()
    found, _ = stale(copy, fails=True)
    assert found["runs"] == sorted([*SCORED, *TABLES])
    assert [one["out"] for one in found["differences"]] == SCORED
    assert all(one["snakemake"] is None for one in found["differences"])


@pytest.mark.slow
def test_a_failed_job_with_keep_incomplete(copy: Copy) -> None:
    """It leaves files without a manifest: no artifact, whatever Snakemake takes them for."""
    module = copy.folder / "src/xstilts/analysis/tables.py"
    before = module.read_bytes()
    copy.edit("analysis/tables.py", "\nraise ZeroDivisionError\n")
    wanted = ("tables/manifest.json", "--keep-incomplete", "--cores", "1", "--quiet", "all")
    copy.snakemake(*wanted, fails=True)
    module.write_bytes(before)
    assert (copy.results / "tables/scores.csv").exists()
    found, said = stale(copy)
    assert kinds(found)["tables"] == ["missing"]
    assert "is not there, but files without a manifest" in said
    assert "snakemake -n: agrees" in said

"""The root manifest: written at the end of a run, put back by a run that has nothing to do."""

import json
import shutil

from copies import Copy

from xstilts.artifacts.root import ROOT, describe, read_root
from xstilts.audit.results import Results


def test_a_finished_study_has_a_root_manifest_over_all_it_made(finished: Copy) -> None:
    root = read_root(finished.results)
    assert root is not None
    assert root.study == "matrix"
    assert dict(root.artifacts) == describe(finished.results, Results(finished.results).artifacts)
    assert root.content["recipes"]


def test_a_run_with_nothing_to_do_puts_it_back(copy: Copy) -> None:
    path = copy.results / ROOT
    before = path.read_bytes()
    path.unlink()
    copy.snakemake("--dry-run")
    assert not path.exists()
    assert copy.made() == set()
    assert path.read_bytes() == before
    old = json.loads(before)
    old["artifacts"]["report"]["manifest"] = "0" * 64  # a run was killed just before its end
    path.write_text(json.dumps(old))
    copy.snakemake("--cores", "1")
    assert path.read_bytes() == before


def test_a_run_for_one_file_ends_well_and_leaves_the_root_manifest_alone(copy: Copy) -> None:
    (copy.results / ROOT).unlink()
    for folder in ("tables", "analysis", "report"):
        shutil.rmtree(copy.results / folder)
    weights = min(copy.results.glob("checkpoints/**/model.safetensors"))
    before = weights.read_bytes()
    weights.unlink()
    asked = weights.parent.relative_to(copy.results).as_posix()
    said = copy.snakemake(f"{asked}/manifest.json", "--cores", "2")
    assert weights.read_bytes() == before
    assert "of a driver that was killed" not in said  # its own locks
    assert copy.made(f"{asked}/manifest.json") == set()
    assert not (copy.results / ROOT).exists()
    assert not (copy.results / "tables").exists()

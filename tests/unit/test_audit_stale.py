"""What of a study is stale, from its plan and its results folder alone."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from test_prune import DROPPED, WEIGHTS, results, session

from xstilts.artifacts.manifest import MANIFEST
from xstilts.artifacts.record import PROVENANCE
from xstilts.audit.code import Sources
from xstilts.audit.stale.dry_run import _parse, remembered
from xstilts.audit.stale.judge import Judge, Verdicts, library_changes
from xstilts.errors import InputError
from xstilts.published import Published

__all__ = ["results"]


def judge(folder: Path, **other: Any) -> Verdicts:
    return Judge(session(**other).plan, folder, Sources(folder / "none")).judge()


def kinds(found: Verdicts) -> dict[str, list[str]]:
    return {out: [one.kind for one in reasons] for out, reasons in found.reasons.items()}


def test_nothing_is_stale(results: Path) -> None:
    found = judge(results)
    assert (found.reasons, found.behind, found.runs, found.unneeded) == ({}, {}, set(), [])
    assert found.planned == len(session().plan.jobs)


def test_the_index_of_a_bundle_is_as_planned_in_whatever_order_its_members_are(
    results: Path,
) -> None:
    """A job is told of its members in the order of their names, a plan has that of the study."""
    targets = {"targets": ["toy_qa", "toy_nli"]}
    bundle = next(one for one in session(**targets).plan.bundles.values() if one.stage == "score")
    told = json.loads(bundle.text)["members"]
    assert list(told) != [job.out for job in bundle.members]
    assert bundle.index["inputs"]["members"] == list(told)


def test_another_setting(results: Path) -> None:
    found = judge(results, training={"tasks": {"toy_nli": {"batch_size": 7}}})
    assert kinds(found)[WEIGHTS] == ["spec"]
    (reason,) = found.reasons[WEIGHTS]
    assert any(line.startswith("settings.batch_size: ") for line in reason.details)
    assert DROPPED not in found.reasons
    assert "scores/toy-xlmr/none/seed-1/toy_nli" in found.behind
    assert {"tables", "analysis", "report"} <= found.behind.keys()


def test_other_code(results: Path) -> None:
    path = results / WEIGHTS / MANIFEST
    content = json.loads(path.read_text())
    spec = {**content["spec"], "fingerprint": "0" * 16}
    _rewrite(path, spec)
    found = judge(results)
    assert kinds(found)[WEIGHTS] == ["code"]
    (reason,) = found.reasons[WEIGHTS]
    assert reason.text.startswith("was made by other code (")


def _rewrite(path: Path, spec: dict[str, Any]) -> None:
    from xstilts.artifacts.spec import spec_sha256

    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "spec": spec, "spec_sha256": spec_sha256(spec)}))


def test_files_that_are_lost_cut_or_replaced(results: Path) -> None:
    (results / WEIGHTS / "model.safetensors").unlink()
    os.truncate(results / DROPPED / "model.safetensors", 3)
    (results / "tables" / MANIFEST).write_text("{")
    shutil.rmtree(results / "report")
    found = judge(results)
    assert kinds(found)[WEIGHTS] == ["lost"]
    assert kinds(found)[DROPPED] == ["damaged"]
    assert found.reasons[DROPPED][0].details == ("model.safetensors: 10 bytes -> 3",)
    assert kinds(found)["tables"] == ["damaged"]
    assert kinds(found)["report"] == ["missing"]


def test_an_input_with_other_bytes(results: Path) -> None:
    path = results / WEIGHTS / MANIFEST
    path.write_text(path.read_text() + "\n")
    found = judge(results)
    assert kinds(found)["predictions/toy-xlmr/none/seed-1/toy_nli"] == ["inputs"]
    assert WEIGHTS not in found.reasons


def test_data_that_nothing_reads_are_not_needed(results: Path) -> None:
    shutil.rmtree(results / "data/raw/toy_nli/qab")
    found = judge(results)
    assert found.unneeded == ["data/raw/toy_nli/qab"]
    assert (found.reasons, found.runs) == ({}, set())
    shutil.rmtree(results / "data/prepared/toy_nli/qab")
    assert set(judge(results).unneeded) == {"data/raw/toy_nli/qab", "data/prepared/toy_nli/qab"}


def test_it_agrees_with_what_the_plan_says_of_each_artifact(results: Path) -> None:
    """`Published` decides which jobs wait for the check of all data."""
    other: dict[str, Any] = {"training": {"tasks": {"toy_nli": {"batch_size": 7}}}}
    (results / DROPPED / "model.safetensors").unlink()
    plan = session(**other).plan
    published = Published(plan, results)
    assert {out for out in plan.jobs if published.is_stale(out)} == set(
        judge(results, **other).reasons
    )


def test_libraries_of_another_version(results: Path) -> None:
    path = results / WEIGHTS / PROVENANCE
    content = json.loads(path.read_text())
    content["versions"] |= {"numpy": "1.0", "snakemake": "1.0", "xstilts": "0"}
    path.write_text(json.dumps(content))
    found = library_changes(results, session().plan.jobs.values())
    assert list(found) == ["finetune"]
    assert found["finetune"]["numpy"]["recorded"] == {"1.0": 1}
    assert list(found["finetune"]) == ["numpy"]


def test_what_snakemake_says_and_what_it_does_not_say() -> None:
    said = (
        "rule score:\n    input: a/manifest.json\n    output: b/c/manifest.json\n    log: d\n"
        "    jobid: 1\n    reason: Params have changed\n    resources: tmpdir=e\n\n"
        "rule all:\n    input: b/c/manifest.json\n    reason: f\n"
    )
    (found,) = _parse(said, 0).items()
    assert (found[0], found[1].rule, found[1].reason) == ("b/c", "score", "Params have changed")
    assert _parse("Nothing to be done (all requested files are present).", 0) == {}
    for text, status in (("", 0), ("Nothing to be done", 1), (said.replace("output:", "out:"), 0)):
        with pytest.raises(InputError, match="did not plan the study"):
            _parse(text, status)


def test_a_record_with_a_long_name(tmp_path: Path) -> None:
    """Snakemake cuts names of more than 254 bytes into folders."""
    out = "/".join(["a" * 60] * 5)
    from snakemake.persistence.file import FilePersistence

    folder = tmp_path / ".snakemake"
    store = FilePersistence.__new__(FilePersistence)
    store._max_len = 255
    place = Path(store._record_path(str(folder / "metadata"), f"{out}/manifest.json"))
    place.parent.mkdir(parents=True)
    place.write_text('{"params": ["1"]}')
    assert remembered(tmp_path, out) == {"params": ["1"]}
    assert remembered(tmp_path, "b") is None

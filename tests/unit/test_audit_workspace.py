"""A workspace makes artifacts again by the real commands, and leaves the results as they are."""

from pathlib import Path

import pytest

from xstilts.artifacts.manifest import MANIFEST, describe_files
from xstilts.artifacts.spec import Spec
from xstilts.audit.results import Results
from xstilts.audit.workspace import Workspace
from xstilts.cli import run_stage
from xstilts.errors import InputError
from xstilts.session import Session

PREPARED = "data/prepared/toy_nli/qab"


@pytest.fixture(scope="module")
def specs(repository: Path) -> dict[str, Spec]:
    plan = Session.of_file(repository / "config.yaml", repository).plan
    prepared = plan.jobs[PREPARED]
    raw = plan.jobs[prepared.spec["inputs"]["raw"]]
    return {raw.out: raw.spec, prepared.out: prepared.spec}


@pytest.fixture
def results(specs: dict[str, Spec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    (tmp_path / "results").mkdir()
    monkeypatch.chdir(tmp_path / "results")
    for out, spec in specs.items():
        run_stage(spec["stage"], spec, Path(out))
    return Results(tmp_path / "results")


def test_artifacts_are_made_again_from_links_and_nothing_else_changes(
    results: Results, specs: dict[str, Spec], tmp_path: Path
) -> None:
    before = describe_files(results.path)
    (tmp_path / "fresh").mkdir()
    workspace = Workspace(results, tmp_path / "fresh")
    for out, spec in specs.items():
        assert workspace.make(spec["stage"], {out: spec}) == {}
    for out in specs:
        made, there = workspace.place(out) / MANIFEST, results.path / out / MANIFEST
        assert made.read_bytes() == there.read_bytes()
        assert made.stat().st_ino != there.stat().st_ino
    assert describe_files(results.path) == before


def test_what_cannot_be_made_says_why(results: Results, specs: dict, tmp_path: Path) -> None:
    (results.path / PREPARED).rename(tmp_path / "away")
    bad = specs[PREPARED] | {"inputs": {"raw": "data/raw/nothing"}}
    (tmp_path / "fresh").mkdir()
    failed = Workspace(results, tmp_path / "fresh").make("prepare", {PREPARED: bad})
    assert list(failed) == [PREPARED]
    assert "data/raw/nothing" in failed[PREPARED]


@pytest.mark.parametrize("out", ["../x", "/x", ""])
def test_a_folder_that_leads_outside_is_refused(results: Results, tmp_path: Path, out: str) -> None:
    with pytest.raises(InputError, match="leads out of the results folder"):
        Workspace(results, tmp_path).make("prepare", {out: {"stage": "prepare"}})

"""Results folders as an audit reads them: what is found, what is refused, and the root manifest."""

import json
from pathlib import Path

import pytest

from xstilts.artifacts.manifest import MANIFEST, sha256_file
from xstilts.artifacts.publish import publishing
from xstilts.artifacts.record import PROVENANCE
from xstilts.artifacts.root import ROOT, Root, describe, read_root, write_root
from xstilts.audit.findings import Finding, faults
from xstilts.audit.results import Results, locate, open_results
from xstilts.errors import InputError


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "results" / "small"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    publish("data/raw/set", {"stage": "fetch"})
    publish("data/prepared/set/en", {"stage": "prepare", "inputs": {"raw": "data/raw/set"}})
    inputs = {"gold": ["data/prepared/set/en", "data/prepared/set/en"], "raw": "data/raw/set"}
    publish("scores/set", {"stage": "score", "inputs": inputs})
    return folder


def publish(out: str, spec: dict) -> None:
    with publishing(Path(out), spec) as draft:
        (draft.folder / "deep").mkdir()
        (draft.folder / "deep" / "value.txt").write_text(out)


def test_all_artifacts_are_found_by_their_place(results: Path) -> None:
    found = Results(results)
    assert list(found.artifacts) == ["data/prepared/set/en", "data/raw/set", "scores/set"]
    score = found.artifacts["scores/set"]
    assert score.stage == "score"
    assert score.sha256 == sha256_file(results / "scores/set" / MANIFEST)
    assert score.roles() == {"gold": ["data/prepared/set/en"], "raw": ["data/raw/set"]}
    assert found.provenance("scores/set")["versions"]["python"]
    assert found.provenance("scores") == {}


def test_values_of_a_record_that_are_of_another_kind_are_left_out(results: Path) -> None:
    path, found = results / "scores/set" / PROVENANCE, Results(results)
    usual = json.loads(path.read_text())
    assert found.provenance("scores/set") == usual
    path.write_text(json.dumps({key: [1, "x"] for key in usual} | {"steps": 7}))
    assert found.provenance("scores/set") == {"attempts": [], "steps": 7}
    parts = {
        "git": {"commit": 5, "dirty": None},
        "versions": {"numpy": [1], "torch": "2.0"},
        "environment": {"kind": "container", "labels": ["x"]},
        "device": {"gpu": {}, "cpus": 2},
    }
    path.write_text(json.dumps(parts))
    assert found.provenance("scores/set") == {
        "git": {"dirty": None},
        "versions": {"torch": "2.0"},
        "environment": {"kind": "container"},
        "device": {"cpus": 2},
    }
    for text in ("[]", "7", "{", "[" * 100_000):
        path.write_text(text)
        assert found.provenance("scores/set") == {}


def test_what_is_no_artifact_is_not_looked_into(results: Path, tmp_path: Path) -> None:
    for name in (".snakemake/a", "state/kept/scores/set", "logs/a", "scores/.set.host.1.tmp"):
        place = results / name
        place.mkdir(parents=True)
        (place / MANIFEST).write_bytes((results / "scores/set" / MANIFEST).read_bytes())
    (results / "elsewhere").symlink_to(tmp_path)
    assert len(Results(results).artifacts) == 3


def test_a_damaged_manifest_is_kept_with_its_reason(results: Path) -> None:
    (results / "data/raw/set" / MANIFEST).write_text("{")
    found = Results(results).artifacts["data/raw/set"]
    assert found.manifest is None
    assert found.stage == ""
    assert "is no JSON" in str(found.error)


@pytest.mark.parametrize(
    ("path", "out", "file"),
    [
        ("", "", ""),
        ("scores/set", "scores/set", ""),
        ("scores/set/deep/value.txt", "scores/set", "deep/value.txt"),
        ("data/raw/set/manifest.json", "data/raw/set", "manifest.json"),
    ],
)
def test_a_path_is_placed(results: Path, path: str, out: str, file: str) -> None:
    place = locate(results / path)
    assert (place.results.path, place.out, place.file) == (results, out, file)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("nothing", "there is no such file or folder"),
        ("empty", "is no results folder, and lies in no artifact of one"),
        ("scores/set", "is inside a results folder; expected the folder itself"),
    ],
)
def test_what_is_no_results_folder_is_refused(results: Path, path: str, problem: str) -> None:
    (results / "empty").mkdir()
    with pytest.raises(InputError, match=problem):
        open_results(results / path)


def test_a_root_manifest_holds_manifests_and_records(results: Path) -> None:
    artifacts = describe(results, ["scores/set", "data/raw/set", "scores/gone"])
    assert list(artifacts) == ["data/raw/set", "scores/set"]
    assert artifacts["scores/set"] == {
        "manifest": sha256_file(results / "scores/set" / MANIFEST),
        "provenance": sha256_file(results / "scores/set" / PROVENANCE),
    }
    root = Root("small", {"study": "small"}, {}, artifacts)
    write_root(results, root)
    assert read_root(results) == root


def test_the_same_root_manifest_is_not_written_again(results: Path) -> None:
    root = Root("small", {}, {}, {})
    write_root(results, root)
    before = (results / ROOT).stat().st_ino
    write_root(results, root)
    assert (results / ROOT).stat().st_ino == before


def test_no_root_manifest_is_none(results: Path) -> None:
    assert read_root(results) is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"version": 2}, "is of another version; expected 1; found 2"),
        ({"version": 2, "sha256": None}, "is of another version; expected 1; found 2"),
        ({"study": "other"}, "does not match its own sha256"),
    ],
)
def test_a_wrong_root_manifest_is_refused(results: Path, change: dict, problem: str) -> None:
    write_root(results, Root("small", {}, {}, {}))
    content = json.loads((results / ROOT).read_text()) | change
    (results / ROOT).write_text(json.dumps(content))
    with pytest.raises(InputError, match=problem):
        read_root(results)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\xff"])
def test_what_is_no_json_is_no_root_manifest(results: Path, text: str) -> None:
    (results / ROOT).write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="is no root manifest"):
        read_root(results)


def test_a_finding_says_all_it_knows_in_one_line() -> None:
    found = Finding("tables/x.csv:3", "recomputed", "has another value", "61.2", "71.2", "Look")
    note = Finding("old", "orphan", "is of no study", level="note")
    assert str(found) == (
        "recomputed  tables/x.csv:3: has another value; expected 61.2; found 71.2. Look"
    )
    assert note.content() == {
        "path": "old",
        "kind": "orphan",
        "problem": "is of no study",
        "level": "note",
    }
    assert faults([found, note]) == [found]
    with pytest.raises(ValueError, match="no kind of finding"):
        Finding("x", "odd", "is odd")

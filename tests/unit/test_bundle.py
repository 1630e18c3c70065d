"""Bundles: what one process makes, what it leaves, and what becomes of those that fail."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from xstilts import cli
from xstilts.artifacts.bundle import index_spec, is_fresh, make_bundle
from xstilts.artifacts.manifest import read_manifest, sha256_file
from xstilts.artifacts.publish import publishing
from xstilts.errors import InputError

INDEX = Path("bundles/score/column")
NAMES = ("scores/a", "scores/b", "scores/c")


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    publish("input", {"stage": "evaluate", "value": 1})
    return tmp_path


def publish(out: str, spec: dict[str, Any]) -> None:
    with publishing(Path(out), spec) as draft:
        (draft.folder / "value.txt").write_text(str(spec["value"]))


def specs(**values: Any) -> dict[str, dict[str, Any]]:
    """Specs of the three members; one may have another value."""
    return {
        name: {
            "stage": "score",
            "value": values.get(name[-1], 0),
            "inputs": {"predictions": "input"},
        }
        for name in NAMES
    }


def make(members: dict[str, dict[str, Any]], bad: tuple[str, ...] = ()) -> list[str]:
    """Make a bundle; the members that were made."""
    made = []

    def stage(spec: Any, out: Path) -> None:
        if out.name in bad:
            raise InputError(f"{out}/file", "is wrong")
        if spec["value"] == "bug":
            raise ZeroDivisionError("by zero")
        made.append(out.name)
        publish(out.as_posix(), spec)

    make_bundle("score", members, INDEX, stage)
    return made


def test_all_are_made_and_the_index_holds_their_manifests() -> None:
    assert make(specs()) == ["a", "b", "c"]
    made = read_manifest(INDEX)
    assert made.spec == index_spec("score", specs())
    assert made.inputs == {name: sha256_file(Path(name, "manifest.json")) for name in NAMES}
    assert made.files == {}


def test_members_that_are_there_stay_as_they_are() -> None:
    make(specs())
    before = {name: os.stat(name).st_ino for name in (*NAMES, "input")}
    index = (INDEX / "manifest.json").read_bytes()
    assert make(specs()) == []
    assert {name: os.stat(name).st_ino for name in before} == before
    assert (INDEX / "manifest.json").read_bytes() == index


def test_another_spec_makes_one_member_and_another_index() -> None:
    make(specs())
    index = (INDEX / "manifest.json").read_bytes()
    assert make(specs(b=1)) == ["b"]
    assert (INDEX / "manifest.json").read_bytes() != index


def test_another_input_makes_all_members() -> None:
    make(specs())
    publish("input", {"stage": "evaluate", "value": 2})
    assert make(specs()) == ["a", "b", "c"]


@pytest.mark.parametrize("damage", ["file", "size", "manifest", "broken"])
def test_a_damaged_member_is_made_again_with_the_same_bytes(damage: str) -> None:
    make(specs())
    index = (INDEX / "manifest.json").read_bytes()
    file, manifest = Path("scores/b/value.txt"), Path("scores/b/manifest.json")
    if damage == "size":
        file.write_text("")
    elif damage == "broken":
        manifest.write_text("{")
    else:
        (file if damage == "file" else manifest).unlink()
    assert not is_fresh(Path("scores/b"), specs()["scores/b"])
    assert make(specs()) == ["b"]
    assert (INDEX / "manifest.json").read_bytes() == index


def test_one_that_fails_keeps_no_other_from_being_made(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"2 of 3 artifacts .*found scores/a, scores/b"):
        make(specs(b="bug"), bad=("a",))
    said = capsys.readouterr().err
    assert "scores/a  failed: scores/a/file: is wrong" in said
    assert "scores/b  failed: ZeroDivisionError: by zero" in said
    assert "Traceback" in said
    assert not INDEX.exists()
    # What was made stays made.
    assert make(specs()) == ["a", "b"]


def test_a_stop_stops_at_once() -> None:
    def stage(spec: Any, out: Path) -> None:
        raise SystemExit(75)

    with pytest.raises(SystemExit):
        make_bundle("score", specs(), INDEX, stage)
    assert not Path(NAMES[0]).exists()


def test_a_bundle_of_another_stage_or_place_is_refused() -> None:
    members = specs()
    with pytest.raises(InputError, match="another stage"):
        cli.run_stage("evaluate", {"stage": "evaluate", "members": members}, INDEX)
    members["../scores/d"] = members["scores/a"]
    with pytest.raises(InputError, match=r"leaves the results folder.*\.\./scores/d"):
        cli.run_stage("score", {"stage": "score", "members": members}, INDEX)


def test_a_spec_of_any_length_comes_through_standard_input(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An argument may not be longer than 128 KiB; the spec of a large study's tables is."""
    spec = {"stage": "score", "value": "x" * 2**18}
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(spec))
    with file.open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert cli._spec("-") == spec

"""Manifests: read, and files checked against them."""

import json
import re
from pathlib import Path

import pytest

from xstilts.artifacts.manifest import MANIFEST, check_file, is_inside, read_manifest
from xstilts.artifacts.publish import publishing
from xstilts.errors import InputError, OtherVersion

#: Of the bytes `abc`, as in FIPS 180-2.
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture
def artifact(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    with publishing(Path("data/a"), {"stage": "x", "seed": 1}) as draft:
        (draft.folder / "sub").mkdir()
        (draft.folder / "sub/abc").write_bytes(b"abc")
    return Path("data/a")


def edit(artifact: Path, change) -> None:
    path = artifact / MANIFEST
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_it_says_what_was_published(artifact):
    manifest = read_manifest(artifact)
    assert manifest.artifact == "data/a"
    assert manifest.spec == {"stage": "x", "seed": 1}
    assert manifest.files == {"sub/abc": {"size": 3, "sha256": ABC}}
    assert check_file(artifact, "sub/abc") == artifact / "sub/abc"


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("sub/abc", lambda path: path.write_bytes(b"ab"), "expected 3 bytes; found 2 bytes"),
        ("sub/abc", lambda path: path.write_bytes(b"abd"), f"expected sha256 {ABC}"),
        ("sub/abc", lambda path: path.unlink(), "the file is missing"),
        ("sub/abd", lambda path: None, "lists no file 'sub/abd'"),
        ("sub", lambda path: None, "lists no file 'sub'"),
        ("provenance.json", lambda path: None, "lists no file"),
    ],
)
def test_a_file_that_is_not_the_manifest_s(artifact, name, damage, message):
    damage(artifact / "sub/abc")
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        check_file(artifact, name)
    assert "run snakemake again" in str(caught.value)
    assert str(artifact) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(version=2), "of another version; expected 1; found 2"),
        (lambda content: content["spec"].update(seed=2), "the spec does not match its own sha256"),
        (lambda content: content.pop("files"), "is no manifest"),
    ],
)
def test_an_edited_manifest(artifact, change, message):
    edit(artifact, change)
    with pytest.raises(InputError, match=message):
        read_manifest(artifact)


@pytest.mark.parametrize(("version", "is_newer"), [(2, True), (0, False), ("2", False)])
def test_a_manifest_of_another_version_need_not_have_these_keys(artifact, version, is_newer):
    (artifact / MANIFEST).write_text(json.dumps({"version": version, "parts": []}))
    with pytest.raises(OtherVersion, match="of another version; expected 1") as caught:
        read_manifest(artifact)
    assert caught.value.is_newer is is_newer


@pytest.mark.parametrize("name", ["a", "a/b", "a/..b/c.json", "ä x"])
def test_names_of_what_lies_inside(name):
    assert is_inside(name)


@pytest.mark.parametrize("name", ["", ".", "..", "/a", "a/", "a//b", "a/./b", "a/../b", "a\0b"])
def test_names_that_may_lead_out(name):
    assert not is_inside(name)


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff", "7"])
def test_a_file_that_is_no_manifest(artifact, text):
    (artifact / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="is no"):
        read_manifest(artifact)


def test_no_artifact_at_all(tmp_path):
    with pytest.raises(InputError, match="the artifact is missing"):
        read_manifest(tmp_path)

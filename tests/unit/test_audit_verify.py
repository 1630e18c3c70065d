"""`audit verify` on small folders: each kind of change is found, and called what it is."""

import contextlib
import json
import os
import shutil
import socket
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xstilts import cli
from xstilts.artifacts.bundle import index_spec
from xstilts.artifacts.fingerprint import fingerprint
from xstilts.artifacts.manifest import MANIFEST, sha256_file
from xstilts.artifacts.publish import publishing
from xstilts.artifacts.record import PROVENANCE
from xstilts.artifacts.root import ROOT, Root, describe, write_root
from xstilts.artifacts.spec import spec_sha256
from xstilts.audit.verify import main as module
from xstilts.audit.verify.main import Options, Report, verify
from xstilts.audit.verify.recompute import STAGES
from xstilts.errors import InputError
from xstilts.session import Session

RAW, ROWS, TOKENS, TESTS = "data/raw/set", "data/prepared/set/en", "data/tokens/m/set/en", "data/t"
ONE, TWO, INDEX, TABLES = "scores/a/one", "scores/a/two", "bundles/score/a", "tables"
FAST = Options(again=(), threads=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small results folder; never changed, only copied."""
    folder = tmp_path_factory.mktemp("made")
    with contextlib.chdir(folder):
        make(folder)
    return folder


@pytest.fixture
def results(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "results" / "small"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    return folder


def make(folder: Path) -> None:
    publish(RAW, "fetch", {}, {"train/a.csv": "x,y\n1,2\n", "train/b.csv": "x,y\n3,4\n"})
    publish(ROWS, "prepare", {"raw": RAW}, {"test.jsonl": '{"id": 1}\n{"id": 2}\n'})
    meta = {"splits": {"test": 2, "train": 9}}
    publish(TOKENS, "tokens", {"prepared": ROWS}, {"meta.json": json.dumps(meta)})
    sizes = json.dumps({"en": {"test": 2}}, indent=1) + "\n"
    more = {"target": "set", "languages": ["en"]}
    publish(TESTS, "testset", {"tokens": [TOKENS]}, {"languages.json": sizes}, **more)
    for out in (ONE, TWO):
        rows = json.dumps({"target": out, "rows": [{"value": 61.2}]}) + "\n"
        publish(out, "made", {"gold": [ROWS], "testset": TESTS}, {"scores.json": rows})
    specs = {out: json.loads((folder / out / MANIFEST).read_text())["spec"] for out in (ONE, TWO)}
    with publishing(Path(INDEX), index_spec("made", specs)):
        pass
    files = {"scores.csv": "score\n61.2\n", "figures/gains.png": "a picture IEND1234"}
    publish(TABLES, "drawn", {"scores": [ONE, TWO]}, files)
    outs = (RAW, ROWS, TOKENS, TESTS, ONE, TWO, INDEX, TABLES)
    write_root(folder, Root("small", {"study": "small"}, {}, describe(folder, outs)))


def publish(out: str, stage: str, inputs: dict, files: dict[str, str], **more: Any) -> None:
    with publishing(Path(out), {"stage": stage, "inputs": inputs, **more}) as draft:
        for name, text in files.items():
            (draft.folder / name).parent.mkdir(exist_ok=True, parents=True)
            (draft.folder / name).write_text(text)


def found(report: Report) -> set[tuple[str, str]]:
    return {(finding.kind, finding.path) for finding in report.faults}


def notes(report: Report) -> set[tuple[str, str]]:
    return {(one.kind, one.path) for one in report.findings if one.level == "note"}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def rewrite(folder: Path, **changes: Any) -> None:
    """Edit a manifest, with the sha256 of its spec."""
    content = json.loads((folder / MANIFEST).read_text()) | changes
    content["spec_sha256"] = spec_sha256(content["spec"])
    (folder / MANIFEST).write_text(json.dumps(content, sort_keys=True, indent=1) + "\n")


def respec(folder: Path, **changes: Any) -> None:
    rewrite(folder, spec=json.loads((folder / MANIFEST).read_text())["spec"] | changes)


def swap(first: Path, second: Path) -> None:
    first.rename(first.with_name("between"))
    second.rename(first)
    first.with_name("between").rename(second)


def replace_with_link(path: Path, target: Path) -> None:
    shutil.move(path, target)
    path.symlink_to(target)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    path.unlink()
    os.chdir(path.parent)  # such a path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)


def test_all_holds(results: Path) -> None:
    report = verify(results, FAST)
    assert report.findings == []
    listed = 9 + 8  # the files of the manifests, and a record each
    assert (report.artifacts, report.files) == (8, listed)
    paths = [p for p in results.rglob("*") if p.is_file() and p.name not in (MANIFEST, ROOT)]
    assert report.hashed == sum(path.stat().st_size for path in paths)


CHANGES: dict[str, tuple[Callable[[Path], object], set[tuple[str, str]]]] = {
    "a byte": (
        lambda at: edit(at / RAW / "train/a.csv", "1", "7"),
        {("changed", f"{RAW}/train/a.csv")},
    ),
    "cut": (
        lambda at: os.truncate(at / ONE / "scores.json", 20),
        {("truncated", f"{ONE}/scores.json")},
    ),
    "cut to nothing": (
        lambda at: os.truncate(at / RAW / "train/a.csv", 0),
        {("truncated", f"{RAW}/train/a.csv")},
    ),
    "shorter, and whole": (
        lambda at: edit(at / ONE / "scores.json", "61.2", "9"),
        {("changed", f"{ONE}/scores.json")},
    ),
    "removed": (
        lambda at: (at / ROWS / "test.jsonl").unlink(),
        {("missing", f"{ROWS}/test.jsonl")},
    ),
    "swapped": (
        lambda at: swap(at / RAW / "train/a.csv", at / RAW / "train/b.csv"),
        {("swapped", f"{RAW}/train/a.csv")},
    ),
    "swapped between artifacts": (
        lambda at: swap(at / ONE / "scores.json", at / TWO / "scores.json"),
        {("swapped", f"{ONE}/scores.json")},
    ),
    "another's bytes": (
        lambda at: shutil.copy(at / RAW / "train/a.csv", at / RAW / "train/b.csv"),
        {("changed", f"{RAW}/train/b.csv")},
    ),
    "renamed": (
        lambda at: (at / RAW / "train/a.csv").rename(at / RAW / "train/c.csv"),
        {("renamed", f"{RAW}/train/a.csv")},
    ),
    "moved out of its artifact": (
        lambda at: (at / RAW / "train/a.csv").rename(at / "a.csv"),
        {("renamed", f"{RAW}/train/a.csv")},
    ),
    "a folder of files renamed": (
        lambda at: (at / RAW / "train").rename(at / RAW / "dev"),
        {("renamed", f"{RAW}/train")},
    ),
    "an artifact renamed": (
        lambda at: (at / ONE).rename(at / "scores/a/three"),
        {("renamed", ONE)},
    ),
    "a folder of artifacts renamed": (
        lambda at: (at / "scores/a").rename(at / "scores/b"),
        {("renamed", "scores/a")},
    ),
    "a manifest renamed": (
        lambda at: (at / ONE / MANIFEST).rename(at / ONE / "manifest.bak"),
        {("renamed", f"{ONE}/{MANIFEST}")},
    ),
    "a manifest removed": (
        lambda at: (at / ONE / MANIFEST).unlink(),
        {("missing", f"{ONE}/{MANIFEST}")},
    ),
    "an artifact removed": (lambda at: shutil.rmtree(at / ROWS), {("missing", ROWS)}),
    "artifacts removed": (lambda at: shutil.rmtree(at / "scores/a"), {("missing", "scores/a")}),
    "the last artifact removed": (lambda at: shutil.rmtree(at / TABLES), {("missing", TABLES)}),
    "a stranger": (
        lambda at: (at / ONE / "more.json").write_text("{}"),
        {("stranger", f"{ONE}/more.json")},
    ),
    "strangers in a folder": (
        lambda at: [(at / ONE / "x").mkdir(), *((at / f"{ONE}/x/{n}").touch() for n in "ab")],
        {("stranger", f"{ONE}/x")},
    ),
    "a file is a link": (
        lambda at: replace_with_link(at / ONE / "scores.json", at.parent / "scores.json"),
        {("link", f"{ONE}/scores.json")},
    ),
    "a manifest is a link": (
        lambda at: replace_with_link(at / ONE / MANIFEST, at.parent / MANIFEST),
        {("link", f"{ONE}/{MANIFEST}")},
    ),
    "a folder of files is a link": (
        lambda at: replace_with_link(at / RAW / "train", at.parent / "train"),
        {("link", f"{RAW}/train")},
    ),
    "an artifact is a link": (
        lambda at: replace_with_link(at / ONE, at.parent / "one"),
        {("link", ONE)},
    ),
    "a folder of artifacts is a link": (
        lambda at: replace_with_link(at / "data", at.parent / "data"),
        {("link", "data")},
    ),
    "the root manifest is a link": (
        lambda at: replace_with_link(at / ROOT, at.parent / ROOT),
        {("link", ROOT)},
    ),
    "a FIFO": (
        lambda at: fifo(at / ONE / "scores.json"),
        {("unreadable", f"{ONE}/scores.json")},
    ),
    "a manifest is a FIFO": (
        lambda at: fifo(at / ROWS / MANIFEST),
        {("unreadable", f"{ROWS}/{MANIFEST}")},
    ),
    "a record is a FIFO": (
        lambda at: fifo(at / ROWS / PROVENANCE),
        {("unreadable", f"{ROWS}/{PROVENANCE}")},
    ),
    "the root manifest is a FIFO": (lambda at: fifo(at / ROOT), {("unreadable", ROOT)}),
    "a socket": (
        lambda at: unix_socket(at / ONE / "scores.json"),
        {("unreadable", f"{ONE}/scores.json")},
    ),
    "a folder in the place of a file": (
        lambda at: [
            (at / ONE / "scores.json").unlink(),
            (at / ONE / "scores.json/x").mkdir(parents=True),
            (at / ONE / "scores.json/x/y").touch(),
        ],
        {("unreadable", f"{ONE}/scores.json")},
    ),
    "a file in the place of an artifact": (
        lambda at: [shutil.rmtree(at / ONE), (at / ONE).write_text("x")],
        {("unreadable", ONE)},
    ),
    "a record changed": (
        lambda at: edit(at / ONE / PROVENANCE, '"python": "', '"python": "9'),
        {("changed", f"{ONE}/{PROVENANCE}")},
    ),
    "a record removed": (
        lambda at: (at / ONE / PROVENANCE).unlink(),
        {("missing", f"{ONE}/{PROVENANCE}")},
    ),
    "a manifest broken": (
        lambda at: os.truncate(at / TESTS / MANIFEST, 100),
        {("manifest", f"{TESTS}/{MANIFEST}")},
    ),
    "a manifest of a newer version": (
        lambda at: edit(at / TESTS / MANIFEST, '"version": 1', '"version": 2'),
        {("version", f"{TESTS}/{MANIFEST}")},
    ),
    "a spec edited": (
        lambda at: edit(at / ONE / MANIFEST, '"stage": "made"', '"stage": "mads"'),
        {("manifest", f"{ONE}/{MANIFEST}")},
    ),
    "a spec edited with its sha256": (
        lambda at: respec(at / ONE, seed=3),
        {("root", f"{ONE}/{MANIFEST}")},
    ),
    "the sha256 of a file edited": (
        lambda at: rewrite(at / ONE, files={"scores.json": {"sha256": "0" * 64, "size": 3}}),
        {("root", f"{ONE}/{MANIFEST}")},
    ),
    "manifests swapped": (
        lambda at: swap(at / ONE / MANIFEST, at / TWO / MANIFEST),
        {("swapped", f"{ONE}/{MANIFEST}")},
    ),
    "a manifest and another file swapped": (
        lambda at: swap(at / ONE / MANIFEST, at / RAW / "train/a.csv"),
        {("swapped", f"{ONE}/{MANIFEST}")},
    ),
    "a manifest and its file swapped": (
        lambda at: swap(at / ONE / MANIFEST, at / ONE / "scores.json"),
        {("manifest", f"{ONE}/{MANIFEST}")},
    ),
    "a manifest and a record swapped": (
        lambda at: swap(at / ONE / MANIFEST, at / ONE / PROVENANCE),
        {("swapped", f"{ONE}/{MANIFEST}")},
    ),
    "the name of an input edited": (
        lambda at: edit(at / ONE / MANIFEST, f'"{ROWS}":', '"data/other":'),
        {("manifest", f"{ONE}/{MANIFEST}")},
    ),
    "a record cut": (
        lambda at: os.truncate(at / ONE / PROVENANCE, 99),
        {("truncated", f"{ONE}/{PROVENANCE}")},
    ),
    "artifacts swapped": (
        lambda at: swap(at / ONE, at / TWO),
        {("swapped", f"{ONE}/{MANIFEST}")},
    ),
    "an artifact copied": (
        lambda at: shutil.copytree(at / ONE, at / "scores/b/one"),
        {("manifest", f"scores/b/one/{MANIFEST}")},
    ),
    "inputs and spec differ": (
        lambda at: rewrite(at / ROWS, inputs={}),
        {("manifest", f"{ROWS}/{MANIFEST}")},
    ),
    "a path outside": (
        lambda at: rewrite(at / RAW, files={"../../x": {"sha256": "0", "size": 1}}),
        {("outside", f"{RAW}/{MANIFEST}")},
    ),
    "an input outside": (
        lambda at: [
            respec(at / ROWS, inputs={"raw": "/etc"}),
            rewrite(at / ROWS, inputs={"/etc": "0"}),
        ],
        {("outside", f"{ROWS}/{MANIFEST}")},
    ),
    "an input that is missing": (
        lambda at: [
            respec(at / ROWS, inputs={"raw": "data/x"}),
            rewrite(at / ROWS, inputs={"data/x": "0"}),
        ],
        {("root", f"{ROWS}/{MANIFEST}"), ("missing", "data/x")},
    ),
    "a loop": (
        lambda at: [
            respec(at / RAW, inputs={"x": ONE}),
            rewrite(at / RAW, inputs={ONE: sha256_file(at / ONE / MANIFEST)}),
        ],
        {("loop", f"{ROWS}/{MANIFEST}")},
    ),
    "the root manifest broken": (lambda at: (at / ROOT).write_text("{"), {("root", ROOT)}),
    "the root manifest edited": (
        lambda at: edit(at / ROOT, '"study": "small"', '"study":  "small"'),
        {("root", ROOT)},
    ),
    "the root manifest of a newer version": (
        lambda at: edit(at / ROOT, '"version": 1', '"version": 2'),
        {("version", ROOT)},
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_found_once_and_called_what_it_is(name: str, results: Path) -> None:
    change, expected = CHANGES[name]
    change(results)
    report = verify(results, FAST)
    assert found(report) == expected, "\n".join(map(str, report.findings))


@pytest.mark.parametrize(
    "content",
    ["[]", "null", '"x"', "1e999", "[" * 5000, "\ud800", '{"version": NaN}'],
)
def test_no_manifest_stops_the_audit(content: str, results: Path) -> None:
    (results / ROWS / MANIFEST).write_bytes(content.encode("utf-8", "surrogatepass"))
    assert found(verify(results, FAST)) == {("manifest", f"{ROWS}/{MANIFEST}")}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("artifact", 3),
        ("artifact", ""),
        ("inputs", []),
        ("inputs", {"a": 3}),
        ("files", []),
        ("files", {"scores.json": 3}),
        ("files", {"scores.json": {"sha256": "0", "size": "3"}}),
        ("spec", []),
        ("spec", {"inputs": 3}),
        ("spec", {"inputs": {"a": [3]}}),
        ("spec", {"members": 3}),
        ("spec", {"x": float("nan")}),
    ],
)
def test_nor_does_a_value_of_another_kind(key: str, value: Any, results: Path) -> None:
    content = json.loads((results / ONE / MANIFEST).read_text()) | {key: value}
    if value != {"x": value} and "nan" not in repr(value):
        content["spec_sha256"] = spec_sha256(content["spec"])
    (results / ONE / MANIFEST).write_text(json.dumps(content))
    assert found(verify(results, FAST)) == {("manifest", f"{ONE}/{MANIFEST}")}


# ---- without a root manifest


def test_without_a_root_manifest_others_hold_a_manifest(results: Path) -> None:
    (results / ROOT).unlink()
    report = verify(results, FAST)
    assert (found(report), notes(report)) == (set(), {("root", ROOT)})
    respec(results / ROWS, seed=3)
    assert found(verify(results, FAST)) == {("input", f"{ROWS}/{MANIFEST}")}


def test_of_two_that_disagree_the_one_that_none_follows_is_named(results: Path) -> None:
    (results / ROOT).unlink()
    rewrite(results / INDEX, inputs={ONE: "0" * 64, TWO: sha256_file(results / TWO / MANIFEST)})
    assert found(verify(results, FAST)) == {("input", f"{INDEX}/{MANIFEST}")}


def test_an_artifact_that_was_not_made_again_after_its_input(results: Path) -> None:
    publish(ROWS, "prepare", {"raw": RAW}, {"test.jsonl": '{"id": 1}\n{"id": 3}\n'})
    root = Root("small", {}, {}, describe(results, (RAW, ROWS, TOKENS, TESTS, ONE, TWO, TABLES)))
    write_root(results, root)
    expected = {("input", f"{out}/{MANIFEST}") for out in (TOKENS, ONE, TWO)}
    report = verify(results, FAST)
    assert found(report) == expected
    assert ("orphan", INDEX) in notes(report)


def test_a_record_that_is_none_without_a_root_manifest(results: Path) -> None:
    (results / ROOT).unlink()
    (results / ONE / PROVENANCE).write_text("{")
    assert found(verify(results, FAST)) == {("changed", f"{ONE}/{PROVENANCE}")}


# ---- several at once, and what is no fault


def test_several_faults_are_each_named(results: Path) -> None:
    edit(results / RAW / "train/a.csv", "1", "7")
    os.truncate(results / TESTS / MANIFEST, 9)
    shutil.rmtree(results / TWO)
    respec(results / TABLES, seed=1)
    assert found(verify(results, FAST)) == {
        ("changed", f"{RAW}/train/a.csv"),
        ("manifest", f"{TESTS}/{MANIFEST}"),
        ("missing", TWO),
        ("root", f"{TABLES}/{MANIFEST}"),
    }


def test_what_lies_beside_the_artifacts_is_a_note(results: Path) -> None:
    (results / "notes\x1b[2J.txt").write_text("mine")
    (results / "mine/deep").mkdir(parents=True)
    for name in "abc":
        (results / "mine/deep" / name).touch()
    (results / "latest").symlink_to(results / ONE)
    (results / "state").mkdir()
    (results / "state/x").touch()
    report = verify(results, FAST)
    assert found(report) == set()
    paths = {"notes\x1b[2J.txt", "mine", "latest"}
    assert notes(report) == {("stranger", path) for path in paths}
    assert not any("\x1b" in line for line in module._text(report, FAST))


def test_times(results: Path) -> None:
    """An hour before is not possible; some seconds may be a clock; a copy is later."""
    now = time.time()
    for path, age in ((ONE, 3600), (TWO, 60), (TABLES, -9999)):
        for name in (MANIFEST, PROVENANCE):
            os.utime(results / path / name, (now - age, now - age))
    report = verify(results, FAST)
    assert found(report) == set()
    assert notes(report) == {("time", f"{ONE}/{name}") for name in (MANIFEST, PROVENANCE)}


def test_old_times_of_all_files_are_one_note(results: Path) -> None:
    for path in results.rglob("*"):
        os.utime(path, (0, 0))
    report = verify(results, FAST)
    assert (found(report), notes(report)) == (set(), {("time", ".")})


def test_shallow_reads_no_file(results: Path) -> None:
    edit(results / RAW / "train/a.csv", "1", "7")
    os.truncate(results / ONE / "scores.json", 20)
    report = verify(results, Options(shallow=True))
    assert found(report) == {("truncated", f"{ONE}/scores.json")}
    assert report.hashed == 0


# ---- one artifact, archives


def test_one_artifact_and_what_it_was_made_from(results: Path) -> None:
    edit(results / RAW / "train/a.csv", "1", "7")
    edit(results / TWO / "scores.json", "61.2", "71.2")
    (results / TABLES / "more").touch()
    (results / "scores/more").touch()
    for path in (results / ONE, results / ONE / "scores.json"):
        report = verify(path, FAST)
        assert found(report) == {("changed", f"{RAW}/train/a.csv")}
        assert report.artifacts == 5
        assert not notes(report)
    shutil.rmtree(results / TESTS)
    expected = {("changed", f"{RAW}/train/a.csv"), ("missing", TESTS)}
    assert found(verify(results / ONE, FAST)) == expected
    replace_with_link(results / "data", results.parent / "data")
    assert found(verify(results / ONE, FAST)) == {("link", "data")}


def archive(results: Path, path: Path, change: Callable[[Path], object] = lambda _: None) -> Path:
    """An archive without the raw files, which it names."""
    home = path.with_suffix("")
    shutil.copytree(results, home)
    files = json.loads((home / RAW / MANIFEST).read_text())["files"]
    away = {f"{RAW}/{name}": entry for name, entry in files.items()}
    (home / "references.json").write_text(json.dumps(away))
    shutil.rmtree(home / RAW / "train")
    change(home)
    with tarfile.open(path, "w") as file:
        file.add(home, "small")
    return path


def test_an_archive_and_what_it_names(results: Path, tmp_path: Path) -> None:
    path = archive(results, tmp_path / "all.tar")
    for place in (path, path.with_suffix("")):
        report = verify(place, FAST)
        assert (found(report), notes(report)) == (set(), {("missing", "references.json")})
        assert report.unchecked == 16
    path = archive(
        results, tmp_path / "bad.tar", lambda at: edit(at / "references.json", "8}", "9}")
    )
    assert found(verify(path, FAST)) == {
        ("manifest", f"{RAW}/train/a.csv"),
        ("missing", f"{RAW}/train/a.csv"),
    }


def test_an_archive_that_would_write_elsewhere_or_is_cut(results: Path, tmp_path: Path) -> None:
    path = archive(results, tmp_path / "all.tar")
    with tarfile.open(path, "a") as file:
        (tmp_path / "evil").write_text("x")
        file.add(tmp_path / "evil", "../evil2")
        fifo(tmp_path / "evil")
        file.add(tmp_path / "evil", "small/pipe")
    assert found(verify(path, FAST)) == {("outside", "../evil2"), ("outside", "small/pipe")}
    assert not list(tmp_path.rglob("evil2"))
    os.truncate(path, path.stat().st_size // 2)
    assert ("unreadable", "all.tar") in found(verify(path, FAST))


@pytest.mark.parametrize("name", ["nothing", "empty", "file"])
def test_what_is_no_results_folder(name: str, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError):
        verify(tmp_path / name)
    assert cli.main(["audit", "verify", str(tmp_path / name)]) == 2
    assert name in capsys.readouterr().err


# ---- made again, and the command


def test_made_again(results: Path) -> None:
    """The test set is the one artifact here whose stage is real."""
    report = verify(results)
    assert report.findings == []
    assert report.made.counts == {"testset": 1}

    edit(results / TESTS / "languages.json", '"test": 2', '"test": 3')
    (finding,) = verify(results).faults
    assert (finding.kind, finding.path) == ("changed", f"{TESTS}/languages.json")
    assert finding.problem.endswith("at en.test")
    assert (finding.expected, finding.found) == ("2", "3")

    entry = {"size": (path := results / TESTS / "languages.json").stat().st_size}
    rewrite(results / TESTS, files={"languages.json": entry | {"sha256": sha256_file(path)}})
    (finding,) = verify(results).faults
    assert (finding.kind, finding.path) == ("root", f"{TESTS}/{MANIFEST}")
    assert "differs at en.test (2, not 3)" in finding.problem

    (results / ROOT).unlink()
    for out in (ONE, TWO, INDEX, TABLES):  # the whole chain is made anew on it
        content = json.loads((results / out / MANIFEST).read_text())["inputs"]
        rewrite(results / out, inputs={x: sha256_file(results / x / MANIFEST) for x in content})
    (finding,) = verify(results).faults
    # Its fingerprint is none: a stage of other code made it.
    assert (finding.kind, finding.path) == ("code", f"{TESTS}/languages.json")
    assert (finding.expected, finding.found) == ("2", "3")

    edit(results / RAW / "train/a.csv", "1", "7")
    edit(results / TOKENS / "meta.json", "9", "8")
    report = verify(results)
    assert found(report) == {
        ("changed", f"{RAW}/train/a.csv"),
        ("changed", f"{TOKENS}/meta.json"),
    }
    assert report.made.skipped == [TESTS]


def test_the_command(results: Path, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "found.json"
    command = ["audit", "verify", str(results), "--no-recompute", "--json", str(file)]
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    assert "8 artifacts, 17 files" in said
    assert said.endswith("all holds\n")
    assert json.loads(file.read_text())["holds"] is True

    before = {path: path.stat() for path in results.rglob("*")}
    edit(results / ONE / "scores.json", "61.2", "71.2")
    with pytest.raises(SystemExit) as stop:
        cli.main(command)
    assert stop.value.code == 1
    said = capsys.readouterr().out
    assert said.startswith(f"changed     {ONE}/scores.json: has other bytes than in its manifest")
    assert said.endswith("1 fault\n")
    content = json.loads(file.read_text())
    assert content["counts"] == {"changed": 1}
    assert content["holds"] is False
    assert content["findings"][0]["path"] == f"{ONE}/scores.json"
    assert {path for path in results.rglob("*")} == set(before)  # nothing is written there
    assert cli.main([*command, "--threads", "0"]) == 2


def test_the_code_of_what_is_made_again_is_the_plans(repository: Path) -> None:
    plan = Session.of_file(repository / "config.yaml", repository).plan
    for stage, roots in STAGES.items():
        assert {job.spec["fingerprint"] for job in plan.of(stage)} == {fingerprint(*roots)}, stage

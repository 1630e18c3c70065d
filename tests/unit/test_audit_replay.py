"""Artifacts made again: the draw, the inputs, the recorded environment, the comparison."""

import json
import os
import shutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from test_prune import session

from small_results import publish
from xstilts import cli
from xstilts.artifacts.manifest import Manifest, describe_files, read_manifest
from xstilts.artifacts.record import versions
from xstilts.audit.code import SOURCE, Sources, changed_modules, why_code_differs
from xstilts.audit.replay.compare import compare
from xstilts.audit.replay.draw import draw
from xstilts.audit.replay.recorded import Environment, Recorded
from xstilts.audit.results import Results
from xstilts.errors import InputError
from xstilts.plan import Plan

#: Two artifacts that are really made; all others hold a line of text.
RAW, PREPARED = "data/raw/toy_qa/qab", "data/prepared/toy_qa/qab"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a small study. Not to be changed."""
    folder, before, jobs = tmp_path_factory.mktemp("small"), Path.cwd(), plan().jobs
    os.chdir(folder)
    for out in TopologicalSorter({out: job.reads for out, job in jobs.items()}).static_order():
        if out not in (RAW, PREPARED):
            publish(out, jobs[out].spec)
        else:
            call = [sys.executable, "-m", "xstilts.cli", "stage", jobs[out].stage, "--out", out]
            environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
            subprocess.run([*call, "--spec", jobs[out].text], env=environment, check=True)
    for out, bundle in plan().bundles.items():
        publish(out, bundle.index)
    os.chdir(before)
    return folder


def plan() -> Plan:
    return session(targets=["toy_nli", "toy_qa"], transferability={"examples": 9}).plan


# ---- the draw


def outs(results: Results, count: int, seed: int, stages: Any = None) -> list[str]:
    return [artifact.out for artifact in draw(results, count, seed, stages)]


def test_a_seed_draws_the_same_artifacts_again(small: Path) -> None:
    assert outs(Results(small), 5, 3) == outs(Results(small), 5, 3)
    assert len({tuple(outs(Results(small), 5, seed)) for seed in range(9)}) == 9


@pytest.mark.parametrize("seed", range(5))
def test_a_draw_is_of_different_stages_with_a_training(small: Path, seed: int) -> None:
    results = Results(small)
    stages = [artifact.stage for artifact in draw(results, 5, seed)]
    assert len(set(stages)) == 5
    assert {"pretrain", "intermediate", "finetune"} & set(stages)


def test_everything_but_indexes_can_be_drawn(small: Path) -> None:
    results = Results(small)
    everything = {out for out, one in results.artifacts.items() if not one.is_index}
    assert set(outs(results, 10_000, 0)) == everything
    assert everything == plan().jobs.keys()
    stages = {results.read(out).stage for out in everything}
    assert {"distances", "transferability", "analyse", "report", "fetch"} <= stages


def test_a_draw_from_one_stage(small: Path) -> None:
    assert {one.stage for one in draw(Results(small), 4, 0, ["score"])} == {"score"}
    with pytest.raises(InputError, match=r"there is no artifact of 'scores'.*Did you mean"):
        draw(Results(small), 4, 0, ["scores"])
    with pytest.raises(InputError, match="is no number of artifacts"):
        draw(Results(small), 0, 0)


# ---- the comparison


def compared(tmp_path: Path, name: str, old: Any, new: Any) -> tuple[str, str]:
    """The verdict on a file, and what is said of it; `same` where nothing is."""
    manifests = []
    for folder, content in (("old", old), ("new", new)):
        path = tmp_path / folder / name
        path.parent.mkdir(parents=True)
        if isinstance(content, dict) and name.endswith(".safetensors"):
            save_file({key: np.array(value) for key, value in content.items()}, path)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        manifests.append(Manifest("a", {}, {}, describe_files(tmp_path / folder)))
    found = compare(tmp_path / "old", tmp_path / "new", *manifests, tolerance=0.1)
    return (found[0].verdict, found[0].text) if found else ("same", "")


def rows(*values: object) -> dict[str, Any]:
    return {"rows": [{"language": "qaa", "value": value} for value in values]}


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("scores.json", rows(99.0), rows(99.0), ("same", "")),
        ("scores.json", rows(9.0, 7), rows(9.05, 7), ("within", "numbers differ by 0.05 at most")),
        ("scores.json", rows(9.0), rows(9.5), ("different", "numbers differ by 0.5 at most")),
        ("scores.json", rows(9.0), rows("9"), ("different", "differs in more than its numbers")),
        ("scores.json", rows(1), rows(True), ("different", "differs in more than its numbers")),
        ("scores.json", rows(1), rows(1, 2), ("different", "differs in more than its numbers")),
        (
            "qaa.jsonl",
            '{"id": 1, "prediction": "a"}\n{"id": 2, "prediction": "b"}\n',
            '{"id": 1, "prediction": "a"}\n{"id": 2, "prediction": "c"}\n',
            ("different", "1 of 2 lines are equal (50.00 %)"),
        ),
        (
            "qaa.jsonl",
            "1\n" * 2000,
            "1\n" * 1999 + "2\n",
            ("within", "1999 of 2000 lines are equal (99.95 %)"),
        ),
        ("qaa.jsonl", "1\n", "1\n1\n", ("different", "1 lines -> 2")),
        ("a.csv", "x,y\nb,1.0\n", "x,y\nb,1.01\n", ("within", "numbers differ by 0.01 at most")),
        (
            "a.csv",
            "x,y\nb,1.0\n",
            "x,y\nc,1.0\n",
            ("different", "differs in more than its numbers"),
        ),
        ("a.md", "one\ntwo\n", "one\nTwo\n", ("different", "line 2: 'two' -> 'Two'")),
        ("a.md", "one\n", "one\ntwo\n", ("different", "1 lines -> 2")),
        ("a.json", "{", "[", ("different", "has other bytes")),
        (
            "a.safetensors",
            {"w": [1000.0, 0.0]},
            {"w": [1000.5, 0.0]},
            ("within", "largest difference 0.5; w is 0.05 % off"),
        ),
        (
            "a.safetensors",
            {"w": [1.0], "v": [1.0]},
            {"w": [1.0], "v": [2.0]},
            ("different", "largest difference 1; v is 100 % off"),
        ),
        (
            "a.safetensors",
            {"w": [1.0]},
            {"v": [1.0]},
            ("different", "has other tensors, or other shapes"),
        ),
    ],
)
def test_what_differs_in_a_file(
    tmp_path: Path, name: str, old: Any, new: Any, expected: tuple[str, str]
) -> None:
    assert compared(tmp_path, name, old, new) == expected


def test_a_file_that_came_or_went(tmp_path: Path) -> None:
    old = Manifest("a", {}, {}, {"one": {"sha256": "1", "size": 1}})
    new = Manifest("a", {}, {}, {"two": {"sha256": "1", "size": 1}})
    found = compare(tmp_path, tmp_path, old, new, 0.1)
    assert [(one.name, one.verdict) for one in found] == [
        ("one", "different"),
        ("two", "different"),
    ]


# ---- code and libraries


@pytest.fixture
def repository_of_two(tmp_path: Path) -> tuple[Path, list[str]]:
    """A repository with a package of two commits; its source folder and the commits."""
    source = tmp_path / "repository" / "src"
    (source / "xstilts").mkdir(parents=True)
    (source / "xstilts" / "__init__.py").write_text("")

    def git(*arguments: str) -> str:
        own = ("-c", "user.name=a", "-c", "user.email=a@b", "-C", str(source))
        return subprocess.run(
            ["git", *own, *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "--quiet", "..")
    commits = []
    for value in (1, 2):
        (source / "xstilts" / "one.py").write_text(f"from xstilts import two\nVALUE = {value}\n")
        (source / "xstilts" / "two.py").write_text(f"VALUE = 1  # {value}\n")
        git("add", "-A")
        git("commit", "--quiet", "-m", "a")
        commits.append(git("rev-parse", "HEAD"))
    return source, commits


def test_the_source_tree_of_a_commit(repository_of_two: tuple[Path, list[str]], tmp_path: Path):
    source, (first, second) = repository_of_two
    sources = Sources(tmp_path / "code", source)
    assert (sources.is_here(first), sources.is_here(second)) == (False, True)
    tree = sources.tree(first)
    assert tree is not None
    assert (tree / "xstilts" / "one.py").read_text().endswith("VALUE = 1\n")
    assert changed_modules(["xstilts.one"], tree, source) == ["xstilts.one"]
    for name in ("0" * 40, "--output=x", "HEAD", None):
        assert sources.tree(name) is None  # type: ignore[arg-type]
        assert not sources.is_here(name)  # type: ignore[arg-type]


def test_what_git_cannot_tell(repository_of_two: tuple[Path, list[str]], tmp_path: Path) -> None:
    sources = Sources(tmp_path / "code", repository_of_two[0])
    first = repository_of_two[1][0]
    roots = ("xstilts.one",)
    assert why_code_differs(sources, {}, "0", roots) == ([], "its record names no commit")
    _, doubt = why_code_differs(sources, {"commit": "0" * 40, "dirty": False}, "0", roots)
    assert "which this repository does not have" in doubt
    _, doubt = why_code_differs(sources, {"commit": first, "dirty": True}, "0", roots)
    assert "from a tree with changes of its own" in doubt
    outside = Sources(tmp_path / "none", tmp_path)
    _, doubt = why_code_differs(outside, {"commit": first, "dirty": False}, "0", roots)
    assert "this package lies in no git repository" in doubt


def chosen(small: Path, record: dict[str, Any], sources: Sources | None = None) -> Environment:
    """What would make the tables again; where sources are given, it is not known that the code is
    today's."""
    results = Results(small)
    recorded = Recorded(results.path, sources or Sources(Path("none")), None if sources else plan())
    return recorded.environment(results.read("tables"), record)


NOW = {"versions": versions()}


def test_the_recorded_libraries_are_those_of_this_python(small: Path) -> None:
    found = chosen(small, NOW)
    assert (found.python, found.source, found.notes, found.doubts) == (
        sys.executable,
        SOURCE,
        [],
        [],
    )


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ({"kind": "venv", "prefix": "/no/such/place"}, "is not there"),
        ({"kind": "venv", "prefix": sys.prefix}, "has other versions now"),
        ({"kind": "venv", "prefix": "RESULTS"}, "lies in the results folder, and is not run"),
        ({"kind": "container", "image": "a.sif"}, "is not entered; run this command inside it"),
        ({}, "the recorded one is not there"),
    ],
)
def test_libraries_that_cannot_be_had(
    small: Path, tmp_path: Path, place: dict[str, Any], reason: str
) -> None:
    results = tmp_path / "results"
    if place.get("prefix") == "RESULTS":
        python = _other_python(results / "env", "9.9.9")
        place = {**place, "prefix": str(python.parents[1])}
    record = {"versions": {**versions(), "numpy": "9.9.9"}, "environment": place}
    found = Recorded(results, Sources(Path("none")), plan()).environment(
        Results(small).read("tables"), record
    )
    assert found.python == sys.executable
    (doubt,) = found.doubts
    assert f"numpy 9.9.9 -> {versions()['numpy']}" in doubt
    assert doubt.endswith(reason)


def _other_python(prefix: Path, numpy: str) -> Path:
    """A Python that has another numpy, as far as its packages say."""
    packages = prefix / "packages" / f"numpy-{numpy}.dist-info"
    packages.mkdir(parents=True)
    (packages / "METADATA").write_text(f"Metadata-Version: 2.1\nName: numpy\nVersion: {numpy}\n")
    python = prefix / "bin" / "python"
    python.parent.mkdir()
    python.write_text(
        f'#!/bin/sh\nPYTHONPATH="{packages.parent}:$PYTHONPATH" exec "{sys.executable}" "$@"\n'
    )
    python.chmod(0o755)
    return python


def test_the_recorded_environment_is_taken_where_it_has_the_recorded_libraries(
    small: Path, tmp_path: Path
) -> None:
    python = _other_python(tmp_path / "env", "9.9.9")
    place = {"kind": "venv", "prefix": str(tmp_path / "env")}
    found = chosen(small, {"versions": {**versions(), "numpy": "9.9.9"}, "environment": place})
    assert (found.python, found.notes, found.doubts) == (str(python), [f"with {python}"], [])


def test_recorded_code_that_does_not_run(
    small: Path, repository_of_two: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """The package of that commit has nothing but two modules."""
    source, (first, _) = repository_of_two
    sources = Sources(tmp_path / "code", source)
    found = chosen(small, {**NOW, "git": {"commit": first, "dirty": False}}, sources)
    assert found.source == SOURCE
    assert found.doubts == ["the recorded code does not run here: made with this code"]


@pytest.mark.parametrize(
    ("git", "reason"),
    [
        ({}, "no commit is recorded"),
        ({"commit": "a" * 40, "dirty": True}, "its tree differed from commit aaaaaaaaaaaa"),
        ({"commit": "a" * 40, "dirty": False}, "git does not have commit aaaaaaaaaaaa here"),
    ],
)
def test_code_that_cannot_be_had(small: Path, git: dict[str, Any], reason: str) -> None:
    found = chosen(small, {**NOW, "git": git}, Sources(Path("none")))
    assert found.doubts == [f"made with this code, not with the recorded one: {reason}"]


# ---- the command


def replay(*arguments: str) -> int:
    try:
        return cli.main(["audit", "replay", *arguments])
    except SystemExit as end:
        return int(end.code or 0)


def test_data_are_made_again(small: Path, tmp_path: Path, capsys: Any) -> None:
    file, kept = tmp_path / "replay.json", tmp_path / "kept"
    before = {path: path.lstat().st_mtime_ns for path in small.rglob("*")}
    arguments = (str(small / PREPARED), "--json", str(file), "--keep", str(kept))
    assert replay(*arguments) == 0
    assert capsys.readouterr().out.startswith("same bytes ")
    (one,) = json.loads(file.read_text())["artifacts"]
    assert (one["out"], one["verdict"], one["files"]) == (PREPARED, "same", [])
    assert read_manifest(kept / PREPARED) == read_manifest(small / PREPARED)
    assert {path: path.lstat().st_mtime_ns for path in small.rglob("*")} == before


@pytest.fixture
def changed(small: Path, tmp_path: Path) -> Path:
    """Results of a small study, to be changed."""
    return shutil.copytree(small, tmp_path / "changed")


def _raw_file(folder: Path) -> Path:
    return next(folder / RAW / name for name in sorted(read_manifest(folder / RAW).files))


def test_an_artifact_of_changed_inputs_is_not_made_again(changed: Path, capsys: Any) -> None:
    file = _raw_file(changed)
    file.write_bytes(file.read_bytes() + b" ")
    assert replay(str(changed / PREPARED)) == 1
    said = capsys.readouterr().out
    assert said.startswith("could not ")
    assert f"changed     {file.relative_to(changed)}: has other bytes than in its manifest" in said


def test_an_artifact_of_another_input_is_not_made_again(changed: Path, capsys: Any) -> None:
    manifest = changed / RAW / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    assert replay(str(changed / PREPARED)) == 1
    assert f"input       {RAW}: {PREPARED} was made from another one" in capsys.readouterr().out
    shutil.rmtree(changed / RAW)
    assert replay(str(changed / PREPARED)) == 1
    assert f"missing     {RAW}: {PREPARED} was made from it" in capsys.readouterr().out


def test_an_artifact_that_was_edited_with_its_manifest(changed: Path, capsys: Any) -> None:
    file = _raw_file(changed)
    file.write_bytes(file.read_bytes().replace(b" ", b"  ", 1))
    old = read_manifest(changed / RAW)
    files = {name: describe_files(changed / RAW)[name] for name in old.files}
    made = Manifest(old.artifact, old.spec, old.inputs, files)
    (changed / RAW / "manifest.json").write_text(made.to_json())
    assert replay(str(changed / RAW)) == 1
    said = capsys.readouterr().out
    assert said.startswith("different ")
    assert f"    {file.relative_to(changed / RAW)}: has other bytes" in said


def test_a_stage_that_fails_says_why(changed: Path, capsys: Any) -> None:
    """What it reads is as recorded, and no file of data."""
    assert replay(str(changed / "data/prepared/toy_qa/qaa")) == 1
    said = capsys.readouterr().out
    assert "recomputed  data/prepared/toy_qa/qaa: could not be made again: " in said


def test_what_cannot_be_replayed_at_all(small: Path, tmp_path: Path, capsys: Any) -> None:
    for arguments, message in {
        (str(small),): "is a whole results folder. Give --sample K",
        (str(small / "tables"), "--stage", "score"): "is for --sample",
        (str(small), str(small), "--sample", "2"): "draws from one results folder",
        (str(small / "none"),): "there is no such file or folder",
        (str(small / "tables"), "--tolerance", "-1"): "is no tolerance",
        (str(small / "tables"), "--keep", str(tmp_path)): "is there already",
    }.items():
        assert replay(*arguments) == 2
        assert message in capsys.readouterr().err

"""A shared store: what is put in, what is taken out, and what is refused either way."""

import json
import os
import shutil
import stat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tiny import settings_of_process
from xstilts import cli
from xstilts.artifacts.kept import keep
from xstilts.artifacts.manifest import MANIFEST, read_manifest, sha256_file
from xstilts.artifacts.publish import publishing
from xstilts.artifacts.record import PROVENANCE
from xstilts.artifacts.store import take
from xstilts.audit.findings import KINDS
from xstilts.audit.results import open_results
from xstilts.audit.store import add
from xstilts.cluster.spent import spent_of
from xstilts.cluster.traces import attempts_of_artifact
from xstilts.errors import InputError
from xstilts.session import STORE_VARIABLE, Session

BASE, OUT = "models/m/base", "checkpoints/m/none/seed-1/nli"
SPEC = {"stage": "finetune", "seed": 1, "inputs": {"model": BASE}}


def publish(out: str, spec: dict[str, Any], text: str = "weights") -> None:
    with publishing(Path(out), spec) as draft:
        (draft.folder / "model.safetensors").write_text(text)
        (draft.folder / "heads").mkdir()
        (draft.folder / "heads" / "nli.json").write_text("{}")


def base(text: str = "base") -> None:
    publish(BASE, {"stage": "pretrain", "inputs": {}}, text)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with two artifacts; the working directory is the results folder of another user."""
    folder, first = tmp_path / "store", tmp_path / "first"
    folder.mkdir(mode=0o755)
    first.mkdir()
    monkeypatch.chdir(first)
    base()
    publish(OUT, SPEC)
    with publishing(Path("bundles/finetune"), {"stage": "finetune", "members": {}}):
        pass
    audit("add", folder, first)
    (tmp_path / "second").mkdir()
    monkeypatch.chdir(tmp_path / "second")
    base()
    return folder


def audit(action: str, store: Path, *paths: Path, status: int = 0) -> dict[str, Any]:
    """Run the command; what it writes as JSON."""
    file = store.parent / "said.json"
    words = ["audit", "store", action, store, *paths, "--json", file]
    if status:
        with pytest.raises(SystemExit) as end:
            cli.main([str(word) for word in words])
        assert end.value.code == status
    else:
        assert cli.main([str(word) for word in words]) == 0
    return dict(json.loads(file.read_text()))


def place(store: Path, stage: str = "finetune") -> Path:
    """The folder of the one artifact of a stage."""
    (found,) = store.glob(f"{stage}/*/*")
    return found


def everything(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Modes, times and bytes of what lies in a folder."""
    return {
        path.relative_to(folder).as_posix(): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in folder.rglob("*")
    }


# ---- taking


def test_what_is_taken_is_what_was_made(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, first = everything(store), store.parent / "first"
    assert take(Path(OUT), SPEC, store)
    assert everything(store) == before
    for name in (MANIFEST, "model.safetensors", "heads/nli.json"):
        assert Path(OUT, name).read_bytes() == (first / OUT / name).read_bytes()
    assert Path(OUT, "model.safetensors").stat().st_mode & 0o200
    made, taken = (
        json.loads((folder / OUT / PROVENANCE).read_text()) for folder in (first, Path())
    )
    (entry,) = taken.pop("taken")
    assert taken == made
    assert entry.keys() == {"store", "at", "host"}
    assert entry["store"] == str(store)
    assert f"finetune     {OUT}  taken from {store}" in capsys.readouterr().err
    assert sorted(path.name for path in Path(OUT).parent.iterdir()) == ["nli"]


def test_only_the_very_artifact_is_taken(store: Path) -> None:
    """Of the same name and spec, from the same inputs."""
    assert not take(Path(OUT), {**SPEC, "seed": 2}, store)
    assert not take(Path("checkpoints/m/other/seed-1/nli"), SPEC, store)
    base("another")
    assert not take(Path(OUT), SPEC, store)
    shutil.rmtree(BASE)
    assert not take(Path(OUT), SPEC, store)
    assert not Path(OUT).exists()


def test_a_second_taking_is_noted_beside_the_first(store: Path) -> None:
    assert take(Path(OUT), SPEC, store)
    other = store.with_name("other")
    other.mkdir()
    audit("add", other, Path(OUT))
    assert take(Path(OUT), SPEC, other)
    taken = json.loads(Path(OUT, PROVENANCE).read_text())["taken"]
    assert [entry["store"] for entry in taken] == [str(store), str(other)]


def test_what_was_taken_has_cost_nothing_here(store: Path) -> None:
    assert take(Path(OUT), SPEC, store)
    assert len(attempts_of_artifact(store.parent / "first" / OUT)) == 1
    assert attempts_of_artifact(Path(OUT)) == []
    job = {"stage": "finetune", "seconds": 60.0, "gpus": 1, "made": "2020-01-01T00:00:00+00:00"}
    for results in (store.parent / "first", Path()):
        (results / "plan.json").write_text(json.dumps({"version": 1, "jobs": {OUT: job}}))
    (made,), (taken,) = spent_of(store.parent / "first"), spent_of(Path())
    assert (made.done, made.expected) == (1, 60.0)
    assert (taken.done, taken.expected, taken.spent) == (1, 0.0, 0.0)


def unlock(path: Path) -> Path:
    path.chmod(0o644)
    return path


def flip(folder: Path) -> None:
    unlock(folder / "model.safetensors").write_text("Weights")


def cut(folder: Path) -> None:
    os.truncate(unlock(folder / "model.safetensors"), 3)


def lose(folder: Path) -> None:
    (folder / "heads/nli.json").unlink()


def link_file(folder: Path) -> None:
    copy = folder.parents[3] / "elsewhere"
    (folder / "model.safetensors").rename(copy)
    (folder / "model.safetensors").symlink_to(copy)


def link_folder(folder: Path) -> None:
    copy = folder.parents[3] / "elsewhere"
    (folder / "heads").rename(copy)
    (folder / "heads").symlink_to(copy)


def link_artifact(folder: Path) -> None:
    copy = folder.parents[3] / "elsewhere"
    folder.rename(copy)
    folder.symlink_to(copy)


def pipe(folder: Path) -> None:
    (folder / "heads/nli.json").unlink()
    os.mkfifo(folder / "heads/nli.json")


def edit(folder: Path, **changes: Any) -> None:
    path = unlock(folder / MANIFEST)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def lead_out(folder: Path) -> None:
    file = folder.parent / "key"
    file.write_text("secret")
    known = {"size": 6, "sha256": sha256_file(file)}
    edit(folder, files={**read_manifest(folder).files, "../key": known})


def of_tomorrow(folder: Path) -> None:
    edit(folder, version=2)


def no_files(folder: Path) -> None:
    edit(folder, files=["model.safetensors"])


def no_spec(folder: Path) -> None:
    from xstilts.artifacts.spec import spec_sha256

    edit(folder, spec=[1], spec_sha256=spec_sha256([1]))  # type: ignore[arg-type]


def no_number(folder: Path) -> None:
    path = unlock(folder / MANIFEST)
    path.write_text(path.read_text().replace('"seed": 1', '"seed": NaN'))


def nested(folder: Path) -> None:
    unlock(folder / MANIFEST).write_text("[" * 200_000)


def other_inputs(folder: Path) -> None:
    edit(folder, inputs={BASE: "0" * 64})


def other_name(folder: Path) -> None:
    edit(folder, artifact="checkpoints/m/none/seed-1/qqp")


DAMAGE = {
    flip: "changed",
    cut: "truncated",
    lose: "missing",
    pipe: "manifest",
    link_file: "link",
    link_folder: "link",
    lead_out: "outside",
    of_tomorrow: "version",
    no_files: "manifest",
    no_spec: "manifest",
    no_number: "manifest",
    nested: "manifest",
    other_inputs: "manifest",
    other_name: "manifest",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_what_is_damaged_is_told_and_not_taken(
    store: Path, damage: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = place(store)
    damage(folder)
    before = everything(Path())
    assert not take(Path(OUT), SPEC, store)
    assert "not taken from the store" in capsys.readouterr().err
    assert not Path(OUT).exists()
    assert {path for path in everything(Path()) if not path.startswith("checkpoints")} == {*before}
    name, findings = (
        folder.relative_to(store).as_posix(),
        audit("verify", store, status=1)["findings"],
    )
    (finding,) = (one for one in findings if one["path"].startswith(name))
    assert finding["kind"] == DAMAGE[damage] in KINDS
    assert "remove the artifact's folder and add it again" in finding["hint"]


def test_a_link_in_the_place_of_an_artifact_is_not_followed(store: Path) -> None:
    link_artifact(place(store))
    assert not take(Path(OUT), SPEC, store)
    (finding,) = audit("verify", store, status=1)["findings"]
    assert finding["kind"] == "link"


@pytest.mark.parametrize("record", ["[]", "{", '{"versions": 3}', '{"attempts": {}}'])
def test_a_damaged_record_is_left_out(store: Path, record: str) -> None:
    unlock(place(store) / PROVENANCE).write_text(record)
    assert take(Path(OUT), SPEC, store)
    assert json.loads(Path(OUT, PROVENANCE).read_text()).keys() == {"taken"}


def test_what_cannot_be_read_is_told(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shutil, "copyfile", refuse)
    assert not take(Path(OUT), SPEC, store)
    assert not Path(OUT).exists()


def test_a_user_who_may_only_read_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one, where the tests may become one: pytest's own folders are closed to others."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        store, first, second = (root / name for name in ("store", "first", "second"))
        for path in (store, first, second):
            path.mkdir(mode=0o755)
            monkeypatch.chdir(path)
            if path != store:
                base()
        monkeypatch.chdir(first)
        publish(OUT, SPEC)
        audit("add", store, first)
        for path in [store, *store.rglob("*")]:
            path.chmod(path.stat().st_mode & ~0o222)
        child = os.fork()
        if child == 0:
            os._exit(_take_as_another_user(second, store))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert (second / OUT / MANIFEST).read_bytes() == (first / OUT / MANIFEST).read_bytes()
        monkeypatch.undo()
        for path in [store, *store.rglob("*")]:
            path.chmod(path.stat().st_mode | 0o200)


def _take_as_another_user(results: Path, store: Path) -> int:
    """In a process of its own; 0 if it could read, and could not write."""
    os.chdir(results)
    if os.geteuid() == 0:
        for path in [Path(), *Path().rglob("*")]:
            os.chown(path, 65534, 65534)
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    try:
        (store / "mine").touch()
    except PermissionError:
        return 0 if take(Path(OUT), SPEC, store) else 1
    return 2


# ---- stages


class Ran(Exception):
    """The stage was run."""


def stage(monkeypatch: pytest.MonkeyPatch, store: Path | None, spec: dict[str, Any]) -> None:
    settings_of_process(monkeypatch, json.dumps({"store": str(store)} if store else {}))
    monkeypatch.setitem(cli.STAGES, "finetune", ("test_audit_store", "ran"))
    cli.run_stage("finetune", spec, Path(OUT))


def ran(spec: Any, out: Path) -> None:
    raise Ran(spec["seed"])


def test_a_stage_takes_before_it_runs(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Ran):
        stage(monkeypatch, None, SPEC)
    with pytest.raises(Ran):
        stage(monkeypatch, store, {**SPEC, "seed": 2})
    stage(monkeypatch, store, SPEC)
    assert "taken" in json.loads(Path(OUT, PROVENANCE).read_text())


def test_what_was_kept_comes_before_the_store(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(OUT, SPEC)
    keep(Path(OUT), Path("state"))
    shutil.rmtree(OUT)
    stage(monkeypatch, store, SPEC)
    assert "taken" not in json.loads(Path(OUT, PROVENANCE).read_text())


def test_members_of_a_bundle_are_taken(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    members = {OUT: SPEC, f"{OUT}2": {**SPEC, "seed": 2}}
    with pytest.raises(InputError, match="1 of 2 artifacts"):
        stage(monkeypatch, store, {"stage": "finetune", "members": members})
    assert "taken" in json.loads(Path(OUT, PROVENANCE).read_text())
    assert f"{OUT}2  failed: Ran: 2" in capsys.readouterr().err


def test_a_machine_that_does_not_see_the_store_makes_it_itself(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        with pytest.raises(Ran):
            stage(monkeypatch, store / "lost", SPEC)
    assert capsys.readouterr().err.count("the folder of the store does not exist") == 1


STUDY: dict[str, Any] = {
    "study": "small",
    "models": ["toy-xlmr"],
    "recipes": ["none"],
    "targets": ["toy_nli"],
    "languages": ["qaa"],
    "source_language": "qaa",
    "toyworld": {"sizes": {"corpus": {"train": 9}, "nli": {"train": 9, "dev": 9, "test": 9}}},
    "pretraining": {"corpus": "toy_corpus", "languages": "qaa"},
}


def test_the_study_or_the_environment_names_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def session(**changes: Any) -> Session:
        return Session.of_config(STUDY | changes, "small.yaml", tmp_path, main=False)

    monkeypatch.delenv(STORE_VARIABLE, raising=False)
    without, with_it = session(), session(store="lab")
    assert without.store is None
    assert with_it.store == tmp_path / "lab"
    assert json.loads(with_it.runtime_json)["store"] == str(tmp_path / "lab")
    specs = [{out: job.text for out, job in one.plan.jobs.items()} for one in (without, with_it)]
    assert specs[0] == specs[1]
    monkeypatch.setenv(STORE_VARIABLE, "/other")
    assert session(store="lab").store == Path("/other")


# ---- adding


def test_what_was_added_verifies_and_is_listed(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (store / "README").write_text("The lab's artifacts.")
    found = audit("verify", store)
    assert found["findings"] == []
    names = {(one["stage"], one["artifact"], one["files"]) for one in found["artifacts"]}
    assert names == {("pretrain", BASE, 2), ("finetune", OUT, 2)}  # and no index of a bundle
    capsys.readouterr()
    audit("list", store)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["2", "finetune", "pretrain"]


def test_what_is_there_is_left_alone(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(store)
    audit("add", store, store.parent / "first")
    assert everything(store) == before
    assert "0 artifacts added (0.0 MB), 2 were there already" in capsys.readouterr().out


@pytest.mark.parametrize("mode", [0o755, 0o2775, 0o750, 0o700])
def test_modes_follow_the_stores_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    store, results = tmp_path / "store", tmp_path / "results"
    for folder in (store, results):
        folder.mkdir()
    store.chmod(mode)
    monkeypatch.chdir(results)
    before = os.umask(0o077)
    try:
        base()
        audit("add", store, results)
    finally:
        os.umask(before)
    found = list(store.rglob("*"))
    modes = [stat.S_IMODE(path.stat().st_mode) for path in found]
    assert modes == [mode if path.is_dir() else mode & 0o444 for path in found]


def test_what_is_damaged_is_not_added_and_the_rest_is(tmp_path: Path, store: Path) -> None:
    publish(OUT, SPEC)
    flip(Path(OUT))
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    (finding,) = audit("add", fresh, Path(), status=1)["findings"]
    assert (finding["kind"], finding["path"]) == ("changed", f"{OUT}/model.safetensors")
    assert [path.relative_to(fresh).parts[0] for path in fresh.glob("*/*/*")] == ["pretrain"]


@pytest.mark.parametrize("name", [MANIFEST, PROVENANCE, "model.safetensors", "heads"])
def test_links_are_not_added(tmp_path: Path, store: Path, name: str) -> None:
    publish(OUT, SPEC)
    Path(OUT, name).rename(tmp_path / "elsewhere")
    Path(OUT, name).symlink_to(tmp_path / "elsewhere")
    shutil.rmtree(store)
    store.mkdir()
    (finding,) = audit("add", store, Path(), status=1)["findings"]
    assert (finding["kind"], finding["path"]) == ("link", f"{OUT}/{name}")


def test_an_artifact_under_another_name_is_not_added(store: Path) -> None:
    publish(OUT, SPEC)
    Path(OUT).rename("checkpoints/other")
    results = open_results(Path())
    with pytest.raises(InputError, match="not the manifest of its place"):
        add(store, results, results.read("checkpoints/other"))


def test_many_add_at_once_and_one_is_first(tmp_path: Path, store: Path) -> None:
    """Whoever was slower leaves what is there as it is, and no draft."""
    results = open_results(tmp_path / "first")
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    children = []
    for _ in range(8):
        child = os.fork()
        if child == 0:
            os._exit(1 if add(fresh, results, results.read(OUT)) else 0)
        children.append(child)
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert sum(ends) == 1
    (found,) = fresh.glob("*/*/*")
    assert (found / MANIFEST).read_bytes() == Path(tmp_path, "first", OUT, MANIFEST).read_bytes()


def test_a_draft_is_a_note_and_a_stray_file_a_fault(store: Path) -> None:
    folder = place(store)
    (folder.parent / ".aa.host.77.tmp").mkdir()
    (found,) = audit("verify", store)["findings"]
    assert (found["kind"], found["level"]) == ("stranger", "note")
    (folder / "notes.txt").write_text("")
    (folder.parent / "notes.txt").write_text("")
    found = audit("verify", store, status=1)["findings"]
    assert [one["kind"] for one in found] == ["stranger"] * 3


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["verify", "nowhere"], "the folder of the store does not exist"),
        (["list", "file"], "is no folder"),
        (["verify", "broken"], "gone: the folder of the store does not exist"),
        (["add", "store"], "`store add` wants results folders"),
        (["list", "store", "results"], "`store list` takes no PATH"),
        (["add", "results", "store"], "is no store: it holds a folder 'models'"),
        (["add", "store", "nowhere"], "there is no such file or folder"),
        (["add", "store", "store"], "is no results folder"),
    ],
)
def test_wrong_calls(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    problem: str,
) -> None:
    for name in ("store", "results"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "results")
    base()
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("broken").symlink_to("gone")
    assert cli.main(["audit", "store", *words]) == 2
    assert problem in capsys.readouterr().err

"""Publishing: whole or not at all, whatever happens."""

import errno
import hashlib
import json
import multiprocessing
import os
import resource
import signal
from pathlib import Path

import pytest

from xstilts.artifacts import publish
from xstilts.artifacts.manifest import MANIFEST, check_file, read_manifest
from xstilts.artifacts.publish import publishing
from xstilts.errors import InputError

SPEC = {"stage": "x", "numbers": [2, 1]}
OUT = Path("data/out")


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(text: str, spec=SPEC, out: Path = OUT) -> None:
    with publishing(out, spec) as draft:
        (draft.folder / "a.txt").write_text(text)
        (draft.folder / "deep/er").mkdir(parents=True)
        (draft.folder / "deep/er/b.bin").write_bytes(b"\0")


def make_half(error: type[BaseException]) -> None:
    with publishing(OUT, SPEC) as draft:
        (draft.folder / "a.txt").write_text("half")
        raise error


def leftovers() -> list[str]:
    return [path.name for path in OUT.parent.iterdir() if path.name != OUT.name]


def test_the_manifest_is_what_was_worked_out_by_hand():
    make("in", {"stage": "x"}, Path("data/in"))
    make("é", SPEC | {"inputs": {"raw": "data/in", "more": ["data/in"]}})
    content = json.loads((OUT / MANIFEST).read_text())
    assert content == {
        "version": 1,
        "artifact": "data/out",
        "spec": {
            "stage": "x",
            "numbers": [2, 1],
            "inputs": {"raw": "data/in", "more": ["data/in"]},
        },
        "spec_sha256": hashlib.sha256(
            b'{"inputs":{"more":["data/in"],"raw":"data/in"},"numbers":[2,1],"stage":"x"}'
        ).hexdigest(),
        "inputs": {
            "data/in": hashlib.sha256(Path("data/in/manifest.json").read_bytes()).hexdigest()
        },
        "files": {
            "a.txt": {"size": 2, "sha256": hashlib.sha256("é".encode()).hexdigest()},
            "deep/er/b.bin": {"size": 1, "sha256": hashlib.sha256(b"\0").hexdigest()},
        },
    }
    assert (OUT / "provenance.json").exists()


def test_the_same_bytes_have_the_same_manifest():
    make("a")
    first = (OUT / MANIFEST).read_bytes()
    make("a")
    assert (OUT / MANIFEST).read_bytes() == first
    assert leftovers() == []


def test_a_new_artifact_replaces_all_of_the_old_one():
    make("old")
    (OUT / "stray").touch()
    with publishing(OUT, SPEC) as draft:
        (draft.folder / "a.txt").write_text("new")
    assert sorted(os.listdir(OUT)) == ["a.txt", MANIFEST, "provenance.json"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_one(error):
    make("old")
    with pytest.raises(error):
        make_half(error)
    assert check_file(OUT, "a.txt").read_text() == "old"
    assert leftovers() == []


def test_a_missing_input_leaves_nothing():
    make("old")
    with pytest.raises(InputError, match="an input is missing"):
        make("new", SPEC | {"inputs": {"raw": "data/none"}})
    assert check_file(OUT, "a.txt").read_text() == "old"
    assert leftovers() == []


def test_a_failed_rename_puts_the_old_one_back(monkeypatch):
    make("old")
    rename, calls = Path.rename, []

    def failing(self, target):
        calls.append(target)
        if len(calls) == 2:  # the old one is out of the way, the new one is not yet there
            raise OSError(errno.EIO, "no luck")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="no luck"):
        make("new")
    assert check_file(OUT, "a.txt").read_text() == "old"
    assert leftovers() == []


def _killed_between_the_renames(folder: Path) -> None:
    os.chdir(folder)
    publish.fsync = lambda path: None
    rename = Path.rename

    def killing(self, target):
        if self.suffix == ".tmp":
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(self, target)

    Path.rename = killing
    make("new")


def test_a_kill_between_the_renames_leaves_no_half_artifact(results):
    make("old")
    child = multiprocessing.get_context("fork").Process(
        target=_killed_between_the_renames, args=(results,)
    )
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert not OUT.exists()
    assert len(leftovers()) == 2
    make("again")
    assert check_file(OUT, "a.txt").read_text() == "again"
    assert leftovers() == []


def test_drafts_of_living_processes_and_other_artifacts_stay(results):
    host = publish.host_name()
    parent = os.getppid()
    for name in (f".out.{host}.{parent}.tmp", f".other.{host}.999999.tmp", ".out.elsewhere.1.tmp"):
        (OUT.parent / name).mkdir(parents=True)
    make("a")
    assert len(leftovers()) == 3


def _publish_often(folder: Path, text: str) -> None:
    os.chdir(folder)
    for _ in range(15):
        make(text)


def test_two_publishers_leave_one_whole_artifact(results):
    context = multiprocessing.get_context("fork")
    children = [
        context.Process(target=_publish_often, args=(results, text)) for text in ("one", "two")
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    assert check_file(OUT, "a.txt").read_text() in ("one", "two")
    assert leftovers() == []


def _publish_on_a_full_disk(folder: Path) -> None:
    os.chdir(folder)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    try:
        make("x" * 5000)
    except OSError as error:
        os._exit(error.errno)


def test_a_full_disk_leaves_the_old_one(results):
    make("old")
    child = multiprocessing.get_context("fork").Process(
        target=_publish_on_a_full_disk, args=(results,)
    )
    child.start()
    child.join()
    assert child.exitcode == errno.EFBIG
    assert check_file(OUT, "a.txt").read_text() == "old"
    assert leftovers() == []


def test_every_file_and_folder_is_synced_before_the_rename(monkeypatch):
    synced: list[str] = []
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}").rsplit(".tmp", 1)[-1])
        fsync(descriptor)

    monkeypatch.setattr(publish.os, "fsync", noting)
    make("a")
    wanted = ["", "/a.txt", "/deep", "/deep/er", "/deep/er/b.bin", "/manifest.json"]
    assert set(wanted) <= set(synced)
    assert synced[-1].endswith("/data")  # the folder that holds the new name, last


def test_the_record_is_no_part_of_the_manifest():
    with publishing(OUT, SPEC) as draft:
        draft.record.add(steps=3)
    assert read_manifest(OUT).files == {}
    assert json.loads((OUT / "provenance.json").read_text())["steps"] == 3

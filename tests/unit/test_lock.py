"""The lock file, and how it is resolved from the Hub, mirrors, URLs and the user's files."""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING, Any

import pytest

from hub_samples import (
    EN,
    SW,
    archive_row,
    model,
    model_files,
    parquet,
    row,
    small_repository,
    tar_bz2,
    write_files,
)
from hub_server import Hub, serving, set_runtime, sha256, use
from xstilts.data import patience, sources
from xstilts.data.lock import Entry, Lock, LockedFile, read_lock, write_lock
from xstilts.data.resolve import MODEL_FILES, resolve
from xstilts.errors import InputError
from xstilts.runtime import runtime

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_runtime() -> Iterator[None]:
    yield
    runtime.cache_clear()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    set_runtime(monkeypatch)
    with serving() as server:
        use(monkeypatch, server, tmp_path / "home")
        yield server


# ---- the file


def locked(**changes: Any) -> Lock:
    file = LockedFile(size=3, sha256=sha256(b"abc"), split="train")
    entry = Entry(source="hf:owner/small", revision="a" * 40, files={"b": file, "a": file})
    return Lock(datasets={"small/en": entry.model_copy(update=changes)}, models={"tiny": entry})


def test_a_lock_is_written_sorted_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "studies" / "paper.lock.json"
    write_lock(path, locked(absent=("test",)))
    text = path.read_text()
    assert read_lock(path) == locked(absent=("test",))
    assert list(json.loads(text)["datasets"]["small/en"]["files"]) == ["a", "b"]
    assert "absent" not in json.loads(text)["models"]["tiny"]
    write_lock(path, read_lock(path))
    assert path.read_text() == text
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_a_lock_is_replaced_and_never_half_written(tmp_path: Path) -> None:
    path, opened_before = tmp_path / "lock.json", tmp_path / "same file"
    write_lock(path, locked())
    opened_before.hardlink_to(path)
    write_lock(path, Lock())
    assert read_lock(opened_before) == locked()
    assert read_lock(path) == Lock()


def test_a_missing_lock_locks_nothing(tmp_path: Path) -> None:
    lock = read_lock(tmp_path / "none.json")
    assert lock == Lock()
    assert lock.dataset("small", "en") is None
    assert lock.model("tiny") is None


def test_a_spec_holds_revision_and_files_only() -> None:
    spec = locked(absent=("test",)).dataset("small", "en")
    assert spec is not None
    assert spec.keys() == {"revision", "files"}
    assert spec["files"]["a"] == {"size": 3, "sha256": sha256(b"abc"), "split": "train"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "lock.json"),
        ('{"version": 2}', "version"),
        ('{"version": 1, "dataset": {}}', "dataset.*Did you mean 'datasets'"),
        (
            '{"datasets": {"d/c": {"source": "files", "revision": null, "files": '
            '{"f": {"size": 1, "sha256": "0"}}}}}',
            "files.f.sha256",
        ),
        (
            '{"datasets": {"d/c": {"source": "files", "revision": null, "files": '
            f'{{"f": {{"size": 1, "sha256": "{"0" * 64}", "split": "../up"}}}}}}}}}}',
            "files.f.split",
        ),
    ],
)
def test_a_malformed_lock_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "lock.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_lock(path)


# ---- the Hub


def test_the_hub_and_a_mirror_of_it_lock_alike(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = small_repository()
    commit = hub.publish("owner/small", files)
    from_hub, changes = resolve([EN, SW], Lock())
    assert [change.key for change in changes] == ["small/en", "small/sw"]
    entry = from_hub.datasets["small/en"]
    assert entry.revision == commit
    assert entry.source == "hf:owner/small"
    assert {path: file.split for path, file in entry.files.items()} == {
        "en/train-00000-of-00002.parquet": "train",
        "en/train-00001-of-00002.parquet": "train",
        "en/validation-00000-of-00001.parquet": "validation",
    }
    path = "en/validation-00000-of-00001.parquet"
    assert entry.files[path].sha256 == sha256(files[path])
    assert from_hub.datasets["small/sw"].absent == ("train",)
    assert "there is no split 'train'" in str(changes[1])

    set_runtime(monkeypatch, mirror=str(tmp_path / "mirror"))
    write_files(tmp_path / "mirror" / "owner" / "small", files)
    from_mirror, _ = resolve([EN, SW], Lock())
    unpinned = {
        key: entry.model_copy(update={"revision": None}) for key, entry in from_hub.datasets.items()
    }
    assert from_mirror.datasets == unpinned


def test_a_repository_is_listed_once_and_nothing_big_is_downloaded(hub: Hub) -> None:
    hub.publish("owner/small", small_repository())
    lock, _ = resolve([EN, SW], Lock())
    trees = [request for request in hub.requests if "/tree/" in request]
    assert len(trees) == 2  # two pages
    assert not [request for request in hub.requests if "parquet" in request or "cdn" in request]
    hub.requests.clear()
    assert resolve([EN, SW], lock) == (lock, [])
    assert hub.requests == []


def test_a_new_configuration_is_taken_at_the_locked_revision(hub: Hub) -> None:
    old = hub.publish("owner/small", small_repository())
    lock, _ = resolve([EN], Lock())
    hub.publish("owner/small", small_repository() | {"sw/validation-x.parquet": parquet("new")})
    lock, changes = resolve([EN, SW], lock)
    assert [change.key for change in changes] == ["small/sw"]
    assert lock.datasets["small/sw"].revision == old
    assert len(lock.datasets["small/sw"].files) == 1


def test_refresh_reports_what_changed(hub: Hub) -> None:
    old = hub.publish("owner/small", small_repository())
    lock, _ = resolve([EN, SW], Lock())
    assert resolve([EN, SW], lock, refresh=True) == (lock, [])
    changed = small_repository() | {
        "en/train-00001-of-00002.parquet": parquet("drei"),
        "en/train-00002-of-00002.parquet": parquet("four"),
    }
    del changed["en/train-00000-of-00002.parquet"]
    new = hub.publish("owner/small", changed)
    assert resolve([EN, SW], lock) == (lock, [])
    fresh, changes = resolve([EN], lock, refresh=True)
    assert changes[0].what == "changed"
    assert changes[0].details == (
        f"revision {old} -> {new}",
        "en/train-00000-of-00002.parquet is gone",
        "en/train-00001-of-00002.parquet has other bytes",
        "en/train-00002-of-00002.parquet is new",
    )
    assert fresh.datasets["small/sw"] == lock.datasets["small/sw"]


def test_refresh_keeps_an_entry_whose_files_are_the_same(hub: Hub) -> None:
    """A new commit alone must fetch nothing again, and so train nothing again."""
    old = hub.publish("owner/small", small_repository())
    lock, _ = resolve([EN], Lock())
    new = hub.publish("owner/small", small_repository() | {"NEWS.md": b"A licence."})
    assert old != new
    fresh, changes = resolve([EN], lock, refresh=True)
    assert fresh == lock
    assert str(changes[0]) == (
        f"small/en: kept: revision {old} -> {new} has the same files, the old one is kept"
    )
    assert len(changes) == 1


def test_an_entry_is_resolved_again_when_the_row_wants_more(hub: Hub) -> None:
    hub.publish("owner/small", small_repository())
    lock, _ = resolve([(row(splits={"train": "train"}), "en", "en")], Lock())
    lock, changes = resolve([EN], lock)
    assert changes[0].details == ("en/validation-00000-of-00001.parquet is new",)
    hub.publish("owner/other", small_repository())
    other = row({"hub": "owner/other", "config": "{code}"})
    lock, changes = resolve([(other, "en", "en")], lock)
    assert changes[0].details[0] == "source hf:owner/small -> hf:owner/other"


@pytest.mark.parametrize("languages", [("en", "sw"), ("sw", "en")])
def test_languages_that_share_a_configuration_share_its_splits(
    hub: Hub, languages: tuple[str, str]
) -> None:
    hub.publish("owner/small", small_repository())
    shared = row({"hub": "owner/small", "config": "en"}, only={"train": ["sw"]})
    lock, _ = resolve([(shared, "en", language) for language in languages], Lock())
    assert len(lock.datasets["small/en"].files) == 3


def test_a_file_of_two_splits_is_refused(hub: Hub) -> None:
    readme = """---
configs:
- config_name: en
  data_files:
  - {split: train, path: all.parquet}
  - {split: validation, path: all.parquet}
---
"""
    hub.publish("owner/small", {"README.md": readme.encode(), "all.parquet": parquet("a")})
    with pytest.raises(InputError, match=r"all\.parquet belongs to train and validation"):
        resolve([EN], Lock())


def test_a_branch_and_the_first_files(hub: Hub) -> None:
    hub.publish("owner/small", {"README.md": b"", "small.py": b"raise SystemExit"})
    files = {
        "default/train/0000.parquet": parquet("a"),
        "default/train/0001.parquet": parquet("b"),
        "default/validation/0000.parquet": parquet("c"),
    }
    commit = hub.publish("owner/small", files, branch="refs/convert/parquet")
    source = {"hub": "owner/small", "config": "default", "revision": "refs/convert/parquet"}
    lock, _ = resolve([(row(source | {"first_files": 1}), "default", "en")], Lock())
    entry = lock.datasets["small/default"]
    assert entry.source == "hf:owner/small@refs/convert/parquet"
    assert entry.revision == commit
    assert sorted(entry.files) == ["default/train/0000.parquet", "default/validation/0000.parquet"]
    with pytest.raises(InputError, match="loading script"):
        resolve([(row({"hub": "owner/small", "config": "default"}), "default", "en")], Lock())


def test_files_without_lfs_are_downloaded_and_hashed(hub: Hub) -> None:
    lines = b'{"text": "a"}\n'
    hub.publish("owner/small", {"data/train.jsonl": lines, "data/validation.jsonl": lines * 2})
    source = {"hub": "owner/small", "config": "default"}
    lock, _ = resolve([(row(source), "default", "en")], Lock())
    file = lock.datasets["small/default"].files["data/validation.jsonl"]
    assert (file.size, file.sha256, file.split) == (28, sha256(lines * 2), "validation")


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ((row({"hub": "owner/nothing", "config": "en"}), "en", "en"), "no such repository"),
        ((row(), "swa", "sw"), "no configuration 'swa'. Did you mean 'sw'?"),
        ((row(splits={"test": "test"}), "en", "en"), "expected test; found train, validation"),
    ],
)
def test_what_the_hub_does_not_have(hub: Hub, wanted: Any, message: str) -> None:
    hub.publish("owner/small", small_repository())
    with pytest.raises(InputError) as error:
        resolve([wanted], Lock())
    assert message in str(error.value)


def test_an_overloaded_hub_is_asked_again_and_named_in_the_end(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = use(monkeypatch, hub, tmp_path / "home")
    hub.publish("owner/small", small_repository())
    hub.fail("/api/datasets/owner/small", times=2)
    assert len(resolve([EN], Lock())[1]) == 1
    assert pauses == list(patience.BACKOFF)
    hub.fail("/api/datasets/owner/small", times=100)
    with pytest.raises(InputError, match=r"datasets/owner/small.*3 attempts failed.*HTTP 503"):
        resolve([EN], Lock())


def test_offline_mode_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="Unset HF_HUB_OFFLINE"):
        resolve([EN], Lock())


# ---- a mirror


def test_a_mirror_that_lacks_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = tmp_path / "mirror"
    set_runtime(monkeypatch, mirror=str(mirror))
    with pytest.raises(InputError, match="folder does not exist"):
        resolve([EN], Lock())
    write_files(mirror / "owner" / "smal", small_repository())
    with pytest.raises(InputError, match=r"no repository 'owner/small'. Did you mean 'owner/smal'"):
        resolve([EN], Lock())
    (mirror / "owner" / "smal").rename(mirror / "owner" / "small")
    (mirror / "owner" / "small" / "sw" / "validation-00000-of-00001.parquet").unlink()
    with pytest.raises(InputError, match="sw: the configuration has none of the splits"):
        resolve([SW], Lock())


def test_a_downloaded_mirror_knows_its_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_files(tmp_path / "owner" / "small", small_repository())
    note = folder / ".cache" / "huggingface" / "download" / "README.md.metadata"
    note.parent.mkdir(parents=True)
    note.write_text(f"{'c' * 40}\netag\n1.0\n")
    set_runtime(monkeypatch, mirror=str(tmp_path))
    lock, _ = resolve([SW], Lock())
    assert lock.datasets["small/sw"].revision == "c" * 40


def test_a_mirror_behind_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path / "disk" / "owner" / "small", small_repository())
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    set_runtime(monkeypatch, mirror=str(tmp_path / "link"))
    lock, _ = resolve([SW], Lock())
    assert list(lock.datasets["small/sw"].files) == ["sw/validation-00000-of-00001.parquet"]


def test_the_library_itself_reads_the_same_files(
    shared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from datasets import load_dataset_builder

    set_runtime(monkeypatch, mirror=str(shared / "hub"))
    source = {"hub": "google-research-datasets/paws-x", "config": "{code}"}
    lock, _ = resolve([(row(source, languages=["en"]), "en", "en")], Lock())
    folder = (shared / "hub" / "google-research-datasets" / "paws-x").resolve()
    builder = load_dataset_builder(str(folder), "en", cache_dir=str(tmp_path))
    for split in ("train", "validation"):
        paths = builder.config.data_files[split]
        files = lock.datasets["small/en"].files
        mine = [folder / path for path in files if files[path].split == split]
        assert [str(path) for path in mine] == list(paths)


def test_real_slices_lock_alike_from_a_mirror_and_over_http(
    hub: Hub, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish_folder("google/xtreme", shared / "hub" / "google" / "xtreme")
    source = {"hub": "google/xtreme", "config": "XQuAD.{code}"}
    wanted = [
        (row(source, languages=["ar", "de"], splits={"test": "validation"}), f"XQuAD.{code}", code)
        for code in ("ar", "de")
    ]
    over_http, _ = resolve(wanted, Lock())
    set_runtime(monkeypatch, mirror=str(shared / "hub"))
    refreshed, changes = resolve(wanted, over_http, refresh=True)
    assert refreshed == over_http  # the bytes are the same, so the locked revision is kept
    assert [change.what for change in changes] == ["kept"] * 2


# ---- models


def test_a_model_locks_safetensors_and_its_tokenizer(hub: Hub) -> None:
    commit = hub.publish("owner/tiny", model_files(), "models")
    lock, changes = resolve([model()], Lock())
    entry = lock.models["tiny"]
    expected = ["config.json", "model.safetensors", "sentencepiece.bpe.model", "tokenizer.json"]
    assert sorted(entry.files) == expected
    assert entry.revision == commit
    assert entry.files["tokenizer.json"].sha256 == sha256(b"{ }")
    assert changes[0].key == "tiny"
    assert lock.datasets == {}


def test_a_model_without_safetensors_is_refused(hub: Hub) -> None:
    files = model_files()
    del files["model.safetensors"]
    hub.publish("owner/tiny", files, "models")
    with pytest.raises(InputError, match=r"no \*.safetensors.*found .*pytorch_model.bin"):
        resolve([model()], Lock())
    assert not any(pattern.endswith((".bin", ".pt", ".h5")) for pattern in MODEL_FILES)


def test_what_has_no_files_is_passed_over(hub: Hub) -> None:
    sizes = {"layers": 2, "hidden": 8, "heads": 1, "intermediate": 8, "vocab_size": 10}
    toy = (row({"toyworld": "corpus"}), "en", "en")
    assert resolve([model(hub=None, scratch=sizes), toy], Lock()) == (Lock(), [])
    assert hub.requests == []


# ---- URLs and the user's files


def test_members_of_an_archive_are_locked(hub: Hub) -> None:
    files = {"./pack/en.txt": b"english", "./pack/all.txt": b"all", "../evil": b"x"}
    url = hub.file("pack.tar.bz2", tar_bz2(files))
    wanted = (archive_row(url), "en", "en")
    lock, _ = resolve([wanted], Lock())
    entry = lock.datasets["small/en"]
    assert entry.source == url
    assert {name: file.sha256 for name, file in entry.files.items()} == {
        "text.en": sha256(b"english"),
        "all": sha256(b"all"),
    }
    assert resolve([wanted], lock) == (lock, [])
    assert len(hub.requests) == 1
    with pytest.raises(InputError, match=r"no member 'pack/sw.txt'. Did you mean '.*pack/en.txt'"):
        resolve([(archive_row(url), "sw", "sw")], lock)


def test_a_member_that_is_there_twice_is_refused(hub: Hub) -> None:
    pack = tar_bz2({"pack/en.txt": b"e", "pack/all.txt": b"a"})
    urls = {"one": hub.file("1.tar.bz2", pack), "two": hub.file("2.tar.bz2", pack)}
    wanted = archive_row("http://replaced", urls=urls)
    with pytest.raises(InputError, match=r"2\.tar\.bz2: the member 'pack/en.txt' is there twice"):
        resolve([(wanted, "en", "en")], Lock())


def test_a_full_disk_is_not_taken_for_a_damaged_archive(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = hub.file("pack.tar.bz2", tar_bz2({"pack/en.txt": b"e", "pack/all.txt": b"a"}))

    def no_space(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sources, "copy_bytes", no_space)
    with pytest.raises(OSError, match="No space left"):
        resolve([(archive_row(url), "en", "en")], Lock())


def test_refresh_downloads_again(hub: Hub) -> None:
    url = hub.file("en.txt", b"old")
    wanted = (row({"urls": {"text": url}}), "en", "en")
    lock, _ = resolve([wanted], Lock())
    hub.file("en.txt", b"new bytes")
    assert resolve([wanted], lock) == (lock, [])
    lock, changes = resolve([wanted], lock, refresh=True)
    assert changes[0].details == ("text has other bytes",)
    assert lock.datasets["small/en"].files["text"].size == 9


def test_known_checksums_are_checked(hub: Hub) -> None:
    url = hub.file("pack.tar.bz2", tar_bz2({"pack/en.txt": b"e", "pack/all.txt": b"a"}))
    good = archive_row(url, sha256={"all": sha256(b"a"), "text.sw": sha256(b"other language")})
    assert len(resolve([(good, "en", "en")], Lock())[1]) == 1
    bad = archive_row(url, sha256={"all": "0" * 64})
    with pytest.raises(InputError, match=f"all has sha256 {sha256(b'a')} and not the known 0000"):
        resolve([(bad, "en", "en")], Lock())
    unknown = archive_row(url, sha256={"alle": sha256(b"a")})
    with pytest.raises(InputError, match=r"no file is stored as 'alle'. Did you mean 'all'"):
        resolve([(unknown, "en", "en")], Lock())


def test_a_damaged_archive_in_the_cache_is_downloaded_again(hub: Hub, tmp_path: Path) -> None:
    content = tar_bz2({"pack/en.txt": b"e" * 5000, "pack/all.txt": b"a"})
    url = hub.file("pack.tar.bz2", content[:-20])
    with pytest.raises(InputError, match="cannot be read"):
        resolve([(archive_row(url), "en", "en")], Lock())
    hub.file("pack.tar.bz2", content)
    lock, _ = resolve([(archive_row(url), "en", "en")], Lock())
    assert lock.datasets["small/en"].files["text.en"].size == 5000


def test_a_connection_cut_short_is_tried_again(hub: Hub) -> None:
    url = hub.file("en.txt", b"line\n" * 100)
    hub.cut("en.txt", times=1)
    lock, _ = resolve([(row({"urls": {"text": url}}), "en", "en")], Lock())
    assert lock.datasets["small/en"].files["text"].sha256 == sha256(b"line\n" * 100)
    hub.cut("en.txt", times=100)
    with pytest.raises(InputError, match=r"files/en.txt.*3 attempts failed"):
        resolve([(row({"urls": {"text": url}}), "en", "en")], Lock(), refresh=True)


def test_a_server_that_does_not_answer_is_asked_again(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "TIMEOUT", (1.0, 0.1))
    url = hub.file("en.txt", b"text")
    hub.hang("en.txt", times=1)
    assert len(resolve([(row({"urls": {"text": url}}), "en", "en")], Lock())[1]) == 1
    hub.hang("en.txt", times=3)
    with pytest.raises(InputError, match=r"en.txt.*3 attempts failed.*timed out"):
        resolve([(row({"urls": {"text": url}}), "en", "en")], Lock(), refresh=True)


def test_a_url_without_a_file(hub: Hub) -> None:
    wanted = (row({"urls": {"text": f"{hub.url}/files/none.txt"}}), "en", "en")
    with pytest.raises(InputError, match=r"none.txt: could not be fetched: 1 attempt.*HTTP 404"):
        resolve([wanted], Lock())


def test_the_users_files_are_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = {"files": ["{code}.tags"], "hint": "Buy LDC2005T13 and convert it"}
    wanted = (row(source), "en", "en")
    set_runtime(monkeypatch)
    with pytest.raises(InputError, match=r"Buy LDC2005T13.*`files: \{small: <folder>\}`"):
        resolve([wanted], Lock())
    set_runtime(monkeypatch, files={"small": str(tmp_path)})
    (tmp_path / "en.tag").write_text("a")
    with pytest.raises(InputError, match=r"en.tags: the file is missing; found en.tag\. Buy"):
        resolve([wanted], Lock())
    (tmp_path / "en.tags").write_bytes(b"a\tN")
    lock, _ = resolve([wanted], Lock())
    assert lock.datasets["small/en"].source == "files"
    assert lock.datasets["small/en"].files["en.tags"].sha256 == sha256(b"a\tN")

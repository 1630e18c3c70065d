"""A study with its lock, its folders and its wildcards."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hub_samples import small_repository, write_files
from xstilts.errors import InputError
from xstilts.runtime import Runtime, runtime
from xstilts.session import MIRROR_VARIABLE, Session

ROWS = {
    "datasets": {
        "small": {
            "title": "Small",
            "format": "masked_lm",
            "source": {"hub": "owner/small", "config": "{code}"},
            "languages": ["en", "sw"],
            "splits": {"train": "train", "dev": "validation"},
            "only": {"train": ["en"]},
            "fields": {"text": "text"},
            "licence": "CC0-1.0",
        }
    }
}
STUDY: dict[str, Any] = {
    "study": "s",
    "models": ["toy-xlmr"],
    "registry": "rows.yaml",
    "mirror": "mirror",
    "files": {"ccg": "ccg"},
    "recipes": ["none", "toy.nli+x"],
    "targets": ["toy_nli"],
    "source_language": "qaa",
    "languages": ["qaa"],
    "toyworld": {"sizes": {"nli": {"train": 9, "dev": 9, "test": 9}}},
    "pretraining": {"corpus": "small", "languages": "en"},
    "evaluation": {"batch_tokens": 77},
    "log_seconds": 3,
}
STUDY["recipes"] = {"none": None, "toy.nli+x": {"tasks": "toy_nli"}}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)
    monkeypatch.setenv("XSTILTS_RUNTIME", "{}")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    runtime.cache_clear()
    write_files(tmp_path / "mirror" / "owner" / "small", small_repository())
    (tmp_path / "rows.yaml").write_text(json.dumps(ROWS))
    return tmp_path


def opened(root: Path, main: bool = False, **changes: Any) -> Session:
    return Session.of_config(STUDY | changes, "s.yaml", root, main)


def test_folders_start_from_the_snakefile(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = opened(root)
    assert session.results == root / "results" / "s"
    settings = Runtime.model_validate_json(session.runtime_json)
    assert settings.mirror == root / "mirror"
    assert settings.files == {"ccg": root / "ccg"}
    assert settings.eval_batch_tokens == 77
    assert settings.log_seconds == 3
    monkeypatch.setenv(MIRROR_VARIABLE, "other")
    assert opened(root).mirror == root / "other"


def test_wildcards_are_the_studys_own_names(root: Path) -> None:
    found = opened(root).constraints
    assert re.fullmatch(found["recipe"], "toy.nli+x")
    assert not re.fullmatch(found["recipe"], "toy_nli+x")
    assert re.fullmatch(found["scratch_model"], "toy-xlmr")
    assert not re.fullmatch(found["hub_model"], "toy-xlmr")  # there is none: nothing fits
    assert not re.fullmatch(found["hub_model"], "")
    assert sorted(found["language"].split("|")) == ["en", "qaa"]


def test_the_driver_locks_a_local_mirror_and_a_job_does_not(root: Path) -> None:
    lock = root / "studies" / "s.lock.json"
    fetch = "data/raw/small/en"
    assert opened(root).plan.jobs[fetch].spec["lock"] is None
    assert not lock.exists()
    locked = opened(root, main=True).plan.jobs[fetch].spec["lock"]
    assert len(locked["files"]) == 3
    assert lock.exists()
    # What it says is what every later process takes.
    assert opened(root).plan.jobs[fetch].spec["lock"] == locked


def test_the_driver_locks_the_users_copies_of_what_urls_give(root: Path) -> None:
    url = {"urls": {"a.txt": "http://127.0.0.1:9/a.txt"}}
    row = ROWS["datasets"]["small"] | {"source": url, "layout": "lines"}
    row |= {"languages": ["en"], "splits": {"train": "a.txt"}, "only": {}}
    (root / "rows.yaml").write_text(json.dumps({"datasets": {"small": row}}))
    write_files(root / "mine", {"a.txt": b"one line\n"})
    fetch = "data/raw/small/en"
    # Nothing goes to the network on the way.
    assert opened(root, main=True, mirror=None).plan.jobs[fetch].spec["lock"] is None
    locked = opened(root, main=True, mirror=None, files={"small": "mine"}).plan.jobs[fetch].spec
    assert list(locked["lock"]["files"]) == ["a.txt"]


def test_the_driver_tells_what_cannot_be_locked(root: Path) -> None:
    (root / "mirror" / "owner" / "small").rename(root / "mirror" / "owner" / "smal")
    with pytest.raises(InputError, match=r"no repository 'owner/small'\. Did you mean") as error:
        opened(root, main=True)
    assert "Traceback" not in str(error.value)


def test_without_a_mirror_nothing_is_resolved_on_the_way(root: Path) -> None:
    plan = opened(root, main=True, mirror=None).plan
    assert plan.jobs["data/raw/small/en"].spec["lock"] is None


def test_a_key_that_stands_there_twice_in_the_studys_file(root: Path) -> None:
    path = root / "s.yaml"
    path.write_text("study: a\nstudy: b\n")
    with pytest.raises(InputError, match=r"s\.yaml: line 2: the key 'study' stands there twice"):
        Session.of_config({"study": "b"}, str(path), root)

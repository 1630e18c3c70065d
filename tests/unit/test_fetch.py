"""Stage `fetch`: the locked bytes or a clear error, from every kind of source."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save

from hub_samples import (
    EN,
    SW,
    WEIGHTS,
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
from xstilts.artifacts.manifest import read_manifest
from xstilts.data.fetch import fetch_model_files, run, run_model, run_translator
from xstilts.data.lock import Lock, write_lock
from xstilts.data.resolve import Wanted, resolve
from xstilts.errors import InputError
from xstilts.registry.rows import TranslatorRow
from xstilts.runtime import runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

VALIDATION = "en/validation-00000-of-00001.parquet"


@pytest.fixture(autouse=True)
def _no_runtime() -> Iterator[None]:
    yield
    runtime.cache_clear()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.chdir(tmp_path)
    set_runtime(monkeypatch)
    with serving() as server:
        use(monkeypatch, server, tmp_path / "home")
        yield server


def fetch(wanted: Wanted, lock: Lock) -> dict[str, bytes]:
    """Fetch what is wanted as the workflow does; the artifact's files but manifest and record."""
    assert isinstance(wanted, tuple)
    dataset, config, _ = wanted
    out = Path("data/raw", dataset.name, config)
    spec = {
        "stage": "fetch",
        "dataset": dataset.name,
        "config": config,
        "source": dataset.source.model_dump(mode="json"),
        "layout": dataset.layout,
        "lock": lock.dataset(dataset.name, config),
    }
    run(spec, out)
    assert not list(out.parent.glob(".*"))
    return {name: (out / name).read_bytes() for name in read_manifest(out).files}


def nothing_published() -> bool:
    return not list(Path("data").rglob("*.parquet")) and not list(Path("data").rglob("*.json"))


def only(hub: Hub) -> Lock:
    hub.publish("owner/small", small_repository())
    return resolve([EN, SW], Lock())[0]


# ---- the Hub


def test_the_locked_files_are_fetched(hub: Hub) -> None:
    lock = only(hub)
    files = small_repository()
    assert fetch(EN, lock) == {
        "train/train-00000-of-00002.parquet": files["en/train-00000-of-00002.parquet"],
        "train/train-00001-of-00002.parquet": files["en/train-00001-of-00002.parquet"],
        "validation/validation-00000-of-00001.parquet": files[VALIDATION],
    }


def test_a_new_revision_changes_nothing(hub: Hub) -> None:
    lock = only(hub)
    hub.publish("owner/small", {path: parquet("changed") for path in small_repository()})
    name = "validation/validation-00000-of-00001.parquet"
    assert fetch(SW, lock)[name] == parquet("moja", "mbili")


def test_offline_afterwards(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    lock = only(hub)
    first = fetch(EN, lock)
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(EN, lock) == first
    assert hub.requests == []
    with pytest.raises(InputError, match=r"sw/validation.*Unset HF_HUB_OFFLINE"):
        fetch(SW, lock)


def test_without_a_lock(hub: Hub) -> None:
    with pytest.raises(InputError, match=r"small/en: is not in the lock file. Run `xstilts lock`"):
        fetch(EN, Lock())
    assert nothing_published()


def test_a_connection_cut_short_is_resumed(hub: Hub) -> None:
    lock = only(hub)
    hub.cut("sw/validation", times=1)
    assert list(fetch(SW, lock).values()) == [parquet("moja", "mbili")]
    assert len([request for request in hub.requests if "GET /cdn/" in request]) == 2


def test_a_shorter_file_that_the_server_vouches_for_is_fetched_again(hub: Hub) -> None:
    lock = only(hub)
    hub.shorten("sw/validation", times=1)
    assert list(fetch(SW, lock).values()) == [parquet("moja", "mbili")]
    assert len([request for request in hub.requests if "GET /cdn/" in request]) == 2


def test_a_file_that_stays_short_is_refused(hub: Hub) -> None:
    lock = only(hub)
    hub.shorten("sw/validation", times=100)
    size = len(parquet("moja", "mbili"))
    with pytest.raises(InputError, match=f"downloaded twice: expected size {size} bytes") as error:
        fetch(SW, lock)
    commit = lock.datasets["small/sw"].revision
    assert f"/datasets/owner/small/resolve/{commit}/sw/validation-" in str(error.value)
    assert nothing_published()


def test_a_damaged_cache_is_mended(hub: Hub, tmp_path: Path) -> None:
    lock = only(hub)
    good = fetch(SW, lock)
    (blob,) = (path for path in (tmp_path / "home").rglob("sw/*.parquet"))
    size = blob.stat().st_size
    blob.resolve().write_bytes(b"x" * size)
    assert fetch(SW, lock) == good


def test_an_overloaded_hub_is_asked_again(hub: Hub, tmp_path: Path) -> None:
    lock = only(hub)
    hub.fail("/cdn/", times=2)
    hub.fail("/resolve/", times=2)
    assert len(fetch(SW, lock)) == 1


@pytest.mark.parametrize(("part", "attempts"), [("/cdn/", 3), ("/resolve/", 1)])
def test_a_hub_that_stays_overloaded_is_named(hub: Hub, part: str, attempts: int) -> None:
    lock = only(hub)
    hub.fail(part, times=1000)
    with pytest.raises(InputError) as error:
        fetch(SW, lock)
    assert "/datasets/owner/small/resolve/" in str(error.value)
    assert f"{attempts} attempt" in str(error.value)
    assert "HTTP 503" in str(error.value)
    assert "Check the network" in str(error.value)
    assert nothing_published()


def test_a_vanished_revision_or_file_is_named(hub: Hub) -> None:
    lock = only(hub)
    (commit,) = hub.commits["datasets/owner/small"]
    kept = hub.commits["datasets/owner/small"].pop(commit)
    with pytest.raises(
        InputError, match=r"not have this revision any more.*xstilts lock --refresh"
    ):
        fetch(SW, lock)
    del kept["sw/validation-00000-of-00001.parquet"]
    hub.commits["datasets/owner/small"][commit] = kept
    with pytest.raises(InputError, match="no such file at this revision"):
        fetch(SW, lock)


def test_a_lock_made_from_a_mirror_serves_the_hub(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path / "mirror" / "owner" / "small", small_repository())
    set_runtime(monkeypatch, mirror=str(tmp_path / "mirror"))
    lock, _ = resolve([SW], Lock())
    set_runtime(monkeypatch)
    hub.publish("owner/small", small_repository())
    assert list(fetch(SW, lock).values()) == [parquet("moja", "mbili")]


def test_equal_names_are_told_apart(hub: Hub) -> None:
    readme = b"---\nconfigs:\n- config_name: en\n  data_files: ['*/part.parquet']\n---\n"
    files = {"README.md": readme, "a/part.parquet": parquet("a"), "b/part.parquet": parquet("b")}
    hub.publish("owner/small", files)
    wanted = (row(splits={"train": "train"}), "en", "en")
    lock, _ = resolve([wanted], Lock())
    assert fetch(wanted, lock) == {
        "train/a--part.parquet": parquet("a"),
        "train/b--part.parquet": parquet("b"),
    }


@pytest.mark.parametrize("path", ["../out.parquet", "/etc/x.parquet", "a//b.parquet"])
def test_a_lock_cannot_lead_out_of_the_artifact(hub: Hub, path: str) -> None:
    lock = only(hub)
    entry = lock.datasets["small/sw"]
    (file,) = entry.files.values()
    bad = Lock(datasets={"small/sw": entry.model_copy(update={"files": {path: file}})})
    with pytest.raises(InputError, match="could leave its folder"):
        fetch(SW, bad)


# ---- a mirror


def test_a_mirror(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = only(hub)
    folder = write_files(tmp_path / "mirror" / "owner" / "small", small_repository())
    set_runtime(monkeypatch, mirror=str(tmp_path / "mirror"))
    hub.requests.clear()
    assert len(fetch(EN, lock)) == 3
    assert hub.requests == []
    (folder / VALIDATION).write_bytes(parquet("changed"))
    with pytest.raises(InputError, match=r"en/validation.*mirror has changed.*lock --refresh"):
        fetch(EN, lock)
    (folder / VALIDATION).unlink()
    with pytest.raises(InputError, match=r"is missing; found train-00000-of-00002.parquet, train"):
        fetch(EN, lock)
    assert len(list(Path("data/raw/small/en").rglob("*.parquet"))) == 3  # the first one stays


def test_a_real_slice_from_its_mirror(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    set_runtime(monkeypatch, mirror=str(shared / "hub"))
    source = {"hub": "cambridgeltl/xcopa", "config": "{code}"}
    wanted = (row(source, splits={"dev": "validation", "test": "test"}), "sw", "sw")
    lock, _ = resolve([wanted], Lock())
    fetch(wanted, lock)
    folder = Path("data/raw/small/sw")
    table = pq.read_table(folder / "test" / "test-00000-of-00001.parquet")
    assert {"premise", "choice1", "choice2", "label"} <= set(table.column_names)


# ---- URLs and the user's files


def test_members_of_an_archive_are_fetched(hub: Hub) -> None:
    content = tar_bz2({"pack/en.txt": b"english", "pack/all.txt": b"all", "pack/no": b"n"})
    url = hub.file("pack.tar.bz2", content)
    wanted = (archive_row(url), "en", "en")
    lock, _ = resolve([wanted], Lock())
    assert fetch(wanted, lock) == {"files/text.en": b"english", "files/all": b"all"}
    assert len(hub.requests) == 1


def test_a_changed_url_is_refused_and_a_damaged_download_mended(hub: Hub, tmp_path: Path) -> None:
    content = tar_bz2({"pack/en.txt": b"english", "pack/all.txt": b"all"})
    url = hub.file("pack.tar.bz2", content)
    wanted = (archive_row(url), "en", "en")
    lock, _ = resolve([wanted], Lock())
    (download,) = (tmp_path / "home" / "xstilts" / "downloads").iterdir()
    download.write_bytes(content[:-10])
    assert len(fetch(wanted, lock)) == 2
    download.unlink()
    hub.file("pack.tar.bz2", tar_bz2({"pack/en.txt": b"ENGLISH", "pack/all.txt": b"all"}))
    with pytest.raises(InputError, match=r"pack.tar.bz2: text.en: expected sha256 .*--refresh"):
        fetch(wanted, lock)


def test_the_users_files(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_files(tmp_path / "mine", {"en.tags": b"a\tN"})
    set_runtime(monkeypatch, files={"small": str(folder)})
    wanted = (row({"files": ["{code}.tags"], "hint": "Buy it"}), "en", "en")
    lock, _ = resolve([wanted], Lock())
    assert fetch(wanted, lock) == {"files/en.tags": b"a\tN"}
    (folder / "en.tags").write_bytes(b"a\tV")
    with pytest.raises(InputError, match=r"files.small: en.tags: expected sha256 .*put the old"):
        fetch(wanted, lock)


# ---- models


def test_model_files(hub: Hub, tmp_path: Path) -> None:
    hub.publish("owner/tiny", model_files(), "models")
    lock, _ = resolve([model()], Lock())
    entry = lock.model("tiny")
    out = tmp_path / "out"
    out.mkdir()
    names = fetch_model_files("owner/tiny", entry, out, ["config.json", "*.safetensors"])
    assert names == ["config.json", "model.safetensors"]
    assert (out / "model.safetensors").read_bytes() == WEIGHTS
    assert sorted(path.name for path in out.iterdir()) == names
    with pytest.raises(InputError, match=r"expected vocab.txt; found .*config.json"):
        fetch_model_files("owner/tiny", entry, out, ["vocab.txt"])
    with pytest.raises(InputError, match="Run `xstilts lock`"):
        fetch_model_files("owner/tiny", None, out, ["*"])
    hub.shorten("model.safetensors", times=100)
    hub.publish("owner/tiny", model_files() | {"config.json": b"new"}, "models")
    assert entry is not None
    changed = entry | {"revision": None}
    with pytest.raises(InputError, match=r"config.json: has not the locked bytes"):
        fetch_model_files("owner/tiny", changed, out, ["*"])


def test_the_stage_of_a_model(hub: Hub) -> None:
    described = {"name": "tiny", "hub": "owner/tiny", "architecture": "bert", "layers": 2}

    def run_it(**files: bytes) -> None:
        published = model_files() | {name.replace("_", "."): files[name] for name in files}
        hub.publish("owner/tiny", {k: v for k, v in published.items() if v}, "models")
        lock = resolve([model()], Lock())[0].model("tiny")
        run_model({"stage": "fetch_model", "model": described, "lock": lock}, Path("models/base"))

    run_it(config_json=b'{"model_type": "bert", "num_hidden_layers": 2}')
    assert sorted(read_manifest(Path("models/base")).files) == ["config.json", "model.safetensors"]
    with pytest.raises(InputError, match=r"num_hidden_layers.*row 'tiny'; expected 2; found 3"):
        run_it(config_json=b'{"model_type": "bert", "num_hidden_layers": 3}')
    with pytest.raises(InputError, match=r"model_type.*expected 'bert'; found None"):
        run_it(config_json=b"{ }")
    with pytest.raises(InputError, match=r"owner/tiny: config.json: is no JSON"):
        run_it(config_json=b"{")
    right = b'{"model_type": "bert", "num_hidden_layers": 2}'
    for corrupt in (b"weights", WEIGHTS[:-1], WEIGHTS + b"0"):
        with pytest.raises(InputError, match=r"owner/tiny: model.safetensors: is no whole .*lock"):
            run_it(config_json=right, model_safetensors=corrupt)
    with pytest.raises(InputError, match=r"lacks a file; .*found .*part.safetensors"):
        run_it(model_safetensors=b"", part_safetensors=b"half of the weights")


def test_weights_in_several_files(hub: Hub) -> None:
    described = {"name": "tiny", "hub": "owner/tiny", "architecture": "bloom", "layers": 2}
    parts = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = {"metadata": {"total_size": 16}, "weight_map": {"a": parts[0], "b": parts[1]}}
    config = {"model_type": "bloom", "n_layer": 2}
    right = {
        "config.json": json.dumps(config).encode(),
        "model.safetensors.index.json": json.dumps(index).encode(),
        parts[0]: save({"a": np.zeros(2, np.float32)}),
        parts[1]: save({"b": np.ones(2, np.float32)}),
        # Weights of another training, beside.
        "consolidated.safetensors": WEIGHTS,
    }

    def run_it(**changed: bytes | None) -> list[str]:
        names = dict(zip(("index", "first", "second"), [*right][1:4], strict=True))
        files = right | {names[key]: value for key, value in changed.items()}
        hub.publish("owner/tiny", {k: v for k, v in files.items() if v is not None}, "models")
        lock = resolve([model()], Lock())[0].model("tiny")
        run_model({"stage": "fetch_model", "model": described, "lock": lock}, Path("models/base"))
        return sorted(read_manifest(Path("models/base")).files)

    assert run_it() == ["config.json", *parts, "model.safetensors.index.json"]
    assert Path("models/base", parts[1]).read_bytes() == right[parts[1]]
    with pytest.raises(InputError, match=rf"lacks a file; expected {parts[1]}, which .*index"):
        run_it(second=None)
    for corrupt in (b"weights", right[parts[1]][:-1]):
        with pytest.raises(InputError, match=rf"owner/tiny: {parts[1]}: is no whole .*lock"):
            run_it(second=corrupt)
    with pytest.raises(InputError, match=rf"{parts[1]}: has not the weights .*expected b;"):
        run_it(second=right[parts[0]])
    with pytest.raises(InputError, match=r"index.json: names no weights"):
        run_it(index=b"{}")
    with pytest.raises(InputError, match=r"owner/tiny: model.safetensors.index.json: is no JSON"):
        run_it(index=b"{")
    pickle = json.dumps({"weight_map": {"a": "pytorch_model.bin"}}).encode()
    with pytest.raises(InputError, match=r"lacks a file; expected pytorch_model.bin"):
        run_it(index=pickle)
    with pytest.raises(InputError, match=r"expected config.json and model.safetensors or .*index"):
        run_it(index=None)


def test_the_stage_of_a_translator(hub: Hub) -> None:
    branch = "refs/pr/4"
    row = TranslatorRow(
        name="mt",
        title="MT",
        hub="owner/mt",
        revision=branch,
        source="en",
        target="de",
        licence="MIT",
    )
    names = ["generation_config.json", "source.spm", "target.spm", "vocab.json"]
    files = {name: name.encode() for name in [*names, "tokenizer_config.json", "README.md"]}
    files |= {"config.json": b'{"is_encoder_decoder": true}'}
    hub.publish("owner/mt", files | {"pytorch_model.bin": b"pickle"}, "models")
    out = Path("translators/mt")

    def run_it(**changes: bytes) -> None:
        changed = {name.replace("_", "."): content for name, content in changes.items()}
        files_now = files | {"model.safetensors": WEIGHTS} | changed
        hub.publish("owner/mt", files_now, "models", branch)
        lock = resolve([row], Lock())[0]
        assert lock.models["mt"].source == "hf:owner/mt@refs/pr/4"
        spec = {"stage": "fetch_translator", "translator": {"name": "mt", "hub": "owner/mt"}}
        run_translator({**spec, "lock": lock.model("mt")}, out)

    run_it()
    assert sorted(read_manifest(out).files) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "source.spm",
        "target.spm",
        "tokenizer_config.json",
        "vocab.json",
    ]
    with pytest.raises(InputError, match=r"owner/mt: model.safetensors: is no whole"):
        run_it(model_safetensors=WEIGHTS[:-1])
    with pytest.raises(InputError, match=r"config.json: describes no translator.*found 'bert'"):
        run_it(config_json=b'{"model_type": "bert"}')
    plain = row.model_copy(update={"revision": None})
    with pytest.raises(InputError, match=r"owner/mt \(translator mt\).*refs/pr/4"):
        resolve([plain], Lock())


# ---- the toy world


@pytest.mark.parametrize(
    "kind", ["corpus", "nli", "paraphrase", "qa", "choice", "pos", "ner", "parallel", "comparable"]
)
def test_the_toy_world(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from xstilts.toyworld.generate import generate

    monkeypatch.chdir(tmp_path)
    toyworld = {"kind": kind, "language": "qab", "sizes": {"dev": 3, "test": 4}, "seed": 5}
    spec = {
        "stage": "fetch",
        "dataset": f"toy_{kind}",
        "config": "qab",
        "source": {"kind": "toyworld", "toyworld": kind},
        "toyworld": toyworld,
    }
    run(spec, Path("raw/toy"))
    for split, size in toyworld["sizes"].items():  # type: ignore[attr-defined]
        rows = pq.read_table(f"raw/toy/{split}/data.parquet").to_pylist()
        assert rows == generate(kind, "qab", split, size, 5)
        assert len(rows) == size
    first = read_manifest(Path("raw/toy")).files
    run(spec, Path("raw/toy"))
    assert read_manifest(Path("raw/toy")).files == first


# ---- a whole process


_CLIENT = """
import json, sys
from pathlib import Path
from xstilts.data.fetch import run
run(json.loads(Path("spec.json").read_text()), Path("data/raw/small/sw"))
assert "torch" not in sys.modules and "datasets" not in sys.modules
"""


def test_a_fresh_process_follows_hf_endpoint(hub: Hub, tmp_path: Path) -> None:
    lock = only(hub)
    write_lock(Path("study.lock.json"), lock)
    spec = {
        "stage": "fetch",
        "dataset": "small",
        "config": "sw",
        "source": SW[0].source.model_dump(mode="json"),
        "lock": json.loads(Path("study.lock.json").read_text())["datasets"]["small/sw"],
    }
    Path("spec.json").write_text(json.dumps(spec))
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src"),
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "fresh"),
        "HF_HUB_DISABLE_XET": "1",
    }
    environment.pop("HF_HUB_OFFLINE", None)
    hub.requests.clear()
    subprocess.run([sys.executable, "-c", _CLIENT], env=environment, check=True)
    assert [request for request in hub.requests if "/resolve/" in request]
    file = Path("data/raw/small/sw/validation/validation-00000-of-00001.parquet")
    assert sha256(file.read_bytes()) == sha256(parquet("moja", "mbili"))
    hub.requests.clear()
    offline = environment | {"HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", _CLIENT], env=offline, check=True)
    assert hub.requests == []

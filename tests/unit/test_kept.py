"""Second names of a checkpoint's files."""

import json
import os
import shutil
from pathlib import Path

import pytest

from xstilts.artifacts import kept
from xstilts.artifacts.publish import publishing

OUT = Path("checkpoints/m/none/seed-1/nli")
STATE = Path("state")


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    publish(Path("models/m/base"), {"stage": "pretrain"}, "weights")
    return tmp_path


def publish(out, spec, text):
    with publishing(out, spec) as draft:
        (draft.folder / "model.safetensors").write_text(text)
        (draft.folder / "heads").mkdir()
        (draft.folder / "heads" / "nli.json").write_text("{}")


def spec(seed=1):
    return {"stage": "finetune", "seed": seed, "inputs": {"model": "models/m/base"}}


def files():
    found = (path for path in OUT.rglob("*") if path.is_file())
    return {str(path.relative_to(OUT)): path.read_text() for path in found}


def test_what_snakemake_deletes_comes_back():
    publish(OUT, spec(), "trained")
    before = files()
    kept.keep(OUT, STATE)
    for name in ("manifest.json", "model.safetensors"):  # the outputs of the rule
        (OUT / name).unlink()
    assert kept.restore(OUT, spec(), STATE)
    assert files() == before


def test_it_takes_no_room():
    publish(OUT, spec(), "trained")
    kept.keep(OUT, STATE)
    one = (OUT / "model.safetensors").stat()
    other = (STATE / "kept" / OUT / "model.safetensors").stat()
    assert (one.st_ino, one.st_nlink) == (other.st_ino, 2)


def test_other_specs_and_other_inputs_are_made_anew():
    publish(OUT, spec(), "trained")
    kept.keep(OUT, STATE)
    assert not kept.restore(OUT, spec(seed=2), STATE)
    publish(Path("models/m/base"), {"stage": "pretrain"}, "other weights")
    assert not kept.restore(OUT, spec(), STATE)
    shutil.rmtree("models/m/base")
    assert not kept.restore(OUT, spec(), STATE)


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_what_is_not_whole_is_made_anew(damage):
    publish(OUT, spec(), "trained")
    kept.keep(OUT, STATE)
    file = STATE / "kept" / OUT / "heads" / "nli.json"
    file.unlink()
    if damage == "changed":
        file.write_text("[]")
    assert not kept.restore(OUT, spec(), STATE)


def test_only_the_last_is_kept():
    publish(OUT, spec(), "trained")
    kept.keep(OUT, STATE)
    publish(OUT, spec(seed=2), "trained")
    kept.keep(OUT, STATE)
    assert json.loads((STATE / "kept" / OUT / "manifest.json").read_text())["spec"]["seed"] == 2
    assert [path.name for path in (STATE / "kept" / OUT).parent.iterdir()] == ["nli"]
    kept.forget(STATE)
    assert not (STATE / "kept").exists()
    assert files()["model.safetensors"] == "trained"


def test_where_there_are_no_links_nothing_is_kept(monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    publish(OUT, spec(), "trained")
    monkeypatch.setattr(os, "link", refuse)
    kept.keep(OUT, STATE)
    assert not [path for path in STATE.rglob("*") if path.is_file()]
    assert not kept.restore(OUT, spec(), STATE)

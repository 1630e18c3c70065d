"""Checkpoints: saved, loaded by transformers and by us, and refused when they are damaged."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForMaskedLM

from tiny import LABELS, store_of, write_base
from xstilts.artifacts.publish import publishing
from xstilts.errors import InputError
from xstilts.training.model import (
    LM_HEAD,
    Model,
    head_descriptions,
    load_backbone,
    load_head,
    make_heads,
    save_model,
)

WANTED = {
    "toy_nli": ("sequence_classification", tuple(LABELS["sequence_classification"])),
    "squad_v1.1": ("question_answering", None),
}
ARCHITECTURES = pytest.mark.parametrize("architecture", ["xlm-roberta", "bert"])


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(1)


def batch_of(architecture: str) -> dict[str, torch.Tensor]:
    store = store_of("sequence_classification", 5, types=architecture == "bert")
    arrays = store.padded(torch.arange(5).numpy())
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def checkpoint(architecture: str = "xlm-roberta") -> tuple[Model, Path]:
    backbone = load_backbone(Path(write_base("base", architecture)), language_model=False)
    model = Model(backbone, make_heads(WANTED, backbone.config, 0.1)).eval()
    with publishing(Path("checkpoint"), {"stage": "finetune"}) as draft:
        save_model(model, draft.folder, WANTED)
    return model, Path("checkpoint")


def load_all(folder: Path, config) -> None:
    load_backbone(folder, language_model=False)
    load_head(folder, "toy_nli", config, 0.0)


def republish(folder: Path, name: str, content: bytes) -> None:
    """Change a file and its manifest: damage that no checksum tells."""
    kept = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for known in ("manifest.json", "provenance.json"):
        del kept[known]
    with publishing(folder, {"stage": "finetune"}) as draft:
        for key, value in (kept | {name: content}).items():
            (draft.folder / key).write_bytes(value)


@ARCHITECTURES
def test_transformers_reads_a_checkpoint_with_the_same_hidden_states(architecture):
    model, folder = checkpoint(architecture)
    batch = batch_of(architecture)
    assert ("token_type_ids" in batch) == (architecture == "bert")
    plain = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    with torch.inference_mode():
        wanted = model.encode(batch)
        torch.testing.assert_close(plain(**batch).last_hidden_state, wanted, rtol=0, atol=0)
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "heads.json",
        "heads.safetensors",
        "manifest.json",
        "model.safetensors",
        "provenance.json",
    ]


@ARCHITECTURES
def test_segments_reach_the_encoder(architecture):
    model, _ = checkpoint(architecture)
    batch = batch_of(architecture)
    changed = dict(batch, token_type_ids=torch.zeros_like(batch["input_ids"]))
    with torch.inference_mode():
        same = torch.equal(model.encode(batch), model.encode(changed))
    assert same == (architecture == "xlm-roberta")


@ARCHITECTURES
def test_a_base_model_is_a_masked_language_model(architecture):
    folder = Path(write_base("base", architecture))
    ours = Model(load_backbone(folder, language_model=True), {}).eval()
    theirs = AutoModelForMaskedLM.from_pretrained(folder).eval()
    batch = batch_of(architecture)
    chosen = batch["attention_mask"].bool() & (torch.rand(batch["input_ids"].shape) < 0.3)
    batch["labels"] = torch.where(chosen, batch["input_ids"], -100)
    with torch.inference_mode():
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        torch.testing.assert_close(ours(batch, LM_HEAD), theirs(**inputs).logits[chosen])


@ARCHITECTURES
def test_tied_weights_stay_tied(architecture):
    """The vocabulary matrix is stored once, and training it moves both of its uses."""
    folder = Path(write_base("base", architecture))
    tensors = load_file(folder / "model.safetensors")
    matrices = [name for name, value in tensors.items() if value.shape == (40, 16)]
    assert len(matrices) == 1
    backbone = load_backbone(folder, language_model=True)
    embeddings = backbone.get_input_embeddings().weight
    assert backbone.get_output_embeddings().weight is embeddings
    torch.testing.assert_close(embeddings, tensors[matrices[0]])


@pytest.mark.parametrize("name", WANTED)
def test_a_head_comes_back(name):
    model, folder = checkpoint()
    head, description = load_head(folder, name, model.encoder.config, 0.0)
    assert description == WANTED[name]
    assert head_descriptions(folder) == WANTED
    old = dict(model.heads[name.replace(".", "/")].named_parameters())
    new = dict(head.named_parameters())
    assert old.keys() == new.keys()
    for key in old:
        assert torch.equal(old[key], new[key])
    batch = batch_of("xlm-roberta") | {"allowed": torch.ones(5, 10)}
    with torch.inference_mode():
        torch.testing.assert_close(model(batch, name), head.eval()(model.encode(batch), batch))


def test_a_wrong_head_name_says_which_there_are():
    model, folder = checkpoint()
    with pytest.raises(InputError, match=r"no head 'toy_nil'; found squad_v1.1, toy_nli") as caught:
        load_head(folder, "toy_nil", model.encoder.config, 0.0)
    assert "Did you mean 'toy_nli'?" in str(caught.value)
    with pytest.raises(InputError, match="no head 'toy_nli'; found none"):
        load_head(Path("base"), "toy_nli", model.encoder.config, 0.0)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "heads.json"])
def test_changed_bytes_are_seen(name):
    model, folder = checkpoint()
    (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    with pytest.raises(InputError, match=f"{name}: has another size"):
        load_all(folder, model.encoder.config)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"\0" * 8, lambda b: b""])
def test_weights_that_are_no_safetensors(damage):
    model, folder = checkpoint()
    for name in ("model.safetensors", "heads.safetensors"):
        republish(folder, name, damage((folder / name).read_bytes()))
    with pytest.raises(InputError, match="cannot be loaded as the model"):
        load_backbone(folder, language_model=False)
    with pytest.raises(InputError, match=r"heads.safetensors: toy_nli: does not hold the head"):
        load_head(folder, "toy_nli", model.encoder.config, 0.0)


def test_weights_that_do_not_fit_the_configuration():
    _, folder = checkpoint()
    config = json.loads((folder / "config.json").read_text())
    republish(folder, "config.json", json.dumps(config | {"hidden_size": 8}).encode())
    with pytest.raises(InputError, match="cannot be loaded as the model"):
        load_backbone(folder, language_model=False)
    republish(folder, "config.json", b"{")
    with pytest.raises(InputError, match="cannot be loaded as the model"):
        load_backbone(folder, language_model=False)


def test_missing_weights_are_not_made_up(tmp_path):
    _, folder = checkpoint()
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if "layer.1.output.dense.weight" in name)
    del tensors[name]
    save_file(tensors, tmp_path / "less", metadata={"format": "pt"})
    republish(folder, "model.safetensors", (tmp_path / "less").read_bytes())
    with pytest.raises(InputError, match=r"no weights for .*layer\.1\.output\.dense\.weight"):
        load_backbone(folder, language_model=False)


def test_an_encoder_is_no_language_model():
    _, folder = checkpoint()
    with pytest.raises(InputError, match="no weights for lm_head"):
        load_backbone(folder, language_model=True)


def test_a_head_of_other_labels_does_not_fit():
    model, folder = checkpoint()
    content = json.loads((folder / "heads.json").read_text())
    content["toy_nli"]["labels"].append("never")
    republish(folder, "heads.json", json.dumps(content).encode())
    with pytest.raises(InputError, match=r"does not hold the head that heads\.json describes"):
        load_head(folder, "toy_nli", model.encoder.config, 0.0)

"""Decoders: loaded, trained whole and by adapters, merged; the same bytes whatever happens."""

import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from tiny import (
    LABELS,
    PAD,
    VOCAB,
    meta_of,
    run_stage,
    settings_of_process,
    store_of,
    training_spec,
    write_base,
    write_tokens,
)
from tiny_decoder import (
    BASE,
    LORA,
    TEXT,
    pretraining_spec,
    prompt_spec,
    prompted_arrays,
    write_decoder_world,
)
from xstilts.artifacts.manifest import read_manifest, sha256_file
from xstilts.artifacts.publish import publishing
from xstilts.data.token_store import TokenStore
from xstilts.errors import InputError
from xstilts.formats.head import Summary, trained_format
from xstilts.runtime import runtime
from xstilts.training import merge
from xstilts.training.adapters import load_frozen
from xstilts.training.model import (
    CAUSAL_HEAD,
    Model,
    head_descriptions,
    load_backbone,
    load_head,
    save_model,
)
from xstilts.training.settings import Lora, Training
from xstilts.training.speed import prepare
from xstilts.training.stages import EXIT_MORE_TIME, fine_tune, pretrain

OUT = Path("checkpoints/out")
GROUPED = {"num_key_value_heads": 2, "max_position_embeddings": 64}
#: Every decoder of the registry, and what its tiny configuration needs.
DECODERS = {
    "apertus": GROUPED,
    "bloom": {"n_layer": 2, "n_head": 4},
    "gemma3_text": {**GROUPED, "head_dim": 8, "sliding_window": 4},
    "llama": GROUPED,
    "mistral": {**GROUPED, "sliding_window": 4},
    "qwen2": GROUPED,
    "qwen3": {**GROUPED, "head_dim": 8},
    "smollm3": GROUPED,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder, before = tmp_path_factory.mktemp("results"), Path.cwd()
    os.chdir(folder)
    write_decoder_world()
    os.chdir(before)
    return folder


@pytest.fixture(autouse=True)
def results(world, tmp_path, monkeypatch) -> Path:
    """A results folder of its own, with the inputs of the world."""
    shutil.copytree(world, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    settings_of_process(monkeypatch)
    torch.manual_seed(1)
    yield tmp_path
    runtime.cache_clear()
    torch.use_deterministic_algorithms(False)


def backbone_of(architecture: str):
    size = {"vocab_size": VOCAB, "hidden_size": 32, "pad_token_id": PAD}
    if architecture != "bloom":
        size |= {"intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = AutoConfig.for_model(architecture, **size, **DECODERS[architecture])
    return AutoModelForCausalLM.from_config(config)


def batch_of(units: int = 6) -> dict[str, torch.Tensor]:
    store = TokenStore(prompted_arrays(units, 5), meta_of("prompted"))
    arrays = trained_format("prompted").collate(store, np.arange(units), np.random.default_rng(0))
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


# ---- models


@pytest.mark.parametrize("architecture", DECODERS)
def test_outputs_are_the_models_own_logits(architecture):
    """The head of the model on its last hidden states is all there is; saved, it is the same."""
    backbone = backbone_of(architecture).eval()
    batch = batch_of()
    asked = batch["labels"] != -100
    with torch.inference_mode():
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        wanted = backbone(**inputs).logits[asked]
        with publishing(Path("base"), {"stage": "fetch_model"}) as draft:
            save_model(Model(backbone, {}), draft.folder, {})
        model = Model(load_backbone(Path("base"), language_model=True), {}).eval()
        torch.testing.assert_close(model(batch, CAUSAL_HEAD), wanted, rtol=0, atol=1e-6)
        prepare(model, Training(gradient_checkpointing=True))
        torch.testing.assert_close(model(batch, CAUSAL_HEAD), wanted, rtol=0, atol=1e-5)
        bare = Model(load_backbone(Path("base"), language_model=False), {}).eval()
        torch.testing.assert_close(bare.encode(batch), model.encode(batch), rtol=0, atol=1e-5)
    assert not hasattr(bare.backbone, "lm_head")


def test_what_follows_a_token_does_not_reach_it():
    model, batch = Model(backbone_of("llama"), {}).eval(), batch_of()
    changed = {**batch, "input_ids": batch["input_ids"].clone()}
    changed["input_ids"][:, 3] = 7
    with torch.inference_mode():
        before, after = model.encode(batch), model.encode(changed)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.isclose(before[:, 3:4], after[:, 3:4]).all()


def sharded(name: str = "sharded") -> Path:
    with publishing(Path(name), {"stage": "fetch_model"}) as draft:
        load_backbone(Path(BASE), language_model=True).save_pretrained(
            draft.folder, max_shard_size="4KB"
        )
    return Path(name)


def test_weights_in_several_files():
    folder = sharded()
    assert len(list(folder.glob("*.safetensors"))) > 1
    found, wanted = (
        load_backbone(place, language_model=True).state_dict() for place in (folder, Path(BASE))
    )
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    shard = sorted(folder.glob("*.safetensors"))[-1]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(InputError, match=f"{shard.name}: has other bytes"):
        load_backbone(folder, language_model=True)
    shard.unlink()
    with pytest.raises(InputError, match=f"{shard.name}: the file is missing"):
        load_backbone(folder, language_model=False)


def test_the_summary_is_the_first_token_or_the_last_one():
    hidden = torch.arange(12.0).view(2, 3, 2)
    batch = {"attention_mask": torch.tensor([[1, 1, 0], [1, 1, 1]])}
    first, last = (Summary(SimpleNamespace(model_type=name)) for name in ("bert", "qwen3"))
    assert first(hidden, batch).tolist() == [[0, 1], [6, 7]]
    assert last(hidden, batch).tolist() == [[2, 3], [10, 11]]


# ---- formats, by hand


def hand_store() -> TokenStore:
    """[0 5 6 | 7 2] and [0 8 | 9], answers behind the bar."""
    arrays = {
        "input_ids": np.array([0, 5, 6, 7, 2, 0, 8, 9], np.int32),
        "offsets": np.array([0, 5, 8]),
        "starts": np.array([3, 2], np.int32),
    }
    return TokenStore(arrays, meta_of("prompted"))


def torch_batch(name: str) -> dict[str, torch.Tensor]:
    arrays = trained_format(name).collate(hand_store(), np.arange(2), np.random.default_rng(0))
    return {key: torch.from_numpy(array) for key, array in arrays.items()}


def test_only_the_answer_is_asked_for():
    batch = torch_batch("prompted")
    none = -100
    assert batch["labels"].tolist() == [[none, none, 7, 2, none], [none, 9, none, none, none]]
    assert batch["input_ids"].tolist() == [[0, 5, 6, 7, 2], [0, 8, 9, PAD, PAD]]
    format_ = trained_format("prompted")
    assert format_.terms({name: value.numpy() for name, value in batch.items()}) == 3
    # One of three sub-words is likeliest by 1 in a vocabulary of 10: ln(e + 9) - (1 or 0).
    outputs = torch.zeros(3, 10)
    outputs[0, 7] = outputs[1, 3] = outputs[2, 9] = 1.0
    wanted = 3 * np.log(np.e + 9) - 2
    assert float(format_.loss(outputs, batch)) == pytest.approx(wanted)
    assert format_.dev_sums(outputs, batch, None).tolist() == pytest.approx([-wanted, 3])
    found, gold = format_.answers(outputs, batch)
    assert (found.tolist(), gold.tolist()) == ([7, 9], [7, 9])


def test_a_blind_guess_knows_the_place_in_the_answer():
    """First sub-words 7 and 9 in turn: ln 2 each; the second one is sure. Of three sub-words."""
    chance = trained_format("prompted").chance_loss(hand_store(), None)
    assert chance == pytest.approx(2 * np.log(2) / 3)


def test_all_text_is_asked_for_but_its_first_sub_word():
    batch = torch_batch("causal_lm")
    assert batch["labels"].tolist() == [[5, 6, 7, 2, -100], [8, 9, -100, -100, -100]]
    format_ = trained_format("causal_lm")
    outputs = torch.zeros(6, 10)
    assert float(format_.loss(outputs, batch)) == pytest.approx(6 * np.log(10))
    assert format_.dev_sums(outputs, batch, None).tolist() == pytest.approx([-6 * np.log(10), 6])
    # Of eight sub-words 0 is there twice, six are there once.
    wanted = np.log(4) / 4 + 6 * np.log(8) / 8
    assert format_.chance_loss(hand_store(), None) == pytest.approx(wanted)


def test_padding_that_is_the_end_of_text_too_is_told_apart():
    """Qwen pads with the end-of-text token: the mask decides, not the id."""
    store = hand_store()
    meta = SimpleNamespace(**{**vars(store.meta), "pad_id": 2})
    batch = trained_format("prompted").collate(
        TokenStore(store.arrays, meta), np.arange(2), np.random.default_rng(0)
    )
    assert batch["labels"][0].tolist() == [-100, -100, 7, 2, -100]
    assert batch["labels"][1].tolist() == [-100, 9, -100, -100, -100]


# ---- trainings


def test_pretraining_learns_and_is_a_causal_language_model():
    spec = pretraining_spec(max_steps=40)
    pretrain(spec, OUT)
    pretrain(spec, Path("again"))
    assert read_manifest(OUT).files == read_manifest(Path("again")).files
    history = [json.loads(line) for line in (OUT / "history.jsonl").read_text().splitlines()]
    assert history[-1]["loss"] < history[0]["loss"]
    assert "xstilts" not in (OUT / "config.json").read_text()
    model = AutoModelForCausalLM.from_pretrained(OUT)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    # A tied matrix is stored once.
    assert "lm_head.weight" not in load_file(OUT / "model.safetensors")
    assert json.loads((OUT / "training.json").read_text())["tasks"][0]["name"] == CAUSAL_HEAD


def test_an_architecture_without_a_recipe_from_scratch():
    spec = pretraining_spec()
    spec["model"]["architecture"] = "qwen3"
    with pytest.raises(InputError, match=r"from scratch; expected llama, .*found qwen3"):
        pretrain(spec, OUT)


def test_prompts_are_learnt():
    spec = prompt_spec(max_steps=150, evaluate_every=50, micro_batch_tokens=200, batch_size=16)
    fine_tune(spec, OUT)
    history = [json.loads(line) for line in (OUT / "history.jsonl").read_text().splitlines()]
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert head_descriptions(OUT) == {}
    assert {"model.safetensors", "generation_config.json"} <= set(read_manifest(OUT).files)
    before, after = (load_file(Path(place) / "model.safetensors") for place in (BASE, OUT))
    assert all(not torch.equal(before[name], after[name]) for name in before)
    # A second training goes on from there.
    spec["inputs"]["model"] = str(OUT)
    fine_tune(spec | {"settings": spec["settings"] | {"max_steps": 2}}, Path("on"))


CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["transformers.models.llama.modeling_llama", "pyarrow.parquet"])
SPECS = {
    "whole, with text": prompt_spec(text=True),
    "lora": prompt_spec(lora=LORA),
    "lora in bfloat16, with text": prompt_spec(
        text=True,
        lora={**LORA, "base": "bf16", "dropout": 0.1},
        precision="bf16",
        gradient_checkpointing=True,
    ),
}


@pytest.fixture(scope="module")
def straight():
    """Files of a training without interruption."""
    known: dict[str, dict] = {}

    def files(name: str) -> dict:
        if name not in known:
            fine_tune(SPECS[name], Path("straight"))
            known[name] = read_manifest(Path("straight")).files
        return known[name]

    return files


def interrupted(folder: Path, spec: dict, settings: dict, step: int, how: int) -> int | None:
    """Exit code of a training in a process of its own that gets a signal at a step."""
    arguments = (folder, spec, str(OUT), json.dumps(settings), (step, how))
    child = CONTEXT.Process(target=run_stage, args=arguments)
    child.start()
    child.join()
    return child.exitcode


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_killed_and_resumed_gives_the_same_bytes(name, straight, results):
    """Killed after step 9 was evaluated, before it was saved: the best weights are of step 9."""
    assert interrupted(results, SPECS[name], {"save_seconds": 0.0}, 9, signal.SIGKILL) == -9
    saved = sorted(path.name for path in Path("state", OUT).glob("*/step-*"))
    assert saved == ["step-7", "step-8"]
    fine_tune(SPECS[name], OUT)
    assert read_manifest(OUT).files == straight(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_stopped_and_resumed_gives_the_same_bytes(name, straight, results):
    assert interrupted(results, SPECS[name], {}, 5, signal.SIGTERM) == EXIT_MORE_TIME
    fine_tune(SPECS[name], OUT)
    assert read_manifest(OUT).files == straight(name)


# ---- adapters


def adapter(out: str = "adapters/a", **lora) -> dict:
    spec = prompt_spec(lora={**LORA, **lora}, max_steps=6, learning_rate=0.05)
    fine_tune(spec, Path(out))
    return spec


def merged(out: str = "merged", base: str = BASE, of: str = "adapters/a") -> Path:
    merge.run({"stage": "merge", "inputs": {"adapter": of, "model": base}}, Path(out))
    return Path(out)


def test_an_adapter_holds_nothing_of_its_base(results):
    adapter()
    files = read_manifest(Path("adapters/a")).files
    assert {"adapter_model.safetensors", "adapter_config.json", "adapter.json"} <= set(files)
    assert not {"model.safetensors", "config.json", "heads.safetensors"} & set(files)
    tensors = load_file("adapters/a/adapter_model.safetensors")
    assert len(tensors) == 2 * 7 * 2  # two matrices of seven layers in two blocks
    assert all(".lora_" in name for name in tensors)
    content = json.loads(Path("adapters/a/adapter.json").read_text())
    assert content["base"] == sha256_file(Path(BASE) / "manifest.json")
    assert content["settings"]["rank"] == 4
    config = json.loads(Path("adapters/a/adapter_config.json").read_text())
    assert config["target_modules"] == sorted(config["target_modules"])
    assert config["base_model_name_or_path"] == BASE


def test_a_state_holds_the_adapter_alone(results):
    spec = prompt_spec(lora=LORA)
    assert interrupted(results, spec, {}, 4, signal.SIGTERM) == EXIT_MORE_TIME
    (place,) = Path("state", OUT).glob("*/step-4")
    for content in (torch.load(place / "tensors.pt"), torch.load(place / "best.pt")):
        assert len(content["weights"]) == 28
        assert all(".lora_" in name for name in content["weights"])
    assert len(torch.load(place / "tensors.pt")["optimizer"]["state"]) == 28


@pytest.mark.parametrize("base", ["fp32", "bf16"])
def test_the_merged_model_gives_what_the_adapter_gave(base):
    from peft import set_peft_model_state_dict

    adapter(base=base)
    trained = Model(load_frozen(Path(BASE), Lora(**LORA, base=base)), {}).eval()
    tensors = load_file("adapters/a/adapter_model.safetensors")
    state = {name.removeprefix("base_model.model."): value for name, value in tensors.items()}
    set_peft_model_state_dict(trained.backbone, state)
    whole = Model(load_backbone(merged(), language_model=True), {}).eval()
    plain = Model(load_backbone(Path(BASE), language_model=True), {}).eval()
    batch = batch_of()
    with torch.inference_mode():
        # The frozen weights are the same numbers in either type.
        wanted = trained.float()(batch, CAUSAL_HEAD)
        torch.testing.assert_close(whole(batch, CAUSAL_HEAD), wanted, rtol=0, atol=1e-5)
        assert (plain(batch, CAUSAL_HEAD) - wanted).abs().max() > 1e-2
    assert all(value.dtype == torch.float32 for value in whole.state_dict().values())


def test_a_merged_model_is_a_checkpoint_like_any_other():
    adapter()
    folder = merged()
    assert read_manifest(folder).files == read_manifest(merged("again")).files
    assert {"config.json", "model.safetensors", "training.json", "heads.json"} <= set(
        read_manifest(folder).files
    )
    names = [set(load_file(Path(place) / "model.safetensors")) for place in (BASE, folder)]
    assert names[0] == names[1]
    spec = prompt_spec(max_steps=2)
    spec["inputs"]["model"] = str(folder)
    fine_tune(spec, OUT)


def test_an_adapter_of_another_base():
    adapter()
    write_base("models/other/base", "llama")  # the same weights under another name are another base
    with pytest.raises(
        InputError, match=r"adapter.json: is the adapter of another base than .*oth"
    ):
        merged(base="models/other/base")
    with pytest.raises(InputError, match=r"is no adapter; expected adapter.json"):
        merged(of=BASE)
    assert not Path("merged").exists()


def test_an_adapter_is_no_model():
    adapter()
    spec = prompt_spec()
    spec["inputs"]["model"] = "adapters/a"
    with pytest.raises(InputError, match=r"adapters/a: is an adapter, and no whole model.*merge"):
        fine_tune(spec, OUT)


def test_targets_by_name():
    adapter(targets=["q_proj", "v_proj"])
    tensors = load_file("adapters/a/adapter_model.safetensors")
    assert {name.split(".")[-3] for name in tensors} == {"q_proj", "v_proj"}
    for unknown in ("query", "lm_head"):
        with pytest.raises(
            InputError, match=rf"lora.targets: .*expected .*q_proj.*found {unknown}"
        ):
            adapter("other", targets=["q_proj", unknown])


@pytest.mark.parametrize("lora", [None, LORA])
def test_a_classification_head_on_a_decoder(lora):
    """With a head as encoders have it; an adapter carries it into the merged checkpoint."""
    task = "sequence_classification"
    write_tokens("tokens/pairs", task, mask_id=-1)
    spec = training_spec({"pairs": task}, lora=lora, max_steps=6)
    spec["inputs"]["model"] = BASE
    fine_tune(spec, Path("trained"))
    folder = Path("trained") if lora is None else merged(of="trained")
    backbone = load_backbone(folder, language_model=False)
    head, known = load_head(folder, "pairs", backbone.config, 0.0)
    assert known == (task, tuple(LABELS[task]))
    store = store_of(task, 3)
    batch = {name: torch.from_numpy(array) for name, array in store.padded(np.arange(3)).items()}
    model = Model(backbone, {"pairs": head}).eval()
    with torch.inference_mode():
        scores = model(batch, "pairs")
        # What stands behind a row's last sub-word does not matter.
        longer = {name: torch.nn.functional.pad(value, (0, 2)) for name, value in batch.items()}
        torch.testing.assert_close(model(longer, "pairs"), scores)
    assert AutoModelForCausalLM.from_pretrained(folder).lm_head is not None


# ---- settings


def gradients(lora: bool, **settings) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(1)
    if lora:
        backbone = load_frozen(Path(BASE), Lora(**LORA, dropout=0.1))
    else:
        backbone = load_backbone(Path(BASE), language_model=True)
    model = Model(backbone, {}).train()
    chosen = Training(attention_dropout=0.1, **settings)
    prepare(model, chosen)
    if lora:
        with torch.no_grad():  # the second matrices begin at 0, and the first get no gradient
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight += 0.1
    torch.manual_seed(2)
    batch = batch_of()
    with torch.autocast("cpu", torch.bfloat16, enabled=chosen.precision == "bf16"):
        outputs = model(batch, CAUSAL_HEAD)
    loss = trained_format("prompted").loss(outputs, batch)
    loss.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return loss.detach(), found


@pytest.mark.parametrize("lora", [False, True])
def test_checkpointing_changes_no_gradient(lora):
    """With dropout on; frozen embeddings ask for no gradient."""
    loss, wanted = gradients(lora)
    again, found = gradients(lora, gradient_checkpointing=True)
    assert torch.equal(loss, again)
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    assert all(value.abs().sum() > 0 for value in found.values())
    assert all(".lora_" in name for name in found) == lora


@pytest.mark.parametrize("lora", [False, True])
def test_bf16_is_near(lora):
    loss, wanted = gradients(lora)
    near, found = gradients(lora, precision="bf16")
    assert loss.dtype == near.dtype == torch.float32
    torch.testing.assert_close(near, loss, rtol=2e-2, atol=0)
    assert not torch.equal(loss, near)
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype
        assert found[name].shape == value.shape
        difference = (found[name] - value).norm() / value.norm()
        assert difference < 0.1, name


def test_the_layers_run_twice_where_activations_are_not_kept(monkeypatch):
    from transformers.models.llama.modeling_llama import LlamaMLP

    calls, forward = [], LlamaMLP.forward
    monkeypatch.setattr(LlamaMLP, "forward", lambda *a: calls.append(1) or forward(*a))
    gradients(True)
    assert len(calls) == 2
    gradients(True, gradient_checkpointing=True)
    assert len(calls) == 2 + 4


def test_dropout_of_attention():
    for architecture in ("llama", "bloom"):
        model = Model(backbone_of(architecture), {})
        prepare(model, Training(attention_dropout=0.25))
        found = [m.attention_dropout for m in model.modules() if hasattr(m, "attention_dropout")]
        values = [getattr(one, "p", one) for one in found]
        assert values == [0.25, 0.25]
        assert not model.packed


def test_a_decoder_is_not_compiled():
    with pytest.raises(InputError, match=r"training.compile: is for encoders only"):
        fine_tune(prompt_spec(compile=True), OUT)


def test_norms_are_not_decayed():
    from xstilts.training.loop import make_optimizer

    model = Model(load_frozen(Path(BASE), Lora(**LORA)), {})
    decayed, kept = make_optimizer(model, Training()).param_groups
    assert (len(decayed["params"]), len(kept["params"])) == (28, 0)
    model = Model(load_backbone(Path(BASE), language_model=True), {})
    decayed, kept = make_optimizer(model, Training()).param_groups
    names = {id(weight): name for name, weight in model.named_parameters()}
    assert {names[id(p)].split(".")[-2] for p in kept["params"]} == {
        "input_layernorm",
        "post_attention_layernorm",
        "norm",
    }
    assert all("norm" not in names[id(p)] for p in decayed["params"])


# ---- bad input


def test_encoders_have_no_adapters_and_answer_no_prompts():
    write_base("models/encoder/base")
    spec = prompt_spec()
    spec["inputs"]["model"] = "models/encoder/base"
    with pytest.raises(InputError, match=r"nli: an encoder cannot answer prompts"):
        fine_tune(spec, OUT)
    spec["settings"] = spec["settings"] | {"lora": LORA}
    with pytest.raises(InputError, match=r"training.lora: .*found adapters of xlm-roberta"):
        fine_tune(spec, OUT)
    with pytest.raises(InputError, match=r"training.lora: .*found adapters of random weights"):
        pretrain(pretraining_spec(lora=LORA), OUT)


def test_longer_than_the_positions():
    write_tokens("tokens/long", "masked_lm", length=17, splits={"train": 4}, mask_id=-1)
    spec = prompt_spec(text=True)
    spec["mlm"]["tokens"] = ["tokens/long"]
    spec["inputs"]["tokens"] = ["tokens/nli", "tokens/qa", "tokens/long"]
    with pytest.raises(InputError, match=r"positions of the model; expected at most 16 .*found 17"):
        fine_tune(spec, OUT)
    with publishing(Path("bloom"), {"stage": "fetch_model"}) as draft:
        save_model(Model(backbone_of("bloom"), {}), draft.folder, {})
    spec["inputs"]["model"] = "bloom"  # has none
    fine_tune(spec, OUT)


def test_a_tokenizer_with_more_sub_words_than_the_model():
    """Those that no text has may be more (Gemma's images); those of a text may not."""
    for name, more in (("enough", 1), ("few", -2)):
        with publishing(Path(name), {"stage": "fetch_model"}) as draft:
            config = AutoConfig.for_model(
                "llama",
                vocab_size=VOCAB - 1 + more,
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=16,
                max_position_embeddings=32,
            )
            save_model(Model(AutoModelForCausalLM.from_config(config), {}), draft.folder, {})
    write_tokens(TEXT[0], "masked_lm", splits={"train": 20}, mask_id=-1, vocab_size=VOCAB + 5)
    spec = training_spec({}, TEXT, max_steps=2)
    spec["inputs"]["model"] = "enough"
    fine_tune(spec, OUT)
    spec["inputs"]["model"] = "few"
    with pytest.raises(InputError, match=r"of another tokenizer .*expected at most 37 "):
        fine_tune(spec, Path("other"))


@pytest.mark.slow
def test_two_processes_train_an_adapter_as_one(monkeypatch):
    alike = {"learning_rate": 1e-3, "attention_dropout": 0.0, "evaluate_every": 1}
    spec = prompt_spec(text=True, lora=LORA, max_steps=8, **alike)
    fine_tune(spec, Path("one"))
    settings_of_process(monkeypatch, '{"processes": 2}')
    fine_tune(spec, Path("two"))
    losses = [
        [json.loads(line)["loss"] for line in Path(place, "history.jsonl").read_text().splitlines()]
        for place in ("one", "two")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    one, two = (load_file(Path(place, "adapter_model.safetensors")) for place in ("one", "two"))
    for name, wanted in one.items():
        torch.testing.assert_close(two[name], wanted, rtol=1e-3, atol=1e-5)

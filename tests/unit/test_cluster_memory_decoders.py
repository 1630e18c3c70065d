"""Estimates of decoders' memory, beside what torch really keeps and allocates."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoModelForCausalLM

from xstilts.cluster.memory import (
    GIB,
    LOGITS,
    RESERVED,
    activations,
    merge_bytes,
    prediction_bytes,
    training_bytes,
    weight_bytes,
)
from xstilts.cluster.sizes import adapter_parameters, size_of
from xstilts.registry import load_registry
from xstilts.registry.rows import ModelRow, ScratchModel
from xstilts.training.settings import Lora

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "smollm3", "gemma3_text", "apertus", "bloom")
ROWS, LENGTH = 4, 25
VOCABULARY = 50


def decoder(architecture: str, layers: int = 2, hidden: int = 64, wide: int = 96) -> Any:
    """A model with four heads, of which two pairs share keys."""
    torch.manual_seed(0)
    common = {"vocab_size": VOCABULARY, "num_hidden_layers": layers, "num_attention_heads": 4}
    if architecture == "bloom":
        more: dict[str, Any] = {"hidden_size": hidden, "n_layer": layers, "n_head": 4}
        more |= {"hidden_dropout": 0.0, "attention_dropout": 0.0}
    else:
        more = {"hidden_size": hidden, "intermediate_size": wide, "num_key_value_heads": 2}
        more |= {"max_position_embeddings": 128, "tie_word_embeddings": True, "pad_token_id": 0}
        more |= {"bos_token_id": 1, "eos_token_id": 2, "query_pre_attn_scalar": hidden // 4}
        more |= {"head_dim": hidden // 4}
    config = AutoConfig.for_model(architecture, **common, **more)
    return AutoModelForCausalLM.from_config(config)


def row_of(model: Any, architecture: str) -> ModelRow:
    """The model's registry row, from its configuration."""
    config = model.config
    bloom = architecture == "bloom"
    return ModelRow(
        name="m",
        title="M",
        architecture=architecture,
        hub="o/m",
        layers=config.num_hidden_layers,
        max_length=128,
        retrieval_layer=1,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        hidden=config.hidden_size,
        vocab_size=config.vocab_size,
        intermediate=None if bloom else config.intermediate_size,
        heads=4,
        kv_heads=4 if bloom else 2,
        head_size=config.hidden_size // 4,
        licence="none",
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sizes_of_a_row_are_those_of_the_model(architecture: str) -> None:
    model = decoder(architecture)
    size = size_of(row_of(model, architecture))
    output = model.get_output_embeddings().weight.numel()
    assert size.blocks == size.parameters - output
    heads = 4 if architecture == "bloom" else 2
    assert (size.queries, size.keys) == (64, 16 * heads)
    unknown = row_of(model, architecture).model_copy(update={"intermediate": None})
    guessed = size_of(unknown).intermediate
    assert guessed == pytest.approx(256 if architecture == "bloom" else 96, rel=0.1)


def test_a_decoder_made_here_is_counted_exactly() -> None:
    scratch = ScratchModel(layers=2, hidden=32, heads=4, intermediate=48, vocab_size=VOCABULARY)
    row = ModelRow(
        name="m",
        title="M",
        architecture="llama",
        scratch=scratch,
        layers=2,
        max_length=64,
        retrieval_layer=1,
        licence="none",
    )
    config = AutoConfig.for_model(
        "llama",
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        tie_word_embeddings=True,
    )
    model = AutoModelForCausalLM.from_config(config)
    assert size_of(row).parameters == sum(parameter.numel() for parameter in model.parameters())


def test_a_row_that_says_little_is_estimated() -> None:
    row = row_of(decoder("llama"), "llama")
    bare = dict.fromkeys(("vocab_size", "intermediate", "heads", "kv_heads", "head_size"))
    size = size_of(row.model_copy(update={**bare, "parameters": 10**9, "hidden": 2048}))
    assert size.queries == size.keys == 2048
    assert size.blocks + size.vocabulary * 2048 == pytest.approx(10**9, rel=1e-5)


PUBLISHED = [row for row in load_registry().models.values() if row.kind == "decoder" and row.hub]


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: str(row.name))
def test_rows_of_published_decoders_agree_with_their_parameters(row: ModelRow) -> None:
    """A wrong width, head or vocabulary would make another number of parameters."""
    common = {"vocab_size": row.vocab_size, "hidden_size": row.hidden}
    if row.architecture == "bloom":
        more: dict[str, Any] = {"n_layer": row.layers, "n_head": row.heads}
    else:
        more = {"intermediate_size": row.intermediate, "num_hidden_layers": row.layers}
        more |= {"num_attention_heads": row.heads, "num_key_value_heads": row.kv_heads}
        more |= {"head_dim": row.head_size, "tie_word_embeddings": row.tied, "pad_token_id": 0}
    config = AutoConfig.for_model(row.architecture, **common, **more)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    if row.tied:
        model.tie_weights()
    assert sum(parameter.numel() for parameter in model.parameters()) == row.parameters


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_adapters_are_as_many_as_peft_makes(architecture: str) -> None:
    model = decoder(architecture)
    size = size_of(row_of(model, architecture))
    config = LoraConfig(r=3, target_modules="all-linear", task_type="CAUSAL_LM")
    get_peft_model(model, config)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert adapter_parameters(size, 3, "all-linear") == trained


# ---- activations


def saved(
    architecture: str,
    layers: int,
    bf16: bool,
    *,
    lora: Lora | None = None,
    checkpointing: bool = False,
) -> int:
    """Bytes saved for the backward pass, but weights and their copies, of a padded batch."""
    model = decoder(architecture, layers)
    if lora is not None:
        if lora.base == "bf16":
            model = model.to(torch.bfloat16)
        config = LoraConfig(r=lora.rank, lora_dropout=lora.dropout, target_modules="all-linear")
        get_peft_model(model, config)
        model.enable_input_require_grads()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    shapes = {tuple(p.shape) for p in model.parameters()}
    shapes |= {shape[::-1] for shape in shapes}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in weights and tuple(tensor.shape) not in shapes:
            kept[place] = tensor
        return tensor

    ids = torch.randint(3, VOCABULARY, (ROWS, LENGTH))
    mask = torch.ones_like(ids)
    mask[0, -3:] = 0  # without padding keys and values are not repeated
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=bf16),
    ):
        model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def per_block(architecture: str, bf16: bool, **more: Any) -> float:
    return (saved(architecture, 3, bf16, **more) - saved(architecture, 1, bf16, **more)) / 2


def estimate(architecture: str, bf16: bool, **more: Any) -> float:
    size = size_of(row_of(decoder(architecture, 1), architecture))
    return activations(size, ROWS * LENGTH, bf16=bf16, length=LENGTH, **more)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_activations_are_what_torch_saves(architecture: str, bf16: bool) -> None:
    assert 0.9 < estimate(architecture, bf16) / per_block(architecture, bf16) < 1.1


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("base", ["fp32", "bf16"])
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3_text"])
def test_activations_of_adapters(architecture: str, base: Any, dropout: float) -> None:
    lora = Lora(rank=4, dropout=dropout, base=base)
    made = per_block(architecture, True, lora=lora)
    assert 0.9 < estimate(architecture, True, lora=lora) / made < 1.15


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_with_checkpointing_a_block_keeps_its_input(architecture: str) -> None:
    made = per_block(architecture, False, checkpointing=True)
    size = size_of(row_of(decoder(architecture, 1), architecture))
    whole = activations(size, ROWS * LENGTH, bf16=False, length=LENGTH)
    kept = estimate(architecture, False, checkpointing=True) - whole  # one block is there whole
    # Some blocks keep places and masks beside it, which all blocks share.
    assert kept == ROWS * LENGTH * 4 * 64
    assert 1.0 <= made / kept < 1.1


# ---- peaks


def peak(run: Callable[[], Any]) -> int:
    """Most bytes that were allocated at a time beyond those that were there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        run()
    events = found.profiler.kineto_results.events()  # type: ignore[union-attr]
    held = most = 0
    for _, size in sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"):
        held += size
        most = max(most, held)
    return most


@pytest.mark.parametrize(("checkpointing", "low"), [(False, 0.8), (True, 0.7)])
def test_a_whole_step_peaks_where_the_estimate_says(checkpointing: bool, low: float) -> None:
    layers, rows, length = 6, 8, 64
    model = decoder("llama", layers)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    ids = torch.randint(3, VOCABULARY, (rows, length))
    mask = torch.ones_like(ids)
    mask[0, -3:] = 0

    def steps() -> None:
        for _ in range(2):
            hidden = model.model(input_ids=ids, attention_mask=mask, use_cache=False)[0]
            logits = model.lm_head(hidden.flatten(0, 1))
            torch.nn.functional.cross_entropy(logits, ids.flatten()).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    size = size_of(row_of(model, "llama"))
    tokens = rows * length
    expected = training_bytes(
        size, tokens, bf16=False, checkpointing=checkpointing, masked=tokens, length=length
    )
    measured = peak(steps) + 4 * size.parameters  # the weights were there before
    assert low < measured / (expected - RESERVED) < 1.05


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_prediction_needs_less_than_the_estimate(architecture: str) -> None:
    rows, length, layers = 8, 100, 3
    model = decoder(architecture, layers).eval()
    ids = torch.randint(3, VOCABULARY, (rows, length))
    mask = torch.ones_like(ids)
    mask[0, -3:] = 0

    def run() -> None:
        with torch.no_grad():
            model.base_model(input_ids=ids, attention_mask=mask, use_cache=True)

    size = size_of(row_of(model, architecture))
    expected = prediction_bytes(size, rows * length, language_model=True, length=length)
    expected -= 4 * size.parameters + LOGITS + RESERVED
    assert 0.5 < peak(run) / expected < 1.0


# ---- by hand


def test_eight_billion_parameters_by_hand() -> None:
    # 32 blocks of 4096, 8 of 32 heads for keys, output not tied
    size = size_of(load_registry().models["llama-3.1-8b"])
    assert size.blocks == 6_979_588_096  # with the last norm
    assert (size.queries, size.keys) == (4096, 1024)
    # all weights: 16 bytes each, and 2 of the blocks and the output layer
    everything = 16 * 8_030_261_248 + 2 * (6_979_588_096 + 128_256 * 4096)
    assert weight_bytes(size, bf16=True) == everything
    # adapters of rank 16: q and o 8192, k and v 5120, three of 18432 in sum, times 16 and 32
    adapters = 32 * 16 * (2 * 8192 + 2 * 5120 + 3 * 18432)
    assert adapter_parameters(size, 16, "all-linear") == adapters == 41_943_040
    assert adapter_parameters(size, 16, ("q_proj", "v_proj")) == 32 * 16 * (8192 + 5120)
    lora = Lora(base="bf16")
    assert weight_bytes(size, bf16=True, lora=lora) == 16 * adapters + 2 * 8_030_261_248
    small = training_bytes(size, 4096, bf16=True, checkpointing=True, masked=400, lora=lora)
    assert 20 < small / GIB < 24  # a 24 GB card has 22.4 GiB
    assert merge_bytes(size) == 8 * 8_030_261_248

"""Batches without padding give what padded ones give; speed settings leave results alone."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from tiny import (
    FORMATS,
    LABELS,
    SETTINGS,
    settings_of_process,
    store_of,
    training_spec,
    write_base,
    write_world,
)
from xstilts.errors import InputError
from xstilts.formats.head import trained_format
from xstilts.runtime import runtime
from xstilts.training.model import LM_HEAD, Model, load_backbone, make_heads, save_model
from xstilts.training.packed import (
    _Relaxed,
    _Strict,
    attention_dropouts,
    kernel_allows,
    packed_forward,
    pays,
    shape_allows,
    use_packed,
)
from xstilts.training.settings import Training
from xstilts.training.speed import compile_layers, prepare
from xstilts.training.stages import fine_tune

ARCHITECTURES = pytest.mark.parametrize("architecture", ["xlm-roberta", "bert"])
CPU = torch.device("cpu")
compiler = pytest.mark.skipif(
    not shutil.which(os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")),
    reason="torch.compile needs a C++ compiler",
)


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    torch.manual_seed(1)
    torch._dynamo.reset()
    yield
    torch.use_deterministic_algorithms(False)


def model_of(architecture: str = "xlm-roberta", language_model: bool = False) -> Model:
    backbone = load_backbone(Path(write_base("base", architecture)), language_model=language_model)
    wanted = {name: (name, tuple(LABELS.get(name, ())) or None) for name in FORMATS}
    model = Model(backbone, make_heads(wanted, backbone.config, 0.1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 5  # states and gradients far above the tolerance
    return model


def batch_of(architecture: str = "xlm-roberta", rows: int = 7, name: str = FORMATS[0]):
    store = store_of(name, types=architecture == "bert")
    format_ = trained_format(name)
    arrays = format_.collate(store, np.arange(rows), np.random.default_rng(1))
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def inputs_of(batch):
    return {name: batch[name] for name in batch if name.endswith(("_ids", "_mask"))}


def drop_nothing(model: Model) -> Model:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


@ARCHITECTURES
def test_packed_hidden_states_are_the_padded_ones(architecture):
    model, batch = model_of(architecture).eval(), inputs_of(batch_of(architecture))
    assert ("token_type_ids" in batch) == (architecture == "bert")
    inside = batch["attention_mask"].bool()
    assert not inside.all()
    with torch.inference_mode():
        wanted = model.encoder(**batch).last_hidden_state
        use_packed(model.encoder)
        still = model.encoder(**batch).last_hidden_state
        hidden = packed_forward(model.encoder, batch)
    assert torch.equal(still, wanted)
    assert hidden.shape == wanted.shape
    torch.testing.assert_close(hidden[inside], wanted[inside], rtol=0, atol=1e-5)
    assert not hidden[~inside].any()
    # What the test would miss if positions or segments were lost on the way.
    assert wanted[inside].std() > 0.1


@ARCHITECTURES
def test_packed_gradients_are_the_padded_ones(architecture):
    model, batch = drop_nothing(model_of(architecture)).train(), inputs_of(batch_of(architecture))
    inside = batch["attention_mask"].bool()
    weight = torch.randn(int(inside.sum()), 16)
    use_packed(model.encoder)

    def gradients(hidden):
        model.zero_grad()
        (hidden[inside] * weight).sum().backward()
        return {name: p.grad.clone() for name, p in model.encoder.named_parameters()}

    wanted = gradients(model.encoder(**batch).last_hidden_state)
    for name, gradient in gradients(packed_forward(model.encoder, batch)).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-4, msg=name)
    assert max(float(gradient.abs().max()) for gradient in wanted.values()) > 1


@pytest.mark.parametrize("name", [*FORMATS, LM_HEAD])
def test_heads_see_no_padding(name):
    """Losses and gradients do not depend on what stands where the padding was."""
    model = drop_nothing(model_of(language_model=name == LM_HEAD)).train()
    format_ = trained_format(name, **({"mask": 0.3} if name == LM_HEAD else {}))
    store = store_of(FORMATS[0] if name == LM_HEAD else name)
    arrays = format_.collate(store, np.arange(7), np.random.default_rng(1))
    batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
    assert not batch["attention_mask"].all()
    use_packed(model.encoder)
    losses, gradients = [], []
    for encode in (model.encode, lambda batch: packed_forward(model.encoder, inputs_of(batch))):
        model.zero_grad()
        model.encode = encode
        loss = format_.loss(model(batch, name), batch)
        loss.backward()
        losses.append(loss.item())
        gradients.append(model.encoder.embeddings.word_embeddings.weight.grad.clone())
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-4)
    assert gradients[0].any()


@ARCHITECTURES
def test_rows_do_not_see_each_other(architecture):
    model, batch = model_of(architecture).eval(), inputs_of(batch_of(architecture))
    use_packed(model.encoder)
    changed = dict(batch, input_ids=batch["input_ids"].clone())
    changed["input_ids"][2, 1] = 5 + (batch["input_ids"][2, 1] == 5)
    with torch.inference_mode():
        before, after = (packed_forward(model.encoder, some) for some in (batch, changed))
    others = [0, 1, 3, 4, 5, 6]
    assert torch.equal(before[others], after[others])
    assert not torch.equal(before[2], after[2])


def test_nothing_of_it_is_in_a_checkpoint():
    folders = []
    for number in range(2):
        model = model_of()
        if number:
            settings = {"attention_dropout": 0.0, "gradient_checkpointing": True, "compile": True}
            prepare(model, Training.model_validate(settings))
            use_packed(model.encoder)
        folders.append(Path(f"saved-{number}"))
        save_model(model, folders[-1], {})
    plain, fast = ({path.name: path.read_bytes() for path in f.iterdir()} for f in folders)
    assert plain == fast
    assert json.loads(fast["config.json"])["attention_probs_dropout_prob"] == 0.1


def test_which_encoders_the_kernel_takes():
    model = model_of()
    dropouts = attention_dropouts(model.encoder)
    assert [module.p for module in dropouts] == [0.1, 0.1]  # one a layer
    assert shape_allows(model.eval().encoder)
    assert not shape_allows(model.train().encoder)
    prepare(model, Training(attention_dropout=0.0))
    assert [module.p for module in dropouts] == [0.0, 0.0]
    assert shape_allows(model.encoder)
    hidden = [m.p for m in model.encoder.modules() if isinstance(m, torch.nn.Dropout)]
    assert hidden.count(0.1) == len(hidden) - 2  # those of hidden states are as they were
    for heads, allowed in ((2, True), (4, False), (1, True)):
        model.encoder.config.num_attention_heads = heads  # of 8, 4 and 16 dimensions
        assert shape_allows(model.encoder) == allowed
    model.encoder.config.hidden_size = 256
    assert not shape_allows(model.encoder)


def test_a_cpu_leaves_out_much_padding_and_packs_long_rows():
    model = model_of().eval()
    use_packed(model.encoder)
    assert not kernel_allows(model.encoder, CPU)
    assert not pays(model.encoder, torch.ones(4, 127))
    assert pays(model.encoder, torch.ones(4, 128))
    mask = torch.ones(10, 100)
    mask[0, 53:] = 0  # 47 sub-words
    assert not pays(model.encoder, mask)
    mask[1, 99:] = 0
    assert pays(model.encoder, mask)


def test_a_model_packs_where_it_is_told_to():
    model, batch = model_of().eval(), batch_of(rows=25)
    use_packed(model.encoder)
    outside = ~batch["attention_mask"].bool()
    assert outside.sum() >= 48
    with torch.inference_mode():
        assert model.encode(batch)[outside].any()
        model.packed = True
        assert not model.encode(batch)[outside].any()


def test_the_kernel_refuses_dropout():
    """Where nobody asked `kernel_allows`: an error, and no training without the dropout."""
    from xstilts.training.packed import _kernel

    part = torch.zeros(1, 2, 4, 8)
    with pytest.raises(ValueError, match="has no dropout"):
        _kernel(part, part, part, torch.tensor([0, 4]), 4, None, 0.1)


def test_the_kernel_is_called_as_torch_wants_it():
    """On the meta device, which knows shapes and types and needs no GPU."""
    from xstilts.training.packed import _kernel

    options = {"device": "meta", "dtype": torch.bfloat16, "requires_grad": True}
    query, key, value = (torch.empty(1, 4, 12, 8, **options) for _ in range(3))
    bounds = torch.tensor([0, 5, 12], dtype=torch.int32, device="meta")
    output = _kernel(query, key, value, bounds, 7, None, 0.0)
    assert output.shape == (1, 12, 4, 8)
    assert output.dtype == torch.bfloat16
    output.sum().backward()
    assert query.grad.shape == key.grad.shape == value.grad.shape == (1, 4, 12, 8)


@pytest.mark.parametrize("warn_only", [True, False])
def test_the_backward_pass_of_attention_is_strict_and_nothing_else(warn_only):
    """Fused kernels are deterministic only so (`warn_only` leaves them as they are)."""
    seen = {}

    class Spy(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value, name):
            ctx.name = name
            return value.view_as(value)

        @staticmethod
        def backward(ctx, gradient):
            seen[ctx.name] = torch.is_deterministic_algorithms_warn_only_enabled()
            return gradient, None

    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    start = torch.ones(3, requires_grad=True)
    query, key, value = _Relaxed.apply(*(Spy.apply(start, f"before {i}") for i in range(3)))
    inner = Spy.apply(query * key + value, "inside")
    Spy.apply(_Strict.apply(inner), "after").sum().backward()
    assert seen == {
        "after": warn_only,
        "inside": False,
        **{f"before {i}": warn_only for i in range(3)},
    }
    assert torch.is_deterministic_algorithms_warn_only_enabled() == warn_only
    assert start.grad.tolist() == [3, 3, 3]


def test_nobody_is_made_deterministic_who_did_not_ask():
    model, batch = model_of().train(), inputs_of(batch_of())
    use_packed(model.encoder)
    packed_forward(model.encoder, batch).sum().backward()
    assert not torch.are_deterministic_algorithms_enabled()


@ARCHITECTURES
@pytest.mark.parametrize("packed", [False, True])
def test_checkpointing_changes_no_gradient(architecture, packed):
    """With dropout on: the second forward pass draws the same masks."""
    batch = inputs_of(batch_of(architecture))
    results = []
    for on in (False, True):
        model = model_of(architecture).train()
        prepare(model, Training(gradient_checkpointing=on))
        use_packed(model.encoder)
        assert shape_allows(model.encoder) is False  # dropout of attention is on too
        torch.manual_seed(5)
        encode = packed_forward if packed else lambda e, b: e(**b).last_hidden_state
        count = _Calls(model.encoder.encoder.layer[0].intermediate)
        loss = encode(model.encoder, batch).square().sum()
        loss.backward()
        assert count.calls == 1 + on
        gradients = [p.grad for p in model.encoder.parameters()]
        results.append((loss.detach(), gradients))
    assert torch.equal(results[0][0], results[1][0])
    assert all(torch.equal(*pair) for pair in zip(results[0][1], results[1][1], strict=True))


def test_a_stage_applies_what_the_study_says(monkeypatch):
    """Checkpointing leaves the published bytes alone; dropout of attention does not."""
    settings_of_process(monkeypatch)
    write_world()
    weights = []
    for changes in ({}, {"gradient_checkpointing": True}, {"attention_dropout": 0.0}):
        spec = training_spec({FORMATS[0]: FORMATS[0]}, max_steps=3, **changes)
        fine_tune(spec, Path(f"trained-{len(weights)}"))
        weights.append(Path(f"trained-{len(weights)}/model.safetensors").read_bytes())
    runtime.cache_clear()
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


class _Calls:
    """Counts the calls of a module."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.calls = 0
        module.register_forward_hook(self._count)

    def _count(self, *_) -> None:
        self.calls += 1


def test_without_a_compiler_it_says_so(monkeypatch, tmp_path):
    model = model_of()
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        InputError, match=r"training\.compile: torch\.compile needs a C\+\+ compiler"
    ):
        prepare(model, Training(compile=True))
    prepare(model, Training())


@compiler
def test_lengths_and_rows_compile_nothing_new():
    model = model_of()
    counter = CompileCounterWithBackend("eager")
    compile_layers(model.encoder, counter)
    counts = []
    for rows, length in [(7, 10), (1, 9), *((2 + i % 5, 3 + i % 12) for i in range(20))]:
        ids = torch.randint(4, 30, (rows, length))
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        for mode in (True, False):
            with torch.set_grad_enabled(mode):
                model.train(mode).encode(batch)
        counts.append(counter.frame_count)
    # Three parts, in training and in evaluation: 6 graphs, and torch counts one of them twice,
    # because it first takes the dropout for a symbol. As many again for a single row.
    assert counts[0] <= 7
    assert counts[1] == counts[-1] <= 13


@compiler
@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiled_layers_learn_the_same(checkpointing):
    hidden, gradients = [], []
    for compiled in (False, True):
        model = drop_nothing(model_of()).train()
        keys = list(model.state_dict())
        settings = Training(compile=compiled, gradient_checkpointing=compiled and checkpointing)
        prepare(model, settings)
        assert list(model.state_dict()) == keys
        model.zero_grad()
        for rows in (7, 5):
            hidden.append(model.encode(batch_of(rows=rows)))
            hidden[-1].square().sum().backward()
        gradients.append({name: p.grad for name, p in model.encoder.named_parameters()})
    for plain, compiled in zip(hidden[:2], hidden[2:], strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-5)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-3, msg=name)


@compiler
def test_compiled_dropout_is_drawn_twice_the_same():
    """Checkpointing and compiling together: the loss and gradients of compiling alone."""
    results = []
    for checkpointing in (False, True):
        torch._dynamo.reset()
        model = model_of().train()
        prepare(model, Training(compile=True, gradient_checkpointing=checkpointing))
        torch.manual_seed(5)
        loss = model.encode(batch_of()).square().sum()
        loss.backward()
        results.append((loss.detach(), [p.grad for p in model.encoder.parameters()]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)


def test_speed_is_off_unless_asked_for():
    settings = Training.model_validate(SETTINGS)
    assert settings.attention_dropout is None
    assert not settings.gradient_checkpointing
    assert not settings.compile


@pytest.mark.gpu
@ARCHITECTURES
def test_the_kernel_gives_what_padding_gives(architecture):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    device = torch.device("cuda")
    model = drop_nothing(model_of(architecture)).to(device).train()
    batch = {name: values.to(device) for name, values in batch_of(architecture).items()}
    inside = batch["attention_mask"].bool()
    torch.use_deterministic_algorithms(True, warn_only=True)
    use_packed(model.encoder)
    results = []
    for packed in (False, True, True):
        model.packed = packed
        model.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            assert kernel_allows(model.encoder, device)
            hidden = model.encode(batch)
        assert bool(hidden[~inside].any()) != packed  # the padding was left out
        (hidden.float()[inside] ** 2).sum().backward()
        gradient = model.encoder.embeddings.word_embeddings.weight.grad.clone()
        results.append((hidden[inside].float().detach(), gradient))
    # bfloat16 has 8 bits of mantissa; two layers of it.
    torch.testing.assert_close(results[1][0], results[0][0], rtol=0.05, atol=0.05)
    scale = float(results[0][1].abs().max())
    torch.testing.assert_close(results[1][1], results[0][1], rtol=0.1, atol=0.05 * scale)
    for one, other in zip(results[1], results[2], strict=True):
        assert torch.equal(one, other)  # deterministic

"""Estimates of GPU memory, beside what torch really keeps."""

from pathlib import Path
from typing import Any

import pytest
import torch

from xstilts.cluster.memory import (
    GIB,
    RESERVED,
    activations,
    check_fit,
    prediction_bytes,
    training_bytes,
)
from xstilts.cluster.settings import Cluster, read_cluster
from xstilts.cluster.sizes import Size, block_parameters
from xstilts.config import load_study
from xstilts.data.lock import Lock
from xstilts.errors import InputError
from xstilts.plan import Plan, make_plan
from xstilts.registry import load_registry
from xstilts.session import Session
from xstilts.training.loop import make_optimizer
from xstilts.training.model import new_backbone
from xstilts.training.settings import Training
from xstilts.validation import read_yaml

#: XLM-R Large, as published.
LARGE = Size(558_840_832, 24 * block_parameters(1024, 4096), 24, 1024, 4096, 250_517)


def encoder(layers: int, hidden: int, intermediate: int) -> Any:
    scratch = {"layers": layers, "hidden": hidden, "heads": 4, "intermediate": intermediate}
    row = {"architecture": "xlm-roberta", "scratch": scratch | {"vocab_size": 50}, "max_length": 32}
    return new_backbone(row, 50, 1, 0.1).base_model.train()


def size_of_encoder(model: Any, layers: int, hidden: int, intermediate: int) -> Size:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    blocks = layers * block_parameters(hidden, intermediate)
    return Size(parameters, blocks, layers, hidden, intermediate, 50)


def test_weights_gradients_and_moments_are_sixteen_bytes_a_parameter() -> None:
    model = encoder(2, 16, 32)
    optimizer = make_optimizer(model, Training())
    model(input_ids=torch.ones(1, 4, dtype=torch.long)).last_hidden_state.sum().backward()
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    held = 0
    for parameter in model.parameters():
        state = optimizer.state[parameter]
        held += sum(t.nbytes for t in (parameter, parameter.grad, *_moments(state)))
    size = size_of_encoder(model, 2, 16, 32)
    assert held == 16 * size.parameters
    assert training_bytes(size, 0, bf16=False) == held + RESERVED


def _moments(state: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    return [state["exp_avg"], state["exp_avg_sq"]]


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(("hidden", "intermediate"), [(64, 64), (64, 256), (80, 320)])
def test_activations_are_what_torch_saves(bf16: bool, hidden: int, intermediate: int) -> None:
    rows, length = 4, 24
    saved = [_saved(layers, hidden, intermediate, rows, length, bf16) for layers in (1, 3)]
    size = Size(0, 0, 2, hidden, intermediate, 50)  # two blocks more
    estimate = activations(size, rows * length, bf16=bf16)
    assert 0.9 < estimate / (saved[1] - saved[0]) < 1.15


def _saved(layers: int, hidden: int, wide: int, rows: int, length: int, bf16: bool) -> int:
    """Bytes saved for the backward pass, but weights, their copies and attention matrices."""
    model = encoder(layers, hidden, wide)
    for module in model.modules():
        if type(module).__name__.endswith("SelfAttention"):
            module.dropout.p = 0.0  # with it, a CPU keeps the whole attention matrix
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    shapes = {tuple(p.shape) for p in model.parameters()}
    shapes |= {shape[::-1] for shape in shapes}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in weights and tuple(tensor.shape) not in shapes:
            kept[place] = tensor
        return tensor

    ids = torch.randint(3, 50, (rows, length))
    mask = torch.ones_like(ids)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=bf16),
    ):
        output = model(input_ids=ids, attention_mask=mask).last_hidden_state
    assert output.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def test_xlm_r_large_by_hand() -> None:
    # 16 x 559M; 2 x 302M; 24 blocks x 8192 sub-words x (28 + 16) x 1024; 1.5 GiB
    by_hand = 8_941_453_312 + 604_618_752 + 8_858_370_048 + 1_610_612_736
    assert training_bytes(LARGE, 8192, bf16=True) == by_hand
    # a block's input is kept, and one block at a time is whole
    less = 8_941_453_312 + 604_618_752 + 805_306_368 + 369_098_752 + 1_610_612_736
    assert training_bytes(LARGE, 8192, bf16=True, checkpointing=True) == less
    assert prediction_bytes(LARGE, 16384) == 4 * 558_840_832 + 16384 * 64 * 1024 + 1.5 * GIB


@pytest.fixture(scope="module")
def paper(repository: Path) -> Plan:
    return Session.of_file(repository / "studies" / "paper.yaml", repository).plan


@pytest.fixture(scope="module")
def shipped(repository: Path) -> Cluster:
    return read_cluster(repository / "workflow" / "profiles" / "slurm" / "cluster.yaml")


def with_memory(cluster: Cluster, **memory: float) -> Cluster:
    gpus = {kind: {"memory_gb": gigabytes} for kind, gigabytes in memory.items()}
    partition = {"max_runtime": 600, "max_mem_mb": 90000, "max_threads": 8, "max_gpu": 4}
    content = {"gpus": gpus, "partitions": {"g": partition}, "resources": cluster.resources}
    return Cluster.model_validate(content)


def test_the_papers_study_fits_into_32_gb_and_not_into_16(paper: Plan, shipped: Cluster) -> None:
    check_fit(paper, shipped)
    check_fit(paper, with_memory(shipped, v100=32))
    with pytest.raises(InputError) as caught:
        check_fit(paper, with_memory(shipped, big=80, small=16))
    message = str(caught.value)
    assert "xlm-roberta-large on" in message
    assert "of the kind small; expected at most 14.9 GiB; found about 1" in message
    assert "micro_batch_tokens" in message
    assert "gradient_checkpointing: true" in message
    assert "`gpu` in cluster.yaml" in message


def test_without_gpus_everything_fits(paper: Plan, shipped: Cluster) -> None:
    partition = {"max_runtime": 600, "max_mem_mb": 90000, "max_threads": 8}
    content = {"partitions": {"cpu": partition}, "resources": shipped.resources}
    check_fit(paper, Cluster.model_validate(content))


def test_a_batch_smaller_than_the_budget_takes_less(repository: Path, shipped: Cluster) -> None:
    content = read_yaml(repository / "studies" / "xtreme.yaml")
    content["training"] = {"default": {"micro_batch_tokens": 10**7, "precision": "fp32"}}
    study = load_study(content, "xtreme.yaml")
    plan = make_plan(study, load_registry(), Lock(), "xtreme.yaml")
    # batches of 32 rows of 384 sub-words are 12,288 at once, whatever the budget
    # 8.3 + 19.7 + 1.5 GiB
    check_fit(plan, with_memory(shipped, a=40))
    with pytest.raises(InputError, match=r"found about [23]\d\.\d GiB"):
        check_fit(plan, with_memory(shipped, a=24))

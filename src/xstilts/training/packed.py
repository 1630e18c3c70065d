"""Attention without padding: the rows of a micro-batch as one sequence.

`packed_forward` takes the padding out of a batch [rows, length], sends what is left through the
encoder as one sequence [1, total], and puts the hidden states back into their places. Each row
keeps its positions and attends to itself only: transformers hands the keyword arguments of a
model's forward down to the attention function (`cu_seq_lens_q`, `max_length_q`), and
`_attention` cuts the sequence by them. On CUDA that is torch's variable-length flash attention
(`torch.nn.attention.varlen`, torch 2.13), which has no dropout of attention probabilities and
computes in 16 bits. On a CPU, neighbours of one length go through the usual attention together;
that pays where there is padding to leave out or rows are long. `pays` has to be asked first.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Name of the attention function in transformers' registries.
NAME = "xstilts"
#: torch's flash attention takes multiples of 8 up to 256; the backward pass of more than 192 runs
#: on some cards only.
_MOST_DIMENSIONS = 192
#: On a CPU (benchmarks/packed.py): sub-words of padding, and length of the longest row, from which
#: on leaving the padding out is faster than computing it.
_MUCH_PADDING, _LONG = 48, 128


def use_packed(encoder: Any) -> None:
    """Give an encoder the attention function that both packed and padded batches can use.

    Nothing of it is written to a checkpoint.

    Args:
        encoder: A transformers encoder.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(NAME, _attention)
    # A packed batch comes without a mask, and then this makes none.
    AttentionMaskInterface.register(NAME, sdpa_mask)
    encoder.set_attn_implementation(NAME)


def attention_dropouts(encoder: Any) -> list[nn.Dropout]:
    """The modules that drop attention probabilities, one a layer."""
    modules = encoder.modules()
    return [module.dropout for module in modules if hasattr(module, "attention_head_size")]


def pays(encoder: Any, mask: Tensor) -> bool:
    """Whether a batch is to go through an encoder without its padding; a function of the batch.

    Args:
        encoder: A transformers encoder that `use_packed` has seen.
        mask: Attention mask [rows, length].
    """
    if mask.is_cuda:
        return kernel_allows(encoder, mask.device)
    padding = mask.numel() - int(mask.sum())
    return padding >= _MUCH_PADDING or mask.shape[1] >= _LONG


def kernel_allows(encoder: Any, device: torch.device) -> bool:
    """Whether the variable-length kernel computes what the encoder would with padding.

    Args:
        encoder: A transformers encoder, in training or evaluation mode.
        device: Where the batch is; autocast is looked up for it.
    """
    if device.type != "cuda" or not torch.is_autocast_enabled("cuda"):
        return False
    half = torch.get_autocast_dtype("cuda") in (torch.bfloat16, torch.float16)
    return half and shape_allows(encoder) and _card_allows(device)


def shape_allows(encoder: Any) -> bool:
    """The part of `kernel_allows` that the encoder alone decides: dropout and sizes of heads."""
    if encoder.training and any(module.p > 0 for module in attention_dropouts(encoder)):
        return False
    width = encoder.config.hidden_size // encoder.config.num_attention_heads
    return bool(width % 8 == 0 and width <= _MOST_DIMENSIONS)


def _card_allows(device: torch.device) -> bool:
    built = torch.backends.cuda.is_flash_attention_available()
    return built and torch.cuda.get_device_capability(device) >= (8, 0)


def packed_forward(encoder: Any, inputs: dict[str, Tensor]) -> Tensor:
    """Last hidden states [rows, length, hidden] of a padded batch; 0 where there is padding.

    Args:
        encoder: A transformers encoder that `use_packed` has seen.
        inputs: input_ids, attention_mask and, for BERT, token_type_ids: [rows, length].
    """
    mask = inputs["attention_mask"]
    rows, length = mask.shape
    places = mask.flatten().nonzero().squeeze(1)
    packed = {
        name: values.flatten()[places][None]
        for name, values in inputs.items()
        if name != "attention_mask"
    }
    # RoBERTa's positions begin after the padding id, BERT's at 0.
    first = getattr(encoder.embeddings, "padding_idx", -1) + 1
    packed["position_ids"] = (mask.cumsum(1).flatten()[places] - 1 + first)[None]
    bounds = functional.pad(mask.sum(1).cumsum(0), (1, 0)).to(torch.int32)
    hidden = encoder(
        **packed,
        cu_seq_lens_q=bounds,
        cu_seq_lens_k=bounds,
        max_length_q=length,
        max_length_k=length,
    ).last_hidden_state[0]
    padded = hidden.new_zeros(rows * length, hidden.shape[-1]).index_put((places,), hidden)
    return cast("Tensor", padded.view(rows, length, -1))


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in every layer: [batch, heads, length, size] in, heads third out."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    bounds = kwargs.pop("cu_seq_lens_q", None)
    if query.is_cuda:
        query, key, value = _Relaxed.apply(query, key, value)  # type: ignore[no-untyped-call]
    if bounds is None:
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **kwargs
        )
    elif query.is_cuda:
        output = _kernel(query, key, value, bounds, kwargs["max_length_q"], scaling, dropout)
    else:
        output = _by_length(query, key, value, bounds, scaling, dropout)
    if query.is_cuda:
        output = _Strict.apply(output)  # type: ignore[no-untyped-call]
    return output, None


def _kernel(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bounds: Tensor,
    longest: int,
    scaling: float | None,
    dropout: float,
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    if dropout > 0:
        raise ValueError("the variable-length kernel has no dropout: ask kernel_allows first")
    q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))
    output = varlen_attn(q, k, v, bounds, bounds, longest, longest, scale=scaling)
    return cast("Tensor", output)[None]


def _by_length(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, scaling: float | None, dropout: float
) -> Tensor:
    """Neighbours of one length together; rows come sorted by length, so there are few groups."""
    lengths, counts = torch.unique_consecutive(bounds.diff(), return_counts=True)
    shapes = list(zip(counts.tolist(), lengths.tolist(), strict=True))
    sizes = [rows * length for rows, length in shapes]
    parts = (torch.split(part, sizes, dim=2) for part in (query, key, value))
    outputs = []
    for (rows, length), *group in zip(shapes, *parts, strict=True):
        # [1, heads, rows * length, size] as [rows, heads, length, size], and back in the end
        q, k, v = (part[0].unflatten(1, (rows, length)).transpose(0, 1) for part in group)
        output = functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scaling)
        outputs.append(output.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)[None]


# torch's fused attention kernels (flash and memory-efficient) have a deterministic backward pass,
# but take it only where deterministic algorithms are asked for without `warn_only`; that in turn
# stops at operations which have none. The two functions below ask for it strictly during the
# backward pass of the attention, which runs from `_Strict` to `_Relaxed`, and nowhere else.


class _Strict(torch.autograd.Function):
    """Identity; its backward pass begins the strict part."""

    @staticmethod
    def forward(ctx: Any, output: Tensor) -> Tensor:
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        if torch.are_deterministic_algorithms_enabled():
            torch.use_deterministic_algorithms(True, warn_only=False)
        return gradient


class _Relaxed(torch.autograd.Function):
    """Identity; its backward pass ends the strict part."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        return tuple(part.view_as(part) for part in inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        if torch.are_deterministic_algorithms_enabled():
            torch.use_deterministic_algorithms(True, warn_only=ctx.warn_only)
        return gradients

"""How large a model is: parameters and widths, from its registry row alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from xstilts.architectures import is_decoder
from xstilts.errors import InputError
from xstilts.registry.rows import Architecture, ModelRow

#: Decoders whose feed-forward layers have no gate.
_UNGATED = ("apertus", "bloom")


@dataclass(frozen=True)
class Size:
    """Sizes of an encoder or decoder.

    Attributes:
        parameters: Embeddings and blocks, no pooler and no head; of a decoder all.
        blocks: Parameters of the blocks alone: those that are multiplied for every sub-word.
        layers: Number of blocks.
        hidden: Hidden size.
        intermediate: Size of the feed-forward layer.
        vocabulary: Sub-words that a language-model head tells apart.
        queries: Width of a sub-word's queries, all heads together.
        keys: Width of its keys, and of its values.
        heads: Attention heads.
        architecture: Which layers there are.
    """

    parameters: int
    blocks: int
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    queries: int = 0
    keys: int = 0
    heads: int = 1
    architecture: Architecture = "xlm-roberta"

    @property
    def is_decoder(self) -> bool:
        """Whether it is a decoder."""
        return is_decoder(self.architecture)


def block_parameters(hidden: int, intermediate: int) -> int:
    """Parameters of one block of BERT: attention, feed-forward layer, two LayerNorms."""
    attention = 4 * (hidden * hidden + hidden)
    feed_forward = 2 * hidden * intermediate + intermediate + hidden
    return attention + feed_forward + 4 * hidden


def parameters_of(row: ModelRow) -> int:
    """Parameters of a model.

    Raises:
        InputError: If the registry does not say.
    """
    return size_of(row).parameters


def size_of(row: ModelRow) -> Size:
    """Sizes of a model.

    A pretrained model's hidden size is its row's; without it, it is the largest that the parameters
    allow (as if there were no embeddings). What a decoder's row does not say follows from the
    number of its parameters, with as many heads of keys as of queries.

    Raises:
        InputError: If the row has neither `parameters` nor `scratch`.
    """
    if row.scratch is not None:
        return _scratch_decoder(row) if row.kind == "decoder" else _scratch(row)
    if row.parameters is None:
        raise InputError(
            f"registry: models.{row.name}.parameters",
            "the key is missing: what the model's jobs need depends on it",
            expected=f"the number of parameters of the {row.kind}",
        )
    hidden = row.hidden or round((row.parameters / (12 * row.layers)) ** 0.5)
    if row.kind == "decoder":
        return _decoder(row, row.parameters, hidden)
    blocks = min(row.layers * block_parameters(hidden, 4 * hidden), row.parameters)
    vocabulary = (row.parameters - blocks) // hidden
    return Size(row.parameters, blocks, row.layers, hidden, 4 * hidden, vocabulary)


def _decoder(row: ModelRow, parameters: int, hidden: int) -> Size:
    """Sizes of a pretrained decoder; those that its row lacks are estimated."""
    blocks = min(12 * row.layers * hidden * hidden, parameters)
    vocabulary = (parameters - blocks) // hidden
    if row.vocab_size:
        vocabulary = row.vocab_size
        blocks = parameters - (1 if row.tied else 2) * vocabulary * hidden
    heads = row.heads or max(1, hidden // 64)
    queries = heads * row.head_size if row.head_size else hidden
    keys = queries * row.kv_heads // heads if row.kv_heads else queries
    matrices = 2 if row.architecture in _UNGATED else 3
    rest = blocks / row.layers - 2 * hidden * (queries + keys)
    intermediate = row.intermediate or max(hidden, round(rest / (matrices * hidden)))
    return Size(
        *(parameters, blocks, row.layers, hidden, intermediate, vocabulary),
        *(queries, keys, heads, row.architecture),
    )


def _scratch_decoder(row: ModelRow) -> Size:
    """Sizes of a Llama that `xstilts.training.model.new_backbone` makes: its output is tied."""
    assert row.scratch is not None
    size = row.scratch
    h, i, vocabulary = size.hidden, size.intermediate, size.vocab_size
    # four matrices of attention, three of the gated feed-forward layer, two norms; no biases
    blocks = size.layers * (4 * h * h + 3 * h * i + 2 * h)
    parameters = vocabulary * h + blocks + h
    return Size(
        parameters, blocks, size.layers, h, i, vocabulary, h, h, size.heads, row.architecture
    )


def _scratch(row: ModelRow) -> Size:
    """Sizes of a model that `xstilts.training.model.new_backbone` makes."""
    assert row.scratch is not None
    size = row.scratch
    # RoBERTa's positions start after the padding's id, 1, and it has one type of segment.
    extra = (2 + 1) if row.architecture == "xlm-roberta" else 2
    # sub-words, positions, segments and their LayerNorm
    embeddings = (size.vocab_size + row.max_length + extra + 2) * size.hidden
    blocks = size.layers * block_parameters(size.hidden, size.intermediate)
    return Size(
        embeddings + blocks, blocks, size.layers, size.hidden, size.intermediate, size.vocab_size
    )


# ---- adapters


def linears(size: Size) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of the linear layers of a decoder's block, by transformers' names."""
    h, q, k, i = size.hidden, size.queries, size.keys, size.intermediate
    if size.architecture == "bloom":
        return {
            "query_key_value": (h, 3 * h),
            "dense": (h, h),
            "dense_h_to_4h": (h, 4 * h),
            "dense_4h_to_h": (4 * h, h),
        }
    gate = {} if size.architecture in _UNGATED else {"gate_proj": (h, i)}
    attention = {"q_proj": (h, q), "k_proj": (h, k), "v_proj": (h, k), "o_proj": (q, h)}
    return {**attention, **gate, "up_proj": (h, i), "down_proj": (i, h)}


def adapted(size: Size, targets: Literal["all-linear"] | Iterable[str]) -> list[tuple[int, int]]:
    """Inputs and outputs of the layers of a block that get an adapter; all where none is known."""
    known = linears(size)
    names = list(known) if targets == "all-linear" else [name for name in targets if name in known]
    return [known[name] for name in names or known]


def adapter_parameters(
    size: Size, rank: int, targets: Literal["all-linear"] | Iterable[str]
) -> int:
    """Parameters of low-rank adapters: rank times inputs and outputs of each layer.

    Source: Hu et al. 2022 (arXiv 2106.09685), 4.2.
    """
    return size.layers * sum(rank * (before + after) for before, after in adapted(size, targets))

"""How large a model is: parameters and widths, from its registry row alone."""

from __future__ import annotations

from dataclasses import dataclass

from xstilts.errors import InputError
from xstilts.registry.rows import ModelRow


@dataclass(frozen=True)
class Size:
    """Sizes of an encoder.

    Attributes:
        parameters: Embeddings and blocks, no pooler and no head.
        blocks: Parameters of the blocks alone: those that are multiplied for every sub-word.
        layers: Number of blocks.
        hidden: Hidden size.
        intermediate: Size of the feed-forward layer.
        vocabulary: Sub-words that a language-model head tells apart.
    """

    parameters: int
    blocks: int
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int


def block_parameters(hidden: int, intermediate: int) -> int:
    """Parameters of one block of BERT: attention, feed-forward layer, two LayerNorms."""
    attention = 4 * (hidden * hidden + hidden)
    feed_forward = 2 * hidden * intermediate + intermediate + hidden
    return attention + feed_forward + 4 * hidden


def parameters_of(row: ModelRow) -> int:
    """Parameters of a model's encoder.

    Raises:
        InputError: If the registry does not say.
    """
    return size_of(row).parameters


def size_of(row: ModelRow) -> Size:
    """Sizes of a model's encoder.

    A pretrained model's hidden size is its row's; without it, it is the largest that the parameters
    allow (as if there were no embeddings), with a feed-forward layer of four times that.

    Raises:
        InputError: If the row has neither `parameters` nor `scratch`.
    """
    if row.scratch is not None:
        return _scratch(row)
    if row.parameters is None:
        raise InputError(
            f"registry: models.{row.name}.parameters",
            "the key is missing: what the model's jobs need depends on it",
            expected="the number of parameters of the encoder",
        )
    hidden = row.hidden or round((row.parameters / (12 * row.layers)) ** 0.5)
    blocks = min(row.layers * block_parameters(hidden, 4 * hidden), row.parameters)
    vocabulary = (row.parameters - blocks) // hidden
    return Size(row.parameters, blocks, row.layers, hidden, 4 * hidden, vocabulary)


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

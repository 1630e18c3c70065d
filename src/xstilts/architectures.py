"""Which half of a transformer an architecture is; names are transformers' `model_type`."""

from __future__ import annotations

#: Architectures that are encoders; all others are decoders.
ENCODERS = ("xlm-roberta", "bert")


def is_decoder(architecture: str) -> bool:
    """Whether a model reads from left to right only: each token sees those before it."""
    return architecture not in ENCODERS

"""What a study may choose for speed and memory, applied to a model before it is trained."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

import torch

from xstilts.errors import InputError
from xstilts.training.model import Model
from xstilts.training.packed import attention_dropouts, use_packed
from xstilts.training.settings import Training


def prepare(model: Model, settings: Training) -> None:
    """Apply `attention_dropout`, `gradient_checkpointing` and `compile`; leave padding out.

    A decoder's layers are not compiled, and its padding stays: it is behind the text.

    Names and values of the weights stay as they are, and so do checkpoints.

    Args:
        model: The model, wherever it is.
        settings: Hyper-parameters of its training.

    Raises:
        InputError: If something is to be compiled and there is no compiler, or a decoder is.
    """
    encoder = model.encoder
    if settings.attention_dropout is not None:
        _drop_attention(model, settings.attention_dropout)
    if settings.gradient_checkpointing:
        # The first name came with transformers 5.21 or later, the second is going to go.
        enable = getattr(encoder, "activation_checkpointing_enable", None)
        (enable or encoder.gradient_checkpointing_enable)({"use_reentrant": False})
    if settings.compile:
        _check_compiler(model)
        compile_layers(encoder)
    _attend(model)
    if torch.cuda.is_available():
        # cuBLAS gives the same sums again only with a workspace of its own.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def _drop_attention(model: Model, share: float) -> None:
    """Modules of encoders, and of some decoders; other decoders have plain numbers."""
    if not model.is_decoder:
        for module in attention_dropouts(model.encoder):
            module.p = share
        return
    for part in model.encoder.modules():
        found = getattr(part, "attention_dropout", None)
        if isinstance(found, torch.nn.Dropout):
            found.p = share
        elif found is not None:
            part.attention_dropout = share


def _attend(model: Model) -> None:
    """Take the attention function that is deterministic on CUDA, where the model can."""
    if model.is_decoder and not model.encoder._supports_sdpa:
        return
    use_packed(model.encoder)
    model.packed = not model.is_decoder


def _check_compiler(model: Model) -> None:
    """Torch looks for the compiler in the first step only, and its error does not name it."""
    if model.is_decoder:
        raise InputError(
            "training.compile",
            "is for encoders only",
            expected="false for a decoder",
            found="true",
            hint="Leave compile out, or set it under training.models of the encoders",
        )
    wanted = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if not shutil.which(wanted):
        raise InputError(
            "training.compile",
            "torch.compile needs a C++ compiler",
            expected=f"{wanted} on the PATH",
            found="none",
            hint="Install one, or leave compile out",
        )


def compile_layers(encoder: Any, backend: Any = "inductor") -> None:
    """Compile the parts of every layer that are neither attention nor checkpointing.

    Rows and length are symbols in the compiled code, so that a batch of another shape compiles
    nothing: a part has one graph for training and one for evaluation, and one more of either for a
    batch of a single row. All layers share them. The attention between the parts is a fused kernel
    already.

    Args:
        encoder: A transformers encoder, BERT's or RoBERTa's.
        backend: What torch.compile takes.
    """
    for layer in encoder.encoder.layer:
        for part in (layer.attention.output, layer.intermediate, layer.output):
            part.compile(dynamic=True, backend=backend)

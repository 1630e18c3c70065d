"""Sentence vectors of all hidden states from one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from xstilts.data.token_store import TokenStore
from xstilts.formats.sentence_retrieval.head import pool
from xstilts.runtime import runtime
from xstilts.training.batches import micro_batches
from xstilts.training.model import Model

Vectors = NDArray[np.float32]
#: Makes room for vectors of a shape: in memory, or in a file where they are too many.
Room = Callable[[tuple[int, int, int]], Vectors]


def in_memory(shape: tuple[int, int, int]) -> Vectors:
    """Room for vectors in memory."""
    return np.empty(shape, dtype=np.float32)


@torch.inference_mode()
def embed(
    model: Model,
    store: TokenStore,
    layers: Sequence[int],
    pooling: str,
    device: torch.device,
    room: Room = in_memory,
) -> Vectors:
    """Vectors [layers, sentences, hidden] of some hidden states.

    Args:
        model: The encoder, or decoder.
        store: The sentences' sub-words.
        layers: Numbers of hidden states, 0 = embeddings.
        pooling: `mean` or `cls`.
        device: Where the model is.
        room: Where the vectors go.
    """
    encoder, lengths = model.encoder, store.lengths
    options = {"output_hidden_states": True} | ({"use_cache": False} if model.is_decoder else {})
    vectors = room((len(layers), store.sequences, encoder.config.hidden_size))
    everything, one = np.arange(store.sequences), np.ones(store.sequences, dtype=np.int64)
    for part in micro_batches(everything, lengths, one, runtime().eval_batch_tokens):
        arrays = store.padded(part)
        batch = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
        states = encoder(**batch, **options).hidden_states
        for place, layer in enumerate(layers):
            pooled = pool(states[layer].float(), batch["attention_mask"], pooling)
            vectors[place, part] = pooled.cpu().numpy()
    return vectors


def all_layers(model: Model) -> range:
    """Numbers of all hidden states of an encoder, the embeddings' 0 included."""
    return range(model.encoder.config.num_hidden_layers + 1)

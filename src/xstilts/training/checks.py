"""What is looked at before a training begins: that data, model and settings fit each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xstilts.architectures import is_decoder
from xstilts.artifacts.manifest import check_file, read_manifest
from xstilts.data.token_store import TokenStore, read_meta, read_store
from xstilts.errors import InputError
from xstilts.formats.head import TrainedFormat
from xstilts.training.model import kind_of
from xstilts.training.settings import Training

#: Formats in which one class would make the loss 0 for a blind guess.
_CLASSES = ("sequence_classification", "token_classification")
#: Written beside the weights of a checkpoint: how it was trained.
TRAINING = "training.json"


def check_labels(name: str, folder: Path, store: TokenStore, format_: TrainedFormat) -> None:
    """A training set with one class teaches nothing, and the run would be lost.

    Raises:
        InputError: If every training row has the same label.
    """
    if store.meta.format not in _CLASSES or format_.chance_loss(store, None) > 0:
        return
    labels = store.meta.labels or ()
    present = [int(label) for label in np.unique(store.arrays["labels"]) if label >= 0]
    raise InputError(
        str(folder),
        f"every training row of {name!r} has the same label",
        expected=f"several of {', '.join(labels)}",
        found=", ".join(labels[label] for label in present) or "no rows",
    )


def check_sizes(
    name: str,
    folder: Path,
    lengths: NDArray[np.int64],
    rows: NDArray[np.int64],
    group: int | None,
    settings: Training,
) -> None:
    """What goes through the model at once must fit into the budget of sub-words.

    Raises:
        InputError: If a unit, or a group of them, is larger.
    """
    if not len(lengths):
        return
    units = group or 1
    needed = units * lengths * rows
    worst = int(needed.argmax())
    if needed[worst] <= settings.micro_batch_tokens:
        return
    what = f"{units} pairs" if group else f"example {worst}"
    raise InputError(
        f"{folder}: {name}",
        f"{what} of {rows[worst]} x {lengths[worst]} sub-words cannot go through the model at once",
        expected=f"at most micro_batch_tokens = {settings.micro_batch_tokens}",
        found=str(needed[worst]),
        hint="Raise training's micro_batch_tokens to that"
        + (", or set negatives to fewer pairs" if group else ", or lower encoding's max_length"),
    )


def check_model(base: Path, folders: Sequence[Path], longest: int) -> str | None:
    """Sub-words and model must be made for each other.

    Args:
        base: Folder of the model's weights.
        folders: Tokens that it is trained on.
        longest: Their longest sequence.

    Returns:
        Sha256 of the tokenizer's manifest, where one is known.

    Raises:
        InputError: If sequences are longer than the model's positions, or sub-words are of another
            tokenizer than those that the model was trained on.
    """
    kind_of(base)
    config = json.loads(check_file(base, "config.json").read_text(encoding="utf-8"))
    # ALiBi (BLOOM's) has no positions to run out of.
    positions = config.get("max_position_embeddings")
    if config["model_type"] == "xlm-roberta":
        positions -= config["pad_token_id"] + 1  # they are counted from behind the padding's id
    if positions is not None and longest > positions:
        raise InputError(
            str(folders[0]),
            "sequences are longer than the positions of the model",
            expected=f"at most {positions} sub-words",
            found=str(longest),
            hint="Lower encoding's max_length",
        )
    for folder in folders:
        check_tokenizer(base, folder, config["vocab_size"])
    return tokenizer_of(base) or tokenizer_of(folders[0])


def check_tokenizer(base: Path, folder: Path, vocab_size: int) -> None:
    """The sub-words of a tokens artifact must be those that a model was trained on.

    Args:
        base: Folder of the model's weights.
        folder: The tokens.
        vocab_size: Rows of the model's embeddings.

    Raises:
        InputError: If they are of another tokenizer.
    """
    size, known, found = read_meta(folder).vocab_size, tokenizer_of(base), tokenizer_of(folder)
    if size > vocab_size and is_decoder(kind_of(base)):
        size = _highest(folder) + 1
    if size <= vocab_size and (not known or not found or known == found):
        return
    large = size > vocab_size
    raise InputError(
        str(folder),
        f"the sub-words are of another tokenizer than those that {base} was trained on",
        expected=f"at most {vocab_size} different ones" if large else f"the tokenizer {known}",
        found=str(size) if large else str(found),
        hint="Make tokens and model with one and the same tokenizer",
    )


def _highest(folder: Path) -> int:
    """Highest id in some tokens.

    Gemma 3's tokenizer has a token of images above the embeddings of its models of text.
    """
    names = [name for name in read_manifest(folder).files if name.endswith(".safetensors")]
    stores = (read_store(folder, name.removesuffix(".safetensors")) for name in names)
    return max(int(store.arrays["input_ids"].max(initial=0)) for store in stores)


def tokenizer_of(folder: Path) -> str | None:
    """Sha256 of the manifest of the tokenizer behind tokens or weights, where they say it."""
    manifest = read_manifest(folder)
    if TRAINING in manifest.files:
        account = json.loads(check_file(folder, TRAINING).read_text(encoding="utf-8"))
        known: str | None = account["tokenizer"]
        return known
    return manifest.inputs.get(str(manifest.spec.get("inputs", {}).get("tokenizer")))

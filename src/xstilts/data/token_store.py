"""Sub-words of one split in flat arrays, and batches cut from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xstilts.artifacts.manifest import check_file, read_manifest
from xstilts.errors import InputError

Arrays = dict[str, NDArray[Any]]

_LABELLED = ("sequence_classification", "token_classification")


@dataclass(frozen=True)
class TokenMeta:
    """What `meta.json` of a tokens artifact says.

    Attributes:
        format: One of the seven formats.
        labels: Label names in the order of their class ids, where a head has an output per label.
        pad_id: Id that fills short rows.
        mask_id: Id of the mask token; -1 where there is none.
        special_ids: Ids that are never masked.
        vocab_size: Number of ids.
    """

    format: str
    labels: tuple[str, ...] | None
    pad_id: int
    mask_id: int
    special_ids: tuple[int, ...]
    vocab_size: int


@dataclass(frozen=True)
class TokenStore:
    """Flat arrays of one split (see `xstilts.data.tokens` for their names) with their meaning."""

    arrays: Arrays
    meta: TokenMeta

    @property
    def sequences(self) -> int:
        """Number of sequences."""
        return len(self.arrays["offsets"]) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Sub-words of each sequence, special tokens included: [sequences]."""
        return np.diff(self.arrays["offsets"])

    def gather(self, name: str, ids: NDArray[np.int64], fill: int) -> NDArray[np.int64]:
        """Rows of a flat array as one padded matrix: [len(ids), longest]."""
        starts = self.arrays["offsets"][ids]
        lengths = self.arrays["offsets"][ids + 1] - starts
        columns = np.arange(lengths.max(initial=1))
        inside = columns < lengths[:, None]
        index = np.where(inside, starts[:, None] + columns, 0)
        return np.where(inside, self.arrays[name][index].astype(np.int64), fill)

    def padded(self, ids: NDArray[np.int64]) -> Arrays:
        """Model inputs of some sequences: input_ids, attention_mask (and token_type_ids)."""
        lengths = self.arrays["offsets"][ids + 1] - self.arrays["offsets"][ids]
        inside = np.arange(lengths.max(initial=1)) < lengths[:, None]
        inputs: Arrays = {
            "input_ids": self.gather("input_ids", ids, self.meta.pad_id),
            "attention_mask": inside.astype(np.int64),
        }
        if "type_ids" in self.arrays:
            inputs["token_type_ids"] = self.gather("type_ids", ids, 0)
        return inputs


def read_meta(folder: Path) -> TokenMeta:
    """Read `meta.json` of a tokens artifact, checked against its manifest."""
    content = json.loads(check_file(folder, "meta.json").read_text(encoding="utf-8"))
    # The labels of multiple choice only say how a source numbers its choices.
    labels = content["labels"] if content["format"] in _LABELLED else None
    return TokenMeta(
        format=content["format"],
        labels=tuple(labels) if labels else None,
        pad_id=content["pad_id"],
        mask_id=content["mask_id"],
        special_ids=tuple(
            sorted({content[f"{name}_id"] for name in ("pad", "mask", "cls", "sep")} - {-1})
        ),
        vocab_size=content["vocab_size"],
    )


def read_store(folder: Path, split: str) -> TokenStore:
    """Read one split of a tokens artifact, checked against its manifest.

    Args:
        folder: The artifact.
        split: `train`, `dev` or `test`; for retrieval `test.source` and the like.

    Raises:
        InputError: If the file is missing or its bytes are not those of the manifest.
    """
    from safetensors.numpy import load_file

    path = check_file(folder, f"{split}.safetensors")
    return TokenStore(load_file(path), read_meta(folder))


def has_split(folder: Path, split: str) -> bool:
    """Whether a tokens artifact holds a split."""
    return f"{split}.safetensors" in read_manifest(folder).files


def concatenate(stores: Sequence[TokenStore]) -> TokenStore:
    """Several stores of one format and label set as one, in their order.

    Raises:
        InputError: If their labels differ.
    """
    if len(stores) == 1:
        return stores[0]
    first = stores[0].meta
    for store in stores:
        if store.meta.labels != first.labels:
            raise InputError(
                "registry: datasets",
                "the data sets of one task have different labels, or in another order",
                expected=", ".join(first.labels or ("none",)),
                found=", ".join(store.meta.labels or ("none",)),
                hint="Give their rows the same labels in the same order",
            )
    joined: Arrays = {}
    for name in stores[0].arrays:
        parts: list[NDArray[Any]] = []
        shift = 0
        for store in stores:
            part = store.arrays[name]
            if name.endswith("offsets"):
                parts.append((part[1:] if parts else part) + shift)
                shift += int(part[-1])
            elif name == "example":
                parts.append(part + shift)
                shift += int(part[-1]) + 1 if len(part) else 0
            else:
                parts.append(part)
        joined[name] = np.concatenate(parts)
    return TokenStore(joined, first)

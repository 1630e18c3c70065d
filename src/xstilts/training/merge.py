"""Stage merge: a base and its adapter become a whole checkpoint, which all later stages read."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from xstilts.artifacts.manifest import check_file, read_manifest
from xstilts.artifacts.publish import publishing
from xstilts.training.adapters import load_merged
from xstilts.training.checks import TRAINING

#: Files of an adapter that are a checkpoint's too.
_CARRIED = ("heads.json", "heads.safetensors", TRAINING)


def run(spec: Mapping[str, Any], out: Path) -> None:
    """Merge an adapter into the weights that it was trained on.

    Args:
        spec: ``inputs.adapter`` and ``inputs.model``, the base.
        out: The artifact's folder: a checkpoint; heads and `training.json` are the adapter's.

    Raises:
        InputError: If the adapter is another base's, or an input is damaged.
    """
    adapter, base = Path(spec["inputs"]["adapter"]), Path(spec["inputs"]["model"])
    torch.set_num_threads(1)  # more of them change the order of sums and so the bytes
    with publishing(out, spec) as draft:
        load_merged(adapter, base).save_pretrained(draft.folder)
        there = read_manifest(adapter).files
        for name in _CARRIED:
            if name in there:
                shutil.copyfile(check_file(adapter, name), draft.folder / name)

"""Stage tokens: prepared text becomes flat arrays of sub-word ids.

Arrays of every format: `input_ids` int32 [total] with special tokens, `offsets` int64
[sequences + 1]; `type_ids` uint8 [total] where the tokenizer tells two segments apart. What else a
format has stands in its `encode` (:mod:`xstilts.formats`).
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors.numpy import save_file

from xstilts.artifacts.manifest import check_file, read_manifest
from xstilts.artifacts.publish import publishing
from xstilts.data.subwords import Arrays, Encoded, Encoding, SubwordTokenizer
from xstilts.data.tables import read_rows
from xstilts.errors import InputError

Encode = Callable[[pa.Table, SubwordTokenizer, Encoding], Encoded]


def encoder(format_name: str) -> Encode:
    """The `encode` of a format, by its name."""
    module = importlib.import_module(f"xstilts.formats.{format_name}.encode")
    encode: Encode = module.encode
    return encode


def _stems(prepared: Path) -> list[str]:
    """What there is to encode: ``train``, ``dev`` …, for retrieval ``test.source`` and the like."""
    names = [name.removesuffix(".parquet") for name in read_manifest(prepared).files]
    return sorted(
        name for name in names if not name.endswith((".gold", ".json")) and name != "report"
    )


def check_arrays(arrays: Arrays, vocab_size: int, max_length: int, where: str) -> None:
    """Check that the model can read the sequences.

    Raises:
        InputError: If an id is outside the vocabulary, or a sequence is empty or too long.
    """
    ids, lengths = arrays["input_ids"], np.diff(arrays["offsets"])
    if len(lengths) == 0 or lengths.min() < 1:
        raise InputError(where, "has an empty sequence", hint="Look into the prepared data")
    if lengths.max() > max_length:
        longest = int(lengths.max())
        raise InputError(
            where, "has a sequence too long", expected=f"at most {max_length}", found=str(longest)
        )
    if ids.min() < 0 or ids.max() >= vocab_size:
        raise InputError(
            where,
            "has a sub-word outside the vocabulary",
            expected=f"ids below {vocab_size}",
            found=str(int(ids.max())),
        )


def _meta(spec: Mapping[str, Any], labels: Any, tokenizer: SubwordTokenizer) -> dict[str, Any]:
    return {
        "format": spec["format"],
        "labels": labels,
        "vocab_size": tokenizer.vocab_size,
        "pad_id": tokenizer.pad_id,
        "mask_id": tokenizer.mask_id,
        "cls_id": tokenizer.cls_id,
        "sep_id": tokenizer.sep_id,
        "max_length": spec["encoding"]["max_length"],
    }


def run(spec: Mapping[str, Any], out: Path) -> None:
    """Encode every split of a prepared data set with one tokenizer.

    Args:
        spec: ``format``, ``encoding`` (the lengths of :class:`Encoding`), ``odd_words`` where the
            data set has them, ``inputs.prepared`` and ``inputs.tokenizer``.
        out: Artifact folder: ``<split>.safetensors`` each and ``meta.json``.

    Raises:
        InputError: If an input is damaged or the lengths leave no room for text.
    """
    prepared = Path(spec["inputs"]["prepared"])
    tokenizer = SubwordTokenizer.read(Path(spec["inputs"]["tokenizer"]))
    encode = encoder(spec["format"])
    report = json.loads(check_file(prepared, "report.json").read_text("utf-8"))
    labels = tuple(report["labels"] or ())
    encoding = Encoding(**spec["encoding"], odd_words=spec.get("odd_words"), labels=labels)
    meta = _meta(spec, report["labels"], tokenizer) | {"splits": {}}
    with publishing(out, spec) as draft:
        for stem in _stems(prepared):
            path = prepared / f"{stem}.parquet"
            rows = read_rows(prepared, path.name)
            encoded = encode(rows, tokenizer, replace(encoding, split=stem))
            check_arrays(encoded.arrays, tokenizer.vocab_size, encoding.max_length, str(path))
            arrays = {name: np.ascontiguousarray(a) for name, a in encoded.arrays.items()}
            save_file(arrays, draft.folder / f"{stem}.safetensors")
            meta["splits"][stem] = encoded.counts | {
                "sequences": len(arrays["offsets"]) - 1,
                "tokens": len(arrays["input_ids"]),
            }
        text = json.dumps(meta, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        (draft.folder / "meta.json").write_text(text, encoding="utf-8")
        draft.record.add(splits=meta["splits"])

"""Small repositories, archives and registry rows for tests of locking and fetching."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save

from xstilts.registry.rows import DatasetRow, ModelRow

if TYPE_CHECKING:
    from pathlib import Path


def parquet(*texts: str) -> bytes:
    """A parquet file with a column `text`."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": list(texts)}), sink)
    return bytes(sink.getvalue())


def small_repository(config: str = "sw") -> dict[str, bytes]:
    """The files of a data set repository: two configurations, one of them in two files."""
    readme = f"""---
configs:
- config_name: en
  data_files:
  - split: train
    path: en/train-*
  - split: validation
    path: en/validation-*
- config_name: {config}
  data_files:
  - split: validation
    path: {config}/validation-*
---
A small repository.
"""
    return {
        "README.md": readme.encode(),
        ".gitattributes": b"*.parquet filter=lfs\n",
        "en/train-00000-of-00002.parquet": parquet("one", "two"),
        "en/train-00001-of-00002.parquet": parquet("three"),
        "en/validation-00000-of-00001.parquet": parquet("four"),
        f"{config}/validation-00000-of-00001.parquet": parquet("moja", "mbili"),
    }


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files below a folder, for a mirror."""
    for path, content in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return folder


def row(source: dict[str, Any] | None = None, **changes: Any) -> DatasetRow:
    values = {
        "name": "small",
        "title": "Small",
        "format": "masked_lm",
        "source": source or {"hub": "owner/small", "config": "{code}"},
        "languages": ["en", "sw"],
        "splits": {"train": "train", "dev": "validation"},
        "fields": {"text": "text"},
        "licence": "CC0-1.0",
    }
    return DatasetRow.model_validate(values | changes)


def model(**changes: Any) -> ModelRow:
    values = {
        "name": "tiny",
        "title": "Tiny",
        "architecture": "xlm-roberta",
        "hub": "owner/tiny",
        "layers": 2,
        "max_length": 16,
        "retrieval_layer": 1,
        "licence": "MIT",
    }
    return ModelRow.model_validate(values | changes)


def tar_bz2(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:bz2") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


#: A whole file of weights.
WEIGHTS = save({"weight": np.zeros(2, np.float32)})


def model_files() -> dict[str, bytes]:
    return {
        "config.json": b"{}",
        "tokenizer.json": b"{ }",
        "sentencepiece.bpe.model": b"pieces",
        "model.safetensors": WEIGHTS,
        "pytorch_model.bin": b"pickle",
        "onnx/model.safetensors": b"not these",
        "README.md": b"",
    }


def archive_row(url: str, **source: Any) -> DatasetRow:
    members = {"pack/{code}.txt": "text.{code}", "pack/all.txt": "all"}
    return row({"urls": {"pack": url}, "members": members} | source)


EN = (row(), "en", "en")
SW = (row(), "sw", "sw")

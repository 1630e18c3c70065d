"""Two safetensors files, tensor by tensor, without torch and without holding either in memory.

The format is read here, not by the library: with NumPy that knows no bfloat16, and loads tensors
whole.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xstilts.errors import InputError

#: Little-endian NumPy types; bfloat16 is the upper half of a float32. Others are compared as bytes.
_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "BOOL": "u1",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
}
#: Bytes that are looked at at once.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies in its file, in bytes."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        InputError: If it is none, or ends before its tensors do.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            whole = path.stat().st_size
            if not 0 < length <= whole - 8:
                raise ValueError(f"a header of {length} bytes in a file of {whole}")
            header = json.loads(file.read(length))
        first = 8 + length
        found = {
            name: Tensor(
                entry["dtype"],
                tuple(entry["shape"]),
                first + entry["data_offsets"][0],
                entry["data_offsets"][1] - entry["data_offsets"][0],
            )
            for name, entry in header.items()
            if name != "__metadata__"
        }
        for name, tensor in found.items():
            if tensor.start < first or tensor.size < 0 or tensor.start + tensor.size > whole:
                raise ValueError(f"tensor {name!r} lies outside")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(str(path), f"is no whole safetensors file ({error})") from error
    return found


def compare(first: Path, second: Path) -> dict[str, Any]:
    """How two safetensors files differ.

    Returns:
        `tensors` (in both), `differ` (how many of them), `largest` (absolute difference; None
        where types cannot be subtracted) with the tensor it is `in`, names that are
        `only_in_first` or `only_in_second`, and those of `other_shape` or type.

    Raises:
        InputError: If one of them is no whole safetensors file.
    """
    left, right = read_header(first), read_header(second)
    both = sorted(left.keys() & right.keys())
    alike = [name for name in both if _kind(left[name]) == _kind(right[name])]
    found: dict[str, Any] = {"tensors": len(both), "differ": len(both) - len(alike)}
    found |= {"largest": None, "in": None}
    for name in alike:
        differs, largest = _difference(first, left[name], second, right[name])
        found["differ"] += differs
        if largest is not None and largest > (found["largest"] or 0.0):
            found |= {"largest": largest, "in": name}
    return found | {
        "only_in_first": sorted(left.keys() - right.keys()),
        "only_in_second": sorted(right.keys() - left.keys()),
        "other_shape": [name for name in both if name not in alike],
    }


def _kind(tensor: Tensor) -> tuple[str, tuple[int, ...], int]:
    return tensor.dtype, tensor.shape, tensor.size


def _difference(
    first: Path, left: Tensor, second: Path, right: Tensor
) -> tuple[bool, float | None]:
    """Whether two tensors of one shape differ in any byte, and by how much at most."""
    differs, largest = False, None
    with first.open("rb") as one, second.open("rb") as other:
        one.seek(left.start)
        other.seek(right.start)
        for begin in range(0, left.size, _CHUNK):
            size = min(_CHUNK, left.size - begin)
            mine, its = one.read(size), other.read(size)
            if mine == its:
                continue
            differs = True
            if left.dtype in _TYPES:
                most = _largest(_numbers(mine, left.dtype), _numbers(its, left.dtype))
                largest = max(largest or 0.0, most)
    return differs, largest


def _numbers(content: bytes, dtype: str) -> NDArray[np.float64]:
    values = np.frombuffer(content, dtype=_TYPES[dtype])
    if dtype == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float64)


def _largest(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The largest absolute difference; infinite where only one of two is not a number."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(first - second)
    if math.isfinite(most := float(apart.max())):
        return most
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    apart = np.where(same, 0.0, np.where(np.isnan(apart), math.inf, apart))
    return float(apart.max())

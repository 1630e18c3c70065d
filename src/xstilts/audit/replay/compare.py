"""What differs between a file and the same file made again, and by how much."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from xstilts.artifacts.manifest import Manifest

if TYPE_CHECKING:
    import numpy as np

#: same: the same bytes; within: other bytes, and no number further off than the tolerance.
Verdict = Literal["same", "within", "different", "could not"]
#: From the best to the worst.
ORDER: tuple[Verdict, ...] = ("same", "within", "different", "could not")


@dataclass(frozen=True)
class FileDifference:
    """A file that has other bytes than the recorded one.

    Attributes:
        name: Its name below the artifact's folder.
        verdict: Whether it is within the tolerance.
        text: What differs.
    """

    name: str
    verdict: Verdict
    text: str


def compare(
    old: Path, new: Path, recorded: Manifest, made: Manifest, tolerance: float
) -> list[FileDifference]:
    """Files of an artifact that was made again which have not the recorded bytes.

    Args:
        old: The folder of the recorded artifact, whose files have the bytes of its manifest.
        new: The folder of the one that was made again.
        recorded: Manifest of the first.
        made: Manifest of the second.
        tolerance: Points of a score, absolute difference of any other number in a text, per cent
            of predictions that may differ, per cent of the length of a tensor.
    """
    found = []
    for name in sorted(recorded.files.keys() | made.files.keys()):
        if name not in made.files:
            found.append(FileDifference(name, "different", "was not made again"))
        elif name not in recorded.files:
            found.append(FileDifference(name, "different", "is new"))
        elif recorded.files[name]["sha256"] != made.files[name]["sha256"]:
            found.append(_file(name, old / name, new / name, tolerance))
    return found


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on what has several parts."""
    return max(verdicts, key=ORDER.index, default="same")


def _file(name: str, old: Path, new: Path, tolerance: float) -> FileDifference:
    look = _LOOKS.get(old.suffix, _text)
    try:
        off, text = look(old, new, tolerance)
    except (OSError, ValueError, TypeError):  # not what its name says: only its bytes are known
        off, text = math.inf, "has other bytes"
    return FileDifference(name, "within" if off <= tolerance else "different", text)


def _json(old: Path, new: Path, _: float) -> tuple[float, str]:
    off = distance(json.loads(old.read_bytes()), json.loads(new.read_bytes()))
    return off, _said(off)


def _json_lines(old: Path, new: Path, tolerance: float) -> tuple[float, str]:
    """The share of lines that differ: of predictions, one line is one example."""
    first, second = (path.read_text(encoding="utf-8").splitlines() for path in (old, new))
    if len(first) != len(second):
        return math.inf, f"{len(first)} lines -> {len(second)}"
    pairs = ((json.loads(a), json.loads(b)) for a, b in zip(first, second, strict=True))
    other = sum(distance(a, b) > tolerance for a, b in pairs)
    share = 100 * other / len(first) if first else 0.0
    return share, f"{len(first) - other} of {len(first)} lines are equal ({100 - share:.2f} %)"


def _csv(old: Path, new: Path, _: float) -> tuple[float, str]:
    tables = []
    for path in (old, new):
        with path.open(encoding="utf-8", newline="") as file:
            tables.append([[_number(cell) for cell in row] for row in csv.reader(file)])
    off = distance(*tables)
    return off, _said(off)


def _number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


def _said(off: float) -> str:
    if math.isinf(off):
        return "differs in more than its numbers"
    return f"numbers differ by {off:.3g} at most"


def distance(old: Any, new: Any) -> float:
    """The largest difference between numbers in two values of JSON.

    Infinite where they differ in anything else.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        if old.keys() != new.keys():
            return math.inf
        return max((distance(old[key], new[key]) for key in old), default=0.0)
    if isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            return math.inf
        return max((distance(a, b) for a, b in zip(old, new, strict=True)), default=0.0)
    if _is_number(old) and _is_number(new):
        both_nan = math.isnan(old) and math.isnan(new)
        off = 0.0 if both_nan or old == new else abs(old - new)
        return math.inf if math.isnan(off) else off
    return 0.0 if type(old) is type(new) and old == new else math.inf


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _safetensors(old: Path, new: Path, _: float) -> tuple[float, str]:
    from safetensors import safe_open

    tensors = []
    for path in (old, new):
        with safe_open(path, framework="numpy") as file:
            tensors.append({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    return _arrays(*tensors)


def _npy(old: Path, new: Path, _: float) -> tuple[float, str]:
    import numpy as np

    first, second = (np.load(path, allow_pickle=False) for path in (old, new))
    return _arrays({"array": first}, {"array": second})


def _arrays(
    old: Mapping[str, np.ndarray[Any, Any]], new: Mapping[str, np.ndarray[Any, Any]]
) -> tuple[float, str]:
    """How far tensors are off, in per cent of the recorded ones' length; the worst counts."""
    import numpy as np

    shapes = [{name: array.shape for name, array in some.items()} for some in (old, new)]
    if shapes[0] != shapes[1]:
        return math.inf, "has other tensors, or other shapes"
    largest = relative = 0.0
    where = ""
    for name in old:
        first, second = old[name].astype(np.float64), new[name].astype(np.float64)
        if not first.size or np.array_equal(first, second):
            continue
        gap, length = first - second, float(np.linalg.norm(first))
        share = 100 * float(np.linalg.norm(gap)) / length if length else math.inf
        share = math.inf if math.isnan(share) else share
        largest = max(largest, float(np.abs(gap).max()))
        if share >= relative:
            relative, where = share, name
    return relative, f"largest difference {largest:.3g}; {where} is {relative:.3g} % off"


def _text(old: Path, new: Path, _: float) -> tuple[float, str]:
    first, second = (path.read_text(encoding="utf-8").splitlines() for path in (old, new))
    for number, (a, b) in enumerate(zip(first, second, strict=False), 1):
        if a != b:
            return math.inf, f"line {number}: {_cut(a)} -> {_cut(b)}"
    return math.inf, f"{len(first)} lines -> {len(second)}"


def _cut(line: str) -> str:
    text = " ".join(line.split())
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


_LOOKS: dict[str, Callable[[Path, Path, float], tuple[float, str]]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".csv": _csv,
    ".safetensors": _safetensors,
    ".npy": _npy,
}

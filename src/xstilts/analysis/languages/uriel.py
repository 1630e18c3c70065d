"""Distances of languages by URIEL (Littell et al. 2017), from the data files of lang2vec.

Only the files of the installed package are read: its module imports pkg_resources, which newer
versions of setuptools do not have. Releases of lang2vec before 1.0 had URIEL's own table of
distances; this one has the vectors only. The formulas are these:

- syntactic, phonological, inventory: cosine distance of the vectors `syntax_knn`, `phonology_knn`
  and `inventory_knn`, whose gaps are filled by neighbours.
- genetic: cosine distance of the vectors of membership in families and their branches (`fam`),
  which is 1 minus the nodes of the tree that both are under, over the geometric mean of the nodes
  that either is under. Isolates are under none, and have none.
- geographic: great circle between the two over half of the Earth's circumference. lang2vec knows
  each language's distances to fixed points; its place is where these agree best.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xstilts.artifacts.manifest import sha256_file
from xstilts.errors import InputError

Floats = NDArray[np.float64]

VERSION = "1.1.2"
#: The data files that are read: a measure means the same wherever it is computed.
SHA256 = {
    "feature_predictions.npz": "0e8af1bdb29e1bd71343d495d4fd4e1cd523e934e6d5fa42b72262ca8d8151b8",
    "family_features.npz": "e814e0588c0263297c76ddfc9c2744937a52233a4ed525ba5bc86ffc54958fb3",
    "geocoord_features.npz": "d7364bd05ecd2f7075755b8361aff6a6cda82519c11c98d7e88bda817bd353ab",
}


class Part(NamedTuple):
    """Where a measure comes from: a file, the beginning of its features' names, and a formula."""

    file: str
    prefix: str
    between: Callable[[Table, str, str], float | None]


@dataclass(frozen=True)
class Table:
    """A data file of lang2vec, or some of its features.

    Attributes:
        features: Their names.
        rows: Number of the row of each language, by its ISO 639-3 code.
        values: [languages, features].
    """

    features: tuple[str, ...]
    rows: Mapping[str, int]
    values: NDArray[Any]

    def of(self, prefix: str) -> Table:
        """The features whose names begin so."""
        chosen = [i for i, name in enumerate(self.features) if name.startswith(prefix)]
        names = tuple(self.features[i] for i in chosen)
        return Table(names, self.rows, self.values[:, chosen])

    def vector(self, code: str) -> Floats:
        """The features of a language."""
        row: Floats = self.values[self.rows[code]].astype(np.float64)
        return row


def cosine(table: Table, first: str, second: str) -> float | None:
    """Cosine distance of two languages; None where nothing is known of one (all is 0)."""
    a, b = table.vector(first), table.vector(second)
    length = float(np.sqrt((a @ a) * (b @ b)))
    return max(0.0, 1.0 - float(a @ b) / length) if length else None


def great_circle(table: Table, first: str, second: str) -> float | None:
    """Angle between the places of two languages over the largest there is: 0 to 1."""
    a, b = place(table, first), place(table, second)
    if a is None or b is None:
        return None
    # As exact for neighbours as for antipodes.
    return float(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b) / np.pi)


def place(table: Table, code: str) -> Floats | None:
    """Unit vector from the Earth's centre to a language's place; None where it is not known.

    The distance d to a fixed point q, in halves of the circumference, is cos(pi d) = p . q: the
    place p is the least-squares solution over all points. The points' names, `GC_<latitude>_
    <longitude>`, are rounded to degrees; the errors average out.
    """
    distances = table.vector(code)
    if not distances.any():
        return None
    degrees = [[float(part) for part in name.split("_")[1:]] for name in table.features]
    latitude, longitude = np.radians(np.array(degrees)).T
    around = np.cos(latitude)
    points = np.stack([around * np.cos(longitude), around * np.sin(longitude), np.sin(latitude)], 1)
    found: Floats = np.linalg.lstsq(points, np.cos(np.pi * distances), rcond=None)[0]
    length = float(np.linalg.norm(found))
    return found / length if length else None


PARTS: Mapping[str, Part] = {
    "syntactic": Part("feature_predictions.npz", "S_", cosine),
    "phonological": Part("feature_predictions.npz", "P_", cosine),
    "inventory": Part("feature_predictions.npz", "INV_", cosine),
    "genetic": Part("family_features.npz", "F_", cosine),
    "geographic": Part("geocoord_features.npz", "GC_", great_circle),
}


def distances(codes: Mapping[str, str | None], source: str) -> dict[str, dict[str, float | None]]:
    """Distances of languages from one of them, by measure and language.

    Args:
        codes: URIEL's code of each language; None where it has none.
        source: The language that they are measured from.

    Returns:
        None where URIEL does not know a language or says nothing of it.

    Raises:
        InputError: If lang2vec is not installed, or its files are others.
    """
    found: dict[str, dict[str, float | None]] = {name: dict.fromkeys(codes) for name in PARTS}
    here = codes[source]
    if here is None:
        return found
    for name, part in PARTS.items():
        table = read_table(part.file).of(part.prefix)
        if here not in table.rows:
            continue
        for language, code in codes.items():
            if code is not None and code in table.rows:
                found[name][language] = part.between(table, here, code)
    return found


def read_table(name: str) -> Table:
    """One of lang2vec's data files, after checking its bytes.

    Raises:
        InputError: If lang2vec is not installed, or its file is another.
    """
    path = _path(name)
    found = sha256_file(path) if path.is_file() else "no file"
    if found != SHA256[name]:
        raise InputError(
            str(path),
            f"is not the data file of lang2vec {VERSION}",
            expected=f"sha256 {SHA256[name]}",
            found=found,
            hint=f"pip install --force-reinstall lang2vec=={VERSION}",
        )
    with np.load(path) as content:
        rows = {str(code): row for row, code in enumerate(content["langs"])}
        return Table(tuple(map(str, content["feats"])), rows, content["data"][:, :, 0])


def _path(name: str) -> Path:
    try:
        package = metadata.distribution("lang2vec")
    except metadata.PackageNotFoundError as error:
        raise InputError(
            "lang2vec",
            "the package is not installed, and its data say how far languages are from each other",
            hint=f"pip install lang2vec=={VERSION}",
        ) from error
    return Path(str(package.locate_file(f"lang2vec/data/{name}")))

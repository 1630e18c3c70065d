"""Label values of a source become class ids of the registry row: by name, never by position."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from xstilts.artifacts.manifest import check_file
from xstilts.errors import InputError

DROP = -1
_BAD = -2


@dataclass(frozen=True)
class Labels:
    """The label set of a data set.

    Attributes:
        names: Label names, index = class id.
        values: Label name by source value, where the column carries no class names.
        dropped: Reason by source value that marks an unlabelled row.
    """

    names: tuple[str, ...]
    values: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)

    def ids(
        self, array: pa.Array, class_names: list[str] | None, where: Callable[[int], str]
    ) -> npt.NDArray[np.int32]:
        """Class id of each value; ``DROP`` where the value marks an unlabelled row.

        Args:
            array: Source values, of any plain type.
            class_names: Names of the source's class ids, where its metadata give them.
            where: Place of an item, for messages.

        Raises:
            InputError: If a value has no label, or the class names are others than the row's.
        """
        if class_names is not None:
            self._check_names(class_names, where)
        coded = array.dictionary_encode()
        values = ["null" if value is None else str(value) for value in coded.dictionary.to_pylist()]
        table = np.array([self._id(value, class_names) for value in values] + [_BAD], np.int32)
        codes = coded.indices.fill_null(len(values)).to_numpy()
        ids: npt.NDArray[np.int32] = table[codes]
        bad = np.flatnonzero(ids == _BAD)
        if len(bad):
            self._refuse(array[int(bad[0])].as_py(), class_names, where(int(bad[0])))
        return ids

    def reasons(self, array: pa.Array) -> list[str]:
        """Reason of each value that marks an unlabelled row."""
        return [self.dropped[str(value)] for value in array.to_pylist()]

    def _id(self, value: str, class_names: list[str] | None) -> int:
        if value in self.dropped:
            return DROP
        if class_names is not None:
            is_index = value.isdecimal() and int(value) < len(class_names)
            value = class_names[int(value)] if is_index else value
        name = self.values.get(value, value)
        if name in self.names:
            return self.names.index(name)
        # A number is an index only where nothing says otherwise.
        named = class_names or self.values or any(name.isdecimal() for name in self.names)
        is_index = not named and value.isdecimal() and int(value) < len(self.names)
        return int(value) if is_index else _BAD

    def _check_names(self, class_names: list[str], where: Callable[[int], str]) -> None:
        named = {self.values.get(name, name) for name in class_names if name not in self.dropped}
        if named != set(self.names):
            raise InputError(
                where(0).rsplit(": ", 1)[0],
                "the column's class names are not the labels of the registry row",
                expected=", ".join(self.names),
                found=", ".join(class_names),
            )

    def _refuse(self, value: object, class_names: list[str] | None, place: str) -> None:
        allowed = list(class_names or self.values or self.names)
        shown = ", ".join(map(repr, allowed[:20])) + (" …" if len(allowed) > 20 else "")
        dropped = "".join(f", or {value!r} (dropped)" for value in self.dropped)
        raise InputError(place, "the label is unknown", expected=shown + dropped, found=repr(value))


def read_label_file(raw: Path, name: str) -> tuple[str, ...]:
    """Labels in the order of their ids from a JSON file ``{label: id}`` of the raw artifact.

    Raises:
        InputError: If the file is no such JSON, or its ids are not 0, 1, … without a gap.
    """
    path = check_file(raw, f"files/{name}")
    try:
        by_label = {
            str(label): int(number) for label, number in json.loads(path.read_text()).items()
        }
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(
            str(path), "is no label file", expected='JSON {"label": id, …}', found=str(error)
        ) from error
    if sorted(by_label.values()) != list(range(len(by_label))):
        raise InputError(str(path), "the label ids have gaps or repeat", expected="0, 1, 2, …")
    return tuple(sorted(by_label, key=by_label.__getitem__))

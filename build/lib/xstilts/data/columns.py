"""Fields of a registry row become Arrow columns: a column, a template, a list of either.

Everything is done on whole columns; only an error looks at single rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from string import Formatter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from xstilts.data.readers import Source
from xstilts.errors import InputError, nearest


class EachItem(BaseModel):
    """One template per item of a list column; ``{each}`` is the item."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    each: str
    template: str = "{each}"


FieldSpec = str | tuple[str, ...] | EachItem


def parts_of(template: str) -> list[tuple[str, bool]]:
    """Split a field into ``(text, is a column)`` parts; a bare name is one column."""
    if "{" not in template:
        return [(template, True)]
    parts: list[tuple[str, bool]] = []
    for literal, name, _, _ in Formatter().parse(template):
        if literal:
            parts.append((literal, False))
        if name is not None:
            parts.append((name, True))
    return parts


def columns_of(field: FieldSpec) -> set[str]:
    """Names of the top-level columns that a field reads (dots reach into structs)."""
    if isinstance(field, EachItem):
        inside = {name for name in columns_of(field.template) if name != "each"}
        return inside | columns_of(field.each)
    templates = [field] if isinstance(field, str) else field
    return {
        text.split(".")[0] for part in templates for text, is_column in parts_of(part) if is_column
    }


@dataclass(frozen=True)
class Columns:
    """The fields of one source, read by the templates of a registry row.

    Attributes:
        source: The rows.
        strip: Strip white space from every text.
        notes: Counts what was changed or is odd.
    """

    source: Source
    strip: bool
    notes: Counter[str]

    def raw(self, name: str) -> pa.Array:
        """A column as it is; dots reach into structs.

        Raises:
            InputError: If a part of the name is missing.
        """
        head, *inside = name.split(".")
        array = _one_chunk(self.source.table[head])
        for part in inside:
            there = [field.name for field in array.type] if pa.types.is_struct(array.type) else []
            if part not in there:
                raise InputError(
                    str(self.source.files[0][0]),
                    f"column {name!r}: there is no {part!r} inside",
                    found=str(array.type),
                    hint=nearest(part, there),
                )
            array = pc.struct_field(array, part)
        return array

    def text(self, field: FieldSpec) -> pa.Array:
        """A text column by name or template.

        Raises:
            InputError: If it is no text, or null somewhere.
        """
        if not isinstance(field, str):
            raise InputError(str(field), "a single text is needed here, not a list")
        array = self._fill(field, lambda name: self._text_column(name, self.raw(name)))
        return self._stripped(array)

    def texts(self, field: FieldSpec) -> pa.ListArray:
        """A list-of-texts column: a list column, a list of templates, or an :class:`EachItem`."""
        if isinstance(field, str):
            field = EachItem(each=field)
        if isinstance(field, tuple):
            return self._side_by_side([self.text(part) for part in field])
        return self._each(field)

    def lists(self, name: str) -> pa.ListArray:
        """A list column with no nulls, neither lists nor items."""
        array = self.raw(name)
        if pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
            array = array.cast(pa.list_(array.type.value_type))
        if not pa.types.is_list(array.type):
            raise self._wrong_type(name, array, "a list")
        self._no_nulls(name, array, lambda item: item)
        parents = pc.list_parent_indices(array)
        self._no_nulls(name, array.flatten(), lambda item: parents[item].as_py())
        return array

    def _fill(self, template: str, column: Callable[[str], pa.Array]) -> pa.Array:
        parts = parts_of(template)
        if len(parts) == 1 and parts[0][1]:
            return column(parts[0][0])
        arrays = [column(text) if is_column else text for text, is_column in parts]
        # A template with an empty column leaves a blank at its end: that is the template's doing.
        return pc.utf8_trim_whitespace(pc.binary_join_element_wise(*arrays, ""))

    def _side_by_side(self, arrays: list[pa.Array]) -> pa.ListArray:
        rows, width = len(self.source), len(arrays)
        order = np.arange(rows * width).reshape(width, rows).T.ravel()
        offsets = pa.array(np.arange(rows + 1) * width, pa.int32())
        return pa.ListArray.from_arrays(offsets, pa.concat_arrays(arrays).take(pa.array(order)))

    def _each(self, field: EachItem) -> pa.ListArray:
        lists = self.lists(field.each)
        parents = pc.list_parent_indices(lists)
        items = self._check_text(field.each, lists.flatten())

        def column(name: str) -> pa.Array:
            if name == "each":
                return items
            return self._text_column(name, self.raw(name)).take(parents)

        template = "{each}" if field.template == "each" else field.template
        flat = self._stripped(self._fill(template, column))
        counts = np.bincount(parents.to_numpy(), minlength=len(lists))
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
        return pa.ListArray.from_arrays(offsets, flat)

    def _text_column(self, name: str, array: pa.Array) -> pa.Array:
        text = self._check_text(name, array)
        self._no_nulls(name, text, lambda row: row)
        return text

    def _check_text(self, name: str, array: pa.Array) -> pa.Array:
        kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
        is_text = (
            pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view()
        )
        if not is_text and not pa.types.is_null(kind):
            raise self._wrong_type(name, array, "text")
        return array.cast(pa.string())

    def _stripped(self, array: pa.Array) -> pa.Array:
        if not self.strip:
            return array
        stripped = pc.utf8_trim_whitespace(array)
        self.notes["texts stripped of white space"] += pc.sum(pc.not_equal(array, stripped)).as_py()
        return stripped

    def _wrong_type(self, name: str, array: pa.Array, expected: str) -> InputError:
        return InputError(
            str(self.source.files[0][0]),
            f"column {name!r} has the wrong type",
            expected=expected,
            found=str(array.type),
        )

    def _no_nulls(self, name: str, array: pa.Array, row_of: Callable[[int], int]) -> None:
        if array.null_count:
            item = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
            raise InputError(
                self.source.where(row_of(item)),
                f"column {name!r} is null",
                expected="a value in every row",
            )


def _one_chunk(array: pa.ChunkedArray) -> pa.Array:
    return array.chunk(0) if array.num_chunks == 1 else array.combine_chunks()


def needed_columns(fields: Iterable[FieldSpec], extra: Iterable[str] = ()) -> list[str]:
    """Top-level columns that some fields read, sorted."""
    return sorted(set(extra).union(*(columns_of(field) for field in fields)))

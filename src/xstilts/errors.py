"""The one error that a user can cause, and how its message is made.

Whatever is wrong with a study, a registry row, a file or a checkpoint ends in an `InputError`:
one message that names the place (file, key, row), what was expected and found, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """Bad input from outside: a study, a registry row, a file, a checkpoint.

    Args:
        where: The place: a file with its key or row, e.g. ``config.yaml: recipes[2]``.
        problem: What is wrong, as a sentence without a full stop.
        expected: What would have been right.
        found: What was there instead.
        hint: What the user should do.
    """

    def __init__(
        self,
        where: str,
        problem: str,
        *,
        expected: str | None = None,
        found: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.where = where
        parts = [f"{where}: {problem}"]
        if expected is not None:
            parts.append(f"expected {expected}")
        if found is not None:
            parts.append(f"found {found}")
        #: The message without the hint, for who has another.
        self.told = "; ".join(parts)
        super().__init__(self.told + (f". {hint}" if hint else ""))


class OtherVersion(InputError):
    """A file of xstilts' own that another version of xstilts has written.

    Args:
        where: The file.
        known: The version that this code reads and writes.
        found: The version that the file names.
        hint: What the user should do.
    """

    def __init__(self, where: str, known: int, found: object, hint: str | None = None) -> None:
        super().__init__(
            where, "is of another version", expected=str(known), found=str(found), hint=hint
        )
        #: Whether newer code has written it.
        self.is_newer = isinstance(found, int) and found > known


def nearest(name: object, valid: Iterable[str]) -> str:
    """Say which of the valid names is meant, for the hint of an error.

    Returns:
        ``Did you mean 'mnli'?`` where a close name exists, else the list of valid names.
    """
    names = sorted(valid)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {close[0]!r}?"
    return "Valid names: " + ", ".join(names) if names else "There are none"

"""Files that a command line names for what a command finds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xstilts.errors import InputError


def check_output(option: str, path: Path | None) -> None:
    """See that a file can be written, before there is anything to write.

    Args:
        option: The option that names it.
        path: The file; None where the option is not given.

    Raises:
        InputError: If it is a folder, or lies in none.
    """
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise InputError(f"{option}: {path}", "is no file in an existing folder")


def write_json(
    path: Path | None, content: Any, default: Callable[[Any], Any] | None = None
) -> None:
    """Write what was found as JSON, if a file is named for it.

    Args:
        path: The file; None writes nothing.
        content: What was found.
        default: Makes of a value what JSON knows, where it is none.
    """
    if path is not None:
        text = json.dumps(content, indent=1, ensure_ascii=False, default=default) + "\n"
        # Names of files may hold bytes that are no text; they are escaped as JSON has it.
        path.write_bytes(text.encode("utf-8", "backslashreplace"))

"""Libraries of the optional extra `audit`, imported when they are used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from xstilts.errors import InputError


def extra(module: str) -> Any:
    """Import a module of the extra `audit`.

    Raises:
        InputError: If it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(
            module.partition(".")[0],
            f"cannot be imported ({error})",
            hint="pip install 'xstilts[audit]' installs it",
        ) from error

"""Requests over the network: what may pass is tried again, the rest becomes one clear message."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, TypeVar

from xstilts.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

#: Seconds to wait before the second, third, ... attempt.
BACKOFF: tuple[float, ...] = (2.0, 8.0)
REFRESH = "run `xstilts lock --refresh`"

_log = logging.getLogger(__name__)


class DamagedError(Exception):
    """Bytes that came are not the bytes that were meant: fetching them again may help."""


def patiently(call: Callable[[], T], where: str) -> T:
    """Do something over the network; try again what may pass.

    Args:
        call: The request, through `huggingface_hub` or `requests`.
        where: Its URL or repository, for messages.

    Raises:
        InputError: If the last attempt failed too, or at once if trying again cannot help.
    """
    waits = iter(BACKOFF)
    attempts = 0
    while True:
        attempts += 1
        try:
            return call()
        except Exception as error:
            wait = next(waits, None) if _may_pass(error) else None
            if wait is None:
                explained = _explained(error, where, attempts)
                if explained is None:
                    raise
                raise explained from error
            _log.warning("%s: %s; trying again in %g s", where, short(error), wait)
            time.sleep(wait)


def short(error: BaseException) -> str:
    """An error in one line."""
    if (status := _status(error)) is not None:
        return f"HTTP {status}"
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:200] + "…"


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _cause(error: BaseException) -> BaseException:
    """The failure behind an error of huggingface_hub that only says that there was one."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    wraps = type(error) is ValueError or isinstance(error, LocalEntryNotFoundError)
    return error.__cause__ if wraps and error.__cause__ is not None else error


def _is_transport(error: BaseException) -> bool:
    import requests
    from huggingface_hub.errors import HfHubHTTPError

    # The base class of the Hub's HTTP client: httpx or httpx2, by the version of huggingface_hub.
    if isinstance(error, (requests.RequestException, HfHubHTTPError.__bases__[0], DamagedError)):
        return True
    # A bare OSError without a number is huggingface_hub's "consistency check failed".
    return type(error) is OSError and error.errno is None


def _may_pass(error: BaseException) -> bool:
    from huggingface_hub.errors import LocalEntryNotFoundError

    if isinstance(error, LocalEntryNotFoundError):
        return False  # huggingface_hub has made six attempts of its own
    cause = _cause(error)
    if (status := _status(cause)) is not None:
        return status >= 500 or status in (408, 429)
    return _is_transport(cause)


def _explained(error: BaseException, where: str, attempts: int) -> InputError | None:
    """What the user can do about a failed request; None if it is no matter of the network."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    cause = _cause(error)
    for kind, (problem, hint) in _meanings().items():
        if isinstance(cause, kind):
            return InputError(where, problem, hint=hint)
    if isinstance(error, LocalEntryNotFoundError) or _is_transport(cause):
        times = "attempt" if attempts == 1 else "attempts"
        return InputError(
            where,
            f"could not be fetched: {attempts} {times} failed, the last with: {short(cause)}",
            hint="Check the network and run the same command again, or set a mirror",
        )
    return None


def _meanings() -> dict[type[BaseException], tuple[str, str]]:
    from huggingface_hub import errors

    return {
        errors.OfflineModeIsEnabled: (
            "is not in the Hub's cache, and HF_HUB_OFFLINE forbids to fetch it",
            "Unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE for this step, or set a mirror",
        ),
        errors.GatedRepoError: (
            "the repository is gated",
            "Accept its terms on its page, then log in with `hf auth login`",
        ),
        errors.RepositoryNotFoundError: (
            "there is no such repository on the Hub, or it is private",
            "Check the id in the registry; for a private one log in with `hf auth login`",
        ),
        errors.RevisionNotFoundError: (
            "the repository does not have this revision any more",
            f"To take its present one, {REFRESH}",
        ),
        errors.RemoteEntryNotFoundError: (
            "there is no such file at this revision",
            f"Please {REFRESH}",
        ),
    }

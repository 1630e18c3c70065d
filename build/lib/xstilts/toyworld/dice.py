"""Random choices that are a pure function of a name, the same on every machine and version."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """Draws from a stream that is seeded by the given key.

    Only ``random.Random.random`` is used, whose stream Python promises to keep; ``hash()`` is not.

    Args:
        key: What decides the stream, e.g. kind, split, seed and row.
    """

    def __init__(self, *key: object) -> None:
        digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
        self._draw = random.Random(int.from_bytes(digest, "big")).random

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self._draw() < probability

    def below(self, limit: int) -> int:
        """An integer from 0 to limit - 1."""
        return int(self._draw() * limit)

    def one(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[int(self._draw() * len(options))]

    def some(self, options: Sequence[T], count: int) -> list[T]:
        """Some of the options, all at different places, in random order."""
        rest = list(options)
        return [rest.pop(int(self._draw() * len(rest))) for _ in range(count)]

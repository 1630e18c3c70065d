"""Raw text as full sequences of sub-words, packed as for masked language models."""

from __future__ import annotations

from xstilts.formats.masked_lm.encode import encode

__all__ = ["encode"]

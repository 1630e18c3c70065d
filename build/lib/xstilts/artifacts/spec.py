"""The spec: canonical JSON with everything that decides an artifact's bytes.

Snakemake compares parameter values as a set, so two swapped numbers would go unseen; one canonical
string per job is compared as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

Spec = Mapping[str, Any]


def canonical(value: object) -> str:
    """JSON with sorted keys, no white space and no NaN: equal values give equal strings."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def sha256_text(text: str) -> str:
    """Hex sha256 of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()


def spec_sha256(spec: Spec) -> str:
    """Hex sha256 of a spec in its canonical form."""
    return sha256_text(canonical(spec))

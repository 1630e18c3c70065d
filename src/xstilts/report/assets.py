"""What the site is made of beside its numbers: templates, one style sheet, one script.

A code fingerprint does not see them, so the spec of a report holds their hash.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

TEMPLATES = Path(__file__).parent / "templates"
STATIC = Path(__file__).parent / "static"


@cache
def assets_sha256() -> str:
    """Hex sha256 over the names and bytes of all templates and static files."""
    lines = [
        f"{path.parent.name}/{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for folder in (STATIC, TEMPLATES)
        for path in sorted(folder.iterdir())
        if path.is_file()
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()

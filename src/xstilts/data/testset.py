"""The testset stage: one artifact that stands for a target's test data in all its languages.

Evaluations depend on it instead of on each language's tokens: in a study of the paper's size that
spares Snakemake ten thousand files to look at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xstilts.artifacts.manifest import check_file
from xstilts.artifacts.publish import publishing
from xstilts.errors import InputError


def run(spec: Mapping[str, Any], out: Path) -> None:
    """Write `languages.json`: sizes of each language's test split, from its tokens.

    Raises:
        InputError: If a language has no test split.
    """
    sizes = {}
    for language, name in zip(spec["languages"], spec["inputs"]["tokens"], strict=True):
        meta = json.loads(check_file(Path(name), "meta.json").read_text(encoding="utf-8"))
        # Retrieval has two sides: test.source and test.target.
        tests = {part: size for part, size in meta["splits"].items() if part.startswith("test")}
        if not tests:
            raise InputError(
                name,
                f"there is no test split to evaluate {spec['target']!r} on in {language!r}",
                found=", ".join(meta["splits"]) or "no split",
            )
        sizes[language] = tests
    with publishing(out, spec) as draft:
        text = json.dumps(sizes, indent=1, sort_keys=True) + "\n"
        (draft.folder / "languages.json").write_text(text, encoding="utf-8")

"""A pool of candidates that several languages share, and what is gold in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xstilts.artifacts.manifest import read_manifest
from xstilts.data.tables import read_rows


def candidate_ids(folder: Path) -> list[str]:
    """Ids of the candidates in a prepared artifact, in their order."""
    ids: list[str] = read_rows(folder, "test.target.parquet", ["id"])["id"].to_pylist()
    return ids


def gold_of(folders: Sequence[Path]) -> dict[str, list[str]]:
    """Gold candidates of each query, from all prepared artifacts that have gold: sorted ids.

    A question has one id in all its translations, and with it the candidates of all languages.
    """
    gold: dict[str, set[str]] = {}
    for folder in dict.fromkeys(folders):
        if "test.gold.parquet" in read_manifest(folder).files:
            table = read_rows(folder, "test.gold.parquet")
            pairs = zip(table["source_id"].to_pylist(), table["target_id"].to_pylist(), strict=True)
            for query, candidate in pairs:
                gold.setdefault(query, set()).add(candidate)
    return {query: sorted(candidates) for query, candidates in gold.items()}

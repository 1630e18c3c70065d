"""Fixtures that every test may use."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = Path(os.environ.get("XSTILTS_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "hub").is_dir():
        pytest.skip(f"real data for tests not found at {folder} (set XSTILTS_SHARED)")
    return folder


@pytest.fixture
def strict_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A results folder to work in; a warning, as of a division by zero, fails the test."""
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield tmp_path

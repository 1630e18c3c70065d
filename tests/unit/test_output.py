"""Files of JSON that a command line names."""

import json
import os
from pathlib import Path

import pytest

from xstilts import cli
from xstilts.output import check_output, write_json

AUDITS = (
    ["verify", "results"],
    ["explain", "results"],
    ["diff", "results", "results"],
    ["stale", "study.yaml"],
    ["replay", "results"],
    ["store", "list", "results"],
)


@pytest.mark.parametrize("words", AUDITS, ids=lambda words: words[0])
def test_an_audit_refuses_a_file_that_it_could_not_write_before_it_looks_at_anything(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (tmp_path, tmp_path / "no folder" / "found.json"):
        assert cli.main(["audit", *words, "--json", str(name)]) == 2
        said = f"xstilts audit: --json: {name}: is no file in an existing folder\n"
        assert capsys.readouterr().err == said


def test_a_new_file_an_old_one_and_none_are_taken(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("")
    for path in (tmp_path / "old", tmp_path / "new", None):
        check_output("--json", path)


def test_names_that_are_no_text_come_back_from_json(tmp_path: Path) -> None:
    content = {"path": os.fsdecode(b"\xff"), "text": "é ← \U0001f600", "line": "\\ \n"}
    path = tmp_path / "found.json"
    write_json(path, content)
    assert json.loads(path.read_text(encoding="utf-8")) == content
    assert "é ← \U0001f600" in path.read_text(encoding="utf-8")


def test_without_a_file_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_json(None, {})
    assert not list(tmp_path.iterdir())

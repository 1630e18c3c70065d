"""The command that runs the stages in an environment of their own."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from snakemake.shell import shell

from xstilts import cli
from xstilts.cluster import environment as module
from xstilts.cluster.environment import (
    VARIABLE,
    check,
    check_chosen,
    code_digest,
    shell_prefix,
    use,
)
from xstilts.errors import InputError

SOURCE = Path(module.__file__).parents[2]


def command(folder: Path, says: str, status: int = 0) -> str:
    """A command of a user's own."""
    path = folder / "xstilts"
    path.write_text(f"#!/bin/sh\n{says}\nexit {status}\n")
    path.chmod(0o755)
    return str(path)


def test_the_version_tells_the_code(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.strip().endswith(f"code {code_digest()}")


def test_this_environment_will_do(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    own = f"{sys.executable} -m xstilts.cli"
    check(own, "here")
    monkeypatch.setenv(VARIABLE, own)
    check_chosen()


def test_nothing_is_asked_for_where_nothing_is_chosen(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    check_chosen()
    assert shell_prefix() == "set -euo pipefail; "


def test_another_code_is_refused(tmp_path, monkeypatch):
    shutil.copytree(SOURCE / "xstilts", tmp_path / "xstilts")
    with (tmp_path / "xstilts" / "session.py").open("a") as file:
        file.write("\n# edited\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(InputError, match="has other code than the driver"):
        check(f"{sys.executable} -m xstilts.cli", "cluster.yaml: stage_command")


@pytest.mark.parametrize(
    ("says", "status", "problem"),
    [
        ("echo xstilts 1, torch none, python 3.11.2, code DIGEST", 0, "has no torch"),
        ("echo xstilts 1, torch 2.13.0, python 3.11.2, code 0", 0, "has other code"),
        ("echo another tool 1.0", 0, "is not the command xstilts; found another tool 1.0"),
        ("echo no such image >&2", 255, r"does not run \(exit status 255\); found no such image"),
    ],
)
def test_what_cannot_run_stages_is_refused(tmp_path, says, status, problem):
    own = command(tmp_path, says.replace("DIGEST", code_digest()), status)
    with pytest.raises(InputError, match=problem):
        check(own, "cluster.yaml: stage_command")


def test_a_missing_command_is_said(tmp_path):
    with pytest.raises(InputError, match=r"exit status 127.*No such file"):
        check(f"{tmp_path}/bin/xstilts", "cluster.yaml: stage_command")


@pytest.fixture
def prefixed(tmp_path, monkeypatch):
    """Snakemake's shell with a command of the stages' own, which must not call itself."""
    own = command(tmp_path, 'echo "$# $1|$2|$3"; echo "${0##*/}"', status=75)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv(VARIABLE, "")
    yield lambda text: (use(text.replace("OWN", own)), shell.prefix(shell_prefix()))
    shell._process_prefix = None


@pytest.mark.parametrize("text", ["OWN", "xstilts", "env A={b} OWN"])
def test_it_takes_the_place_of_xstilts_in_a_rules_command(prefixed, text):
    prefixed(text)
    said = shell("(xstilts stage 'two words' {{}} | tee /dev/null) || echo $?", read=True)
    assert said.splitlines() == ["3 stage|two words|{}", "xstilts", "75"]

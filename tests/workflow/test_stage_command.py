"""Stages in an environment of their own: the rules know nothing of it."""

import json
import shutil

from copies import Copy

SCORES = "scores/matrix-xlmr/none/seed-1/pairs"


def test_the_stages_command(copy: Copy) -> None:
    """Nothing is made again because of it, and it runs what has to be made."""
    command, calls = copy.folder / "wrapper", copy.folder / "calls"
    command.write_text(f'#!/bin/sh\necho "$2" >>"{calls}"\nexec xstilts "$@"\n')
    command.chmod(0o755)
    call = ("env", f"XSTILTS_STAGE_COMMAND={command}", "snakemake", "--cores", "2")
    call += ("--configfile", str(copy.study_file))
    before = (copy.results / SCORES / "manifest.json").read_bytes()
    said = copy.run(*call, "--dry-run")
    assert "Nothing to be done" in said, said
    for out in (SCORES, "tables", "analysis", "report"):
        shutil.rmtree(copy.results / out)
    copy.run(*call, "--quiet", "all")
    assert (copy.results / SCORES / "manifest.json").read_bytes() == before
    first, *both, last = calls.read_text().split()
    assert (first, sorted(both), last) == ("score", ["aggregate", "analyse"], "report")
    assert json.loads((copy.results / SCORES / "provenance.json").read_text())["environment"]


def test_a_command_that_does_not_run_is_said_at_the_start(copy: Copy) -> None:
    call = ("env", "XSTILTS_STAGE_COMMAND=/nowhere/xstilts", "snakemake", "--cores", "1")
    said = copy.run(*call, "--configfile", str(copy.study_file), fails=True)
    assert "XSTILTS_STAGE_COMMAND: '/nowhere/xstilts' does not run" in said
    assert "It stands in place of `xstilts`" in said

"""What the SLURM plugin is told of jobs; tests/cluster runs it."""

import asyncio
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import snakemake_executor_plugin_slurm as plugin

from xstilts.cluster import plugin as ours

LINES = r"printf 8|RUNNING\n9|CANCELLED\040by\0401000\n10|COMPLETED\n11|OUT_OF_MEMORY\n"


def ask(query, command=LINES):
    states, _ = asyncio.run(query(command.replace("\\", "\\\\"), logging.getLogger()))
    return states


def answers(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> None:
    """Put a command of SLURM's on the path."""
    command = folder / name
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_the_plugin_does_not_know_who_was_cancelled():
    """As long as this holds, the mend is needed."""
    assert ask(plugin.query_job_status)["9"] == "CANCELLED by 1000"


def test_states_have_slurms_names():
    states = ask(ours.patient(plugin.query_job_status))
    assert states == {"8": "RUNNING", "9": "CANCELLED", "10": "COMPLETED", "11": "OUT_OF_MEMORY"}


#: Fails twice, then answers.
TWICE = 'echo . >> "$0.asked"; [ $(wc -l < "$0.asked") -gt 2 ] || exit 1; '


def test_it_is_asked_until_there_is_an_answer(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(ours, "AGAIN", 0.01)
    answers(tmp_path, monkeypatch, "sacct", f"{TWICE} echo '8|RUNNING'")
    assert ask(plugin.query_job_status, "sacct") is None
    assert ask(ours.patient(plugin.query_job_status), "sacct") == {"8": "RUNNING"}
    assert len(caplog.records) == 1


def test_a_submission_waits_for_the_controller(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(ours, "AGAIN", 0.01)
    answers(tmp_path, monkeypatch, "scontrol", TWICE)
    submitted = []
    submit = ours.when_slurm_answers(lambda executor, job: submitted.append(job))
    submit(SimpleNamespace(logger=logging.getLogger()), "job")
    assert submitted == ["job"]
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        ("echo PENDING", "PREEMPTED"),  # put back into the queue
        ("echo RUNNING", "PREEMPTED"),  # runs again; the accounting is behind
        ("echo PREEMPTED", "CANCELLED"),  # the controller still remembers it
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", "CANCELLED"),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", "PREEMPTED"),
    ],
)
def test_a_preempted_job_may_be_gone(tmp_path, monkeypatch, script, wanted):
    answers(tmp_path, monkeypatch, "squeue", script)
    assert ours.understood("7", "PREEMPTED") == wanted

"""What the SLURM plugin is told of jobs; tests/cluster runs it."""

import asyncio
import logging

import pytest
import snakemake_executor_plugin_slurm as plugin

from xstilts.cluster import plugin as ours

LINES = r"printf 8|RUNNING\n9|CANCELLED\040by\0401000\n10|COMPLETED\n11|OUT_OF_MEMORY\n"


def ask(query, command=LINES):
    states, _ = asyncio.run(query(command.replace("\\", "\\\\"), logging.getLogger()))
    return states


def test_the_plugin_does_not_know_who_was_cancelled():
    """As long as this holds, the mend is needed."""
    assert ask(plugin.query_job_status)["9"] == "CANCELLED by 1000"


def test_states_have_slurms_names():
    states = ask(ours.mended(plugin.query_job_status))
    assert states == {"8": "RUNNING", "9": "CANCELLED", "10": "COMPLETED", "11": "OUT_OF_MEMORY"}


def test_no_answer_stays_none():
    assert ask(ours.mended(plugin.query_job_status), "false") is None


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
    command = tmp_path / "squeue"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert ours.understood("7", "PREEMPTED") == wanted

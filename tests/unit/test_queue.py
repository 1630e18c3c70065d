"""What SLURM says, parsed: every text below is what SLURM 22.05 printed of real jobs.

They ran on a cluster of two nodes, submitted with the options of the executor plugin, and were
stopped in all the ways; only paths and the options of the last command are shortened.
"""

import re
from pathlib import Path

import pytest

from xstilts.cluster import queue
from xstilts.cluster.queue import (
    FOLDERS,
    STAGE_LOGS,
    Entry,
    Places,
    by_artifact,
    in_words,
    job_name,
    read_entry,
    read_runs,
    slurm_logs,
    stage_log,
    targets,
)
from xstilts.plan import ANALYSIS, CHECK, REPORT, TABLES, Bundle, Job

RUN_ID = "xstilts-tiny_91698517-cc8b-455f-998e-9aa5896fd569"
#: `squeue` by its columns; each is filled with blanks up to its width, as squeue does.
SQUEUE = [
    # A training that runs on a GPU, one that waits for it, a job held by its user, one without a
    # node, and the third task of an array.
    "18|NAME|root|RUNNING|None|1795271887|1795272187|0|n2|/r/tiny/.snakemake/slurm_logs/rule_finetune/tiny-xlmr_none_1_toy_nli/%j.log",
    "19|NAME|root|PENDING|Dependency|N/A|N/A|0||/r/tiny/.snakemake/slurm_logs/rule_finetune/tiny-xlmr_mixed_1_toy_nli/%j.log",
    "21|NAME|root|PENDING|JobHeldUser|N/A|N/A|0||/r/tiny/.snakemake/slurm_logs/rule_check/%j.log",
    "42|NAME|root|PENDING|Resources|1795272566|1795273166|1||/r/tiny/.snakemake/slurm_logs/rule_prepare/toy_corpus_qaa/%j.log",
    "33_3|NAME|root|PENDING|JobHeldUser|N/A|N/A|0||/r/tiny/.snakemake/slurm_logs/rule_score/%A_%a.log",
]
#: `sacct -D -P`: ended well and badly; out of memory in the script and in a step of it; cancelled;
#: put back by `scontrol requeue` (43, whose second run stands after the others'); stopped for a job
#: of higher priority.
SACCT = """\
18|COMPLETED|0:0|1795271887|1795271927|40|billing=1,cpu=1,gres/gpu=1,mem=200M,node=1|n2
18.batch|COMPLETED|0:0|1795271887|1795271927|40|cpu=1,gres/gpu=1,mem=200M,node=1|n2
20|FAILED|3:0|1795271887|1795271887|0|billing=1,cpu=1,mem=100M,node=1|n2
20.batch|FAILED|3:0|1795271887|1795271887|0|cpu=1,mem=100M,node=1|n2
21|PENDING|0:0|Unknown|Unknown|0||None assigned
22|OUT_OF_MEMORY|0:125|1795271887|1795271888|1|billing=1,cpu=1,mem=50M,node=1|n2
22.batch|OUT_OF_MEMORY|0:125|1795271887|1795271888|1|cpu=1,mem=50M,node=1|n2
23|FAILED|1:0|1795271888|1795271888|0|billing=1,cpu=1,mem=100M,node=1|n2
23.batch|FAILED|1:0|1795271888|1795271888|0|cpu=1,mem=100M,node=1|n2
23.0|OUT_OF_MEMORY|0:125|1795271888|1795271888|0|cpu=1,mem=100M,node=1|n2
24|CANCELLED by 0|0:0|1795271888|1795271893|5|billing=1,cpu=1,mem=100M,node=1|n2
24.batch|CANCELLED|0:15|1795271888|1795271894|6|cpu=1,mem=100M,node=1|n2
43|REQUEUED|0:0|1795272052|1795272055|3|billing=1,cpu=1,mem=100M,node=1|n1
43.batch|CANCELLED|0:15|1795272052|1795272055|3|cpu=1,mem=100M,node=1|n1
44|PREEMPTED|0:0|1795272052|1795272070|18|billing=1,cpu=1,gres/gpu=1,mem=100M,node=1|n1
44.batch|CANCELLED|0:15|1795272052|1795272070|18|cpu=1,gres/gpu=1,mem=100M,node=1|n1
46|RUNNING|0:0|1795272052|Unknown|78|billing=1,cpu=1,mem=100M,node=1|n2
46.batch|RUNNING|0:0|1795272052|Unknown|78|cpu=1,mem=100M,node=1|n2
43|COMPLETED|0:0|1795272070|1795272079|9|billing=1,cpu=1,mem=100M,node=1|n1
43.batch|COMPLETED|0:0|1795272070|1795272079|9|cpu=1,mem=100M,node=1|n1
"""
#: `scontrol write batch_script` of a job that the executor plugin submitted.
SCRIPT = """\
#!/bin/sh
# This script was created by sbatch --wrap.

python3 -m snakemake --target-jobs 'fetch:dataset=toy_qa,config=qaa' --allowed-rules fetch --jobs 1
"""


def line(text: str) -> bytes:
    widths = queue._FIELDS.values()
    values = text.replace("NAME", RUN_ID).split("|")
    return b"".join(v.encode().ljust(w) for v, w in zip(values, widths, strict=True))


def job(stage: str, out: str, files: tuple[str, ...] = ()) -> Job:
    return Job(stage, out, {"stage": stage}, files=files)


def entry(number: str, log: str, state: str = "PENDING") -> Entry:
    return read_entry(line(f"{number}|NAME|root|{state}|None|N/A|N/A|0||{log}"))


# ---- squeue


def test_a_running_job():
    found = read_entry(line(SQUEUE[0]))
    assert (found.id, found.name, found.user, found.nodes) == ("18", RUN_ID, "root", "n2")
    assert (found.start, found.end, found.restarts) == (1795271887, 1795272187, 0)
    assert found.runs
    assert found.words == "runs"


@pytest.mark.parametrize(
    ("number", "words", "start", "restarts"),
    [
        (1, "waits in the queue: waits for another job [Dependency]", None, 0),
        (2, "waits in the queue: held by its user: `scontrol release` [JobHeldUser]", None, 0),
        (3, "waits in the queue: no node is free [Resources]", 1795272566, 1),
        (4, "waits in the queue: held by its user: `scontrol release` [JobHeldUser]", None, 0),
    ],
)
def test_waiting_jobs(number, words, start, restarts):
    found = read_entry(line(SQUEUE[number]))
    assert not found.runs
    assert (found.words, found.start, found.restarts) == (words, start, restarts)


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("QOSMaxJobsPerUserLimit", "limit of the QOS"),
        ("AssocGrpGRES", "limit of the account"),
        ("MaxGRESPerAccount", "limit of the account"),
        ("ReqNodeNotAvail, UnavailableNodes:n1", "the nodes it asks for are down"),
        (
            "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority "
            "partitions",
            "the nodes it asks for are down",
        ),
        ("SomethingNew", "SomethingNew"),
    ],
)
def test_reasons_in_words(reason, told):
    assert told in in_words("PENDING", reason)
    assert reason in in_words("PENDING", reason)


# ---- sacct


def test_every_way_to_end():
    runs = read_runs(SACCT)
    told = [(run.id, run.state, run.words) for run in runs]
    assert told == [
        ("18", "COMPLETED", "ended without an error"),
        ("20", "FAILED", "ended with an error (status 3)"),
        ("21", "PENDING", "waits in the queue"),
        ("22", "OUT_OF_MEMORY", "killed: more memory than it had asked for"),
        ("23", "OUT_OF_MEMORY", "killed: more memory than it had asked for"),
        ("24", "CANCELLED", "cancelled by user root"),
        ("43", "REQUEUED", "put back into the queue"),
        ("44", "PREEMPTED", "stopped for a job of higher priority"),
        ("46", "RUNNING", "runs"),
        ("43", "COMPLETED", "ended without an error"),
    ]


def test_times_and_gpus():
    runs = read_runs(SACCT)
    first, waiting, running = runs[0], runs[2], runs[8]
    assert (first.seconds, first.gpus, first.start, first.end) == (40, 1, 1795271887, 1795271927)
    assert (waiting.seconds, waiting.gpus, waiting.start, waiting.nodes) == (0, 0, None, "")
    assert (running.seconds, running.end) == (78, None)


@pytest.mark.parametrize(
    ("tres", "gpus"),
    [
        ("billing=4,cpu=4,gres/gpu:a100=2,gres/gpu=2,mem=8G,node=1", 2),
        ("billing=4,cpu=4,mem=8G,node=1", 0),
        ("", 0),
    ],
)
def test_gpus_of_all_kinds_count_once(tres, gpus):
    assert queue._gpus(tres) == gpus


# ---- which artifact a job makes


def test_folders_and_logs_are_those_of_the_rules(repository):
    """The first output is the artifact's manifest, or that of the bundle's index."""
    rules = "\n".join(path.read_text() for path in (repository / "workflow/rules").glob("*.smk"))
    constants = dict(re.findall(r'^([A-Z_]+) = "([^"]+)"', rules, flags=re.M))
    constants |= {"CHECK": CHECK, "TABLES": TABLES, "ANALYSIS": ANALYSIS, "REPORT": REPORT}
    found, logs = {}, {}
    for name, body in re.findall(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", rules, flags=re.M | re.S):
        logs[name] = re.search(r'log:\s+"([^"]+)"', body)[1]
        found[name] = constants[re.search(r"output:\s+manifest\((\w+)\)", body)[1]]
    assert found == FOLDERS
    assert logs == STAGE_LOGS


JOBS = [
    job("finetune", "checkpoints/tiny-xlmr/none/seed-1/toy_nli"),
    job("finetune", "checkpoints/tiny-xlmr/mixed/seed-1/toy_nli"),
    job("prepare", "data/prepared/toy_corpus/qaa"),
    job("check", "data/check"),
    Bundle(
        "evaluate",
        "bundles/evaluate/tiny-xlmr/none/seed-1",
        (
            job("evaluate", "predictions/tiny-xlmr/none/seed-1/toy_nli"),
            job("evaluate", "predictions/tiny-xlmr/none/seed-1/toy_pos"),
        ),
    ),
    Bundle(
        "prepare",
        "bundles/prepare/toy_pos",
        (job("prepare", "data/prepared/toy_pos/qab"), job("prepare", "data/prepared/toy_pos/qac")),
    ),
]


def test_jobs_of_this_folder_by_artifact():
    entries = [read_entry(line(text)) for text in SQUEUE]
    found = by_artifact(entries[:4], Path("/r/tiny"), Places(JOBS))
    assert {out: one.id for out, one in found.items()} == {
        "checkpoints/tiny-xlmr/none/seed-1/toy_nli": "18",
        "checkpoints/tiny-xlmr/mixed/seed-1/toy_nli": "19",
        "data/check": "21",
        "data/prepared/toy_corpus/qaa": "42",
    }


@pytest.mark.parametrize("other", ["/r/tiny2", "/r", "/elsewhere/r/tiny", "/r/tin"])
def test_another_results_folder_of_the_same_name_has_its_own(other):
    assert by_artifact(map(read_entry, map(line, SQUEUE)), Path(other), Places(JOBS)) == {}


def test_of_two_jobs_for_one_artifact_the_one_that_runs_counts():
    log = "/r/tiny/.snakemake/slurm_logs/rule_check/%j.log"
    entries = [entry("8", log), entry("9", log), entry("10", log, "RUNNING")]
    assert by_artifact(entries, Path("/r/tiny"), Places(JOBS))["data/check"].id == "10"
    assert by_artifact(entries[:2], Path("/r/tiny"), Places(JOBS))["data/check"].id == "8"


def test_one_job_of_slurm_makes_all_members_of_a_bundle():
    one = entry("5", "/r/tiny/.snakemake/slurm_logs/rule_evaluate/tiny-xlmr_none_1/%j.log")
    found = by_artifact([one], Path("/r/tiny"), Places(JOBS))
    assert sorted(found) == [
        "predictions/tiny-xlmr/none/seed-1/toy_nli",
        "predictions/tiny-xlmr/none/seed-1/toy_pos",
    ]
    one = entry("5", "/r/tiny/.snakemake/slurm_logs/rule_prepare_rest/toy_pos/%j.log")
    found = by_artifact([one], Path("/r/tiny"), Places(JOBS))
    assert sorted(found) == ["data/prepared/toy_pos/qab", "data/prepared/toy_pos/qac"]


def test_wildcards_that_join_alike_are_told_apart_by_the_command(monkeypatch):
    jobs = [job("prepare", "data/prepared/a_b/c"), job("prepare", "data/prepared/a/b_c")]
    one = entry("5", "/r/tiny/.snakemake/slurm_logs/rule_prepare/a_b_c/%j.log")
    script = SCRIPT.replace("fetch:dataset=toy_qa,config=qaa", "prepare:dataset=a,language=b_c")
    monkeypatch.setattr(queue, "_ask", lambda *_: script.encode())
    assert list(by_artifact([one], Path("/r/tiny"), Places(jobs))) == ["data/prepared/a/b_c"]


def test_it_stands_for_both_where_its_command_cannot_be_read(monkeypatch):
    jobs = [job("prepare", "data/prepared/a_b/c"), job("prepare", "data/prepared/a/b_c")]
    one = entry("5", "/r/tiny/.snakemake/slurm_logs/rule_prepare/a_b_c/%j.log")

    def refused(*_: str) -> bytes:
        raise queue.SlurmSilent("Access/permission denied")

    monkeypatch.setattr(queue, "_ask", refused)
    assert len(by_artifact([one], Path("/r/tiny"), Places(jobs))) == 2


def test_targets_of_a_command():
    assert targets(SCRIPT) == ["data/raw/toy_qa/qaa"]
    group = SCRIPT.replace(
        "'fetch:dataset=toy_qa,config=qaa'",
        "'tokens:model=m,dataset=d,language=qaa' 'check:' "
        "'evaluate:model=m,recipe=r,seed=1' 'all:'",
    )
    assert targets(group) == [
        "data/tokens/m/d/qaa",
        "data/check",
        "bundles/evaluate/m/r/seed-1",
    ]
    assert targets("#!/bin/sh\nsleep 5\n") == []


def test_log_of_a_job():
    assert stage_log(JOBS[0]) == "logs/finetune/tiny-xlmr/none/seed-1/toy_nli.log"
    assert stage_log(JOBS[3]) == "logs/check.log"
    assert stage_log(JOBS[4]) == "logs/evaluate/tiny-xlmr/none/seed-1.log"
    assert stage_log(JOBS[5]) == "logs/prepare/toy_pos.log"
    assert slurm_logs(JOBS[5]) == "rule_prepare_rest/toy_pos"
    assert slurm_logs(JOBS[3]) == "rule_check"


@pytest.mark.parametrize(
    ("study", "name"),
    [("toy", "xstilts-toy"), ("my study.v2", "xstilts-my-study-v2"), ("x" * 60, None)],
)
def test_names_that_the_plugin_takes(study, name):
    found = job_name(study)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,50}", found)
    assert name in (None, found)


def test_a_machine_without_slurm(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert queue.alive(Path("/r/tiny"), JOBS) == {}
    with pytest.raises(queue.SlurmSilent, match="no such command"):
        queue.waiting_or_running()

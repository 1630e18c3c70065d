"""How artifacts stand: real artifacts, states and processes; SLURM's part as it was printed."""

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tiny import settings_of_process
from xstilts import cli, progress
from xstilts.artifacts.publish import publishing
from xstilts.cluster import queue, traces
from xstilts.cluster.queue import Entry, read_runs
from xstilts.cluster.standing import Standing, expected_end, look
from xstilts.cluster.status_text import content, text
from xstilts.cluster.traces import Attempt, error_in, told_by_slurm
from xstilts.config import load_study
from xstilts.errors import InputError
from xstilts.plan import Bundle, Job, Plan
from xstilts.registry import load_registry
from xstilts.runtime import runtime
from xstilts.training.state import training_state

STUDY = {"study": "small", "models": ["toy-xlmr"], "recipes": {"none": None}}
STUDY |= {"targets": {"toy_nli": None}, "languages": ["qaa"], "seeds": [1]}
RAW, CHECK = "data/raw/toy_nli/qaa", "data/check"
TRAINED = "checkpoints/m/none/seed-1/toy_nli"
PREDICTED = "predictions/m/none/seed-1/toy_nli"
SCORED = "scores/m/none/seed-1/toy_nli"


def job(stage: str, out: str, **inputs: str) -> Job:
    return Job(stage, out, {"stage": stage, "inputs": inputs})


def plan_of(*jobs: Job) -> Plan:
    columns = [
        Bundle(job.stage, f"bundles/{job.stage}/m/none/seed-1", (job,))
        for job in jobs
        if job.stage in ("evaluate", "score")
    ]
    return Plan(
        load_study(STUDY, "small.yaml"),
        load_registry(),
        "small.yaml",
        {job.out: job for job in jobs},
        {bundle.out: bundle for bundle in columns},
    )


PLAN = plan_of(
    job("fetch", RAW),
    job("finetune", TRAINED, tokens=RAW),
    job("evaluate", PREDICTED, checkpoint=TRAINED),
    job("score", SCORED, predictions=PREDICTED),
    job("check", CHECK, data=RAW),
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The results folder as the working directory, on a machine without SLURM."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    for name in list(os.environ):
        if name.startswith("SLURM"):
            monkeypatch.delenv(name)
    settings_of_process(monkeypatch, '{"log_seconds": 0}')
    yield tmp_path
    runtime.cache_clear()


def publish(out: str) -> None:
    with publishing(Path(out), PLAN.jobs[out].spec) as draft:
        if out == TRAINED:
            account = {"restarts": [{"reason": "flat"}], "collapsed": []}
            (draft.folder / "training.json").write_text(json.dumps(account))


def write_log(job_out: str, lines: str) -> None:
    path = Path(queue.stage_log(PLAN.jobs[job_out]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(lines)


def stand(out: str) -> Standing:
    return look(PLAN, Path()).all[out]


@pytest.fixture
def trainable():
    """What the training needs is there."""
    publish(RAW)
    publish(CHECK)


# ---- done, waiting


def test_nothing_yet():
    status = look(PLAN, Path("nowhere"))
    assert status.counts == {"waiting": 5}
    assert status.all[RAW].words == "its inputs are there"
    assert status.all[TRAINED].words == f"waits for {RAW} and 1 more"
    assert status.all[SCORED].words == f"waits for {PREDICTED} and 1 more"


def test_all_done():
    for out in PLAN.jobs:
        publish(out)
    status = look(PLAN, Path())
    assert status.counts == {"done": 5}
    assert [attempt.outcome for attempt in status.all[RAW].attempts] == ["done"]
    assert status.all[TRAINED].restarts == 1
    assert "5 artifacts, 5 done; no GPU used so far" in text(status)


def test_what_stands_on_a_lost_artifact_is_made_again():
    for out in PLAN.jobs:
        publish(out)
    Path(PREDICTED, "manifest.json").unlink()
    assert (stand(TRAINED).state, stand(PREDICTED).state) == ("done", "waiting")
    assert (stand(SCORED).state, stand(SCORED).words) == ("waiting", f"waits for {PREDICTED}")


def test_the_check_holds_back_what_it_must(trainable):
    assert stand(TRAINED).words == "its inputs are there"
    Path(CHECK, "manifest.json").unlink()
    assert stand(TRAINED).words == f"waits for {CHECK}"


# ---- a process: it runs, it is killed, it fails


def child(body: str) -> subprocess.Popen:
    """A stage in a process of its own, which says `ready` and waits."""
    code = "import sys, time\nfrom xstilts.progress import Progress\n"
    tail = "\nprint('ready', flush=True)\ntime.sleep(60)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", code + body + tail],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout.readline() == b"ready\n"
    return process


def test_a_stage_that_runs_and_is_killed(trainable):
    process = child(f"p = Progress('finetune', '{TRAINED}', 100); p.step(40, 'loss 0.125')")
    one = stand(TRAINED)
    assert (one.state, one.step, one.total, one.note) == ("running", 40, 100, "loss 0.125")
    assert one.words.endswith(f"pid {process.pid}")
    assert one.ends == pytest.approx(one.updated + 60 / one.rate)
    assert [attempt.outcome for attempt in one.attempts] == ["running"]
    assert f"{TRAINED}  step 40/100" in text(look(PLAN, Path()))
    process.kill()
    process.wait()
    killed = stand(TRAINED)
    assert killed.state == "interrupted"
    assert killed.words == "killed without a word; begins anew when started again"


def test_another_process_with_the_same_number_is_not_it(trainable):
    progress.Progress("finetune", TRAINED, 100)
    assert stand(TRAINED).state == "running"
    path = progress.sign_path(Path("state"), TRAINED)
    known = json.loads(path.read_text())
    path.write_text(json.dumps(known | {"born": known["born"] - 1}))
    assert stand(TRAINED).state == "interrupted"


@pytest.mark.parametrize(("age", "state"), [(60, "running"), (3600, "silent")])
def test_on_another_machine_only_its_age_tells(trainable, age, state):
    progress.Progress("finetune", TRAINED, 100)
    path = progress.sign_path(Path("state"), TRAINED)
    changed = {"host": "elsewhere", "updated": time.time() - age}
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    status = look(PLAN, Path())
    assert status.all[TRAINED].state == state
    assert ("last heard of at" in text(status)) == (state == "silent")


def test_a_finished_stage_leaves_no_sign(trainable):
    shown = progress.Progress("finetune", TRAINED, 100)
    shown.done()
    assert not list(Path("state/progress").iterdir())
    assert stand(TRAINED).state == "waiting"


def test_bad_input_ends_a_stage(trainable):
    spec = {"stage": "testset", "languages": ["x"], "inputs": {"tokens": ["data/tokens/none"]}}
    stage = ["stage", "testset", "--out", TRAINED, "--spec", json.dumps(spec)]
    ended = subprocess.run(
        [sys.executable, "-m", "xstilts.cli", *stage], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    write_log(TRAINED, f"a line\n{ended.stderr}")
    one = stand(TRAINED)
    assert one.state == "failed"
    assert one.words.startswith("data/tokens/none/manifest.json: ")
    assert one.tail[0] == "a line"
    (sign,) = traces.signs(Path()).values()
    assert sign.ended
    assert sign.attempt.outcome == "failed"


def test_the_end_of_another_process_is_not_noted():
    progress.Progress("finetune", TRAINED)
    path = progress.sign_path(Path("state"), TRAINED)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pid": 1}))
    progress.ended(TRAINED, "InputError: taken")
    assert "ended" not in json.loads(path.read_text())


def test_a_full_disk_stops_no_stage(monkeypatch, capsys):
    Path("state").mkdir()
    Path("state/progress").write_text("no folder")
    shown = progress.Progress("finetune", TRAINED, 10)
    shown.step(1)
    shown.done()
    assert "step 1/10" in capsys.readouterr().err


def test_only_the_first_of_several_processes_tells(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    progress.Progress("finetune", TRAINED, 10).step(1)
    assert not Path("state").exists()


# ---- a training's state


@pytest.mark.parametrize(
    ("outcome", "state", "words"),
    [
        ("interrupted", "interrupted", "stopped; goes on when started again"),
        ("killed", "interrupted", "killed without a word; goes on when started again"),
        ("failed", "failed", "checkpoints/x: the training collapsed"),
    ],
)
def test_last_attempt_of_a_training(trainable, outcome, state, words):
    for end in ("killed", outcome):
        with training_state(Path(TRAINED), PLAN.jobs[TRAINED].spec) as saved:
            place = saved.folder / "step-30"
            place.mkdir(exist_ok=True)
            values = {"history": [{"step": 30, "dev": {"toy_nli": 0.5}}]}
            (place / "values.json").write_text(json.dumps(values))
            saved.note(end)
    lines = "finetune     a  step 30/90  1.0/s\nfinetune     a  step 40/90  1.0/s\n"
    write_log(TRAINED, lines + "xstilts stage: checkpoints/x: the training collapsed\n")
    one = stand(TRAINED)
    assert (one.state, one.words, one.step, one.dev) == (state, words, 30, {"toy_nli": 0.5})
    assert [attempt.outcome for attempt in one.attempts] == ["killed", outcome]
    assert one.tail[0] == "finetune     a  step 40/90  1.0/s"
    shown = text(look(PLAN, Path()))
    assert "attempt 2" in shown
    assert ("saved at step 30" in shown) == (state == "interrupted")


def test_a_failure_before_the_state_was_opened(trainable):
    write_log(TRAINED, "Traceback (most recent call last):\n  x\nKeyError: 'dev'\n")
    assert (stand(TRAINED).state, stand(TRAINED).words) == ("failed", "KeyError: 'dev'")
    write_log(TRAINED, "finetune     a  done in 0:12\n")
    assert stand(TRAINED).state == "waiting"


def test_gpu_hours_of_all_attempts():
    hour = "2026-11-21T1{}:00:00+00:00"
    entries = [
        {
            "start": hour.format(0),
            "end": hour.format(2),
            "host": "a",
            "gpus": 4,
            "outcome": "killed",
        },
        {"start": hour.format(3), "end": hour.format(4), "host": "a", "SLURM_JOB_ID": "7"},
    ]
    found = traces.attempts_of(entries, gpus=1)
    assert [attempt.gpu_hours for attempt in found] == [8.0, 1.0]
    # SLURM knows the whole of what was killed, and the GPUs.
    run = read_runs("7|NODE_FAIL|0:0|1795265990|1795273190|7200|cpu=1,gres/gpu=2|n1")
    assert found[1].start == 1795266000
    assert [a.gpu_hours for a in traces.priced(found, {"7": run})] == [8.0, 4.0]
    # A run of the same job that had ended before is not of this attempt.
    before = read_runs("7|REQUEUED|0:0|1795200000|1795207200|7200|cpu=1,gres/gpu=2|n1")
    assert traces.priced(found, {"7": before}) == found


# ---- with SLURM


def slurm(monkeypatch, entries: list[Entry], runs: str = "") -> None:
    monkeypatch.setattr(queue, "there", lambda: True)
    monkeypatch.setattr(queue, "waiting_or_running", lambda: entries)

    def known(ids):
        found = {}
        for run in read_runs(runs):
            if run.id in ids:
                found.setdefault(run.id, []).append(run)
        return found

    monkeypatch.setattr(queue, "runs_of", known)


def entry(here: Path, state: str, reason: str = "None", start: float | None = None) -> Entry:
    log = f"{here.resolve()}/.snakemake/slurm_logs/rule_finetune/m_none_1_toy_nli/%j.log"
    return Entry("7", "xstilts-small_1", "ann", state, reason, start, None, 1, "n1", log)


def slurm_log(text: str) -> None:
    folder = Path(".snakemake/slurm_logs/rule_finetune/m_none_1_toy_nli")
    folder.mkdir(parents=True)
    (folder / "6.log").write_text("of an earlier job\n")
    (folder / "7.log").write_text(text)


def sign_of_slurm(monkeypatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "2")
    progress.Progress("finetune", TRAINED, 100)


def test_in_the_queue(trainable, here, monkeypatch):
    slurm(monkeypatch, [entry(here, "PENDING", "Priority")])
    sign_of_slurm(monkeypatch)  # of the run before it was put back
    one = stand(TRAINED)
    assert (one.state, one.words) == (
        "waiting",
        "waits in the queue: others come first (priority) [Priority]",
    )
    assert "in SLURM's queue (1)" in text(look(PLAN, here))


def test_after_a_requeue_the_old_sign_does_not_count(trainable, here, monkeypatch):
    sign_of_slurm(monkeypatch)
    slurm(monkeypatch, [entry(here, "RUNNING", start=time.time() - 60)])
    assert stand(TRAINED).step == 0
    assert stand(TRAINED).attempts[0].gpus == 2
    slurm(monkeypatch, [entry(here, "RUNNING", start=time.time() + 60)])
    one = stand(TRAINED)
    assert (one.state, one.words) == ("running", "has told nothing yet  on n1, SLURM job 7")


@pytest.mark.parametrize(
    ("ended", "state", "words"),
    [
        ("OUT_OF_MEMORY|0:125", "failed", "killed: more memory than it had asked for"),
        ("CANCELLED by 0|0:0", "interrupted", "cancelled by user root; begins anew when"),
        ("NODE_FAIL|0:0", "interrupted", "its node failed (n1); begins anew when"),
        ("PREEMPTED|0:0", "interrupted", "a driver waits for it for ever"),
        ("TIMEOUT|0:0", "interrupted", "stopped by its time limit; begins anew when"),
    ],
)
def test_what_ended_a_killed_job(trainable, monkeypatch, ended, state, words):
    sign_of_slurm(monkeypatch)
    now = round(time.time())
    row = f"7|{ended}|{now - 3600}|{now + 1}|3600|cpu=1,gres/gpu=2|n1"
    slurm(monkeypatch, [], row)
    one = stand(TRAINED)
    assert one.state == state
    assert words in one.words
    assert one.gpu_hours == 2.0


def test_a_job_that_ended_before_its_stage(trainable, monkeypatch):
    """The text is that of a real job whose script was out of memory."""
    slurm_log(
        "Building DAG of jobs...\nKilled\nslurmstepd-n2: error: Detected 1 oom-kill event(s) in "
        "StepId=22.batch. Some of your processes may have been killed by the cgroup "
        "out-of-memory handler.\n"
    )
    slurm(monkeypatch, [], "7|FAILED|1:0|1795271887|1795271888|1|cpu=1|n2\n")
    one = stand(TRAINED)
    assert (one.state, one.slurm_log[-5:]) == ("failed", "7.log")
    assert one.words == "ended with an error (status 1), before its stage could say anything"
    assert one.slurm_tail[0] == "Killed"
    assert "oom-kill" in one.slurm_tail[1]


def test_a_job_that_found_its_driver_gone(trainable, monkeypatch):
    slurm_log("Waiting at most 5 seconds for missing files:\nMissing files after 5 seconds. This\n")
    slurm(monkeypatch, [], "7|COMPLETED|0:0|1795271990|1795271998|8|cpu=1|n2\n")
    one = stand(TRAINED)
    assert one.state == "interrupted"
    assert "began after its driver had ended" in one.words


def test_the_log_of_a_job_that_did_well_is_no_failure(trainable, monkeypatch):
    """Its driver was gone, so that nobody removed it; then the study was changed."""
    write_log(TRAINED, "finetune     a  done in 0:12\n")
    slurm_log("Finished jobid: 0 (Rule: finetune)\n")
    slurm(monkeypatch, [], "7|COMPLETED|0:0|1795271990|1795271998|8|cpu=1|n2\n")
    assert stand(TRAINED).state == "waiting"
    hours_ago = time.time() - 7200
    os.utime(queue.stage_log(PLAN.jobs[TRAINED]), (hours_ago, hours_ago))
    assert stand(TRAINED).state == "interrupted"


def test_an_old_slurm_job_says_nothing_of_a_later_failure(trainable, monkeypatch):
    slurm_log("slurmstepd-n1: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-21T14:50:30 ***\n")
    log = Path(".snakemake/slurm_logs/rule_finetune/m_none_1_toy_nli/7.log")
    os.utime(log, (time.time() - 600, time.time() - 600))
    write_log(TRAINED, "xstilts stage: a file: is broken\n")
    slurm(monkeypatch, [], "7|CANCELLED by 0|0:0|1795271990|1795271998|8|cpu=1|n2\n")
    one = stand(TRAINED)
    assert (one.state, one.words, one.slurm_tail) == ("failed", "a file: is broken", [])


def test_slurm_that_does_not_answer(trainable, monkeypatch):
    def silent():
        raise queue.SlurmSilent("slurm_load_jobs error: Unable to contact slurm controller")

    monkeypatch.setattr(queue, "there", lambda: True)
    monkeypatch.setattr(queue, "waiting_or_running", silent)
    slurm_log("Building DAG of jobs...\n")
    status = look(PLAN, Path())
    assert status.all[TRAINED].state == "waiting"  # it may run
    assert "Unable to contact slurm controller" in text(status)


# ---- logs


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (["x", "xstilts stage: a.yaml: wrong"], "a.yaml: wrong"),
        (
            ["Traceback (most recent call last):", "torch.OutOfMemoryError: CUDA"],
            "torch.OutOfMemoryError: CUDA",
        ),
        (["ValueError: told by somebody, and gone on", "done in 0:01"], ""),
        (["xstilts stage: a: wrong", *"abcdef"], ""),
        ([], ""),
    ],
)
def test_error_at_the_end_of_a_log(lines, error):
    assert error_in(lines) == error


def test_of_a_slurm_log_only_what_tells():
    lines = ["Building DAG of jobs...", "srun: error: n2: task 0: Out Of Memory", "WorkflowError:"]
    assert told_by_slurm(lines, 5) == ["srun: error: n2: task 0: Out Of Memory"]
    assert told_by_slurm(["a", "b"], 1) == ["b"]


# ---- the driver


def test_driver(here):
    assert traces.driver_of(here) is None
    path = here / "driver.json"
    path.write_text(
        json.dumps({"host": "login1", "pid": 5, "started": "2026-11-21T10:00:00+00:00"})
    )
    assert traces.driver_of(here).lives is False
    assert "none runs: start it again with `snakemake --cores all" in text(look(PLAN, here))
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert traces.driver_of(here).lives is True
        assert "driver: running on login1 since 2026-11-21" in text(look(PLAN, here))


# ---- when it ends


def done(out: str, seconds: float) -> Standing:
    stage = "finetune" if out.startswith("checkpoints") else "score"
    return Standing(out, stage, "done", attempts=[Attempt(0, seconds, "a", 0, "done")])


def test_expected_end():
    """By hand: two run at a time; 50 s and 100 s of rates, 300 s of a mean, a kind nobody knows."""
    left = [
        Standing("checkpoints/m/none/seed-3/nli", "finetune", "running", ends=1050.0),
        Standing("checkpoints/m/none/seed-4/nli", "finetune", "running", ends=1100.0),
        Standing("checkpoints/m/none/seed-5/nli", "finetune"),
        Standing("checkpoints/m/none/seed-6/nli", "finetune"),
        Standing("predictions/m/none/seed-5/nli", "evaluate"),
    ]
    finished = [
        done("checkpoints/m/none/seed-1/nli", 200.0),
        done("checkpoints/m/none/seed-2/nli", 400.0),
        done("checkpoints/m/none/seed-2/pos", 9000.0),
    ]
    assert expected_end(finished + left, 1000.0) == (1000 + (50 + 100 + 2 * 300) / 2, 1)
    assert expected_end(finished + left[2:], 1000.0) == (None, 1)


# ---- the command


def test_json_and_exit_status(trainable, monkeypatch, capsys, repository):
    write_log(TRAINED, "xstilts stage: x: wrong\n")
    status = look(PLAN, Path())
    monkeypatch.setattr("xstilts.cluster.standing.look", lambda *_: status)
    monkeypatch.chdir(repository)
    out = Path(os.environ.get("TMPDIR", "/tmp")) / f"status-{os.getpid()}.json"
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main(["status", "config.yaml", "--json", str(out)])
        assert ended.value.code == 3
        found = json.loads(out.read_text())
    finally:
        out.unlink(missing_ok=True)
    assert found == json.loads(json.dumps(content(status)))
    assert found["counts"]["failed"] == 1
    assert "failed (1)" in capsys.readouterr().out
    status.all[TRAINED].state = "waiting"
    assert cli.main(["status", "config.yaml"]) == 0


def test_bad_options(here):
    with pytest.raises(InputError, match="at least 10 seconds; found 1"):
        standing_run(["status", "x.yaml", "--watch", "1"])
    with pytest.raises(InputError, match="no file in an existing folder"):
        standing_run(["status", "x.yaml", "--json", str(here)])


def standing_run(arguments: list[str]) -> None:
    options = cli._parser().parse_args(arguments)
    options.run(options)

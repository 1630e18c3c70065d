"""What SLURM knows of a study's jobs: what waits or runs (squeue), and what ended (sacct).

A job belongs to a results folder when its log lies there: names are shared by all folders of one
study, and SLURM's working directory is where Snakemake was started. The log's path also names the
rule and its wildcards, joined by `_` as the executor plugin joins them. Where two artifacts have
the same path of logs, and for groups, the job's own command tells which it makes.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from xstilts.plan import Bundle, Job

#: Folder of what each rule makes, an artifact or a bundle's index (a test compares them).
FOLDERS = {
    "fetch": "data/raw/{dataset}/{config}",
    "fetch_rest": "bundles/fetch/{dataset}",
    "prepare": "data/prepared/{dataset}/{language}",
    "prepare_rest": "bundles/prepare/{dataset}",
    "tokens": "data/tokens/{model}/{dataset}/{language}",
    "tokens_rest": "bundles/tokens/{model}/{dataset}",
    "prompts": "data/prompts/{model}/{dataset}/{language}",
    "prompts_rest": "bundles/prompts/{model}/{dataset}",
    "translate": "data/translated/{dataset}/{translator}",
    "testset": "bundles/testset/{model}",
    "check": "data/check",
    "tokenizer": "models/{model}/tokenizer",
    "fetch_model": "models/{hub_model}/base",
    "fetch_translator": "translators/{translator}",
    "pretrain": "models/{scratch_model}/base",
    "intermediate": "checkpoints/{model}/{recipe}/seed-{seed}/intermediate",
    "finetune": "checkpoints/{model}/{recipe}/seed-{seed}/{training}",
    "merge": "merged/{model}/{recipe}/seed-{seed}/{merged}",
    "sweep": "layers/{model}/{recipe}/seed-{seed}",
    "evaluate": "bundles/evaluate/{model}/{recipe}/seed-{seed}",
    "score": "bundles/score/{model}/{recipe}/seed-{seed}",
    "distances": "distances/{model}",
    "transferability": "bundles/transferability/{model}/seed-{seed}",
    "aggregate": "tables",
    "analyse": "analysis",
    "report": "report",
}
#: Log of each rule's stage, below the results folder.
STAGE_LOGS = {
    "fetch": "logs/fetch/{dataset}/{config}.log",
    "fetch_rest": "logs/fetch/{dataset}.log",
    "prepare": "logs/prepare/{dataset}/{language}.log",
    "prepare_rest": "logs/prepare/{dataset}.log",
    "tokens": "logs/tokens/{model}/{dataset}/{language}.log",
    "tokens_rest": "logs/tokens/{model}/{dataset}.log",
    "prompts": "logs/prompts/{model}/{dataset}/{language}.log",
    "prompts_rest": "logs/prompts/{model}/{dataset}.log",
    "translate": "logs/translate/{dataset}/{translator}.log",
    "testset": "logs/testset/{model}.log",
    "check": "logs/check.log",
    "tokenizer": "logs/tokenizer/{model}.log",
    "fetch_model": "logs/fetch_model/{hub_model}.log",
    "fetch_translator": "logs/fetch_translator/{translator}.log",
    "pretrain": "logs/pretrain/{scratch_model}.log",
    "intermediate": "logs/intermediate/{model}/{recipe}/seed-{seed}.log",
    "finetune": "logs/finetune/{model}/{recipe}/seed-{seed}/{training}.log",
    "merge": "logs/merge/{model}/{recipe}/seed-{seed}/{merged}.log",
    "sweep": "logs/sweep/{model}/{recipe}/seed-{seed}.log",
    "evaluate": "logs/evaluate/{model}/{recipe}/seed-{seed}.log",
    "score": "logs/score/{model}/{recipe}/seed-{seed}.log",
    "distances": "logs/distances/{model}.log",
    "transferability": "logs/transferability/{model}/seed-{seed}.log",
    "aggregate": "logs/aggregate.log",
    "analyse": "logs/analyse.log",
    "report": "logs/report.log",
}
#: Where the plugin puts SLURM's logs, below the results folder.
LOGS = Path(".snakemake", "slurm_logs")
#: Seconds that a command of SLURM has to answer.
PATIENCE = 60.0
#: Jobs in one question: a command line holds some 20,000 ids.
_AT_ONCE = 5000
#: The longest name of jobs that the plugin takes, less the id of the run.
_LONGEST_NAME = 50

STATES = {
    "PENDING": "waits in the queue",
    "CONFIGURING": "its node is being made ready",
    "RUNNING": "runs",
    "COMPLETING": "is ending",
    "SUSPENDED": "suspended: SLURM goes on with it by itself",
    "STOPPED": "stopped with its memory kept",
    "SIGNALING": "is being sent a signal",
    "STAGE_OUT": "its files are being copied",
    "RESIZING": "is being resized",
    "REQUEUED": "put back into the queue",
    "REQUEUE_HOLD": "put back into the queue and held there: `scontrol release` lets it go on",
    "REQUEUE_FED": "put back into the queue",
    "SPECIAL_EXIT": "held after its exit status: `scontrol release` lets it go on",
    "RESV_DEL_HOLD": "held because its reservation is gone: `scontrol release` lets it go on",
    "REVOKED": "taken over by another cluster",
    "COMPLETED": "ended without an error",
    "FAILED": "ended with an error",
    "TIMEOUT": "stopped by its time limit",
    "DEADLINE": "stopped by its deadline",
    "OUT_OF_MEMORY": "killed: more memory than it had asked for",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node did not start",
    "LAUNCH_FAILED": "could not be started on its node",
    "CANCELLED": "cancelled",
    "PREEMPTED": "stopped for a job of higher priority",
}
#: Reasons why a job waits; others are shown as SLURM calls them.
REASONS = {
    "Priority": "others come first (priority)",
    "Resources": "no node is free",
    "Dependency": "waits for another job",
    "DependencyNeverSatisfied": "waits for a job that failed: it never starts; `scancel` it",
    "BeginTime": "may not start yet (begin time; after a requeue two minutes)",
    "JobHeldUser": "held by its user: `scontrol release`",
    "JobHeldAdmin": "held by an administrator",
    "JobArrayTaskLimit": "limit of its array",
    "Licenses": "waits for a licence",
    "Reservation": "waits for its reservation",
    "ReqNodeNotAvail": "the nodes it asks for are down, drained or reserved",
    "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions": (
        "the nodes it asks for are down, drained or reserved"
    ),
    "PartitionDown": "its partition is down",
    "PartitionInactive": "its partition is switched off",
    "PartitionNodeLimit": "asks for more nodes than its partition allows: it never starts",
    "PartitionTimeLimit": "asks for more time than its partition allows: it never starts",
    "PartitionConfig": "asks for more than its partition allows: it never starts",
    "BadConstraints": "asks for what no node has: it never starts",
    "AccountNotAllowed": "its account may not use the partition",
    "InvalidAccount": "its account is not known",
    "InvalidQOS": "its QOS is not known",
    "NodeDown": "its node is down",
    "launch_failed_requeued_held": "could not be started and is held: `scontrol release`",
}
#: Beginnings of reasons: limits of an association (user, account), a QOS.
_LIMITS = {
    "Assoc": "limit of the account",
    "QOS": "limit of the QOS",
    "Max": "limit of the account",
}
#: States that a job does not leave, unless SLURM or somebody puts it back into the queue.
ENDED = frozenset(
    {
        "COMPLETED",
        "FAILED",
        "TIMEOUT",
        "DEADLINE",
        "OUT_OF_MEMORY",
        "NODE_FAIL",
        "BOOT_FAIL",
        "LAUNCH_FAILED",
        "CANCELLED",
        "PREEMPTED",
        "REVOKED",
    }
)


class SlurmSilent(Exception):
    """SLURM is there, and does not answer."""


@dataclass(frozen=True)
class Entry:
    """A job that waits or runs.

    Attributes:
        id: Its id, with that of the task where it is of an array.
        name: Its name.
        user: Who submitted it.
        state: SLURM's word, such as ``PENDING``.
        reason: SLURM's word for why it waits, such as ``Priority``.
        start: Unix time of its (expected) start, if there is one.
        end: Unix time at which its time is over, if it has started.
        restarts: How often it was put back into the queue.
        nodes: Where it runs.
        log: File of its output.
    """

    id: str
    name: str
    user: str
    state: str
    reason: str
    start: float | None
    end: float | None
    restarts: int
    nodes: str
    log: str

    @property
    def runs(self) -> bool:
        """Whether it holds a node."""
        return self.state in ("RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED")

    @property
    def words(self) -> str:
        """State and reason for people."""
        return in_words(self.state, self.reason)


@dataclass(frozen=True)
class Run:
    """One run of a job that SLURM's accounting knows; a requeued job has several.

    Attributes:
        id: The job's id.
        state: SLURM's word, such as ``OUT_OF_MEMORY``; that of its worst step where SLURM gives
            the job itself a milder one.
        by: Number of the user who cancelled it.
        status: Exit status.
        signal: Signal that ended it, or 0.
        start: Unix time of its start, if it has started.
        end: Unix time of its end, if it has ended.
        seconds: How long it has run.
        gpus: GPUs that it held.
        nodes: Where it ran.
    """

    id: str
    state: str
    by: str
    status: int
    signal: int
    start: float | None
    end: float | None
    seconds: float
    gpus: int
    nodes: str

    @property
    def words(self) -> str:
        """How it ended, for people."""
        told = in_words(self.state)
        if self.by:
            told += f" by user {_user_name(self.by)}"
        if self.state == "FAILED":
            told += f" (signal {self.signal})" if self.signal else f" (status {self.status})"
        if self.state == "NODE_FAIL" and self.nodes:
            told += f" ({self.nodes})"
        return told


def job_name(study: str) -> str:
    """The prefix of the names of a study's jobs, of the characters that the plugin takes."""
    return f"xstilts-{re.sub('[^A-Za-z0-9_-]', '-', study)}"[:_LONGEST_NAME]


def in_words(state: str, reason: str = "") -> str:
    """A state, and why a job waits, for people."""
    words = STATES.get(state, state)
    if reason in ("", "None") or state != "PENDING":
        return words
    known = REASONS.get(reason) or next(
        (text for start, text in _LIMITS.items() if reason.startswith(start)), None
    )
    known = known or REASONS.get(re.split("[(,]", reason)[0].strip())
    return f"{words}: {known} [{reason}]" if known else f"{words}: {reason}"


def _user_name(number: str) -> str:
    import pwd

    try:
        return pwd.getpwuid(int(number)).pw_name
    except (KeyError, ValueError):
        return number


# ---- asking


def there() -> bool:
    """Whether this machine has SLURM's commands."""
    return shutil.which("squeue") is not None


def _ask(*command: str) -> bytes:
    # Seconds since 1970 need no time zone. Other variables of SLURM would change what is printed.
    clean = {key: value for key, value in os.environ.items() if not key.startswith(_CHANGING)}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=PATIENCE,
            check=True,
            env=clean | {"SLURM_TIME_FORMAT": "%s", "LC_ALL": "C.UTF-8"},
        )
    except FileNotFoundError as error:
        raise SlurmSilent(f"{command[0]}: there is no such command") from error
    except subprocess.TimeoutExpired as error:
        raise SlurmSilent(f"{command[0]}: no answer after {PATIENCE:.0f} s") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines() or ["failed"]
        raise SlurmSilent(said[-1]) from error
    return done.stdout


_CHANGING = ("SQUEUE_", "SACCT_", "SLURM_TIME_FORMAT", "SLURM_BITSTR_LEN")

#: Fields of squeue and their widths in bytes: it cuts what is longer.
_FIELDS = {
    "JobArrayID": 40,
    "Name": 128,
    "UserName": 64,
    "State": 32,
    "Reason": 160,
    "StartTime": 32,
    "EndTime": 32,
    "RestartCnt": 16,
    "NodeList": 128,
    "STDOUT": 1024,
}


def waiting_or_running() -> list[Entry]:
    """All jobs that SLURM's controller shows, of every user, by `squeue`.

    Raises:
        SlurmSilent: If it cannot be asked.
    """
    fields = ",".join(f"{name}:{width}" for name, width in _FIELDS.items())
    text = _ask("squeue", "--all", "--noheader", "--array", "--Format", fields)
    return [entry for entry in map(read_entry, text.splitlines()) if entry.state not in ENDED]


def read_entry(line: bytes) -> Entry:
    """One line of squeue in columns of fixed width; widths are of bytes."""
    values, place = [], 0
    for width in _FIELDS.values():
        values.append(line[place : place + width].decode(errors="replace").strip())
        place += width
    job, name, user, state, reason, start, end, restarts, nodes, log = values
    count = int(restarts) if restarts.isdecimal() else 0
    started = _time(start)
    return Entry(job, name, user, state, reason, started, _time(end), count, nodes, log)


def _time(text: str) -> float | None:
    """Unix time; None for `N/A`, `Unknown`, `None`."""
    return float(text) if text.isdecimal() and int(text) else None


_COLUMNS = (
    "JobID",
    "State",
    "ExitCode",
    "Start",
    "End",
    "ElapsedRaw",
    "AllocTRES",
    "NodeList",
)


def runs_of(ids: Sequence[str]) -> dict[str, list[Run]]:
    """What SLURM's accounting knows of jobs, every run of each, in order, by `sacct`.

    Args:
        ids: Ids of jobs.

    Raises:
        SlurmSilent: If it cannot be asked.
    """
    found: dict[str, list[Run]] = defaultdict(list)
    for start in range(0, len(ids), _AT_ONCE):
        chosen = ",".join(ids[start : start + _AT_ONCE])
        # Duplicates are the earlier runs of a requeued job.
        options = ("--noheader", "--parsable2", "--duplicates", "--format", ",".join(_COLUMNS))
        text = _ask("sacct", *options, "--jobs", chosen).decode(errors="replace")
        for run in read_runs(text):
            found[run.id].append(run)
    return dict(found)


def read_runs(text: str) -> list[Run]:
    """Lines of sacct: each job's allocation, followed by its steps."""
    runs: list[list[list[str]]] = []
    for line in text.splitlines():
        row = line.split("|")
        if len(row) != len(_COLUMNS):
            continue
        if "." not in row[0]:
            runs.append([row])
        elif runs:
            runs[-1].append(row)
    return [_run(rows) for rows in runs]


def _run(rows: list[list[str]]) -> Run:
    job, state, code, start, end, seconds, tres, nodes = rows[0]
    word, _, by = state.partition(" by ")
    status, _, signal = code.partition(":")
    # The job is FAILED where only one of its steps was out of memory.
    if word in ("FAILED", "CANCELLED") and any(row[1] == "OUT_OF_MEMORY" for row in rows):
        word = "OUT_OF_MEMORY"
    return Run(
        id=job,
        state=word.rstrip("+"),
        by=by,
        status=int(status or 0),
        signal=int(signal or 0),
        start=_time(start),
        end=_time(end),
        seconds=float(seconds or 0),
        gpus=_gpus(tres),
        nodes="" if nodes == "None assigned" else nodes,
    )


def _gpus(tres: str) -> int:
    """Of ``billing=2,cpu=2,gres/gpu=1,gres/gpu:a100=1``: GPUs of all kinds."""
    found = re.search(r"(?:^|,)gres/gpu=(\d+)", tres)
    return int(found[1]) if found else 0


# ---- which artifact a job makes


def alive(results: Path, runs: Iterable[Job | Bundle]) -> dict[str, Entry]:
    """Jobs of a results folder that wait or run, whoever submitted them, by artifact folder.

    Of several jobs for one artifact, the one that runs, else the oldest. Where it cannot be told
    which of several artifacts a job makes, it stands for each of them. Empty without SLURM.

    Args:
        results: The results folder.
        runs: What Snakemake runs, of the plan.

    Raises:
        SlurmSilent: If SLURM is there and cannot be asked.
    """
    return by_artifact(waiting_or_running(), results, Places(runs)) if there() else {}


def by_artifact(entries: Iterable[Entry], results: Path, places: Places) -> dict[str, Entry]:
    """Those of some jobs that are of a results folder, by artifact folder; see `alive`."""
    logs = f"{results.resolve() / LOGS}/"
    own = [entry for entry in entries if entry.log.startswith(logs)]
    found: dict[str, Entry] = {}
    for entry in sorted(own, key=lambda entry: (not entry.runs, _number(entry.id))):
        candidates = places.of(entry.log.removeprefix(logs))
        made = candidates if len(candidates) == 1 else places.of_command(entry.id)
        for made_by_job in made or candidates:
            for out in places.members[made_by_job]:
                found.setdefault(out, entry)
    return found


def _number(job: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", job))


class Places:
    """What the path of a SLURM log stands for.

    Args:
        runs: What Snakemake runs, of the plan.

    Attributes:
        members: Artifacts, by the folder of what the rule makes.
    """

    def __init__(self, runs: Iterable[Job | Bundle]) -> None:
        self.members: dict[str, list[str]] = {}
        self._by_rule: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for run in runs:
            self._by_rule[run.rule][_wildcards(run)].append(run.out)
            jobs = run.members if isinstance(run, Bundle) else (run,)
            self.members[run.out] = [job.out for job in jobs]

    def of(self, path: str) -> list[str]:
        """What a path below the folder of logs stands for; several where wildcards join alike."""
        parts = path.split("/")
        kind, _, rule = parts[0].partition("_")
        if kind != "rule":
            return []
        wildcards = parts[1] if len(parts) > 2 else ""
        return self._by_rule[rule].get(wildcards, [])

    def of_command(self, job: str) -> list[str]:
        """What a job's command says that it makes; that of others' jobs cannot be read."""
        try:
            text = _ask("scontrol", "write", "batch_script", job, "-").decode(errors="replace")
        except SlurmSilent:
            return []
        return [out for out in targets(text) if out in self.members]


def slurm_logs(run: Job | Bundle) -> str:
    """Folder of a job's SLURM logs, below the folder of logs."""
    wildcards = _wildcards(run)
    return f"rule_{run.rule}/{wildcards}" if wildcards else f"rule_{run.rule}"


def _wildcards(run: Job | Bundle) -> str:
    """Values of a rule's wildcards as the plugin joins them."""
    return "_".join(_values(run).values())


def stage_log(run: Job | Bundle) -> str:
    """A job's own log, below the results folder."""
    return STAGE_LOGS[run.rule].format(**_values(run))


def _values(run: Job | Bundle) -> dict[str, str]:
    match = _pattern(run.rule).fullmatch(run.out)
    assert match is not None, f"{run.out} is not made by the rule {run.rule}"
    return match.groupdict()


@cache
def _pattern(rule: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(FOLDERS[rule])))


def targets(script: str) -> list[str]:
    """Folders of what a job's batch script makes.

    The plugin's command holds ``--target-jobs 'rule:wildcard=value,...'``, also for a group.
    """
    found: list[str] = []
    for line in script.splitlines():
        if "--target-jobs" not in line:
            continue
        words = shlex.split(line)
        for word in words[words.index("--target-jobs") + 1 :]:
            if word.startswith("--"):
                break
            rule, _, wildcards = word.partition(":")
            values = dict(re.findall(r'(\w+)=("[^"]*"|[^,]*)', wildcards))
            folder = FOLDERS.get(rule)
            if folder is not None:
                named = {name: value.strip('"') for name, value in values.items()}
                found.append(folder.format(**named))
    return found

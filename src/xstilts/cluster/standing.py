"""How every artifact of a plan stands: by the results folder first, then by what SLURM knows.

An artifact is done when it is what the plan says and everything it stands on is. For every other
one, the first of these that says something decides: a SLURM job that waits, a sign of life, a SLURM
job that runs, how the last attempt ended, the end of its log. So this works on any machine that
sees the folder; SLURM adds why a job waits and what ended it when it could not say so itself.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xstilts.cluster import queue
from xstilts.cluster.queue import LOGS, Entry, Places, Run, SlurmSilent, slurm_logs, stage_log
from xstilts.cluster.traces import (
    Attempt,
    Driver,
    Saved,
    Sign,
    attempts_of_artifact,
    attempts_of_state,
    driver_of,
    error_in,
    newest_log,
    priced,
    saved_in,
    signs,
    state_folder,
    tail,
    told_by_slurm,
)
from xstilts.plan import CHECK, CHECKED, TRAININGS, Job, Plan

#: What an artifact may be, in the order of the table.
STATES = ("done", "running", "silent", "waiting", "interrupted", "failed")
#: Stages that go on where they were stopped; others begin again.
RESUMED = (*TRAININGS, "translate", "evaluate")
#: Lines shown of a log.
LINES = 6
#: What SLURM stops for no fault of the job.
_FROM_OUTSIDE = ("NODE_FAIL", "BOOT_FAIL", "LAUNCH_FAILED", "PREEMPTED", "CANCELLED", "REVOKED")
_TIME_OVER = ("TIMEOUT", "DEADLINE")
#: Seconds that a job may take after its stage's last line.
_CLOSING = 120.0
#: Seconds that the clocks of two machines may differ.
_SKEW = 5.0
#: A job looks for a temporary folder of the driver that submitted it, and ends well without it.
_ORPHANED = "its SLURM job began after its driver had ended, and did nothing; begins anew"


@dataclass
class Standing:
    """How one artifact stands.

    Attributes:
        out: Its folder.
        stage: Its stage.
        state: One of `STATES`.
        words: Why, in a few words.
        step: Steps done, of a running or interrupted one.
        total: Steps in all, or 0.
        rate: Steps in a second.
        updated: Unix time of the last sign of life.
        ends: Expected Unix time of its end.
        note: What its last line says beside that, such as the loss.
        dev: Newest dev scores by task, as of the last saved state.
        restarts: How often a training began again because it learnt nothing.
        collapsed: What a finished training did not learn.
        attempts: All attempts.
        log: The stage's log, below the results folder.
        tail: The last lines of it, of a failed or interrupted one.
        slurm_log: SLURM's log, where that holds more.
        slurm_tail: What it says.
        slurm: Its SLURM job that waits or runs.
    """

    out: str
    stage: str
    state: str = "waiting"
    words: str = ""
    step: int | None = None
    total: int = 0
    rate: float = 0.0
    updated: float | None = None
    ends: float | None = None
    note: str = ""
    dev: Mapping[str, float] = field(default_factory=dict)
    restarts: int = 0
    collapsed: list[str] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    log: str = ""
    tail: list[str] = field(default_factory=list)
    slurm_log: str = ""
    slurm_tail: list[str] = field(default_factory=list)
    slurm: Entry | None = None

    @property
    def gpu_hours(self) -> float:
        """GPU-hours of all attempts."""
        return sum(attempt.gpu_hours for attempt in self.attempts)

    @property
    def seconds(self) -> float:
        """Time of all attempts."""
        return sum(attempt.end - attempt.start for attempt in self.attempts)


@dataclass
class Status:
    """How a study stands.

    Attributes:
        study: Its name.
        where: Its file.
        results: Its results folder.
        time: Unix time of this look.
        all: Every artifact, by its folder, in the order of the plan.
        driver: Who runs it.
        slurm: ``answers``, ``none`` on this machine, or what SLURM said instead of an answer.
        ends: Expected Unix time of the end, as far as that can be known.
        unknown: Artifacts that `ends` leaves out: none of their kind has finished yet.
    """

    study: str
    where: str
    results: Path
    time: float
    all: dict[str, Standing]
    driver: Driver | None
    slurm: str
    ends: float | None = None
    unknown: int = 0

    def of(self, state: str) -> list[Standing]:
        """The artifacts in a state."""
        return [one for one in self.all.values() if one.state == state]

    @property
    def counts(self) -> Counter[str]:
        """Number of artifacts by state."""
        return Counter(one.state for one in self.all.values())

    @property
    def gpu_hours(self) -> float:
        """GPU-hours of all attempts at all artifacts."""
        return sum(one.gpu_hours for one in self.all.values())


def look(plan: Plan, results: Path) -> Status:
    """Look at all artifacts of a plan.

    Args:
        plan: The plan.
        results: The study's results folder; it need not exist.
    """
    return _Look(plan, results).status()


def made(plan: Plan, results: Path) -> set[str]:
    """Artifacts that are what the plan says, like all that they stand on."""
    found: set[str] = set()
    # A job's inputs stand before it in the plan.
    for out, job in plan.jobs.items():
        if found.issuperset(job.inputs) and not plan.is_stale(out, results):
            found.add(out)
    return found


class _Look:
    def __init__(self, plan: Plan, results: Path) -> None:
        self.plan, self.results = plan, results
        self.now = time.time()
        self.places = Places(self.plan.runs)
        self.made = made(self.plan, self.results)
        self.signs = signs(self.results)
        self.answers, self.queued, self.entries = self._ask_queue()
        self.driver = driver_of(self.results)

    def status(self) -> Status:
        found = {out: self._standing(job) for out, job in self.plan.jobs.items()}
        status = Status(
            self.plan.study.study,
            self.plan.where,
            self.results,
            self.now,
            found,
            self.driver,
            self.answers,
        )
        self._account(found)
        status.ends, status.unknown = expected_end(found.values(), self.now)
        return status

    def _ask_queue(self) -> tuple[str, dict[str, Entry], dict[str, Entry]]:
        """Whether SLURM answers, all its jobs by id, and those of this folder by artifact."""
        if not queue.there():
            return "none", {}, {}
        try:
            entries = queue.waiting_or_running()
        except SlurmSilent as silent:
            return str(silent), {}, {}
        own = queue.by_artifact(entries, self.results, self.places)
        return "answers", {entry.id: entry for entry in entries}, own

    # ---- one artifact

    def _standing(self, job: Job) -> Standing:
        one = Standing(job.out, job.stage, log=stage_log(self.plan.run_of(job.out)))
        if job.out in self.made:
            return self._done(one)
        sign, one.slurm = self.signs.get(job.out), self.entries.get(job.out)
        lives = self._lives(sign) if sign else False
        saved = saved_in(state_folder(self.results, job)) if job.stage in TRAININGS else None
        if saved:
            one.attempts, one.restarts = attempts_of_state(saved.folder), saved.restarts
            one.step, one.dev = saved.step, saved.dev
        elif sign:
            one.attempts = [sign.attempt]
        if one.slurm and not one.slurm.runs:
            one.words = one.slurm.words
        elif sign and lives is not False:
            self._running(one, sign, silent=lives is None)
        elif one.slurm:
            one.state, one.words = "running", _begun(one.slurm)
        else:
            self._ended(one, job, sign, saved)
        return one

    def _done(self, one: Standing) -> Standing:
        folder = self.results / one.out
        one.state, one.attempts = "done", attempts_of_artifact(folder)
        if one.stage in TRAININGS:
            account = json.loads((folder / "training.json").read_bytes())
            one.restarts = len(account["restarts"])
            one.collapsed = [_finding(entry) for entry in account["collapsed"]]
        return one

    def _lives(self, sign: Sign) -> bool | None:
        """Whether a stage still runs; None where it is silent and nobody can tell."""
        if sign.ended:
            return False
        attempt = sign.attempt
        if attempt.slurm and self.answers == "answers":
            entry = self.queued.get(attempt.slurm)
            # After a requeue the sign is of the run before. (Steps do not see SLURM_RESTART_COUNT.)
            return entry is not None and entry.runs and sign.started > (entry.start or 0) - _SKEW
        if sign.here:
            return sign.process_lives
        return None if sign.silent(self.now) else True

    def _running(self, one: Standing, sign: Sign, silent: bool) -> None:
        one.state = "silent" if silent else "running"
        one.step, one.total, one.rate = sign.step or one.step or 0, sign.total, sign.rate
        one.updated, one.note = sign.updated, sign.note
        if sign.rate > 0 and sign.total:
            one.ends = sign.updated + (sign.total - sign.step) / sign.rate
        job = f", SLURM job {sign.attempt.slurm}" if sign.attempt.slurm else f", pid {sign.pid}"
        one.words = f"on {sign.attempt.host}{job}"
        ran = max(self.now if not silent else 0, sign.updated)
        last = one.attempts[-1:] if one.attempts else []
        for attempt in last:
            one.attempts[-1] = _running_until(attempt, ran)

    def _ended(self, one: Standing, job: Job, sign: Sign | None, saved: Saved | None) -> None:
        """Nothing runs: what the last attempt left decides, else its log, else it waits."""
        lines = tail(self.results / one.log)
        error = error_in(lines)
        if one.attempts:
            outcome = one.attempts[-1].outcome
            reason = sign.reason if sign and not saved else ""
            one.state = "failed" if outcome == "failed" else "interrupted"
            one.words = error or reason if outcome == "failed" else _stopped(one)
        elif error:
            one.state, one.words = "failed", error
        if one.state != "waiting":
            one.tail = lines[-LINES:]
        log = newest_log(self.results / LOGS / slurm_logs(self.plan.run_of(job.out)))
        # That of an earlier attempt says nothing of this one. A stage ends before its SLURM log.
        begun = one.attempts[-1].start if one.attempts else 0.0
        begun = max(begun, (self.results / one.log).stat().st_mtime - _SKEW if error else 0.0)
        if log and log.stat().st_mtime >= begun and not self._was_done(one, lines, log):
            one.slurm_log = str(log.relative_to(self.results))
            one.slurm_tail = told_by_slurm(tail(log), LINES)
            if one.state == "waiting" and self._ended_for_slurm(log):
                one.state, one.words = "failed", "ended before its stage could say anything"
        if one.state == "waiting":
            one.words = self._missing(job)

    def _was_done(self, one: Standing, lines: list[str], log: Path) -> bool:
        """Whether a SLURM log is of the job that made what the study no longer wants."""
        if not lines or "  done in " not in lines[-1]:
            return False
        return (self.results / one.log).stat().st_mtime > log.stat().st_mtime - _CLOSING

    def _ended_for_slurm(self, log: Path) -> bool:
        """Whether the job of a log is over; where SLURM cannot be asked, it may still run."""
        return self.answers == "answers" and log.stem not in self.queued

    def _missing(self, job: Job) -> str:
        needed = [*job.inputs, *([CHECK] if job.stage in CHECKED else [])]
        missing = [name for name in dict.fromkeys(needed) if name not in self.made]
        if not missing:
            return "its inputs are there"
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        return f"waits for {missing[0]}{more}"

    # ---- what SLURM's accounting adds

    def _account(self, found: Mapping[str, Standing]) -> None:
        """Times, GPUs and ends of attempts that could not write them down themselves."""
        ids = {out: _ids(one) for out, one in found.items()}
        shared = Counter(name for names in ids.values() for name in names)
        wanted = sorted(name for name, count in shared.items() if count == 1)
        if not wanted or self.answers != "answers":
            return
        try:
            runs = queue.runs_of(wanted)
        except SlurmSilent as silent:
            self.answers = f"{silent} (accounting)"
            return
        for out, one in found.items():
            own = {name: runs[name] for name in ids[out] if name in runs}
            if own:
                one.attempts = priced(one.attempts, own)
                self._explain(one, own)

    def _explain(self, one: Standing, runs: Mapping[str, list[Run]]) -> None:
        """The end of an artifact's last SLURM job, where that says more than its own traces."""
        last = max((found[-1] for found in runs.values()), key=lambda run: run.start or 0.0)
        if one.state not in ("interrupted", "failed"):
            return
        if one.attempts and (last.end or 0) < one.attempts[-1].start:
            return  # it was tried again without SLURM
        resumed = one.stage in RESUMED
        if last.state == "OUT_OF_MEMORY":
            one.state, one.words = "failed", last.words
        elif last.state in _FROM_OUTSIDE or (last.state in _TIME_OVER and resumed):
            one.state, one.words = "interrupted", f"{last.words}; {_next(one, last)}"
        elif last.state in _TIME_OVER:
            one.state, one.words = "failed", f"{last.words}: it needs a longer runtime"
        elif not one.attempts and not one.tail:
            one.words = f"{last.words}, before its stage could say anything"
            if last.state == "COMPLETED":
                one.state, one.words = "interrupted", _ORPHANED


def _finding(entry: Mapping[str, Any]) -> str:
    return "{task}: {reason} at step {step}".format(**entry)


def _running_until(attempt: Attempt, end: float) -> Attempt:
    return replace(attempt, end=max(attempt.end, end), outcome="running")


def _begun(entry: Entry) -> str:
    """A SLURM job whose stage says nothing yet, or nothing any more."""
    told = "has told nothing yet" if entry.state == "RUNNING" else entry.words
    return f"{told}  on {entry.nodes}, SLURM job {entry.id}"


def _stopped(one: Standing) -> str:
    how = "stopped" if one.attempts[-1].outcome == "interrupted" else "killed without a word"
    return f"{how}; {_again(one)}"


def _again(one: Standing) -> str:
    resumed = one.step if one.stage in TRAININGS else one.stage in RESUMED
    return "goes on when started again" if resumed else "begins anew when started again"


def _next(one: Standing, run: Run) -> str:
    """What is to be done about a job that SLURM stopped."""
    if run.state == "PREEMPTED":
        # The executor plugin does not count this as an end.
        return "a driver waits for it for ever: stop that one and start it again"
    return _again(one)


def _ids(one: Standing) -> list[str]:
    """SLURM jobs of an artifact whose end it could not write down itself."""
    before = one.attempts[:-1] if one.state == "running" or one.slurm else one.attempts
    names = [attempt.slurm for attempt in before if attempt.slurm and attempt.outcome == "killed"]
    if one.state in ("failed", "interrupted"):
        names += [attempt.slurm for attempt in before[-1:] if attempt.slurm]
        names += [Path(one.slurm_log).stem] if one.slurm_log else []
    return list(dict.fromkeys(names))


# ---- when it ends


def expected_end(all_: Iterable[Standing], now: float) -> tuple[float | None, int]:
    """When the study is done if as many stages run at a time as now, and how many are left out.

    What is left takes what finished ones of the same kind took on average: of the same stage, model
    and last part of the name, else of the same stage and model, else of the same stage.
    """
    items = list(all_)
    took: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for one in items:
        if one.state == "done" and one.attempts:
            for kind in _kinds(one):
                took[kind].append(one.seconds)
    left, longest, unknown, slots = 0.0, 0.0, 0, 0
    for one in items:
        if one.state == "done":
            continue
        seconds = _left(one, took, now)
        slots += one.state == "running"
        unknown += seconds is None
        left += seconds or 0.0
        longest = max(longest, seconds or 0.0)
    if not slots or not left:
        return None, unknown
    return now + max(longest, left / slots), unknown


def _left(one: Standing, took: Mapping[tuple[str, ...], list[float]], now: float) -> float | None:
    if one.ends is not None:
        return max(0.0, one.ends - now)
    known = next((took[kind] for kind in _kinds(one) if kind in took), None)
    if known is None:
        return None
    return max(0.0, sum(known) / len(known) - one.seconds)


def _kinds(one: Standing) -> list[tuple[str, ...]]:
    """From the closest to the widest kind."""
    parts = one.out.split("/")
    model = parts[1] if len(parts) > 2 and parts[0] != "data" else ""
    return [(one.stage, model, parts[-1]), (one.stage, model), (one.stage,)]

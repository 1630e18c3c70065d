"""A study bound to its files: the registry, the lock, the folders and the plan."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xstilts.config import Study, load_study
from xstilts.data.lock import Lock, read_lock, write_lock
from xstilts.data.resolve import Wanted, resolve
from xstilts.errors import InputError
from xstilts.plan import Job, Plan, make_plan
from xstilts.registry import Registry, load_registry
from xstilts.runtime import VARIABLE, Runtime
from xstilts.validation import read_yaml, refuse_repeated_keys

MIRROR_VARIABLE = "XSTILTS_MIRROR"
STORE_VARIABLE = "XSTILTS_STORE"


@dataclass(frozen=True)
class Session:
    """A study and everything it stands on.

    Attributes:
        study: The study.
        registry: Built-in rows and the study's own.
        root: Folder that relative paths of the study start from: the Snakefile's.
        where: The study's file, for messages.
        plan: All jobs.
        content: The study as it was given, before defaults.
    """

    study: Study
    registry: Registry
    root: Path
    where: str
    plan: Plan
    content: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_config(cls, content: Any, where: str, root: Path, main: bool = True) -> Session:
        """Open a study from Snakemake's configuration.

        Args:
            content: The configuration; anything but a mapping is refused.
            where: Its file, for messages.
            root: Folder of the Snakefile.
            main: Whether this is the driver; a job of a cluster locks nothing.

        Raises:
            InputError: If the study is wrong.
        """
        if Path(where).is_file():
            refuse_repeated_keys(Path(where))
        study = load_study(content, where)
        registry = load_registry([root / path for path in study.registry])
        path = _lock_path(study, root)
        plan = _plan(study, registry, path, where)
        session = cls(study, registry, root, where, plan, content)
        if main and session._local_and_unlocked():
            session._lock_in_another_process(content)
            return replace(session, plan=_plan(study, registry, path, where))
        return session

    @classmethod
    def of_file(cls, path: Path, root: Path) -> Session:
        """Open a study from its file (`-`: from standard input); nothing is locked on the way."""
        if str(path) == "-":
            return cls.of_config(json.load(sys.stdin), "standard input", root, main=False)
        return cls.of_config(read_yaml(path), str(path), root, main=False)

    # ---- folders

    @property
    def results(self) -> Path:
        """Results of the study: ``<results>/<study>``."""
        return self.root / self.study.results / self.study.study

    @property
    def lock_path(self) -> Path:
        """The lock file of the study's data."""
        return _lock_path(self.study, self.root)

    @property
    def mirror(self) -> Path | None:
        """Folder in the Hub's layout that takes the Hub's place, if there is one."""
        named = os.environ.get(MIRROR_VARIABLE) or self.study.mirror
        return (self.root / named).resolve() if named else None

    @property
    def store(self) -> Path | None:
        """Shared folder of finished artifacts to take from, if there is one."""
        named = os.environ.get(STORE_VARIABLE) or self.study.store
        return (self.root / named).resolve() if named else None

    @property
    def runtime_json(self) -> str:
        """What stages may know that decides no byte, as JSON."""
        files = {name: (self.root / path).resolve() for name, path in self.study.files.items()}
        settings = Runtime(
            mirror=self.mirror,
            files=files,
            eval_batch_tokens=self.study.evaluation.batch_tokens,
            log_seconds=self.study.log_seconds,
            save_seconds=self.study.save_seconds,
            on_collapse=self.study.on_collapse,
            processes=self.study.processes,
            store=self.store,
        )
        return settings.model_dump_json()

    # ---- for the rules

    def export(self) -> None:
        """Set what the stages find in their environment; none of it decides a byte."""
        os.environ[VARIABLE] = self.runtime_json
        # `xstilts` of the environment that runs Snakemake, if there is none on the path.
        own = str(Path(sys.executable).parent)
        if own not in os.environ["PATH"].split(os.pathsep):
            os.environ["PATH"] += os.pathsep + own

    @property
    def constraints(self) -> dict[str, str]:
        """Regular expressions of the wildcards: the study's own names and nothing else."""
        models = [self.registry.models[name] for name in self.study.models]
        finetuned = [job.out.rsplit("/", 1)[1] for job in self.plan.of("finetune")]
        raw = [job.spec for job in self.plan.of("fetch")]
        translators = self.plan.of("fetch_translator")
        return {
            "model": _any(row.name for row in models),
            "hub_model": _any(row.name for row in models if row.hub),
            "scratch_model": _any(row.name for row in models if row.scratch),
            "recipe": _any(self.study.recipes),
            "seed": _any(str(seed) for seed in self.study.seeds),
            "training": _any(finetuned),
            "merged": _any(job.out.rsplit("/", 1)[1] for job in self.plan.of("merge")),
            "target": _any(self.study.targets),
            "translator": _any(job.spec["translator"]["name"] for job in translators),
            "dataset": _any(spec["dataset"] for spec in raw),
            "config": _any(spec["config"] for spec in raw),
            # A translator's name stands where the language of tokens does.
            "language": _any(
                [
                    *(job.spec["language"] for job in self.plan.of("prepare")),
                    *(job.spec["translator"]["name"] for job in translators),
                ]
            ),
        }

    # ---- the lock

    def lock_data(self, *, refresh: bool = False) -> list[str]:
        """Resolve what the lock lacks, or everything again, and write the lock file.

        Returns:
            Lines that say what was resolved and what changed.
        """
        path = self.lock_path
        os.environ[VARIABLE] = self.runtime_json
        lock, changes = resolve(self._wanted(), read_lock(path), refresh=refresh)
        write_lock(path, lock)
        return [
            *map(str, changes),
            f"{path}: {len(lock.datasets)} data sets, {len(lock.models)} models",
        ]

    def _wanted(self) -> list[Wanted]:
        """Data sets in the languages that are read, models and translators."""
        found: list[Wanted] = []
        for job in self.plan.of("prepare"):
            row, language = self.registry.datasets[job.spec["dataset"]], job.spec["language"]
            if "lock" in self.plan.jobs[job.spec["inputs"]["raw"]].spec:
                found.append((row, row.config(language), language))
        found.extend(self.registry.models[name] for name in self.study.models)
        used = (job.spec["translator"]["name"] for job in self.plan.of("fetch_translator"))
        return [*found, *(self.registry.translators[name] for name in used)]

    def _local_and_unlocked(self) -> bool:
        """Whether the lock lacks something and all of it lies on this machine."""
        stages = ("fetch", "fetch_model", "fetch_translator")
        jobs = [job for stage in stages for job in self.plan.of(stage)]
        unlocked = [job for job in jobs if job.spec.get("lock", True) is None]
        kinds = {self._kind(job) for job in unlocked}
        return bool(unlocked) and kinds <= ({"hub", "files"} if self.mirror else {"files"})

    def _kind(self, job: Job) -> str:
        """Where a job's bytes come from; copies of what URLs give are files of the user."""
        kind: str = job.spec.get("source", {}).get("kind", "hub")
        return "files" if kind == "url" and job.spec["dataset"] in self.study.files else kind

    def _lock_in_another_process(self, content: Mapping[str, Any]) -> None:
        """Lock a local mirror; apart, because the driver imports nothing heavy."""
        done = subprocess.run(
            [sys.executable, "-m", "xstilts.cli", "lock", "-"],
            input=json.dumps(content),
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            message = done.stderr.strip().splitlines()[-1:] or ["failed"]
            raise InputError("xstilts lock", message[0].removeprefix("xstilts lock: "))
        print(done.stdout.strip().splitlines()[-1], file=sys.stderr)


def _lock_path(study: Study, root: Path) -> Path:
    return root / (study.lock or Path("studies") / f"{study.study}.lock.json")


def _plan(study: Study, registry: Registry, lock: Path, where: str) -> Plan:
    known = read_lock(lock) if lock.exists() else Lock()
    return make_plan(study, registry, known, where)


def _any(names: Any) -> str:
    """A regular expression of just these names; of nothing at all when there are none."""
    unique = sorted(set(names))
    return "|".join(re.escape(name) for name in unique) if unique else "(?!)"

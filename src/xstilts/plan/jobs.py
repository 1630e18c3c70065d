"""A study's jobs: each makes one artifact; some run together, as a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from xstilts.artifacts.bundle import index_spec
from xstilts.artifacts.spec import Spec, canonical
from xstilts.config import Study
from xstilts.registry import Registry

CHECK = "data/check"
TABLES = "tables"
ANALYSIS = "analysis"
REPORT = "report"
#: Stages that make weights.
TRAININGS = ("pretrain", "intermediate", "finetune")
#: Stages that only look through a model.
LOOKS = ("sweep", "evaluate", "transferability")
#: Stages that wait for the check of all data.
CHECKED = (*TRAININGS, *LOOKS, "score", "aggregate", "analyse", "report")
#: Stages of which one job makes several artifacts, and the rules of those jobs. Of data they make
#: the rest: what no training reads.
BUNDLED = {
    "fetch": "fetch_rest",
    "prepare": "prepare_rest",
    "tokens": "tokens_rest",
    "prompts": "prompts_rest",
    "testset": "testset",
    "evaluate": "evaluate",
    "score": "score",
    "transferability": "transferability",
}


@dataclass(frozen=True)
class Job:
    """One artifact to make.

    Attributes:
        stage: The command of the package that makes it.
        out: The artifact's folder below the results folder.
        spec: Everything that decides its bytes.
        implied: Input roles that another input's manifest already holds by its sha256: they are
            read, but Snakemake need not look at them as well.
        files: Files that must exist afterwards, beside the manifest; a plan looks for them, not
            Snakemake.
        threads: CPU threads it uses.
    """

    stage: str
    out: str
    spec: Mapping[str, Any]
    implied: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    threads: int = 1

    @property
    def inputs(self) -> list[str]:
        """Folders of the artifacts whose manifests decide whether it is made again."""
        return self._inputs(self.implied)

    @property
    def reads(self) -> list[str]:
        """Folders of all artifacts that it reads."""
        return self._inputs(())

    def _inputs(self, without: tuple[str, ...]) -> list[str]:
        found: list[str] = []
        for role, value in self.spec.get("inputs", {}).items():
            if role not in without:
                found.extend([value] if isinstance(value, str) else value)
        return list(dict.fromkeys(found))

    @property
    def rule(self) -> str:
        """The rule that makes it alone."""
        return self.stage

    @property
    def text(self) -> str:
        """The spec in its canonical form: the rule's one tracked parameter."""
        return canonical(self.spec)


@dataclass(frozen=True)
class Bundle:
    """Artifacts of one stage that one job of Snakemake makes, in one process.

    Each is an artifact as any other. The job's own output is a small one, the index: its manifest
    holds the manifests of all members by their sha256.

    Attributes:
        stage: The stage of all members.
        out: The index's folder below the results folder.
        members: The jobs.
    """

    stage: str
    out: str
    members: tuple[Job, ...]

    @property
    def rule(self) -> str:
        """The rule that makes it."""
        return BUNDLED[self.stage]

    @property
    def inputs(self) -> list[str]:
        """Folders of the artifacts that the members read and whose manifests count."""
        return list(dict.fromkeys(name for job in self.members for name in job.inputs))

    @property
    def text(self) -> str:
        """What the job is told: the specs of all members, by their folders."""
        return canonical({"stage": self.stage, "members": self._specs})

    @property
    def index(self) -> Spec:
        """The spec of the index itself."""
        return index_spec(self.stage, self._specs)

    @property
    def threads(self) -> int:
        """CPU threads that it uses."""
        return max(job.threads for job in self.members)

    @property
    def _specs(self) -> dict[str, Spec]:
        return {job.out: job.spec for job in self.members}


@dataclass(frozen=True)
class Plan:
    """All jobs of a study.

    Attributes:
        study: The study.
        registry: The registry's rows.
        where: The study's file, for messages.
        jobs: One job per artifact, by the artifact's folder.
        bundles: Jobs that Snakemake runs as one, by the folder of their index.
    """

    study: Study
    registry: Registry
    where: str
    jobs: dict[str, Job] = field(default_factory=dict)
    bundles: dict[str, Bundle] = field(default_factory=dict)

    @cached_property
    def bundle_of(self) -> dict[str, str]:
        """The index of each member of a bundle."""
        return {job.out: out for out, bundle in self.bundles.items() for job in bundle.members}

    @property
    def runs(self) -> list[Job | Bundle]:
        """What Snakemake runs: each bundle, and each job that is in none."""
        alone = [job for out, job in self.jobs.items() if out not in self.bundle_of]
        return [*alone, *self.bundles.values()]

    def run_of(self, out: str) -> Job | Bundle:
        """What Snakemake runs to make an artifact."""
        index = self.bundle_of.get(out)
        return self.bundles[index] if index else self.jobs[out]

    def inputs(self, out: str) -> list[str]:
        """Folders whose manifests Snakemake looks at before it makes an artifact or a bundle."""
        job = self.bundles.get(out) or self.jobs[out]
        return list(dict.fromkeys(self.bundle_of.get(name, name) for name in job.inputs))

    def is_stale(self, out: str, results: Path) -> bool:
        """Whether an artifact must be made again, whatever becomes of its inputs.

        See `Published.is_stale`; who asks for many artifacts makes one `Published`.
        """
        from xstilts.published import Published

        return Published(self, results).is_stale(out)

    def of(self, stage: str) -> list[Job]:
        """The jobs of one stage."""
        return [job for job in self.jobs.values() if job.stage == stage]


def prepared(dataset: str, language: str) -> str:
    """Folder of a data set's canonical rows in one language."""
    return f"data/prepared/{dataset}/{language}"


def prompts(model: str, dataset: str, language: str) -> str:
    """Folder of the prompts that a decoder is trained on; `language` may be a translator."""
    return f"data/prompts/{model}/{dataset}/{language}"


def questions(model: str, dataset: str, language: str) -> str:
    """Folder of the prompts that a decoder is tested on."""
    return f"data/questions/{model}/{dataset}/{language}"


def tokens(model: str, dataset: str, language: str) -> str:
    """Folder of a data set's sub-words for a model's tokenizer; `language` may be a translator."""
    return f"data/tokens/{model}/{dataset}/{language}"

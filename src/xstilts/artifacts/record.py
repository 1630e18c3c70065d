"""`provenance.json`: how, where and when an artifact was made.

It stands beside the manifest and is not part of it, so that a rerun with the same bytes has the
same manifest.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PROVENANCE = "provenance.json"
_PACKAGES = (
    "xstilts",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "datasets",
    "huggingface_hub",
    "numpy",
    "pyarrow",
    "pandas",
    "snakemake",
    "snakemake-executor-plugin-slurm",
)
#: What a container knows of its image.
_LABELS = Path("/.singularity.d/labels.json")


def now() -> str:
    """The time in UTC, to the second, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def git_state() -> dict[str, Any]:
    """Commit of the source tree that the package runs from, and whether it differs from it."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        # A package installed below somebody's repository is not of its commit.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that touch the bytes."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def environment() -> dict[str, Any]:
    """What the libraries come from: a container, conda, a virtual environment or the system.

    An image is told by its labels, which hold the sha256 of the lock it was made from: to hash an
    image of gigabytes for every artifact would take longer than many of them.
    """
    image = os.environ.get("APPTAINER_CONTAINER") or os.environ.get("SINGULARITY_CONTAINER")
    if image:
        return {"kind": "container", "image": image, "labels": _labels()}
    kind = "system" if sys.prefix == sys.base_prefix else "venv"
    if Path(sys.prefix, "conda-meta").is_dir():
        kind = "conda"
    return {"kind": kind, "prefix": sys.prefix}


def _labels() -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(_LABELS.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def device() -> dict[str, Any]:
    """The machine, and its GPU when this process has loaded torch."""
    info: dict[str, Any] = {
        "host": platform.node(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        info["gpu"] = torch.cuda.get_device_name()
        info["cuda"] = torch.version.cuda
        info["peak_gpu_bytes"] = torch.cuda.max_memory_allocated()
    return info


def slurm() -> dict[str, str]:
    """SLURM's identifiers of the running job."""
    keys = ("SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT", "SLURMD_NODENAME")
    return {key: os.environ[key] for key in keys if key in os.environ}


def gpus() -> int:
    """GPUs that this stage holds: those of its SLURM job, else one for each of its processes."""
    granted = os.environ.get("SLURM_GPUS_ON_NODE", "")
    if granted.isdecimal():
        return int(granted)
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return 0
    return int(os.environ.get("WORLD_SIZE", "1"))


class Record:
    """Collects what is known of a stage's run and writes it down.

    Args:
        attempts: Earlier attempts at the same artifact, from its state.
    """

    def __init__(self, attempts: list[dict[str, Any]] | None = None) -> None:
        self.start = now()
        self.attempts = list(attempts or [])
        self.extra: dict[str, Any] = {}

    def add(self, **values: Any) -> None:
        """Add measured values: steps, tokens seen, examples per second."""
        self.extra.update(values)

    def attempt(self) -> dict[str, Any]:
        """This attempt, as it stands now."""
        known = {"start": self.start, "end": now(), "host": platform.node(), "gpus": gpus()}
        return {**known, **slurm()}

    def write(self, folder: Path) -> None:
        """Write `provenance.json` into a folder."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        content = {
            "git": git_state(),
            "versions": versions(),
            "environment": environment(),
            "device": device(),
            "attempts": [*self.attempts, self.attempt()],
            "peak_bytes": peak,
            **self.extra,
        }
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        (folder / PROVENANCE).write_text(text, encoding="utf-8")

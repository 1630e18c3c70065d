"""What `snakemake -n` says of a study, and what Snakemake remembers of its artifacts.

A dry run writes into its working directory, if only locks and caches. So it is given another one:
a temporary folder with links to all that lies in the results folder.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xstilts.cluster.inventory import SNAKEMAKE
from xstilts.errors import InputError

_JOB = re.compile(
    r"^(?:local)?rule (\w+):\n((?:    .*\n)*?)    output: ([^,\n]+)/[^/,\n]+.*\n((?:    .*\n)*)",
    re.MULTILINE,
)
_REASON = re.compile(r"^    reason: (.*)$", re.MULTILINE)
#: What a dry run only reads of Snakemake's own folder.
_READ = ("metadata", "incomplete")
#: Most characters of a reason that are kept with what follows its first words.
_SHORT = 200
#: Most bytes in a name of a file of Snakemake's records; what is longer is cut into folders.
_NAME = 254


@dataclass(frozen=True)
class Planned:
    """A job that Snakemake would run.

    Attributes:
        rule: Its rule.
        reason: Why, as Snakemake says it.
    """

    rule: str
    reason: str


def dry_run(study: Path, results: Path, root: Path) -> dict[str, Planned]:
    """What Snakemake would run, by the folder of the artifact or the bundle's index.

    Args:
        study: The study's file.
        results: Its results folder, which is only read.
        root: The folder with the Snakefile.

    Raises:
        InputError: If there is no Snakefile or no Snakemake, or it cannot plan the study.
    """
    if not (root / "Snakefile").is_file():
        hint = "Run the command in the repository, or give --no-snakemake"
        raise InputError(str(root / "Snakefile"), "there is no such file", hint=hint)
    # Marks of unfinished jobs stop a dry run; with this option it lists them.
    options = ["--dry-run", "--cores", "1", "--rerun-incomplete", "--nocolor"]
    with tempfile.TemporaryDirectory(prefix="xstilts-stale-") as folder:
        shadow = _shadow(results, Path(folder))
        places = ["--directory", str(shadow), "--configfile", str(study.resolve())]
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", *options, *places],
            cwd=root,
            env={key: value for key, value in os.environ.items() if not key.startswith("SNAKEM")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    return _parse(done.stdout, done.returncode)


def _shadow(results: Path, folder: Path) -> Path:
    """A folder in which all that lies in a results folder is found, and nothing is written."""
    own = folder / SNAKEMAKE
    own.mkdir()
    for name in _READ:
        if (kept := results / SNAKEMAKE / name).is_dir():
            (own / name).symlink_to(kept.resolve())
        else:
            (own / name).mkdir()
    for entry in results.iterdir() if results.is_dir() else ():
        if entry.name != SNAKEMAKE:
            (folder / entry.name).symlink_to(entry.resolve())
    return folder


def _parse(said: str, status: int) -> dict[str, Planned]:
    found = {}
    for rule, before, out, after in _JOB.findall(said):
        reason = _REASON.search(before + after)
        found[out] = Planned(rule, _short(reason[1]) if reason else "it does not say")
    listed = len(re.findall(r"^(?:local)?rule (?!all:)\w+:$", said, re.MULTILINE))
    if status or len(found) != listed or not (found or "Nothing to be done" in said):
        raise InputError(
            "snakemake --dry-run",
            "did not plan the study",
            found=" ".join(said.split())[-300:],
            hint="Without it: --no-snakemake",
        )
    return found


def _short(reason: str) -> str:
    """A reason without the whole specs that Snakemake writes behind it."""
    return reason if len(reason) <= _SHORT else reason.partition(":")[0]


def remembered(results: Path, out: str) -> Mapping[str, Any] | None:
    """Snakemake's record of how an artifact's manifest was made; None where it has none."""
    name = urlsafe_b64encode(f"{out}/manifest.json".encode()).decode()
    parts = [name[start : start + _NAME] for start in range(0, len(name), _NAME)]
    place = Path(*(f"@{part}" for part in parts[:-1]), parts[-1])
    try:
        content = json.loads((results / SNAKEMAKE / "metadata" / place).read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None

"""The command of the stages, where they have an environment of their own.

The driver needs no torch: it plans and submits. A stage is `xstilts stage ...`, and the environment
variable `XSTILTS_STAGE_COMMAND` (`stage_command` of `cluster.yaml`) says what runs in place of
`xstilts`: the one of another environment, or of a container.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

from xstilts.errors import InputError

VARIABLE = "XSTILTS_STAGE_COMMAND"
_PACKAGE = Path(__file__).resolve().parents[1]
#: Seconds in which a container on a slow file system must have said its version.
_PATIENCE = 300


def version_line() -> str:
    """What `xstilts --version` says: versions, and a digest of the package's code."""
    versions = [f"{name} {_version(name)}" for name in ("xstilts", "torch")]
    return f"{', '.join(versions)}, python {platform.python_version()}, code {code_digest()}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def code_digest() -> str:
    """The first hex digits of the sha256 over the package's modules and registry."""
    digest = hashlib.sha256()
    paths = [path for pattern in ("*.py", "*.yaml") for path in _PACKAGE.rglob(pattern)]
    for name, path in sorted((path.relative_to(_PACKAGE).as_posix(), path) for path in paths):
        digest.update(f"{name}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def use(command: str | None) -> None:
    """Run the stages of this process's jobs by another command, as bash reads it.

    Args:
        command: The command; None leaves what the environment says.
    """
    if command:
        os.environ[VARIABLE] = command


def check_chosen(where: str = VARIABLE) -> None:
    """Try the command of the stages, where there is one; for a driver, before its first job.

    Args:
        where: The key that names it, for messages.

    Raises:
        InputError: If it does not run, has no torch, or has other code than this process.
    """
    command = os.environ.get(VARIABLE)
    if command:
        check(command, where)


def check(command: str, where: str) -> None:
    """Ask a command for its version.

    Args:
        command: What stands in place of `xstilts`.
        where: The key that names it, for messages.

    Raises:
        InputError: If it does not run, has no torch, or has other code than this process.
    """
    said = _ask(command, where)
    found = re.search(r"\btorch (\S+), python \S+, code (\w+)$", said, re.MULTILINE)
    if not found:
        raise InputError(where, f"{command!r} is not the command xstilts", found=said[-200:])
    if found[2] != code_digest():
        raise InputError(
            where,
            f"{command!r} has other code than the driver: what it makes would not be as planned",
            expected=f"code {code_digest()} of {_PACKAGE}",
            found=f"code {found[2]}",
            hint="Install one checkout in both (envs/install.sh), or name its src to a container: "
            "apptainer exec --env PYTHONPATH=...",
        )
    if found[1] == "none":
        hint = "Make the environment of the stages: envs/install.sh train FOLDER"
        raise InputError(where, f"the environment of {command!r} has no torch", hint=hint)


def _ask(command: str, where: str) -> str:
    call = ["bash", "-c", f"command {command} --version"]
    try:
        done = subprocess.run(call, capture_output=True, text=True, timeout=_PATIENCE, check=True)
    except subprocess.CalledProcessError as error:
        said = " ".join(error.stderr.split())[-300:]
        raise InputError(
            where,
            f"{command!r} does not run (exit status {error.returncode})",
            found=said,
            hint="It stands in place of `xstilts`, such as /shared/train/bin/xstilts",
        ) from error
    except subprocess.TimeoutExpired as error:
        problem = f"{command!r} has not said its version in {_PATIENCE} seconds"
        raise InputError(where, problem) from error
    return done.stdout.strip()


def shell_prefix() -> str:
    """What stands before every shell command of the workflow, in Snakemake's own writing.

    The stages' command takes the place of `xstilts` as a function of the shell, so that the rules,
    whose text Snakemake compares, know nothing of it.
    """
    strict = "set -euo pipefail; "
    command = os.environ.get(VARIABLE)
    if not command:
        return strict
    body = f'xstilts() {{ command {command} "$@"; }}; '
    return strict + body.replace("{", "{{").replace("}", "}}")

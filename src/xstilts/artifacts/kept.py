"""Second names of a checkpoint's files, until the study is done.

Snakemake deletes the outputs of a job that it believes failed: one whose node died just after the
end, whose files came late over a network file system, or that was started a second time by a new
driver. The training behind them may have taken days. So the files of a published checkpoint keep a
hard link under `state/kept/<artifact>/`, and the same job, run again, puts them back in a moment. A
hard link takes no room while the artifact is there; all of them are dropped when the study is done.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from xstilts.artifacts.bundle import is_fresh
from xstilts.artifacts.manifest import describe_files, read_manifest
from xstilts.artifacts.publish import replace
from xstilts.artifacts.spec import Spec

FOLDER = "kept"


def keep(out: Path, state: Path) -> None:
    """Give the files of a published artifact a second name; where links cannot be made, none.

    Args:
        out: The artifact's folder, relative to the results folder.
        state: Folder of resumable states.
    """
    place = state / FOLDER / out
    draft = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        shutil.copytree(out, draft, copy_function=os.link)
        replace(draft, place)
    except (OSError, shutil.Error):  # shutil.Error: of a file among several
        shutil.rmtree(draft, ignore_errors=True)


def restore(out: Path, spec: Spec, state: Path) -> bool:
    """Put an artifact back as it was published, if just this one was made from just these inputs.

    Args:
        out: The artifact's folder, relative to the results folder.
        spec: What is to be made.
        state: Folder of resumable states.

    Returns:
        Whether it is there again.
    """
    place = state / FOLDER / out
    if not _same(place, spec):
        return False
    draft = out.parent / f".{out.name}.{os.getpid()}.kept"
    try:
        shutil.copytree(place, draft, copy_function=os.link)
        replace(draft, out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return True


def _same(place: Path, spec: Spec) -> bool:
    """Whether a kept artifact is whole, of this spec, and of inputs that are still the same."""
    if not is_fresh(place, spec):
        return False
    return describe_files(place).items() >= read_manifest(place).files.items()


def forget(state: Path) -> None:
    """Drop all second names: the study is done."""
    shutil.rmtree(state / FOLDER, ignore_errors=True)

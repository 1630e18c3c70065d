"""A results folder that was moved, packed and unpacked needs no rerun, and verifies.

Copies with and without their times, and files touched, are lines of the rerun matrix.
"""

import os
import shutil
import tarfile
import time
from pathlib import Path

from copies import Copy


def contents(copy: Copy) -> dict[str, bytes]:
    """Bytes of all files but those of Snakemake and of the driver."""
    apart = {".snakemake", "logs", "driver.json"}
    return {
        path.relative_to(copy.results).as_posix(): path.read_bytes()
        for path in copy.results.rglob("*")
        if path.is_file() and not apart & {*path.relative_to(copy.results).parts}
    }


def test_restored_from_an_archive_with_new_times(copy: Copy) -> None:
    """Packed and unpacked at another place, the last file first, so that inputs are newer."""
    archive = copy.folder / "results.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(copy.results, "matrix")
    shutil.rmtree(copy.results)
    with tarfile.open(archive) as tar:
        tar.extractall(copy.results.parent, filter="data")
    for number, path in enumerate(sorted(copy.results.rglob("*"), reverse=True)):
        os.utime(path, (1e9 + number, 1e9 + number))
    moved = copy.folder.with_name("moved")
    copy.folder.rename(moved)
    assert Copy(moved).planned() == set()
    Copy(moved).run("xstilts", "audit", "verify", str(Copy(moved).results))


def test_without_snakemakes_own_folder_times_decide_until_it_is_told(copy: Copy) -> None:
    """The recipe of the README: what was made is as planned, `--touch` tells Snakemake so."""
    shutil.rmtree(copy.results / ".snakemake")
    assert copy.planned() == set()  # the times are those of the making
    paths = sorted(copy.results.rglob("*"), reverse=True)  # what is made first comes last
    for number, path in enumerate(paths, int(time.time()) - len(paths)):
        os.utime(path, (number, number))
    assert copy.planned() != set()
    before = contents(copy)
    copy.snakemake("--touch", "--forceall", "--cores", "1", "--quiet", "all")
    assert contents(copy) == before
    assert copy.planned() == set()
    with copy.study() as study:
        study["training"]["tasks"]["toy_qa"]["batch_size"] = 4
    assert {job.split()[0] for job in copy.planned()} >= {"finetune", "evaluate", "score", "report"}


def test_an_archive_unpacked_by_another_user_keeps_no_path(copy: Copy, tmp_path: Path) -> None:
    """Nothing in a manifest names where it was made."""
    place = str(tmp_path.parent.parent)
    for path in copy.results.rglob("manifest.json"):
        assert place not in path.read_text(encoding="utf-8"), path

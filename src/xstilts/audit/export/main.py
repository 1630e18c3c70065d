"""Exports of a finished study, all made from its manifests: RO-Crate, model cards, archive."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xstilts.audit.export.archive import collect, write_folder, write_tar
from xstilts.audit.finished import Finished, finished
from xstilts.audit.results import Results, open_results
from xstilts.errors import InputError


def run(options: argparse.Namespace) -> None:
    """Write the export that the command line asks for."""
    results = open_results(options.path)
    _check_place(options.out, results)
    study = finished(results)
    lines = {"crate": _crate, "cards": _cards, "archive": _archive}[options.kind](study, options)
    print(f"{options.out}: {lines[0]}")
    for note in lines[1:]:
        print(f"note: {note}")


def _archive(study: Finished, options: argparse.Namespace) -> list[str]:
    archive = collect(study, weights=options.weights, data=options.data)
    kind = "".join(options.out.suffixes[-2:])
    with appearing(options.out) as draft:
        if kind.endswith((".tar", ".tar.gz", ".tgz")):
            packed = not kind.endswith(".tar")
            write_tar(archive, draft, study.root.study, packed=packed)
        else:
            draft.mkdir()
            write_folder(archive, draft)
    return [archive.summary(), *archive.notes]


def _crate(study: Finished, options: argparse.Namespace) -> list[str]:
    from xstilts.audit.export.crate import describe_crate

    archive = collect(study, weights=options.weights, data=options.data)
    with appearing(options.out) as draft:
        draft.mkdir()
        write_folder(archive, draft)
        count = describe_crate(study, archive, draft, options.licence)
    return [f"RO-Crate of {count} entities; {archive.summary()}", *archive.notes]


def _cards(study: Finished, options: argparse.Namespace) -> list[str]:
    from xstilts.audit.export.cards import write_cards

    with appearing(options.out) as draft:
        draft.mkdir()
        count = write_cards(study, draft, options.licence)
    return [f"{count} model cards"]


def _check_place(out: Path, results: Results) -> None:
    if os.path.lexists(out):
        raise InputError(f"--out {out}", "exists already", hint="Name a new one, or remove it")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}", f"there is no folder {out.parent}")
    if out.parent.resolve().is_relative_to(results.path):
        raise InputError(f"--out {out}", "lies in the results folder, which is only read")


@contextmanager
def appearing(out: Path) -> Iterator[Path]:
    """A place to write to beside another, which it takes in one step when all went well."""
    draft = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        yield draft
        draft.rename(out)
    finally:
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)

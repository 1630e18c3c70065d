"""The command line of `xstilts audit`; apart, because every stage reads it when it starts."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

from xstilts.output import check_output


def add_parser(commands: Any) -> None:
    """Add the command `audit`; the module of a subcommand is imported when it runs."""
    audit = commands.add_parser("audit", help="check, explain, compare and reproduce results")
    parts = audit.add_subparsers(dest="audit", required=True, metavar="AUDIT")
    modules = {
        _verify: "verify.main",
        _explain: "explain.main",
        _diff: "diff.main",
        _stale: "stale.main",
        _replay: "replay.main",
        _sign: "sign",
        _export: "export.main",
        _store: "store",
    }
    for arguments, module in modules.items():
        name = arguments.__name__.removeprefix("_")
        text = arguments.__doc__ or ""
        summary = text[:1].lower() + text[1:].rstrip(".")
        parser = parts.add_parser(name, help=summary, description=text)
        arguments(parser)
        parser.set_defaults(run=_run, module=f"xstilts.audit.{module}")


def _run(options: argparse.Namespace) -> None:
    check_output("--json", getattr(options, "json", None))
    import_module(options.module).run(options)


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")


def _verify(parser: argparse.ArgumentParser) -> None:
    """Check every byte; make every score, table and figure again; status 1 if anything is wrong."""
    parser.add_argument("path", type=Path, help="a results folder, an artifact or an archive")
    parser.add_argument(
        "--shallow", action="store_true", help="sizes and manifests only: no file is hashed"
    )
    parser.add_argument(
        "--no-recompute", action="store_true", help="hash all files, but make nothing again"
    )
    parser.add_argument("--key", type=Path, help="public key (PEM) that the signature must be of")
    parser.add_argument("--threads", type=int, help="threads that hash; default: one per CPU")
    _json(parser)


def _explain(parser: argparse.ArgumentParser) -> None:
    """Where a number or a file comes from, down to the data and the base model."""
    parser.add_argument("place", help="FILE, FILE:ROW or FILE:ROW:COLUMN; the header is row 1")
    parser.add_argument("--graph", type=Path, metavar="FILE", help="write a graph (.dot, .svg)")
    _json(parser)


def _diff(parser: argparse.ArgumentParser) -> None:
    """What differs between two artifacts or two results folders, and by how much numbers moved."""
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    _json(parser)


def _stale(parser: argparse.ArgumentParser) -> None:
    """What would be made differently today, and why; status 1 if Snakemake would not make it."""
    parser.add_argument("study", type=Path, help="the study's YAML file")
    parser.add_argument(
        "--no-snakemake", action="store_true", help="do not compare with `snakemake -n`"
    )
    _json(parser)


def _replay(parser: argparse.ArgumentParser) -> None:
    """Make artifacts again from their inputs and compare; status 1 if they differ."""
    parser.add_argument("path", type=Path, nargs="+", help="artifacts, or one results folder")
    parser.add_argument("--sample", type=int, metavar="K", help="K artifacts drawn from the folder")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default 0)")
    parser.add_argument("--stage", action="append", help="draw from these stages only")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.1,
        help="what counts as equal: points of a score, per cent of predictions (default 0.1)",
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep what was made there")
    parser.add_argument(
        "--here", action="store_true", help="with this environment and code, whatever is recorded"
    )
    _json(parser)


def _sign(parser: argparse.ArgumentParser) -> None:
    """Sign a finished study's root manifest with a key of your own (OpenSSF model signing)."""
    parser.add_argument("path", type=Path, help="the results folder")
    parser.add_argument("--key", type=Path, required=True, help="private key, elliptic curve, PEM")
    parser.add_argument(
        "--passphrase-env", metavar="NAME", help="environment variable with the key's passphrase"
    )


def _export(parser: argparse.ArgumentParser) -> None:
    """Write an RO-Crate, model cards or an archive, all made from the manifests."""
    parser.add_argument("kind", choices=("crate", "cards", "archive"))
    parser.add_argument("path", type=Path, help="the results folder")
    parser.add_argument("--out", type=Path, required=True, help="a new folder, or a new .tar(.gz)")
    parser.add_argument(
        "--weights", action="store_true", help="with the weights, not by reference only"
    )
    parser.add_argument(
        "--data", action="store_true", help="with the rows that scores are made from: see licences"
    )
    parser.add_argument(
        "--licence", metavar="NAME", help="crate, cards: of the results; the study states none"
    )


def _store(parser: argparse.ArgumentParser) -> None:
    """Put a study's artifacts into a shared store of artifacts by spec, or check a store."""
    parser.add_argument("action", choices=("add", "verify", "list"))
    parser.add_argument("store", type=Path, help="the store's folder")
    parser.add_argument("path", type=Path, nargs="*", help="add: results folders or artifacts")
    _json(parser)

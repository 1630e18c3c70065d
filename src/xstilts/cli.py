"""The command line: commands for people, and the stages that Snakemake runs.

`xstilts stage NAME --out FOLDER --spec JSON` is what Snakemake runs, in the results folder; it can
be called by hand with the same arguments.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from xstilts.audit import command as audit
from xstilts.cluster import command, prune, status
from xstilts.errors import InputError
from xstilts.output import check_output
from xstilts.runtime import EXIT_MORE_TIME, runtime

#: Stage: module and function; imported only when it runs.
STAGES = {
    "fetch": ("xstilts.data.fetch", "run"),
    "prepare": ("xstilts.data.prepare", "run"),
    "tokenizer": ("xstilts.data.tokenizer", "run"),
    "tokens": ("xstilts.data.tokens", "run"),
    "prompts": ("xstilts.prompting.tokens", "run"),
    "testset": ("xstilts.data.testset", "run"),
    "check": ("xstilts.data.check", "run"),
    "fetch_model": ("xstilts.data.fetch", "run_model"),
    "fetch_translator": ("xstilts.data.fetch", "run_translator"),
    "translate": ("xstilts.data.translate", "run"),
    "pretrain": ("xstilts.training.stages", "pretrain"),
    "intermediate": ("xstilts.training.stages", "fine_tune"),
    "finetune": ("xstilts.training.stages", "fine_tune"),
    "merge": ("xstilts.training.merge", "run"),
    "sweep": ("xstilts.evaluation.sweep", "run"),
    "evaluate": ("xstilts.evaluation.evaluate", "run"),
    "score": ("xstilts.evaluation.score", "run"),
    "distances": ("xstilts.analysis.languages.distances", "run"),
    "transferability": ("xstilts.analysis.transferability", "run"),
    "aggregate": ("xstilts.analysis.aggregate", "run"),
    "analyse": ("xstilts.analysis.analyse", "run"),
    "report": ("xstilts.report.build", "run"),
}
#: Stages that need no pandas. pyarrow imports it unasked, which is half of their time.
LIGHT = {
    *("fetch", "prepare", "tokenizer", "tokens", "prompts", "testset", "check", "score"),
    "distances",
}
#: Short stages that tell nothing of their own.
UNTOLD = {
    "fetch",
    "prepare",
    "tokenizer",
    "tokens",
    "prompts",
    "testset",
    "fetch_model",
    "fetch_translator",
    "merge",
}
#: Unix time at which this process has to be gone, for the stages that save their state.
DEADLINE = "XSTILTS_DEADLINE"
#: Stages whose work may take days: they save a state, and Snakemake cannot lose what they made.
KEPT = {"translate", "pretrain", "intermediate", "finetune"}
#: Stages that may use the network.
ONLINE = {"fetch", "fetch_model", "fetch_translator", "tokenizer"}


class _NoPandas:
    """A finder that finds no pandas."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("this stage does without pandas", name=name)


class _Version(argparse.Action):
    """`--version`, worked out only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="versions and the code's digest")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from xstilts.cluster.environment import version_line

        print(version_line())
        parser.exit()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; bad input ends in one line and status 2."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except InputError as error:
        print(f"xstilts {options.command}: {error}", file=sys.stderr)
        return 2
    return 0


def _spec(text: str) -> dict[str, Any]:
    try:
        spec = json.loads(sys.stdin.read() if text == "-" else text)
    except ValueError as error:
        raise InputError("--spec", f"is no JSON ({error})") from error
    if not isinstance(spec, dict):
        raise InputError("--spec", "is no JSON object", found=text[:80])
    return spec


def run_stage(stage: str, spec: Mapping[str, Any], out: Path) -> None:
    """Run a stage in this process, for one artifact or for the members of a bundle.

    Args:
        stage: Name of the stage.
        spec: The artifact's spec; a bundle's has `members`, the specs by their folders.
        out: The folder of the artifact, or of the bundle's index.

    Raises:
        InputError: If a spec is of another stage, a folder leaves the results folder, or the stage
            finds something wrong.
    """
    members: Mapping[str, Any] = spec.get("members", {})
    for one in (spec, *members.values()):
        if one.get("stage") != stage:
            found = str(one.get("stage"))
            raise InputError("--spec", "is of another stage", expected=stage, found=found)
    for folder in (out, *map(Path, members)):
        if folder.is_absolute() or ".." in folder.parts:
            raise InputError("--out", "leaves the results folder", found=str(folder))
    make = _prepared(stage)
    if members:
        from xstilts.artifacts.bundle import make_bundle

        make_bundle(stage, members, out, make)
    else:
        make(spec, out)


def _prepared(stage: str) -> Callable[[Mapping[str, Any], Path], None]:
    """The function of a stage, in a process that is set up for it."""
    if stage not in ONLINE:
        os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ["HF_DATASETS_OFFLINE"] = "1"
    if stage in LIGHT:
        sys.meta_path.insert(0, _NoPandas())
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    run = partial(_told if stage in UNTOLD else _run, stage)
    return partial(_kept if stage in KEPT else _taken, run)


def _run(stage: str, spec: Mapping[str, Any], out: Path) -> None:
    """Run a stage; what it needs is imported now, and not for what need not be made."""
    module, function = STAGES[stage]
    getattr(importlib.import_module(module), function)(spec, out)


def _take(spec: Mapping[str, Any], out: Path) -> bool:
    """Take an artifact from the study's store, if that has it."""
    from xstilts.artifacts.store import take

    store = runtime().store
    return store is not None and take(out, spec, store)


def _taken(
    run: Callable[[Mapping[str, Any], Path], None], spec: Mapping[str, Any], out: Path
) -> None:
    """Run a stage, unless the study's store has what it would make."""
    if not _take(spec, out):
        run(spec, out)


def _told(stage: str, spec: Mapping[str, Any], out: Path) -> None:
    """Run a stage that tells nothing of its own."""
    from xstilts.progress import Progress

    progress = Progress(stage, out.as_posix())
    _run(stage, spec, out)
    progress.done()


def _kept(
    run: Callable[[Mapping[str, Any], Path], None], spec: Mapping[str, Any], out: Path
) -> None:
    """Run a dear stage, unless Snakemake has only lost what it made, or the store has it."""
    from xstilts.artifacts.kept import keep, restore
    from xstilts.cluster.job import ask_for_more_time, learn_end

    state = runtime().state
    if restore(out, spec, state):
        print(f"{out}: had been made already and is put back", file=sys.stderr)
        return
    if _take(spec, out):
        return
    learn_end()
    try:
        run(spec, out)
    except SystemExit as end:
        if end.code == EXIT_MORE_TIME:
            ask_for_more_time()
        raise
    keep(out, state)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="xstilts", description=__doc__)
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    lock = commands.add_parser(
        "lock", help="resolve revisions and checksums of a study's data, once"
    )
    lock.add_argument("study", type=Path, help="the study's YAML file, or -")
    lock.add_argument(
        "--refresh",
        action="store_true",
        help="resolve everything again and say what has changed at the sources",
    )
    lock.set_defaults(run=_lock)
    command.add_parser(commands)
    submit = commands.add_parser(
        "submit", help="write a run's predictions as XTREME's file tree, with the labels"
    )
    submit.add_argument("study", type=Path, help="the study's YAML file")
    submit.add_argument("--out", required=True, type=Path, help="a new folder")
    submit.add_argument("--benchmark", default="xtreme", help="xtreme (default) or xtreme-r")
    submit.add_argument(
        "--recipe",
        action="append",
        default=[],
        metavar="[TARGET=]RECIPE",
        help="recipe of one target, or of all; default: the best on English dev data",
    )
    submit.add_argument(
        "--partial", action="store_true", help="although targets or languages are missing"
    )
    submit.add_argument("--model", help="the model, if the study has several")
    submit.add_argument("--seed", type=int, help="default: the best on dev of the recipe's seeds")
    submit.set_defaults(run=_submit)
    score = commands.add_parser(
        "score", help="score predictions in XTREME's file tree as its evaluate.py does"
    )
    score.add_argument("--predictions", required=True, type=Path, help="folder with one per task")
    score.add_argument("--labels", required=True, type=Path, help="the same, with the gold")
    score.add_argument("--out", type=Path, help="JSON file for all scores at full precision")
    score.add_argument("--benchmark", default="xtreme", help="xtreme (default) or xtreme-r")
    score.add_argument(
        "--partial", action="store_true", help="score tasks of which languages are missing, too"
    )
    score.set_defaults(run=_score)
    summary = commands.add_parser("summary", help="print the overview of finished tables")
    summary.add_argument("tables", type=Path, help="the folder results/STUDY/tables")
    summary.set_defaults(run=_summary)
    status.add_parser(commands)
    prune.add_parser(commands)
    audit.add_parser(commands)
    stage = commands.add_parser("stage", help="make one artifact; run by Snakemake")
    stage.add_argument("stage", choices=STAGES, metavar="STAGE", help=", ".join(STAGES))
    stage.add_argument("--out", required=True, type=Path, help="the artifact's folder")
    stage.add_argument("--spec", required=True, help="canonical JSON; - for standard input")
    stage.add_argument(
        "--minutes",
        type=float,
        default=0.0,
        help="time limit: a training saves its state before it is over and ends with status 75",
    )
    stage.set_defaults(run=_stage)
    return parser


def _stage(options: argparse.Namespace) -> None:
    from xstilts.cluster.job import hear_sigterm

    hear_sigterm()
    if options.minutes > 0:
        os.environ[DEADLINE] = str(time.time() + 60 * options.minutes)
    # Importing torch and transformers makes 400,000 objects and no garbage. Looking for it while
    # they come and once more when the process ends takes a third of a short stage.
    gc.set_threshold(20_000)
    try:
        run_stage(options.stage, _spec(options.spec), options.out)
    except BaseException as error:
        from xstilts.progress import ended

        ended(options.out.as_posix(), f"{type(error).__name__}: {error}")
        raise
    finally:
        gc.freeze()


def _lock(options: argparse.Namespace) -> None:
    from xstilts.session import Session

    session = Session.of_file(options.study, root=Path.cwd())
    for line in session.lock_data(refresh=options.refresh):
        print(line)


def _submit(options: argparse.Namespace) -> None:
    from xstilts.evaluation.submit import Wish, submit
    from xstilts.session import Session

    named = [text.rpartition("=") for text in options.recipe]
    recipes = {target or "*": recipe for target, _, recipe in named}
    session = Session.of_file(options.study, root=Path.cwd())
    wish = Wish(recipes, options.model, options.seed)
    chosen, report = submit(session, options.out, wish, options.benchmark, partial=options.partial)
    for cell in chosen:
        dev = "no dev data" if cell.dev is None else f"dev {cell.dev:.1f}"
        print(f"{cell.target:<12} {cell.model}  {cell.recipe}  seed {cell.seed}  {dev}")
    print(f"\n{report.table()}")


def _score(options: argparse.Namespace) -> None:
    from xstilts.evaluation.benchmark import score_tree

    out: Path | None = options.out
    check_output("--out", out)
    report = score_tree(options.predictions, options.labels, options.benchmark, options.partial)
    if not report.values:
        raise InputError(
            str(options.predictions),
            f"holds no task of {options.benchmark} that {options.labels} holds too",
            expected=f"folders such as {report.tasks[0].name}, with test-LANGUAGE files",
        )
    print(report.table())
    if out is not None:
        out.write_text(json.dumps(report.content(), indent=2) + "\n", encoding="utf-8")


def _summary(options: argparse.Namespace) -> None:
    from xstilts.analysis.aggregate import summary

    print(summary(options.tables))


if __name__ == "__main__":
    sys.exit(main())

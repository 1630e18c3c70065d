"""`xstilts audit diff`: what differs between two artifacts or two results folders.

What manifests say is compared; that files have the bytes of their manifests is what `verify` sees.
Equal are artifacts of the same spec, inputs and files: when, where and in what they were made may
differ, and is shown. The exit status is that of diff(1): 0 equal, 1 different, 2 bad input.
"""

from __future__ import annotations

import argparse
from typing import Any

from xstilts.audit.ancestry import Reader, place_of
from xstilts.audit.diff.differing import differing, is_same, surroundings
from xstilts.audit.diff.moved import moved
from xstilts.audit.diff.studies import Comparison
from xstilts.audit.diff.text import artifacts_text, studies_text
from xstilts.audit.results import Place
from xstilts.errors import InputError
from xstilts.output import write_json


def run(options: argparse.Namespace) -> None:
    """Compare two places; print how they differ.

    Raises:
        InputError: If one is a results folder and the other is not, or a file of an artifact.
        SystemExit: With status 1 where they differ.
    """
    places = [place_of(path) for path in (options.first, options.second)]
    for path, place in zip((options.first, options.second), places, strict=True):
        if place.file:
            hint = f"Compare the artifact that it lies in: {place.results.path / place.out}"
            raise InputError(str(path), "is a file", expected="an artifact or results", hint=hint)
    first, second = places
    if bool(first.out) != bool(second.out):
        raise InputError(
            f"{options.first}, {options.second}",
            "an artifact cannot be compared with a results folder",
            expected="two artifacts, or two results folders",
        )
    content: dict[str, Any]
    if first.out:
        content = compare_artifacts(first, second)
        text = artifacts_text(content)
    else:
        content = Comparison(first.results, second.results).content()
        text = studies_text(content)
    names = {"first": str(options.first), "second": str(options.second)}
    write_json(options.json, {**names, **content}, default=str)
    print(f"first   {names['first']}\nsecond  {names['second']}\n\n{text}", end="")
    if not content["equal"]:
        raise SystemExit(1)


def compare_artifacts(first: Place, second: Place) -> dict[str, Any]:
    """Everything that differs between two artifacts, for JSON."""
    left, right = Reader(first.results), Reader(second.results)
    mine, its = left.read(first.out), right.read(second.out)
    made = surroundings(left.provenance(first.out), right.provenance(second.out))
    found: dict[str, Any] = {
        "equal": is_same(mine, its),
        "artifacts": [first.out, second.out],
        "manifests": [mine.sha256, its.sha256],
        "made_with": [change.content() for change in made],
    }
    if found["equal"]:
        return found
    pairs = list(differing(left, first.out, right, second.out))
    own, ancestors = pairs[0], pairs[1:]
    folders = (first.results.path / first.out, second.results.path / second.out)
    files, only_first, only_second = moved(folders, mine, its)
    begins = [pair for pair in ancestors if pair.has_own_reason or not pair.inputs]
    return found | {
        "spec": [change.content() for change in own.spec],
        "reasons": own.reasons(),
        "names": [change.content() for change in own.renamed],
        "code": own.code,
        "inputs": [
            {
                "role": one.role,
                "artifacts": [one.out, other.out],
                "manifests": [one.recorded, other.recorded],
            }
            for one, other in own.inputs
        ],
        "begins": [
            {
                "artifacts": [pair.first.out, pair.second.out],
                "reasons": pair.reasons() or [_NO_REASON],
                "spec": [change.content() for change in pair.spec],
                "is_first": not pair.inputs,
            }
            for pair in sorted(begins, key=lambda pair: bool(pair.inputs))
        ],
        "files": files,
        "files_only_in_first": only_first,
        "files_only_in_second": only_second,
    }


_NO_REASON = "other manifests were recorded than lie there"

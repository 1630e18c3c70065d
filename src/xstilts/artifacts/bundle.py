"""Bundles: several artifacts of one stage, made by one process.

Each member is made, or left as it is, on its own. The bundle's own artifact is an index without
files: its spec lists the members with the sha256 of their specs, its inputs are their manifests.
The same bytes of all members give the same index, and nothing that stands on it is made again.
"""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from xstilts.artifacts.manifest import read_manifest
from xstilts.artifacts.publish import input_manifests, publishing
from xstilts.artifacts.spec import Spec, canonical, spec_sha256
from xstilts.errors import InputError


def index_spec(stage: str, members: Mapping[str, Spec]) -> dict[str, Any]:
    """The spec of a bundle's index, from the specs of its members by their folders."""
    return {
        "stage": stage,
        "members": {out: spec_sha256(spec) for out, spec in members.items()},
        # A job reads its members from canonical JSON, which sorts them; a plan has an order.
        "inputs": {"members": sorted(members)},
    }


def make_bundle(
    stage: str, members: Mapping[str, Spec], out: Path, make: Callable[[Spec, Path], None]
) -> None:
    """Make those members of a bundle that are not there yet, then publish its index.

    A member that fails keeps no other from being made; then there is no index.

    Args:
        stage: The stage of all members.
        members: Specs by the folders of the artifacts.
        out: The index's folder.
        make: Makes one artifact from its spec.

    Raises:
        InputError: If members failed; what each of them said is printed before.
    """
    failed: dict[str, str] = {}
    made = 0
    for name, spec in members.items():
        if is_fresh(Path(name), spec):
            continue
        try:
            make(spec, Path(name))
            made += 1
        except InputError as error:
            failed[name] = str(error)
        except Exception as error:
            # An error of the program: where it was stands in the log, and the others go on.
            traceback.print_exc()
            failed[name] = f"{type(error).__name__}: {error}"
        _free()
    if failed:
        for name, message in failed.items():
            print(f"{stage:<12} {name}  failed: {message}", file=sys.stderr)
        raise InputError(
            str(out),
            f"{len(failed)} of {len(members)} artifacts could not be made, for the reasons above",
            found=", ".join(failed),
            hint="The others are made and will be kept",
        )
    with publishing(out, index_spec(stage, members)) as draft:
        draft.record.add(made=made)
    if kept := len(members) - made:
        print(f"{stage:<12} {out}  {kept} of {len(members)} were there already", file=sys.stderr)


def is_fresh(folder: Path, spec: Spec) -> bool:
    """Whether an artifact lies there whole, made by this spec from the inputs as they are now."""
    try:
        made = read_manifest(folder)
        if canonical(made.spec) != canonical(spec) or made.inputs != input_manifests(spec):
            return False
    except InputError:
        return False
    found = {name: folder / name for name in made.files}
    return all(
        path.is_file() and path.stat().st_size == made.files[name]["size"]
        for name, path in found.items()
    )


def _free() -> None:
    """Give memory back, the GPU's too, so that each member finds what the first one found."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

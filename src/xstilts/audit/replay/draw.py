"""Which artifacts are made again: those that are named, or some drawn at random."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import zip_longest

from xstilts.artifacts.spec import sha256_text
from xstilts.audit.results import Artifact, Results
from xstilts.errors import InputError, nearest
from xstilts.plan import TRAININGS

#: From this many on, one of them is a training.
_WITH_TRAINING = 3


def draw(
    results: Results, count: int, seed: int, stages: Collection[str] | None = None
) -> list[Artifact]:
    """Draw artifacts of as many stages as can be; the same seed draws the same ones.

    Args:
        results: The results folder.
        count: How many; all, where there are fewer.
        seed: Of the draw. Any Python draws the same.
        stages: Draw from these only.

    Raises:
        InputError: If the count is not positive, or there is nothing of a stage.
    """
    if count < 1:
        raise InputError("--sample", "is no number of artifacts", found=str(count))
    by_stage: dict[str, list[Artifact]] = {}
    for artifact in results.artifacts.values():
        if artifact.manifest and not artifact.is_index:
            by_stage.setdefault(artifact.stage, []).append(artifact)
    for stage in stages or ():
        if stage not in by_stage:
            hint = nearest(stage, by_stage)
            raise InputError("--stage", f"there is no artifact of {stage!r}", hint=hint)
    chosen = [stage for stage in by_stage if not stages or stage in stages]
    order = _shuffled(chosen, seed)
    if count >= _WITH_TRAINING:
        first = next((stage for stage in order if stage in TRAININGS), None)
        order.sort(key=lambda stage: stage != first)
    piles = [_shuffled([one.out for one in by_stage[stage]], seed) for stage in order]
    rounds = (out for level in zip_longest(*piles) for out in level if out is not None)
    return [results.artifacts[out] for out, _ in zip(rounds, range(count), strict=False)]


def _shuffled(names: Iterable[str], seed: int) -> list[str]:
    """Names in an order that is random, and the same on every machine."""
    return sorted(names, key=lambda name: sha256_text(f"{seed} {name}"))

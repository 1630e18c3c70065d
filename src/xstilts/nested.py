"""Nested sets of tasks: which orders, which sets of them, and the recipes of these sets.

A study's key `nested` asks for the first 1, 2, ... n tasks of several orders. Each set is one
recipe, whatever order it comes from, and its name depends on nothing but its tasks: another order,
task or size trains nothing again.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from xstilts.errors import InputError

if TYPE_CHECKING:
    from xstilts.config import Recipe, Study

#: Longest name of a set. A name becomes a folder, and file systems end at 255 bytes.
LONGEST = 120


def set_name(tasks: Iterable[str]) -> str:
    """The name of a set of tasks: the tasks by the alphabet, joined by ``+``.

    A longer name than `LONGEST` keeps the first tasks that fit, the number of the others and a
    checksum of all: ``ccg+mnli+7more-1a2b3c4d5e6f``.
    """
    names = sorted(tasks)
    if len(whole := "+".join(names)) <= LONGEST:
        return whole
    code = hashlib.sha256(whole.encode()).hexdigest()[:12]
    for kept in range(len(names) - 1, -1, -1):
        short = "+".join([*names[:kept], f"{len(names) - kept}more-{code}"])
        if len(short) <= LONGEST:
            return short
    raise AssertionError("a checksum is shorter than that")


def drawn_orders(tasks: Iterable[str], count: int, seed: int) -> list[tuple[str, ...]]:
    """Draw orders of tasks, all different.

    Orders come in squares of n, for n tasks: a drawn permutation put into the design of Williams
    (1949, Experimental designs balanced for the estimation of residual effects of treatments). In
    a square each task stands once at each place, so each is the first one equally often; if n is
    even, each also follows directly after each other one once. Order k does not depend on how many
    there are, nor on how the study lists the tasks.

    Args:
        tasks: The tasks.
        count: How many orders; at most n!.
        seed: Seed of the permutations.
    """
    names, found, square = sorted(tasks), list[tuple[str, ...]](), 0
    if count > math.factorial(len(names)):
        raise ValueError(f"{len(names)} tasks have no {count} orders")
    while len(found) < count:
        for order in _square(names, random.Random(f"{seed}/{square}")):
            if order not in found:
                found.append(order)
        square += 1
    return found[:count]


def _square(names: Sequence[str], draw: random.Random) -> list[tuple[str, ...]]:
    """Each task once at each place."""
    number = len(names)
    drawn = draw.sample(names, number)
    # 0, 1, n-1, 2, n-2, ...: all distances between neighbours differ.
    zigzag = [(i + 1) // 2 if i % 2 else (number - i // 2) % number for i in range(number)]
    # Rows that follow each other begin far apart, so that few orders share few sets.
    far = round(number * 0.618)
    step = next(s for s in (far, *range(1, number + 1)) if math.gcd(s, number) == 1)
    shifts = [row * step % number for row in range(number)]
    return [tuple(drawn[(place + shift) % number] for place in zigzag) for shift in shifts]


def with_nested(study: Study, where: str) -> Study:
    """The study with a recipe for each set of its key `nested` that it has no recipe of.

    Raises:
        InputError: If a set needs a name that another recipe has.
    """
    if study.nested is None:
        return study
    recipes = dict(study.recipes)
    for tasks in sorted(study.nested.sets, key=lambda tasks: (len(tasks), sorted(tasks))):
        recipe = study.nested.recipe(tasks)
        if _there(recipes, recipe) is not None:
            continue
        if (name := set_name(tasks)) in recipes:
            raise InputError(
                f"{where}: nested",
                f"its set of {', '.join(sorted(tasks))} would be the recipe {name!r}, and the "
                "study has another one of this name",
                hint="Give that recipe another name, or the same tasks and settings",
            )
        recipes[name] = recipe
    return study.model_copy(update={"recipes": recipes})


def chains(study: Study) -> list[list[str]]:
    """In each order the names of its recipes, from the fewest tasks to the most.

    Orders of which all sets are the same stand there once.

    Args:
        study: A study as :func:`with_nested` made it.
    """
    if study.nested is None:
        return []
    found = list[list[str]]()
    for order in study.nested.drawn:
        recipes = [study.nested.recipe(order[:size]) for size in study.nested.numbers]
        names = [name for recipe in recipes if (name := _there(study.recipes, recipe))]
        if names not in found:
            found.append(names)
    return found


def _there(recipes: dict[str, Recipe], wanted: Recipe) -> str | None:
    """The name of a recipe with the same tasks and settings."""
    same = (name for name, recipe in recipes.items() if _core(recipe) == _core(wanted))
    return next(same, None)


def _core(recipe: Recipe) -> Recipe:
    """A recipe without what decides nothing: the order of its tasks, and how one task is drawn."""
    changes: dict[str, object] = {"tasks": tuple(sorted(recipe.tasks))}
    if len(recipe.tasks) == 1:
        changes |= {"sampling": "proportional", "temperature": None}
    return recipe.model_copy(update=changes)

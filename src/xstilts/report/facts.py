"""What the report tells of a study beyond its tables: titles, licences and sources of its data.

The plan puts it into the report's spec.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from xstilts.registry import Registry


def facts(registry: Registry, specs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows of the data sets and tasks that a study uses.

    Args:
        registry: The registry.
        specs: The specs of all its jobs.

    Returns:
        `datasets` (title, licence and known faults by name), `tasks` (title and data sets) and,
        where decoders are asked in words, `prompts` (title and whose wording it is).
    """
    datasets, tasks, prompts = set[str](), set[str](), set[str]()
    for spec in specs:
        if spec["stage"] == "prepare":
            datasets.add(spec["dataset"])
        if spec["stage"] in ("intermediate", "finetune"):
            tasks.update(task["name"] for task in spec["tasks"])
        if spec["stage"] == "prompts":
            prompts.add(spec["prompt"]["name"])
    rows, trained = registry.datasets, registry.tasks
    return {
        "datasets": {
            name: {
                "title": rows[name].title,
                "licence": rows[name].licence,
                "notes": rows[name].notes,
            }
            for name in sorted(datasets)
        },
        "tasks": {
            name: {"title": trained[name].title, "datasets": list(trained[name].datasets)}
            for name in sorted(tasks)
        },
        **({"prompts": _prompts(registry, prompts)} if prompts else {}),
    }


def _prompts(registry: Registry, names: Iterable[str]) -> dict[str, Any]:
    rows = registry.prompts
    return {
        name: {"title": rows[name].title, "source": rows[name].source} for name in sorted(names)
    }

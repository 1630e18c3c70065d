"""From a study to its jobs: the grid, the shared training sets, the specs and the paths.

The plan is made when the Snakefile is parsed, by the driver and again by every cluster job, so it
imports nothing heavy and asks no network. Each job is one artifact; Snakemake takes its inputs,
outputs and its one parameter, the spec, from here. Some jobs it runs together, as one: a bundle.

Each module below stands on those before it, as the stages do: `names` and `settings` of the study,
`data`, `models`, `trainings`, `evaluations`, `results`; `planner` walks the grid.
"""

from xstilts.plan.jobs import (
    ANALYSIS,
    CHECK,
    CHECKED,
    LOOKS,
    REPORT,
    TABLES,
    TRAININGS,
    Bundle,
    Job,
    Plan,
)
from xstilts.plan.planner import make_plan

__all__ = [
    "ANALYSIS",
    "CHECK",
    "CHECKED",
    "LOOKS",
    "REPORT",
    "TABLES",
    "TRAININGS",
    "Bundle",
    "Job",
    "Plan",
    "make_plan",
]

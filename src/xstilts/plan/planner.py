"""All jobs of a study: its grid, walked once, and what Snakemake runs as one."""

from __future__ import annotations

from xstilts.config import Study
from xstilts.data.lock import Lock
from xstilts.plan.jobs import BUNDLED, TRAININGS, Bundle, Job, Plan
from xstilts.plan.results import ResultJobs
from xstilts.registry import Registry
from xstilts.registry.rows import ModelRow

#: Stages that must not be begun again because other data were added.
TRAINED = ("tokenizer", "translate", *TRAININGS)


def make_plan(study: Study, registry: Registry, lock: Lock, where: str) -> Plan:
    """Lay out all jobs of a study.

    Args:
        study: The study.
        registry: The registry's rows.
        lock: What is known of the files of data sets and models; what is missing there is planned
            as well and stopped when it is to be fetched.
        where: The study's file, for messages.

    Raises:
        InputError: On a name that the registry does not know, an empty grid, or settings that
            cannot work.
    """
    return Planner(study, registry, lock, where).plan()


class Planner(ResultJobs):
    """The grid of models, recipes, seeds and targets."""

    def plan(self) -> Plan:
        """All jobs, laid out; to be called once."""
        for model in self.models:
            self._model(model)
            for recipe in self.study.recipes:
                for seed in self.study.seeds:
                    self._cell_column(model, recipe, seed)
        for model in self.models:
            self._distances(model)
        self._check_stage()
        self._results()
        return Plan(self.study, self.registry, self.where, self.jobs, self._bundles())

    def _cell_column(self, model: ModelRow, recipe: str, seed: int) -> None:
        start = self._intermediate(model, recipe, self.study.recipes[recipe], seed)
        self._transferability(model, recipe, seed, start)
        for target in self.targets:
            if self._is_tuned(model, target):
                train = "-then-".join(target.train)
                checkpoint = self._finetune(model, recipe, seed, start, train)
            elif start.startswith("models/") and seed != self.study.seeds[0]:
                continue  # nothing random happens between the model and this target
            else:
                checkpoint = start
            self._evaluate(model, recipe, seed, target, checkpoint)

    def _bundles(self) -> dict[str, Bundle]:
        """One job of Snakemake for all targets of a column, or all languages of a data set.

        A cluster is not to be asked for thousands of jobs of a minute each, nor Snakemake for a
        plan of them. What a training reads stays alone: if the training stood on an index, another
        language would begin it again.
        """
        trained, found = self._read_by_trainings(), dict[str, list[Job]]()
        for job in self.jobs.values():
            if job.stage in BUNDLED and job.out not in trained:
                column = job.out.removeprefix("data/").split("/")[1:-1]
                found.setdefault("/".join(["bundles", job.stage, *column]), []).append(job)
        return {out: Bundle(jobs[0].stage, out, tuple(jobs)) for out, jobs in found.items()}

    def _read_by_trainings(self) -> set[str]:
        """All artifacts that trainings stand on, through others too."""
        found = set[str]()
        waiting = [out for stage in TRAINED for out in self._outs(stage)]
        while waiting:
            new = set(self.jobs[waiting.pop()].reads) - found
            found |= new
            waiting.extend(new)
        return found

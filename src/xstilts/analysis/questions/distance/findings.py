"""All that is computed for one model, from which tables, text and figures are made."""

from __future__ import annotations

from dataclasses import dataclass

from xstilts.analysis.questions.distance.joint import Joint, joint
from xstilts.analysis.questions.distance.ranking import Ranking, rankings
from xstilts.analysis.questions.distance.relations import (
    Flattening,
    Relation,
    flattenings,
    relations,
)
from xstilts.analysis.questions.distance.values import (
    Measure,
    Subject,
    everything,
    grids,
    measures,
    subjects,
    whole,
)
from xstilts.analysis.questions.phrases import model_title
from xstilts.analysis.study import BASELINE, Grid, Study

#: The measure of the toy world's languages.
PLANTED = "planted"


@dataclass(frozen=True)
class Findings:
    """What was found for a model.

    Attributes:
        title: Of the model, for people.
        recipe: The recipe that is looked at first: `none`, or the first where there is no `none`.
        subjects: Targets and groups, sentence classification first.
        grids: Values under that recipe, by name of the subject; without subjects that have none.
        relations: By recipe, that one first.
        flattenings: By name of the subject.
        joints: Regressions on several measures, under that recipe.
        rankings: All targets together, then each; empty where no distance is planted.
    """

    model: str
    title: str
    recipe: str
    subjects: list[Subject]
    measures: list[Measure]
    grids: dict[str, Grid]
    relations: dict[str, list[Relation]]
    flattenings: dict[str, list[Flattening]]
    joints: list[Joint]
    rankings: list[Ranking]

    @property
    def main(self) -> list[Relation]:
        """Relations under the recipe that is looked at first."""
        return self.relations.get(self.recipe, [])

    @property
    def first(self) -> Subject | None:
        """The first subject that has values: sentence classification where the study has it."""
        return next((subject for subject in self.subjects if subject.name in self.grids), None)

    @property
    def heads(self) -> list[Subject]:
        """Groups, and targets that are alone in theirs."""
        inside = {target.name for s in self.subjects if len(s.targets) > 1 for target in s.targets}
        return [subject for subject in self.subjects if subject.name not in inside]

    def of(self, subject: Subject, recipe: str | None = None) -> list[Relation]:
        """Relations of a subject, under the recipe that is looked at first unless another."""
        found = self.relations.get(recipe or self.recipe, [])
        return [one for one in found if one.subject == subject]

    def strongest(self, subject: Subject) -> Relation | None:
        """The largest correlation of a subject; None where there is none."""
        known = [one for one in self.of(subject) if one.strength]
        return max(known, key=lambda one: one.strength, default=None)


def find(study: Study, model: str) -> Findings:
    """Compute all for a model."""
    about, known = subjects(study), measures(study, model)
    recipe = BASELINE if BASELINE in study.recipes else study.recipes[0]
    recipes = [recipe, *(name for name in study.recipes if name != recipe)]
    found = {
        subject.name: whole(study, subject, grids(study, model, recipe, subject))
        for subject in about
    }
    joints = [joint(study, model, recipe, subject, known) for subject in about] if known else []
    planted = next((measure for measure in known if measure.name == PLANTED), None)
    ranked = [everything(study), *about] if len(study.targets) > 1 else about
    return Findings(
        model=model,
        title=model_title(study, model),
        recipe=recipe,
        subjects=about,
        measures=known,
        grids={name: grid for name, grid in found.items() if grid is not None},
        relations={name: relations(study, model, name, about, known) for name in recipes},
        flattenings={subject.name: flattenings(study, model, subject, known) for subject in about},
        joints=[one for one in joints if one is not None],
        rankings=rankings(study, model, ranked, planted) if planted else [],
    )

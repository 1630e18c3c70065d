"""Question 3: how does linguistic distance degrade zero-shot transfer?"""

from __future__ import annotations

from xstilts.analysis.answer import Answer
from xstilts.analysis.questions.distance.figures import figures
from xstilts.analysis.questions.distance.findings import find
from xstilts.analysis.questions.distance.tables import tables
from xstilts.analysis.questions.distance.text import cannot, methods, says
from xstilts.analysis.study import Study

QUESTION = "distance"
TITLE = "How does linguistic distance degrade zero-shot transfer?"


def answer(study: Study) -> Answer:
    """Relate what languages lose against the source language to how far they are from it.

    Per model: correlations and slopes for every target, group and measure, under each recipe; what
    recipes change in the slopes; regressions on several measures at once; and, where distances are
    planted, the recovered order of languages against the planted one.
    """
    found = [find(study, model) for model in study.models]
    paragraphs = tuple(text for own in found for text in says(study, own))
    missing = tuple(text for own in found for text in cannot(study, own))
    if not paragraphs:
        return Answer(QUESTION, TITLE, cannot=missing)
    return Answer(
        QUESTION, TITLE, paragraphs, missing, methods(study, found), tables(found), figures(found)
    )

"""The questions asked of a study, a package each; its `answer.answer(study)` gives the Answer."""

#: In the order of the report.
QUESTIONS = (
    "tasks",
    "robustness",
    "distance",
    "number",
    "reasoning",
    "prediction",
    "published",
)

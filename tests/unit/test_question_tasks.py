"""The first question: planted effects are found, nothing is found where there is nothing."""

import re
from pathlib import Path

import numpy as np
import pytest

from planted import planted_study
from xstilts.analysis.answer import read_answer, write_answer
from xstilts.analysis.figures import save
from xstilts.analysis.questions.tasks.answer import answer
from xstilts.analysis.questions.tasks.choice import choose
from xstilts.analysis.questions.tasks.comparison import Comparison

#: Points over `none` in all languages but the source, by recipe and target.
EFFECTS = {
    "none": {"nli": 0.0, "ner": 0.0, "find": 0.0},
    "good": {"nli": 4.0, "ner": 5.0, "find": 12.0},
    "mixed": {"nli": 6.0, "ner": -6.0, "find": 0.0},
    "bad": {"nli": -5.0, "ner": -4.0, "find": -9.0},
}
SIZES = {"nli": 9, "ner": 12, "find": 7}
TARGETS = {"find": {"train": []}}


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def scores(effects=EFFECTS, seeds=4, noise=0.5, seed=1, sizes=SIZES):
    """Scores [seeds, languages] around 60; `none` without fine-tuning has one seed.

    A recipe differs from `none` by its effect, by seeds, by languages and by noise.
    """
    generator = np.random.default_rng(seed)
    base = {name: generator.normal(60, 8, size) for name, size in sizes.items()}
    found = {}
    for recipe, gains in effects.items():
        for target, size in sizes.items():
            values = base[target] + gains[target] + generator.normal(0, noise, (seeds, size))
            if recipe != "none":
                values += generator.normal(0, noise, (seeds, 1))
                values += generator.normal(0, noise, (1, size))
            found["m", recipe, target] = values
    found["m", "none", "find"] = base["find"][None, :]
    return found


def dev(values, lifted=()):
    """Dev scores of the fine-tuned targets: the mean of the test scores; some recipes lifted."""
    return {
        key: [(row.mean() + 20 * (key[1:] in lifted)) / 100 for row in found]
        for key, found in values.items()
        if key[2] != "find"
    }


def study(values=None, dev_scores=None, targets=TARGETS, **changes):
    values = scores() if values is None else values
    dev_scores = dev(values) if dev_scores is None else dev_scores
    return planted_study(values, targets=targets, dev=dev_scores, **changes)


def rows(found, name, **keys):
    table = next(table for table in found.tables if table.name == name)
    return [row for row in table.rows if all(row.get(key) == v for key, v in keys.items())]


def one(found, name, **keys):
    (row,) = rows(found, name, **keys)
    return row


# ---- planted effects


def test_planted_gains_ranks_and_verdicts_are_found():
    found = answer(study())
    ranking = rows(found, "ranking", languages="zero-shot")
    assert [row["recipe"] for row in ranking] == ["good", "none", "mixed", "bad"] or [
        row["recipe"] for row in ranking
    ] == ["good", "mixed", "none", "bad"]
    for recipe, effects in EFFECTS.items():
        if recipe == "none":
            continue
        row = one(found, "ranking", languages="zero-shot", recipe=recipe)
        truth = np.mean(list(effects.values()))
        assert row["low"] <= truth <= row["high"]
        assert row["value"] == pytest.approx(truth, abs=1)
        for target, effect in effects.items():
            cell = one(found, "gains", languages="zero-shot", recipe=recipe, target=target)
            assert cell["value"] == pytest.approx(effect, abs=1.5)
    verdicts = {row["recipe"]: row.get("verdict") for row in ranking}
    assert verdicts["good"] == "higher"
    assert verdicts["bad"] == "lower"
    assert verdicts["mixed"] == "cannot be told apart"
    assert (ranking[0]["rank_low"], ranking[0]["rank_high"]) == (1, 1)
    assert (ranking[3]["rank_low"], ranking[3]["rank_high"]) == (4, 4)
    assert [(row["rank_low"], row["rank_high"]) for row in ranking[1:3]] == [(2, 3)] * 2
    assert one(found, "ranking", languages="all", recipe="good")["gaining"] == 100
    assert one(found, "ranking", languages="all", recipe="bad")["gaining"] == 0


def test_the_ranking_is_told_from_the_numbers():
    said = " ".join(answer(study()).says)
    assert "without en: over 3 targets good ranks first" in said
    assert "The 95 % set of its rank is 1 of 4. Tested pair by pair, it is higher than all" in said
    assert (
        "Tested against none only, good is higher than none over all targets; bad is lower than"
        in said
    )
    assert "mixed is not to be told apart from none" in said


def test_the_source_language_counts_in_all_languages_only():
    values = scores()
    for recipe in ("good", "mixed", "bad"):
        values["m", recipe, "nli"][:, 0] += 45
    found = answer(study(values))
    with_it = one(found, "gains", languages="all", recipe="good", target="nli")
    without = one(found, "gains", languages="zero-shot", recipe="good", target="nli")
    assert with_it["value"] - without["value"] == pytest.approx(45 / 9, abs=0.2)
    assert (with_it["language_count"], without["language_count"]) == (9, 8)


def false_findings(times):
    """How often gains, gains over all targets, and ranks say anything where there is nothing."""
    recipes = dict.fromkeys(["none", "a", "b", "c"], dict.fromkeys(SIZES, 0.0))
    found = np.zeros(3, dtype=int)
    for seed in range(times):
        values = scores(recipes, 3, 1.0, seed)
        compared = Comparison(planted_study(values, targets=TARGETS), "m", True)
        for place, gains in enumerate((compared.gains, compared.overall)):
            verdicts = {gain.general.verdict for gain in gains if gain.general is not None}
            found[place] += verdicts != {"cannot be told apart"}
        found[2] += {(gain.rank.low, gain.rank.high) for gain in compared.overall} != {(1, 4)}
    return found


def test_without_an_effect_nothing_is_found():
    assert (false_findings(15) <= 3).all()


@pytest.mark.slow
def test_without_an_effect_the_families_reject_in_five_percent_at_most():
    # 5 % of 1,000, and twice the standard error of such a share.
    found = false_findings(1000)
    assert (found <= 64).all(), found


# ---- the choice on dev


def test_the_best_recipe_of_each_target_is_chosen_on_dev():
    values = scores()
    found = answer(study(values, dev(values, lifted={("bad", "ner")})))
    chosen = {row["target"]: row for row in rows(found, "chosen", languages="zero-shot")}
    assert [chosen[name]["recipe"] for name in ("nli", "ner", "find")] == ["mixed", "bad", "none"]
    assert [chosen[name]["best"] for name in ("nli", "ner", "find")] == ["mixed", "good", "good"]
    assert [chosen[name]["regret"] for name in ("nli", "ner", "find")] == [
        0,
        pytest.approx(9, abs=1),
        pytest.approx(12, abs=1),
    ]
    assert chosen["ner"]["dev"] == pytest.approx(
        100 * np.mean(dev(values, lifted={("bad", "ner")})["m", "bad", "ner"])
    )
    assert chosen["find"]["note"] == "No dev data: none is kept."
    way = {row["way"]: row for row in rows(found, "totals", languages="zero-shot")}
    total = way["best on dev for each target"]
    assert total["value"] == pytest.approx((6 - 4 + 0) / 3, abs=0.5)
    assert total["low"] < 2 / 3 < total["high"]
    oracle = way["best on test for each target"]
    assert oracle["value"] == pytest.approx((6 + 5 + 12) / 3, abs=0.7)
    assert oracle["low"] is None
    assert total["regret"] == pytest.approx(oracle["score"] - total["score"])
    assert oracle["regret"] == 0
    assert "FIND has no dev data" in " ".join(found.cannot)


def test_equal_dev_scores_leave_the_first_recipe_of_the_study():
    choice = choose("t", {"none": 50.0, "a": 70.0, "b": 70.0, "c": None})
    assert (choice.recipe, choice.ties, choice.without) == ("a", ("b",), ("c",))
    assert choose("t", {"a": None}).recipe is None
    assert choose("t", {"none": None, "a": None}).recipe == "none"


def test_one_recipe_for_all_is_the_best_on_dev_over_targets():
    values = scores()
    total = one(answer(study(values)), "totals", languages="all", way="one recipe, best on dev")
    assert total["value"] == pytest.approx(7, abs=0.7)


# ---- what cannot be said


def nothing_undue(found):
    """No interval without a right to it, no number that is not finite."""
    for table in found.tables:
        for row in table.rows:
            for value in row.values():
                assert not isinstance(value, float) or np.isfinite(value)
    text = " ".join((*found.says, *found.cannot))
    assert not re.search(r"\b(nan|inf|None)\b", text)
    return text


def test_one_seed_gives_gains_and_no_intervals():
    values = {key: found[:1] for key, found in scores().items()}
    found = answer(study(values))
    text = nothing_undue(found)
    row = one(found, "ranking", languages="zero-shot", recipe="good")
    assert row["value"] == pytest.approx(7, abs=1)
    assert (row["low"], row["these_low"], row["rank_low"]) == (None, None, None)
    assert (row["verdict"], row["rank"]) == ("cannot be said", 1)
    assert "gains have no interval. One seed" in text
    assert "It could not be tested against any of the other 3 recipes" in text
    assert "told apart" not in text


def test_a_missing_cell_takes_a_recipe_out_of_the_mean_only():
    values = scores()
    del values["m", "good", "ner"]
    found = answer(study(values))
    text = nothing_undue(found)
    row = one(found, "ranking", languages="zero-shot", recipe="good")
    assert (row.get("rank"), row["score"], row["why"]) == (None, None, "No scores on ner.")
    assert "good has no scores on NER. It has no rank over all targets." in text
    assert one(found, "gains", languages="all", recipe="good", target="nli")["rank"] == 2
    assert one(found, "ranking", languages="all", recipe="mixed")["rank"] is not None


def test_a_target_without_none_has_ranks_and_no_gains():
    values = scores()
    del values["m", "none", "ner"]
    found = answer(study(values))
    text = nothing_undue(found)
    row = one(found, "gains", languages="all", recipe="good", target="ner")
    assert (row["rank"], row.get("value"), row["why"]) == (1, None, "No scores of none.")
    assert "there are no gains on NER, as recipe none has no scores there" in text
    assert "over 2 targets" in text
    assert {row["targets"] for row in rows(found, "totals")} == {2}


def test_a_study_without_none_is_ranked_all_the_same():
    values = {key: found for key, found in scores().items() if key[1] != "none"}
    found = answer(study(values))
    text = nothing_undue(found)
    assert "over 3 targets good ranks first" in text
    assert rows(found, "totals") == []


def test_one_recipe_or_none_cannot_be_compared():
    values = {key: found for key, found in scores().items() if key[1] == "none"}
    found = answer(study(values))
    assert found.says == found.tables == found.figures == ()
    assert found.cannot == ("m: no target has scores of two recipes. Add a recipe to the study.",)


def test_constant_scores_and_ties_have_no_interval():
    values = {key: np.full((3, 5), 50.0) for key in scores()}
    found = answer(study(values, targets={}))
    text = nothing_undue(found)
    assert {row["rank"] for row in rows(found, "ranking")} == {1}
    assert {row.get("low") for row in rows(found, "ranking")} == {None}
    assert "All differences are equal" in text
    assert {row["recipe"] for row in rows(found, "chosen")} == {"none"}


def test_one_target_and_one_language():
    values = {key: found[:, :1] for key, found in scores().items() if key[2] == "nli"}
    text = nothing_undue(answer(study(values)))
    assert "no target has another language than en" in text
    assert "One language: the spread over languages is not known" in text
    assert "with one target, the mean over targets is that target's" in text


def test_seeds_that_targets_do_not_share():
    values = scores()
    values["m", "good", "ner"][:2] = np.nan
    values["m", "good", "nli"][2:] = np.nan
    found = answer(study(values))
    text = nothing_undue(found)
    assert "good over all targets: No seed shared by all targets and none." in text
    assert one(found, "gains", languages="all", recipe="good", target="nli")["seed_count"] == 2


# ---- several models, files


def test_each_model_has_its_paragraphs_rows_and_figure(tmp_path: Path):
    values = scores()
    values |= {("n", *key[1:]): found for key, found in scores(seed=2).items()}
    models = {"m": {"title": "Model M"}, "n": {"title": "Model N"}}
    found = answer(study(values, models=models))
    assert sum("Model N, without en" in text for text in found.says) == 1
    assert {row["model"] for row in rows(found, "gains")} == {"m", "n"}
    assert [figure.name for figure in found.figures] == ["tasks", "by_target_m", "by_target_n"]
    write_answer(found, tmp_path / "a")
    write_answer(answer(study(values, models=models)), tmp_path / "b")
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert {"tasks.svg", "by_target_m.svg", "ranking.csv", "gains.csv"} <= names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert read_answer(tmp_path / "a" / "answer.json").says == found.says
    assert "<!-- good -->" in (tmp_path / "a" / "tasks.svg").read_text(encoding="utf-8")


def test_figures_are_drawn_where_much_is_missing(tmp_path: Path):
    values = {key: found[:1] for key, found in scores().items()}
    del values["m", "good", "ner"]
    del values["m", "none", "nli"]
    for figure in answer(study(values)).figures:
        save(figure.draw, figure.size, tmp_path / f"{figure.name}.svg")
        assert (tmp_path / f"{figure.name}.svg").stat().st_size > 1000

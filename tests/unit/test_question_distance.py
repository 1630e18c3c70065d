"""Question 3: planted slopes come back, with intervals that hold; bad input says what it cannot."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from planted import planted_study
from xstilts.analysis.answer import Answer, Table, read_answer, write_answer
from xstilts.analysis.labels import best_offset, label_box, shared_areas
from xstilts.analysis.questions.distance.answer import answer
from xstilts.analysis.questions.distance.joint import choose, inflation, joint, standard
from xstilts.analysis.questions.distance.ranking import ranking
from xstilts.analysis.questions.distance.relations import Relation, flattenings, relations
from xstilts.analysis.questions.distance.values import (
    Measure,
    drop,
    everything,
    measures,
    subjects,
    together,
)
from xstilts.analysis.stats.multiple import holm
from xstilts.analysis.study import Grid, Study
from xstilts.session import Session

Floats = NDArray[np.float64]
NLI = {"group": "classification", "title": "NLI"}


def codes(number: int) -> list[str]:
    return ["en", *(f"l{place}" for place in range(1, number + 1))]


def scores(
    generator: np.random.Generator,
    x: Floats,
    slope: float = 0.0,
    seeds: int = 3,
    spread: float = 2.0,
) -> Floats:
    """Scores of the source and of languages [seeds, 1 + languages], random in all three ways."""
    languages = generator.normal(0, spread, len(x) + 1)
    noise = generator.normal(0, 1, (seeds, len(x) + 1)) + generator.normal(0, 1, (seeds, 1))
    return np.asarray(80 + slope * np.concatenate([[0], x]) + languages + noise)


def known(study: Study, measured: Mapping[str, Sequence[float | None]], **far: str) -> Study:
    """The study with measures of its languages beside the source, in order."""
    others = [row["code"] for row in study.languages if row["code"] != study.source]
    table = {
        code: {name: values[place] for name, values in measured.items()}
        for place, code in enumerate(others)
    }
    study.distances = {model: table for model in study.models}
    study.measures = [
        {
            "name": name,
            "title": f"{name.capitalize()} distance",
            "meaning": "",
            "source": "",
            "far": far.get(name, "high"),
        }
        for name in measured
    ]
    return study


def measure(name: str, x: Floats, sign: int = 1) -> Measure:
    return Measure(name, name, "", dict(zip(codes(len(x))[1:], x.tolist(), strict=True)), sign)


def only(table: Table, **wanted: Any) -> dict[str, Any]:
    """The one row with these values."""
    found = [row for row in table.rows if all(row.get(key) == wanted[key] for key in wanted)]
    assert len(found) == 1
    return found[0]


def table(found: Answer, name: str) -> Table:
    return next(one for one in found.tables if one.name == name)


# --- Values ---


def test_a_drop_is_taken_per_seed() -> None:
    grid = Grid((1, 2), ("en", "l1", "l2"), np.array([[80.0, 70, 60], [90, 70, 65]]))
    found = drop(grid, "en")
    assert found.languages == ("l1", "l2")
    assert found.values.tolist() == [[-10, -20], [-20, -25]]


def test_scores_stay_where_the_source_has_none() -> None:
    grid = Grid((1,), ("l1", "l2"), np.array([[70.0, 60]]))
    assert drop(grid, "en").values.tolist() == [[70, 60]]


def test_targets_with_the_same_languages_are_averaged() -> None:
    one = Grid((1, 2), ("l1", "l2"), np.array([[1.0, 2], [3, 4]]))
    other = Grid((2, 1), ("l2", "l1"), np.array([[30.0, 20], [10, 0]]))
    found = together([one, other])
    assert found is not None
    assert found.seeds == (1, 2)
    np.testing.assert_allclose(found.values, [[0.5, 6], [11.5, 17]])


def test_an_easy_target_does_not_lift_its_languages() -> None:
    # Languages 1, 2, 3 are worth 0, -10, -20; the second target is 30 points easier.
    one = Grid((1,), ("l1", "l2"), np.array([[50.0, 40]]))
    easy = Grid((1,), ("l2", "l3"), np.array([[70.0, 60]]))
    found = together([one, easy])
    assert found is not None
    np.testing.assert_allclose(found.values, [[65, 55, 45]])
    only_first = together([one, easy], [True, False])
    assert only_first is not None
    np.testing.assert_allclose(only_first.values, [[50, 40, 30]])


def test_targets_without_a_language_in_common_cannot_be_put_together() -> None:
    one = Grid((1,), ("l1", "l2"), np.zeros((1, 2)))
    other = Grid((1,), ("l3", "l4"), np.zeros((1, 2)))
    assert together([one, other]) is None
    assert together([one, Grid((2,), ("l1", "l2"), np.zeros((1, 2)))]) is None


def test_one_seed_that_stands_for_all_has_each() -> None:
    fixed = Grid((1,), ("l1", "l2"), np.array([[10.0, 20]]), fixed=True)
    drawn = Grid((1, 2), ("l1", "l2"), np.array([[0.0, 2], [4, 6]]))
    found = together([fixed, drawn])
    assert found is not None
    np.testing.assert_allclose(found.values, [[5, 11], [7, 13]])


# --- Planted slopes ---


def slopes(sets: int, groups: bool) -> tuple[float, float]:
    """Share of intervals that hold the planted slope, and the mean of the slopes minus it."""
    generator = np.random.default_rng(11)
    x = generator.normal(size=14)
    few = codes(14)[:1] + codes(14)[6:]
    inside, values = 0, []
    for _ in range(sets):
        first = scores(generator, x, -4.0)
        data: dict[tuple[str, str, str], Floats] = {("m", "none", "nli"): first}
        languages = {"nli": codes(14)}
        if groups:
            # The second target has 9 of the languages; what is theirs alone is shared.
            second = first[:, [0, *range(6, 15)]] - 20 + generator.normal(0, 1, (3, 10))
            data["m", "none", "pi"] = second
            languages["pi"] = few
        study = planted_study(
            data,
            languages=languages,
            targets={name: {"group": "classification"} for name in languages},
        )
        found = relations(study, "m", "none", subjects(study)[:1], [measure("planted", x)])
        slope = found[0].slope
        assert slope is not None
        assert slope.low is not None
        assert slope.high is not None
        truth = -4.0 * x.std(ddof=1)
        inside += slope.low <= truth <= slope.high
        values.append(slope.value - truth)
    return inside / sets, float(np.mean(values))


@pytest.mark.parametrize("groups", [False, True])
def test_a_planted_slope_comes_back(groups: bool) -> None:
    covered, bias = slopes(120, groups)
    assert 0.90 <= covered <= 0.99
    assert abs(bias) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("groups", [False, True])
def test_intervals_of_slopes_cover_in_a_thousand_worlds(groups: bool) -> None:
    covered, bias = slopes(1000, groups)
    assert 0.93 <= covered <= 0.97
    assert abs(bias) < 0.06


def flattened(sets: int, change: float) -> float:
    """Share of intervals that hold the planted change of the slope."""
    generator = np.random.default_rng(12)
    x = generator.normal(size=10)
    inside = 0
    for _ in range(sets):
        before = scores(generator, x, -5.0)
        # What a recipe does to a language is random as well, beside what it does to all.
        gain = change * np.concatenate([[0], x]) + generator.normal(0, 1, 11)
        after = before + gain + generator.normal(0, 1, before.shape)
        study = planted_study({("m", "none", "nli"): before, ("m", "r", "nli"): after})
        (found,) = flattenings(study, "m", subjects(study)[0], [measure("planted", x)])
        assert found.change is not None
        assert found.change.low is not None
        assert found.change.high is not None
        truth = change * x.std(ddof=1)
        inside += found.change.low <= truth <= found.change.high
    return inside / sets


def test_a_planted_flattening_comes_back() -> None:
    assert 0.90 <= flattened(120, 2.0) <= 0.99


@pytest.mark.slow
def test_intervals_of_flattenings_cover_in_a_thousand_worlds() -> None:
    assert 0.93 <= flattened(1000, 2.0) <= 0.97


def false_findings(sets: int) -> tuple[float, float]:
    """Share of worlds without any effect in which a relation, or a bend, is found."""
    generator = np.random.default_rng(13)
    base = generator.normal(size=(14, 1))
    x = base + generator.normal(size=(14, 4))
    asked = [measure(name, column) for name, column in zip("abcd", x.T, strict=True)]
    related = bent = 0
    for _ in range(sets):
        none = scores(generator, x[:, 0])
        data = {("m", "none", "nli"): none, ("m", "none", "qa"): scores(generator, x[:, 0])}
        for recipe in ("r", "s"):
            language = generator.normal(0, 1, none.shape[1])
            noise = generator.normal(0, 1, none.shape)
            data["m", recipe, "nli"] = none + language + noise
        study = planted_study(data)
        about = subjects(study)
        related += any(one.holds for one in relations(study, "m", "none", about, asked))
        found = flattenings(study, "m", about[0], asked)
        bent += any(one.bend in ("flattens", "steepens") for one in found)
    return related / sets, bent / sets


def test_without_an_effect_little_is_found() -> None:
    related, bent = false_findings(60)
    assert related <= 0.10
    assert bent <= 0.10


@pytest.mark.slow
def test_without_an_effect_corrected_tests_reject_in_five_of_a_hundred_at_most() -> None:
    related, bent = false_findings(1000)
    assert related <= 0.05
    assert bent <= 0.05


@pytest.mark.parametrize(
    ("slope", "bend"), [(-1.0, "flattens"), (-9.0, "steepens"), (9.0, "steepens")]
)
def test_bends_are_told_by_the_slope_without_sign(slope: float, bend: str) -> None:
    generator = np.random.default_rng(3)
    x = np.linspace(-2, 2, 9)
    before = scores(generator, x, -4.0, spread=0.1)
    after = before + (slope + 4.0) * np.concatenate([[0], x])
    after += generator.normal(0, 0.2, after.shape)
    study = planted_study({("m", "none", "nli"): before, ("m", "r", "nli"): after})
    (found,) = flattenings(study, "m", subjects(study)[0], [measure("planted", x)])
    assert found.bend == bend


def test_small_values_that_are_far_turn_the_sign() -> None:
    x = np.array([1.0, 2, 3, 4, 6])
    generator = np.random.default_rng(1)
    # More pretraining data, higher scores: 5 points per unit.
    data = {("m", "none", "nli"): scores(generator, x, 5.0, spread=0.3)}
    study = known(planted_study(data), {"pretraining": x.tolist()}, pretraining="low")
    row = only(table(answer(study), "relations"), measure="pretraining")
    assert row["pearson"] < -0.9
    assert row["verdict"] == "falls with distance"
    assert row["per_unit"] == pytest.approx(5.0, abs=0.5)
    assert row["slope"] == pytest.approx(-row["per_unit"] * x.std(ddof=1), abs=1e-4)


def test_corrected_p_values_are_those_of_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    p = [0.01, 0.04, 0.03, 0.005, 0.8, 0.04, 0.5]
    assert holm([None, *p])[0] is None
    assert holm([None, *p])[1:] == pytest.approx(multipletests(p, method="holm")[1])
    assert holm([None, None]) == [None, None]
    assert holm([]) == []


# --- Several measures at once ---


def test_variance_inflation_is_that_of_statsmodels() -> None:
    from statsmodels.stats.outliers_influence import variance_inflation_factor

    design = np.random.default_rng(4).normal(size=(20, 3))
    design[:, 2] += 2 * design[:, 0]
    whole = np.column_stack([np.ones(20), design])
    wanted = [variance_inflation_factor(whole, place) for place in (1, 2, 3)]
    np.testing.assert_allclose(inflation(design), wanted)


def test_measures_are_chosen_in_a_fixed_order() -> None:
    generator = np.random.default_rng(5)
    x = generator.normal(size=(14, 4))
    asked = [
        measure("script", x[:, 0]),
        measure("genetic", x[:, 1] * 0),
        measure("pretraining", x[:, 2] + 1e-6 * x[:, 3]),
        measure("syntactic", x[:, 2]),
    ]
    chosen, languages = choose(asked, codes(14)[1:])
    # Pretraining repeats syntax, and genetic does not vary; 14 languages allow two.
    assert [one.name for one in chosen] == ["syntactic", "script"]
    assert len(languages) == 14
    assert choose(asked, codes(9)[1:]) == ([], tuple(codes(9)[1:]))


def test_a_blank_costs_its_language_only_where_the_measure_is_chosen() -> None:
    x = np.random.default_rng(6).normal(size=(12, 2))
    holes = measure("script", x[:, 1])
    del holes.values["l3"]
    chosen, languages = choose([measure("syntactic", x[:, 0]), holes], codes(12)[1:])
    assert [one.name for one in chosen] == ["syntactic", "script"]
    assert "l3" not in languages
    assert standard(chosen, languages).std(axis=0, ddof=1) == pytest.approx([1, 1])


def joints(sets: int) -> float:
    """Share of intervals that hold what a measure adds, with five languages per measure."""
    generator = np.random.default_rng(14)
    x = generator.normal(size=(15, 3))
    x[:, 1] += 0.7 * x[:, 0]
    names = ("syntactic", "genetic", "script")
    asked = [measure(name, column) for name, column in zip(names, x.T, strict=True)]
    truth = np.array([-3.0, 0.0, 1.0]) * x.std(axis=0, ddof=1)
    inside, failed = [], 0
    for _ in range(sets):
        data = scores(generator, x @ np.array([-3.0, 0.0, 1.0]), 1.0)
        study = planted_study({("m", "none", "nli"): data})
        found = joint(study, "m", "none", subjects(study)[0], asked)
        assert found is not None
        if not found.parts:
            assert "converge" in found.why
            failed += 1
            continue
        parts = {part.measure.name: part.slope for part in found.parts}
        for name, value in zip(names, truth, strict=True):
            slope = parts[name]
            assert slope.low is not None
            assert slope.high is not None
            inside.append(slope.low <= value <= slope.high)
    assert failed <= 0.02 * sets
    return float(np.mean(inside))


def test_what_each_measure_adds_comes_back() -> None:
    assert 0.85 <= joints(8) <= 1.0


@pytest.mark.slow
def test_intervals_of_several_measures_cover_in_a_thousand_worlds() -> None:
    assert 0.93 <= joints(1000) <= 0.97


# --- Planted order ---


def ranked(values: Sequence[float], distances: Sequence[float]) -> Any:
    study = planted_study({("m", "none", "nli"): [[90.0, *values]]})
    far = Measure(
        "planted", "Planted", "", dict(zip(codes(len(values))[1:], distances, strict=True))
    )
    return ranking(study, "m", "none", subjects(study)[0], far)


def test_ranks_by_hand() -> None:
    found = ranked([80, 60, 70, 50], [0.1, 0.2, 0.3, 0.4])
    assert found.planted == (1, 2, 3, 4)
    assert found.recovered == (1, 3, 2, 4)
    # One of six pairs is turned: (5 - 1) / 6; d squared sums to 2: 1 - 12 / 60.
    assert found.kendall == pytest.approx(4 / 6)
    assert found.spearman == pytest.approx(0.8)


def test_the_p_value_is_exact() -> None:
    from scipy.stats import kendalltau

    found = ranked([80, 60, 70, 50, 40], [0.1, 0.2, 0.3, 0.4, 0.5])
    exact = kendalltau([1, 2, 3, 4, 5], [1, 3, 2, 4, 5], method="exact")
    assert found.p == pytest.approx(exact.pvalue)
    # All orders of two pairs of equal values: 8 of 24 agree or disagree fully.
    assert ranked([80, 80, 70, 70], [0.1, 0.1, 0.2, 0.2]).p == pytest.approx(8 / 24)


def test_ties_share_ranks() -> None:
    found = ranked([80, 70, 70, 60], [0.1, 0.2, 0.3, 0.3])
    assert found.recovered == (1, 2.5, 2.5, 4)
    assert found.planted == (1, 2, 3.5, 3.5)


def test_equal_scores_have_no_order() -> None:
    found = ranked([70, 70, 70], [0.1, 0.2, 0.3])
    assert (found.kendall, found.spearman, found.p) == (None, None, None)


def test_the_planted_order_is_told() -> None:
    data = [[90.0, 80, 70, 65, 40], [88, 81, 69, 66, 42]]
    study = planted_study({("m", "none", "nli"): data, ("m", "r", "nli"): data})
    found = answer(known(study, {"planted": [0.25, 0.5, 0.75, 1.0]}))
    assert [row["recovered"] for row in table(found, "planted").rows[:4]] == [1, 2, 3, 4]
    assert only(table(found, "planted_agreement"), recipe="r")["kendall"] == 1
    assert "Kendall +1.00, exact p = 0.083" in " ".join(found.says)


# --- What cannot be said ---


@pytest.fixture
def real() -> Study:
    """Two recipes, targets of all kinds, measures with holes."""
    generator = np.random.default_rng(8)
    x = generator.uniform(0, 1, 12)
    y = generator.uniform(0, 1, 12)
    data: dict[tuple[str, str, str], Floats] = {}
    for recipe, slope in (("none", -20.0), ("mnli", -5.0)):
        data["m", recipe, "nli"] = scores(generator, x, slope, spread=0.3)
        data["m", recipe, "pi"] = scores(generator, x[:6], slope, spread=0.3)
        data["m", recipe, "few"] = scores(generator, x[:3], slope)
        data["m", recipe, "mined"] = scores(generator, x, slope)[:, 1:]
    languages = {"nli": codes(12), "pi": codes(6), "few": codes(3), "mined": codes(12)[1:]}
    group = {"group": "classification"}
    targets = {"nli": group, "pi": group, "mined": {"group": "retrieval", "train": []}}
    study = planted_study(data, languages=languages, targets=targets)
    holes: list[float | None] = [None if place in (2, 5) else y[place] for place in range(12)]
    return known(study, {"syntactic": x.tolist(), "script": [1.0] * 12, "genetic": holes})


def test_classification_is_first_and_flattening_is_told(real: Study) -> None:
    found = answer(real)
    assert found.question == "distance"
    assert table(found, "relations").rows[0]["target"] == "classification (group)"
    assert found.says[0].startswith("m, none, sentence classification (NLI and PI)")
    assert "mnli flattens it along syntactic distance" in " ".join(found.says)


def test_a_constant_measure_is_named(real: Study) -> None:
    found = answer(real)
    assert any("Script distance cannot be related to any target" in text for text in found.cannot)
    row = only(table(found, "relations"), recipe="none", target="nli", measure="script")
    assert row["verdict"] == "cannot be said"
    assert row.get("pearson") is None


def test_blank_measures_leave_their_languages_out(real: Study) -> None:
    rows = table(answer(real), "relations")
    assert only(rows, recipe="none", target="nli", measure="genetic")["n"] == 10
    assert only(rows, recipe="none", target="nli", measure="syntactic")["n"] == 12


def test_three_languages_have_no_interval_of_a_correlation(real: Study) -> None:
    row = only(table(answer(real), "relations"), recipe="none", target="few", measure="syntactic")
    assert row["n"] == 3
    assert row["low"] is None
    assert row["verdict"] == "cannot be said"
    row = only(table(answer(real), "relations"), recipe="none", target="few", measure="genetic")
    assert "2 languages" in row["why"]
    assert row.get("slope") is None


def test_scores_are_taken_where_the_source_has_none(real: Study) -> None:
    found = answer(real)
    row = only(table(found, "relations"), recipe="none", target="mined", measure="syntactic")
    assert row["value"] == "score"
    assert any("score itself is taken" in text and "MINED" in text for text in found.methods)


def test_answers_are_written_with_the_same_bytes(real: Study, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_answer(answer(real), tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert {"distance.svg", "relations.csv", "flattening.csv", "slopes_m.svg"} <= set(files)
    for name in files:
        one, two = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two"))
        assert one == two
    again = read_answer(tmp_path / "one" / "answer.json")
    tables = {found.name for found in again.tables}
    assert {figure.table for figure in again.figures} <= tables
    assert "joint" in tables


def test_without_measures_nothing_is_said() -> None:
    found = answer(planted_study({("m", "none", "nli"): [[90.0, 80, 70, 65]]}))
    assert not found.says
    assert "no distance of any language is known" in found.cannot[0]


def test_without_other_languages_nothing_is_said() -> None:
    study = planted_study({("m", "none", "nli"): [[90.0]]})
    study.languages.append({"code": "l1", "name": "One"})
    found = answer(known(study, {"syntactic": [1.0]}))
    assert not found.says
    assert "add languages" in found.cannot[0]


def test_none_alone_says_nothing_of_training() -> None:
    study = planted_study({("m", "none", "nli"): [[90.0, 80, 70, 66, 50]]})
    found = answer(known(study, {"syntactic": [0.1, 0.2, 0.3, 0.4]}))
    assert any("add recipes" in text for text in found.cannot)
    # One seed: languages still stand beside each other.
    assert table(found, "relations").rows[0]["low"] is not None


def test_without_none_the_first_recipe_is_looked_at() -> None:
    study = planted_study({("m", "r", "nli"): [[90.0, 80, 70, 66, 50]]})
    found = answer(known(study, {"syntactic": [0.1, 0.2, 0.3, 0.4]}))
    assert found.says[0].startswith("m, r, NLI")
    assert any("without the recipe none" in text for text in found.cannot)


def test_a_target_without_cells_of_none_is_named() -> None:
    data = [[90.0, 80, 70, 66, 50]]
    study = planted_study(
        {("m", "none", "nli"): data, ("m", "r", "nli"): data, ("m", "r", "qa"): data}
    )
    found = answer(known(study, {"syntactic": [0.1, 0.2, 0.3, 0.4]}))
    assert any("QA cannot be looked at under none" in text for text in found.cannot)
    rows = [row["target"] for row in table(found, "flattening").rows]
    assert rows == ["nli"]


def test_equal_scores_make_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    data = [[70.0] * 6] * 2
    study = planted_study({("m", "none", "nli"): data, ("m", "r", "nli"): data})
    found = answer(known(study, {"syntactic": [0.1, 0.2, 0.3, 0.4, 0.5]}))
    assert table(found, "relations").rows[0]["verdict"] == "cannot be said"
    assert table(found, "flattening").rows[0]["verdict"] == "cannot be said"
    assert not recwarn.list


def test_scores_on_one_line_have_no_interval(recwarn: pytest.WarningsRecorder) -> None:
    study = planted_study({("m", "none", "nli"): [[90.0, 80, 70, 60, 50]]})
    found = answer(known(study, {"syntactic": [0.1, 0.2, 0.3, 0.4]}))
    row = table(found, "relations").rows[0]
    assert row["pearson"] == -1
    assert row["low"] is None
    assert row["verdict"] == "cannot be said"
    assert not recwarn.list


def test_ties_in_a_measure_are_ranked_together() -> None:
    study = planted_study({("m", "none", "nli"): [[90.0, 80, 70, 60, 40]]})
    found = answer(known(study, {"script": [0.0, 0.0, 1.0, 1.0]}))
    # Ranks 1.5 1.5 3.5 3.5 against 4 3 2 1.
    row = table(found, "relations").rows[0]
    assert row["spearman"] == pytest.approx(-2 / 5**0.5, abs=1e-6)


# --- Small things ---


def test_measures_of_a_study(real: Study) -> None:
    found = {one.name: one for one in measures(real, "m")}
    assert list(found) == ["syntactic", "script", "genetic"]
    assert len(found["genetic"].values) == 10
    assert everything(real).targets == tuple(real.targets)


def test_labels_stand_apart_as_long_as_there_is_room() -> None:
    place, edge = np.array([100.0, 100.0]), np.array([0.0, 0.0, 200.0, 200.0])
    taken = np.array([[98.0, 98.0, 102.0, 102.0]])
    for name in ("ab", "cd", "ef", "gh", "ij", "kl"):
        offset = best_offset(name, place, taken, edge)
        taken = np.concatenate([taken, label_box(name, place + offset)[None]])
    shared = shared_areas(taken, taken)
    assert np.count_nonzero(shared) == len(taken)  # each with itself


def test_labels_stay_inside() -> None:
    edge = np.array([0.0, 0.0, 50.0, 50.0])
    for corner in ([0.0, 0.0], [50.0, 50.0], [0.0, 50.0], [50.0, 0.0]):
        offset = best_offset("ab", np.array(corner), np.zeros((0, 4)), edge)
        box = label_box("ab", np.array(corner) + offset)
        assert shared_areas(box[None], edge[None]) == pytest.approx(np.prod(box[2:] - box[:2]))


def test_a_relation_is_strong_whatever_its_sign(real: Study) -> None:
    found: list[Relation] = relations(real, "m", "none", subjects(real), measures(real, "m"))
    assert all(one.strength >= 0 for one in found)
    assert max(found, key=lambda one: one.strength).measure.name == "syntactic"


# --- The study ---


def test_the_study_is_planned(repository: Path) -> None:
    plan = Session.of_file(repository / "studies" / "distance.yaml", repository).plan
    stages = Counter(job.stage for job in plan.jobs.values())
    models, trained, seeds = 2, 3, 3
    assert stages["distances"] == models
    assert stages["intermediate"] == models * trained * seeds
    # xnli, pawsx, siqa, copa after it, udpos, panx, squad and tydiqa
    assert stages["finetune"] == models * (1 + trained) * seeds * 8
    # Nothing random happens before retrieval without intermediate training.
    assert stages["score"] == models * ((1 + trained) * seeds * 10 - (seeds - 1) * 2)
    folders = plan.jobs["analysis"].spec["inputs"]["distances"]
    assert len(folders) == models

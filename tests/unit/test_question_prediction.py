"""Predictions against measured scores: regret by hand, ties, blanks, planted truth."""

import json
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.stats import spearmanr

from planted import planted_study
from xstilts.analysis.answer import Answer, Row, read_answer, write_answer
from xstilts.analysis.questions.prediction.answer import answer
from xstilts.analysis.stats.regret import rank_correlation, regret
from xstilts.artifacts.publish import publishing
from xstilts.errors import InputError

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- regret


def test_regret_by_hand() -> None:
    scores = [50.0, 80.0, 60.0]
    assert regret([0.9, 0.5, 0.1], scores, 1) == pytest.approx(100 * 30 / 80)
    assert regret([0.9, 0.1, 0.5], scores, 2) == pytest.approx(100 * 20 / 80)
    assert regret([0.9, 0.5, 0.1], scores, 2) == 0
    assert regret([0.9, 0.5, 0.1], scores, 3) == 0
    assert regret([0.1, 0.9, 0.5], [0.0, 0.0, 0.0], 1) is None


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_a_random_choice_is_the_mean_over_all_choices(k: int) -> None:
    scores = [50.0, 80.0, 60.0, 60.0, 10.0]
    each = [100 * (80 - max(chosen)) / 80 for chosen in combinations(scores, k)]
    assert regret([1.0] * 5, scores, k) == pytest.approx(fmean(each))


def test_ties_are_drawn_and_blanks_come_last() -> None:
    scores = [50.0, 80.0, 60.0, 70.0]
    # The first is sure, one of the next two joins it.
    assert regret([0.9, 0.5, 0.5, None], scores, 2) == pytest.approx(100 * (0 + 20) / 2 / 80)
    assert regret([None, None, 0.5, None], scores, 1) == pytest.approx(25)
    assert regret([None, None, 0.5, None], scores, 2) == pytest.approx(100 * (20 + 0 + 10) / 3 / 80)


def test_rank_correlation_and_when_there_is_none() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=12), rng.normal(size=12)
    found = rank_correlation(list(x), list(y))
    assert found.spearman == pytest.approx(spearmanr(x, y).statistic)
    assert found.low is not None
    assert found.high is not None
    assert found.kendall is not None
    assert -1 < found.low < found.spearman < found.high < 1
    few = rank_correlation([1.0, 2.0, None, 3.0], [1.0, 2.0, 9.0, 4.0])
    assert (few.spearman, few.kendall, few.n, few.low) == (pytest.approx(1), 1, 3, None)
    assert "too few" in few.why
    assert rank_correlation([1.0, 2.0], [1.0, 2.0]).spearman is None
    assert rank_correlation([1.0] * 4, [1.0, 2.0, 3.0, 4.0]).why == "all recipes are equal"
    assert rank_correlation(list(x), list(x)).low is None


def test_intervals_of_rank_correlations_cover() -> None:
    """Normal pairs with a rank correlation of 0.5, 2,000 times 12 recipes."""
    rng = np.random.default_rng(7)
    pearson = 2 * np.sin(np.pi * 0.5 / 6)
    draws = rng.multivariate_normal([0, 0], [[1, pearson], [pearson, 1]], size=(2000, 12))
    found = [rank_correlation(list(one[:, 0]), list(one[:, 1])) for one in draws]
    held = [one.low <= 0.5 <= one.high for one in found if one.low is not None]
    assert 0.93 <= fmean(held) <= 0.97


# ---- the answer


def publish(
    model: str,
    recipe: str,
    logme: dict[str, float | str],
    tasks: dict[str, tuple[int, float]] | None = None,
    vectors: dict[str, list[float]] | None = None,
    seed: int = 1,
) -> str:
    """An artifact of the transferability stage; a text in place of a LogME says why it is none."""
    out = f"transferability/{model}/seed-{seed}/{recipe}"
    targets = {
        task: {"logme": None, "why": value} if isinstance(value, str) else {"logme": value}
        for task, value in logme.items()
    }
    rows = [
        {"name": name, "examples": size, "share": share}
        for name, (size, share) in (tasks or {}).items()
    ]
    with publishing(Path(out), {"stage": "transferability"}) as draft:
        text = json.dumps({"targets": targets, "tasks": rows})
        (draft.folder / "transferability.json").write_text(text)
        if vectors:
            arrays = {name: np.array(vector, np.float32) for name, vector in vectors.items()}
            save_file(arrays, draft.folder / "embeddings.safetensors")
    return out


def rows(found: Answer, table: str) -> list[Row]:
    return list(next(one for one in found.tables if one.name == table).rows)


def row(found: Answer, table: str, **keys: Any) -> Row:
    (one,) = (r for r in rows(found, table) if all(r[key] == value for key, value in keys.items()))
    return one


def small(**changes: Any) -> Answer:
    """Two targets with training data and one without, two recipes and `none`, two seeds."""
    scores: dict[tuple[str, str, str], Any] = {
        ("m", "none", "one"): [[70, 60, 60], [70, 60, 60]],
        ("m", "a", "one"): [[80, 62, 64], [80, 64, 66]],  # zero-shot 64, all 69.33
        ("m", "b", "one"): [[99, 50, 54], [99, 52, 52]],  # zero-shot 52, all 67.67
        ("m", "none", "two"): [[70, 60], [70, 60]],
        ("m", "a", "two"): [[70, 40], [70, 40]],
        ("m", "b", "two"): [[70, 50], [70, 50]],
        ("m", "none", "three"): [[40, 40]],
        ("m", "a", "three"): [[30, 30], [30, 30]],
        ("m", "b", "three"): [[10, 10], [10, 10]],
    }
    folders = [
        publish("m", "none", {"one": 0.2, "two": 0.3}, vectors=TARGETS),
        publish("m", "a", {"one": 0.1, "two": 0.5}, {"ta": (10, 1.0)}, {"task/ta": [1, 0]}),
        publish("m", "b", {"one": 0.3, "two": 0.4}, {"one": (30, 0.75), "tb": (5, 0.25)}, MIXED),
        publish("m", "a", {"one": 0.7, "two": 0.3}, seed=2),
        publish("m", "b", {"one": 0.1, "two": 0.6}, seed=2),
    ]
    recipes = {"none": {}, "a": {"tasks": ["ta"]}, "b": {"tasks": ["one", "tb"]}}
    more = {"targets": {"three": {"train": []}}, "recipes": recipes, "models": {"m": {}}}
    more["inputs"] = {"layers": [], "transferability": folders}
    return answer(planted_study(scores, **(more | changes)))


TARGETS = {"target/one": [1.0, 0.0], "target/two": [0.0, 2.0]}
MIXED = {"task/one": [2.0, 0.0], "task/tb": [0.0, 4.0]}


def test_what_is_predicted() -> None:
    """LogME is averaged over seeds; the mixture's embedding is (1.5, 1), by its shares."""
    found = small()
    a = row(found, "predictions", recipe="a", target="one")
    assert a["logme"] == pytest.approx(0.4)
    assert (a["similarity"], a["size"]) == (1.0, 10)
    b = row(found, "predictions", recipe="b", target="two")
    assert b["logme"] == pytest.approx(0.5)
    assert b["similarity"] == pytest.approx(1 / np.hypot(1.5, 1), abs=1e-6)
    assert b["size"] == 35
    none = row(found, "predictions", recipe="none", target="one")
    assert (none["logme"], none["similarity"], none["size"]) == (0.2, None, None)
    assert a["zero-shot"] == 64
    assert a["zero-shot_gain"] == 4
    assert a["all"] == pytest.approx(69 + 1 / 3, abs=1e-6)


def test_rankings_and_regrets_by_hand() -> None:
    found = small()
    keys = {"predictor": "LogME", "languages": "zero-shot"}
    one = row(found, "rankings", target="one", **keys)
    assert (one["first"], one["best"], one["regret_1"]) == ("a", "a", 0)
    two = row(found, "rankings", target="two", **keys)
    assert (two["first"], two["best"], two["regret_1"]) == ("b", "b", 0)
    size = row(found, "rankings", target="one", predictor="Data size", languages="zero-shot")
    assert size["regret_1"] == pytest.approx(100 * 12 / 64)
    assert size["regret_3"] is None
    loss = row(found, "regret", predictor="Data size", languages="zero-shot")
    # One: 18.75 against 9.375 at random; two: 0 against 10; three: 66.67 against 33.33.
    assert loss["targets"] == 3
    assert loss["regret"] == pytest.approx((18.75 + 0 + 200 / 3) / 3, abs=1e-6)
    assert loss["random"] == pytest.approx((9.375 + 10 + 100 / 3) / 3, abs=1e-6)
    logme = row(found, "regret", predictor="LogME", languages="zero-shot")
    assert (logme["targets"], logme["regret"], logme["low"]) == (2, 0, None)
    assert logme["less_value"] == pytest.approx((9.375 + 10) / 2)


def test_what_cannot_be_said_is_said() -> None:
    found = small()
    text = "\n".join(found.cannot)
    assert "LogME says nothing of THREE: it has no training data" in text
    assert "regret@3 and regret@5 of 2 recipes" in text
    assert "b that of ONE" in text
    silent = row(found, "rankings", target="three", predictor="LogME", languages="all")
    assert silent["why"] == "it has no training data"
    assert not silent.get("regret_1")


def test_text_is_of_the_numbers() -> None:
    first = next(text for text in small().says if "LogME needs" in text)
    assert "0.0 % below the best one on average over 2 targets" in first
    assert "a random one is 9.7 % below it" in first
    size = next(text for text in small().says if "Data size" in text)
    assert "28.5 % below the best one on average over 3 targets" in size


def test_without_none_there_is_no_similarity_but_size_and_logme() -> None:
    scores = {("m", r, t): [[60.0, 50 + i, 40]] for i, r in enumerate("ab") for t in ("x", "y")}
    folders = [
        publish("m", "a", {"x": 0.1, "y": "all examples of the sample have the same label"}),
        publish("m", "b", {"x": 0.2, "y": "all examples of the sample have the same label"}),
    ]
    found = answer(planted_study(scores, inputs={"layers": [], "transferability": folders}))
    text = "\n".join(found.cannot)
    assert "not embedded; the study needs the recipe 'none'" in text
    assert "LogME says nothing of Y: all examples of the sample have the same label" in text
    assert row(found, "regret", predictor="LogME", languages="all")["targets"] == 1
    assert "on the one target that it ranks for" in found.says[0]


def test_constant_scores_and_scores_of_zero(tmp_path: Path) -> None:
    scores = {("m", r, "x"): [[0.0, 0.0]] for r in ("none", "a", "b")}
    scores |= {("m", r, "y"): [[50.0, 50.0]] for r in ("none", "a", "b")}
    folders = [publish("m", r, {"x": 0.1, "y": 0.1}) for r in ("none", "a", "b")]
    found = answer(planted_study(scores, inputs={"layers": [], "transferability": folders}))
    assert "no recipe scores above 0 on X" in "\n".join(found.cannot)
    y = row(found, "rankings", target="y", predictor="LogME", languages="all")
    assert (y["first"], y["best"], y["regret_1"]) == ("a or b", "a or b", 0)
    assert y["why"] == "2 recipes: too few"
    write_answer(found, tmp_path / "answer")


def test_studies_without_anything_to_predict(tmp_path: Path) -> None:
    scores = {("m", "none", "x"): [[50.0, 50.0]]}
    nothing = answer(planted_study(scores))
    assert not nothing.says
    assert "transferability: null" in nothing.cannot[0]
    folders = [publish("m", "none", {"x": 0.1})]
    one = answer(planted_study(scores, inputs={"layers": [], "transferability": folders}))
    assert not one.says
    assert "nothing to rank" in one.cannot[0]
    write_answer(one, tmp_path / "answer")


def test_damaged_artifact(tmp_path: Path) -> None:
    folder = publish("m", "a", {"x": 0.1})
    (tmp_path / folder / "transferability.json").write_text("{}")
    with pytest.raises(InputError, match=r"transferability\.json"):
        answer(
            planted_study(
                {("m", "a", "x"): [[1.0, 2.0]]},
                inputs={"layers": [], "transferability": [folder]},
            )
        )


def planted(strength: float, targets: int = 8, recipes: int = 12) -> Answer:
    """Scores that follow LogME as much as is said, and nothing else."""
    rng = np.random.default_rng(3)
    names = [f"r{number}" for number in range(recipes)]
    scores: dict[tuple[str, str, str], Any] = {}
    logme: dict[str, dict[str, float | str]] = {name: {} for name in ["none", *names]}
    for t in range(targets):
        scores["m", "none", f"t{t}"] = np.full((3, 5), 60.0)
        logme["none"][f"t{t}"] = 0.0
        for name in names:
            value = rng.normal()
            logme[name][f"t{t}"] = value
            level = 60 + 5 * strength * value + 5 * (1 - strength) * rng.normal()
            scores["m", name, f"t{t}"] = level + rng.normal(size=(3, 5))
    folders = [
        publish(
            "m",
            name,
            values,
            {name: (int(rng.integers(100, 1000)), 1.0)} if name != "none" else None,
        )
        for name, values in logme.items()
    ]
    return answer(planted_study(scores, inputs={"layers": [], "transferability": folders}))


def test_a_planted_prediction_is_found_and_none_is_not(tmp_path: Path) -> None:
    good, useless = planted(1.0), planted(0.0)
    keys = {"predictor": "LogME", "languages": "zero-shot", "k": 1}
    assert row(good, "regret", **keys)["less_verdict"] == "higher"
    assert row(good, "regret", **keys)["regret"] < 1.5
    assert "it is better than chance" in good.says[0]
    assert row(useless, "regret", **keys)["less_verdict"] == "cannot be told apart"
    by_size = row(good, "regret", **(keys | {"predictor": "Data size"}))
    assert by_size["less_verdict"] == "cannot be told apart"
    write_answer(good, tmp_path / "answer")
    again = read_answer(tmp_path / "answer" / "answer.json")
    assert [figure.name for figure in again.figures] == ["prediction", "logme-m"]
    first = (tmp_path / "answer" / "prediction.svg").read_bytes()
    write_answer(planted(1.0), tmp_path / "again")
    assert (tmp_path / "again" / "prediction.svg").read_bytes() == first

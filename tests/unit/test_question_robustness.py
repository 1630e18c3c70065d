"""NER against NLI: gaps by hand, planted effects, no effect, and what cannot be said."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from examples import row, rows, study_of_examples
from planted import planted_study
from xstilts.analysis.answer import read_answer, write_answer
from xstilts.analysis.questions.robustness.answer import KINDS, answer
from xstilts.analysis.questions.robustness.gaps import gaps_of
from xstilts.analysis.questions.robustness.pairings import changes_of, pairings_of, parts_of
from xstilts.analysis.questions.robustness.tables import spread_row
from xstilts.analysis.study import Grid
from xstilts.session import Session

pytestmark = pytest.mark.usefixtures("strict_results")

TARGETS = {
    "panx": {"kind": "ner", "title": "NER"},
    "xnli": {"kind": "nli", "title": "XNLI", "choices": 3},
}


# ---- gaps


def grid(*values, languages=("en", "de", "sw")):
    return Grid(tuple(range(1, len(values) + 1)), languages, np.array(values, dtype=float))


def test_gaps_by_hand():
    found = gaps_of(grid([80, 60, 40], [50, 40, 45]), "en", 100 / 3)
    assert found.points.languages == ("de", "sw")
    assert found.points.values.tolist() == [[-20, -40], [-10, -5]]
    assert found.shares.values.tolist() == [[-25, -50], [-20, -10]]
    # Above chance the source has 46.67 and 16.67 points.
    expected = np.array([[-20 / 46.6667, -40 / 46.6667], [-10 / 16.6667, -5 / 16.6667]])
    assert found.beyond.values == pytest.approx(100 * expected, rel=1e-5)
    assert found.why == ""


def test_no_gap_without_the_source_or_without_others():
    assert gaps_of(grid([60, 40], languages=("de", "sw")), "en") is None
    assert gaps_of(grid([60], languages=("en",)), "en") is None


def test_nothing_is_divided_by_a_score_next_to_nothing():
    found = gaps_of(grid([80, 60, 40], [0, 0, 0]), "en")
    assert found.shares is None
    assert found.beyond is None
    assert "0.0" in found.why
    at_chance = gaps_of(grid([80, 60, 40], [34, 33, 33]), "en", 100 / 3)
    assert at_chance.shares is not None
    assert at_chance.beyond is None
    assert "above chance (33.3)" in at_chance.why


# ---- by hand


def test_spread_and_the_lowest_languages_by_hand():
    study = study_of_examples(
        {
            ("m", "none", "panx"): [[90, 80, 20, 50, 60, 30, 40], [90, 80, 40, 50, 60, 30, 40]],
            ("m", "none", "xnli"): [[80, 70, 60, 70, 60, 70, 60], [80, 70, 60, 70, 60, 70, 60]],
        },
        targets=TARGETS,
    )
    found = answer(study)
    spread = row(found, "spread", target="panx")
    # Means over seeds: 80 30 50 60 30 40.
    means = np.array([80, 30, 50, 60, 30, 40])
    assert spread["source"] == 90
    assert spread["mean"] == pytest.approx(means.mean(), abs=1e-6)
    assert spread["sd"] == pytest.approx(means.std(ddof=1), abs=1e-6)
    assert (spread["lowest"], spread["highest"]) == (30, 80)
    assert spread["iqr"] == pytest.approx(57.5 - 32.5)
    assert spread["gap_value"] == pytest.approx(means.mean() - 90, abs=1e-6)
    assert spread["share_value"] == pytest.approx(100 * (means.mean() - 90) / 90, abs=1e-6)
    worst = [r for r in rows(found, "worst") if r["target"] == "panx"]
    assert [r["language"] for r in worst] == ["l2", "l5", "l6", "l3", "l4"]
    assert worst[0]["gap"] == pytest.approx(-60)
    assert worst[0]["share"] == pytest.approx(-66.666667)
    paired = row(found, "paired", language="l1")
    assert paired["share_difference"] == pytest.approx(100 * (80 / 90 - 70 / 80), abs=1e-6)
    assert any("l2 (30.0, \N{MINUS SIGN}60.0)" in text for text in found.says)


# ---- planted effects


def kept(rng, share, seeds=5, languages=20, spread=6.0, noise=1.0, source=85.0, common=None):
    """Scores of which other languages keep a share of the source's, in percent."""
    of_language = rng.normal(0, spread, languages) if common is None else common
    left = share + of_language + rng.normal(0, 0.5, (seeds, 1))
    left = left + rng.normal(0, noise, (seeds, languages))
    own = source + rng.normal(0, 0.3, (seeds, 1))
    return np.concatenate([own, own * left / 100], axis=1)


def test_planted_gaps_and_narrowing_are_found():
    rng = np.random.default_rng(1)
    ner, nli = rng.normal(0, 5, 12), rng.normal(0, 3, 12)
    scores = {}
    for recipe, more in (("none", 0), ("ccg", 8), ("mnli", 0)):
        scores["m", recipe, "panx"] = kept(rng, 65 + more, 5, 12, common=ner)
        scores["m", recipe, "xnli"] = kept(rng, 85, 5, 12, common=nli, source=88)
    found = answer(study_of_examples(scores, n=1000, targets=TARGETS))
    apart = row(found, "comparison", recipe="none")
    assert apart["share_low"] < 65 - 85 < apart["share_high"]
    assert apart["share_verdict"] == "lower"
    assert apart["beyond_value"] > apart["share_value"]  # XNLI above chance is closer
    ccg, mnli = (row(found, "comparison", recipe=recipe) for recipe in ("ccg", "mnli"))
    assert ccg["narrowing_low"] < 8 < ccg["narrowing_high"]
    assert ccg["narrowing_verdict"] == "higher"
    assert mnli["narrowing_verdict"] == "cannot be told apart"
    assert row(found, "changes", recipe="ccg", target="panx")["share_verdict"] == "higher"
    assert row(found, "changes", recipe="ccg", target="xnli")["share_verdict"] != "higher"
    text = " ".join(found.says)
    assert "NER loses more" in text
    assert "NER gains more than XNLI with ccg" in text
    assert "No effect can be told with mnli" in text


def test_languages_that_go_together_correlate():
    rng = np.random.default_rng(2)
    common = rng.normal(0, 8, 15)
    scores = {("m", "none", name): kept(rng, 70, 3, 15, common=common) for name in TARGETS}
    (found,) = pairings_of(*with_parts(scores), KINDS)
    assert found.together.pearson > 0.9
    assert found.together.low < found.together.pearson < found.together.high


def with_parts(scores):
    study = planted_study(scores, targets=TARGETS)
    return study, parts_of(study)


def test_a_difference_is_paired_over_what_both_share():
    languages = {"panx": ["en", "l1", "l2", "l3"], "xnli": ["en", "l3", "l4", "l1"]}
    scores = {
        ("m", "none", "panx"): [[80, 40, 10, 60], [80, 44, 10, 64], [np.nan] * 4],
        ("m", "none", "xnli"): [[80, 76, 1, 48], [np.nan] * 4, [80, 76, 1, 48]],
    }
    study = planted_study(scores, targets=TARGETS, languages=languages)
    (found,) = pairings_of(study, parts_of(study), KINDS)
    assert found.languages == ("l1", "l3")
    # Seed 1 alone has both: l1 50 % and 60 %, l3 75 % and 95 %.
    assert found.share.value == pytest.approx(((50 - 60) + (75 - 95)) / 2)
    assert found.share.low is None
    assert "One seed" in found.share.why


# ---- simulations


@pytest.mark.slow
def test_intervals_hold_the_planted_difference():
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(1000):
        ner, nli = kept(rng, 70, 5, 20), kept(rng, 82, 5, 20, spread=4)
        scores = {("m", "none", "panx"): ner, ("m", "none", "xnli"): nli}
        (found,) = pairings_of(*with_parts(scores), KINDS)
        held += found.share.low <= 70 - 82 <= found.share.high
    assert 930 <= held <= 970


@pytest.mark.slow
def test_without_an_effect_corrected_tests_reject_at_most_one_in_twenty():
    rng = np.random.default_rng(4)
    narrowed = changed = 0
    for _ in range(1000):
        common = {name: rng.normal(0, 5, 12) for name in TARGETS}
        scores = {
            ("m", recipe, name): kept(rng, 75, 5, 12, common=common[name])
            for recipe in ("none", "a", "b", "c")
            for name in TARGETS
        }
        study, parts = with_parts(scores)
        verdicts = {p.narrowing.verdict for p in pairings_of(study, parts, KINDS) if p.narrowing}
        narrowed += bool(verdicts & {"higher", "lower"})
        own = [c for c in changes_of(study, parts) if c.part.target.name == "panx"]
        changed += bool({c.share.verdict for c in own} & {"higher", "lower"})
    # 5 % of 1,000, and two standard deviations of the count.
    assert narrowed <= 64
    assert changed <= 64


# ---- noise of test sets


def test_a_language_with_few_examples_is_shown_and_flagged():
    scores = {
        ("m", "none", "panx"): [[80, 50, 50], [80, 50, 50]],
        ("m", "ccg", "panx"): [[80, 55, 55], [80, 55, 55]],
        ("m", "none", "xnli"): [[80, 70, 79], [80, 70, 79]],
        ("m", "ccg", "xnli"): [[80, 70, 79], [80, 70, 79]],
    }
    study = study_of_examples(scores, n={"en": 2000, "l1": 46, "l2": 2000}, targets=TARGETS)
    found = answer(study)
    few = row(found, "noise", recipe="ccg", target="panx", language="l1")
    many = row(found, "noise", recipe="ccg", target="panx", language="l2")
    assert (few["n"], many["n"]) == (46, 2000)
    assert few["upper"] - few["lower"] > 3 * (many["upper"] - many["lower"])
    assert (few["change_hidden"], many["change_hidden"]) == ("yes", "no")
    assert (few["gap_hidden"], many["gap_hidden"]) == ("no", "no")
    assert row(found, "noise", recipe="none", target="xnli", language="l2")["gap_hidden"] == "yes"
    text = " ".join(found.says)
    assert "NER: the smallest test set is l1 with 46 examples" in text
    assert "In 1 of 2 changes" in text


# ---- what cannot be said


def scored(recipes=("none", "ccg"), targets=("panx", "xnli"), seeds=3):
    rng = np.random.default_rng(5)
    return {("m", r, t): kept(rng, 70, seeds, 5) for r in recipes for t in targets}


def test_a_study_without_either_target_cannot_answer():
    study = study_of_examples(scored(targets=("udpos",)), targets={"udpos": {"kind": "pos"}})
    found = answer(study)
    assert not found.says
    assert len(found.cannot) == 2
    assert "kind ner" in found.cannot[0]
    assert "kind nli" in found.cannot[1]


def test_one_target_alone_is_described_but_not_compared():
    found = answer(study_of_examples(scored(targets=("panx",)), targets=TARGETS))
    assert any("kind nli" in text for text in found.cannot)
    assert any("The lowest" in text for text in found.says)
    assert not rows(found, "comparison")
    assert row(found, "spread", recipe="none")["gap_value"] < 0


def test_without_none_nothing_is_said_of_change():
    found = answer(study_of_examples(scored(recipes=("ccg", "mnli")), targets=TARGETS))
    assert any("no recipe none" in text for text in found.cannot)
    assert not rows(found, "changes")
    assert row(found, "comparison", recipe="ccg").get("narrowing_value") is None
    assert any("m, ccg: in the 5 languages" in text for text in found.says)


def test_one_seed_has_values_but_no_intervals():
    found = answer(study_of_examples(scored(seeds=1), targets=TARGETS))
    compared = row(found, "comparison", recipe="none")
    assert compared["share_value"] is not None
    assert compared["share_low"] is None
    assert compared["share_verdict"] == "cannot be said"
    assert row(found, "spread", recipe="none", target="panx")["sd_one"] is None
    assert any("One seed" in text and "Add seeds" in text for text in found.cannot)
    assert not any("NER loses more" in text for text in found.says)


def test_missing_cells_constant_scores_and_a_source_at_nothing():
    scores = scored()
    del scores["m", "ccg", "xnli"]
    scores["m", "flat", "panx"] = np.full((3, 6), 50.0)
    scores["m", "flat", "xnli"] = np.full((3, 6), 50.0)
    scores["m", "dead", "panx"] = np.zeros((3, 6))
    scores["m", "dead", "xnli"] = np.full((3, 6), 34.0)
    found = answer(study_of_examples(scores, targets=TARGETS))
    assert any("m, ccg: XNLI has no scores" in text for text in found.cannot)
    assert any("m, dead, NER: The lowest score" in text for text in found.cannot)
    assert any("above chance" in text for text in found.cannot)
    flat = row(found, "comparison", recipe="flat")
    assert flat["share_value"] == 0
    assert flat["share_low"] is None
    assert row(found, "comparison", recipe="dead").get("share_value") is None


def test_a_target_without_the_source_language_has_no_gap():
    languages = {"panx": ["l1", "l2", "l3"], "xnli": ["en", "l1", "l2"]}
    scores = {
        ("m", "none", "panx"): [[50, 60, 70], [52, 61, 73]],
        ("m", "none", "xnli"): [[80, 60, 70], [80, 61, 73]],
    }
    found = answer(study_of_examples(scores, targets=TARGETS, languages=languages))
    assert any("NER has no scores in the source language (en)" in text for text in found.cannot)
    spread = row(found, "spread", target="panx")
    assert spread["mean"] == pytest.approx(61)
    assert spread.get("gap_value") is None
    only_source = planted_study({("m", "none", "panx"): [[80.0]]}, targets=TARGETS)
    assert "mean" not in spread_row(parts_of(only_source)["m", "none", "panx"])


# ---- files


def test_the_answer_is_the_same_bytes_twice(tmp_path):
    scores = scored(targets=("panx", "xnli", "udpos"))
    scores |= {("other", *key[1:]): values for key, values in scores.items()}
    study = study_of_examples(scores, targets={**TARGETS, "udpos": {"kind": "pos"}})
    for name in ("a", "b"):
        write_answer(answer(study), Path(name))
    files = sorted(path.name for path in Path("a").iterdir())
    assert {"robustness.svg", "narrowing.svg", "gaps.svg", "context.svg"} <= set(files)
    for name in files:
        assert Path("a", name).read_bytes() == Path("b", name).read_bytes()
    back = read_answer(Path("a/answer.json"))
    assert {figure.table for figure in back.figures} <= {table.name for table in back.tables}
    with Path("a/noise.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2 * 2 * 2 * 5


# ---- the study


def test_the_study_is_planned(repository):
    plan = Session.of_file(repository / "studies" / "ner_nli.yaml", repository).plan
    stages = Counter(job.stage for job in plan.jobs.values())
    models, recipes, seeds, targets = 2, 5, 5, 2
    assert stages["intermediate"] == models * (recipes - 1) * seeds
    assert stages["finetune"] == stages["score"] == models * recipes * seeds * targets
    described = {target["name"]: target for target in plan.jobs["tables"].spec["targets"]}
    assert {name: len(target["languages"]) for name, target in described.items()} == {
        "xnli": 15,
        "panx": 40,
    }
    assert {name: target["kind"] for name, target in described.items()} == {
        "xnli": "nli",
        "panx": "ner",
    }
    # Only a choice of one answer has a chance to be hit blindly.
    assert {name: target["choices"] for name, target in described.items()} == {
        "xnli": 3,
        "panx": None,
    }
    rates = {
        job.out.split("/")[1]: job.spec["settings"]["learning_rate"] for job in plan.of("finetune")
    }
    assert rates == {"xlm-roberta-large": 1e-5, "bert-base-multilingual-cased": 2e-5}

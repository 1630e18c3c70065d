"""Reasoning with decoders: one seed of `none` stands for all, and likelihoods are compared."""

import numpy as np
import pytest

from examples import row, rows, study_of_examples
from planted import planted_study
from xstilts.analysis.questions.reasoning.answer import answer
from xstilts.analysis.questions.reasoning.contrasts import same_examples
from xstilts.analysis.study import is_tuned

pytestmark = pytest.mark.usefixtures("strict_results")

TARGETS = {
    "xcopa": {"kind": "reasoning", "title": "XCOPA", "choices": 2},
    "xnli": {"kind": "nli", "title": "XNLI", "choices": 3},
}
CODES = {"xcopa": ["et", "ht", "sw", "th", "tr"], "xnli": ["en", "sw", "th", "tr", "zh"]}
MODELS = {
    "encoder": {"kind": "encoder", "parameters": 500_000_000, "title": "Encoder"},
    "writer": {"kind": "decoder", "parameters": 1_000_000_000, "title": "Writer"},
    "author": {"kind": "decoder", "parameters": 3_000_000_000, "title": "Author"},
    "poet": {"kind": "decoder", "parameters": 8_000_000_000, "title": "Poet"},
}
SEEDS = 4
GAIN = {"encoder": 1.0, "writer": 3.0, "author": 5.0, "poet": 7.0}


def scores(seeds=SEEDS, recipes=("none", "mnli")):
    """Decoders have one seed of `none`; their gain is planted, with noise by seed and language."""
    rng = np.random.default_rng(3)
    found = {}
    for model in MODELS:
        for target, codes in CODES.items():
            level = 60 + rng.normal(0, 3, len(codes))
            for recipe in recipes:
                values = level + rng.normal(0, 0.7, (seeds, len(codes)))
                values += GAIN[model] * (recipe != "none" and target == "xcopa")
                if recipe == "none" and MODELS[model]["kind"] == "decoder":
                    values[1:] = np.nan  # no cells
                found[model, recipe, target] = values
    return found


def studied(**more):
    found = {"models": MODELS, "targets": TARGETS, "languages": CODES, "n": 2000, **more}
    return study_of_examples(scores(), **found)


def test_whether_a_model_is_tuned():
    assert is_tuned({"kind": "encoder"}, ("mnli",))
    assert is_tuned({}, ("mnli",))
    assert not is_tuned({"kind": "decoder"}, ("mnli",))
    assert is_tuned({"kind": "decoder", "tuned": True}, ("mnli",))
    assert not is_tuned({"kind": "decoder", "tuned": True}, ())


def test_every_seed_of_a_recipe_is_compared_with_the_one_of_none():
    study = studied()
    none, own = (study.grid("writer", name, "xcopa") for name in ("none", "mnli"))
    assert none.fixed
    assert (none.seeds, own.seeds) == ((1,), (1, 2, 3, 4))
    gain = study.gain("writer", "mnli", "xcopa")
    assert gain.seeds == (1, 2, 3, 4)
    assert gain.values == pytest.approx(own.values - none.values)
    assert not study.grid("encoder", "none", "xcopa").fixed


def test_a_tuned_decoder_is_paired_by_seed():
    models = {"writer": MODELS["writer"] | {"tuned": True}}
    values = {
        ("writer", name, "xcopa"): np.full((2, 5), level)
        for name, level in (("none", 50.0), ("mnli", 60.0))
    }
    values["writer", "none", "xcopa"][1] = np.nan
    study = planted_study(values, models=models, targets=TARGETS, languages=CODES)
    assert study.gain("writer", "mnli", "xcopa").seeds == (1,)


def test_gains_of_decoders_have_intervals_over_all_seeds():
    found = answer(studied())
    for model, gain in GAIN.items():
        own = row(found, "gains", model=model, recipe="mnli", target="xcopa")
        assert own["seeds"] == SEEDS
        assert own["wide_low"] < gain < own["wide_high"]
        if model != "encoder":
            assert own["wide_verdict"] == own["items_verdict"] == "higher"
    kinds = row(found, "kinds", recipe="mnli", target="xcopa")
    assert kinds["decoders"] == "writer, author, poet"
    assert kinds["difference_low"] < 4 < kinds["difference_high"]
    size = row(found, "sizes", recipe="mnli", target="xcopa")
    assert size["models"] == 4
    assert size["pearson"] > 0.9
    contrast = row(found, "contrast", model="poet", recipe="mnli")
    assert contrast["seeds"] == SEEDS
    assert contrast["difference_verdict"] == "higher"
    assert not any("One seed" in sentence for sentence in found.cannot)


def test_examples_of_all_seeds_stand_against_the_one_run_of_none():
    study = studied()
    estimate = same_examples(study, "poet", "mnli", study.target("xcopa"))
    assert estimate.seeds == SEEDS
    assert estimate.low < estimate.value < estimate.high
    assert estimate.value == pytest.approx(study.gain("poet", "mnli", "xcopa").values.mean())


def test_a_level_that_no_seed_changes_has_an_interval_over_languages():
    from scipy import stats

    study = studied()
    found = answer(study)
    level = row(found, "levels", model="writer", recipe="none", target="xcopa")
    values = study.grid("writer", "none", "xcopa").values[0] - 50
    low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    assert (level["above_low"], level["above_high"]) == pytest.approx((low, high), abs=1e-5)
    text = " ".join(found.says)
    assert "Writer (decoder, 1,000 M parameters): without intermediate training" in text
    assert "above it for other languages, too" in text
    assert "above it for other languages and seeds, too" in text  # the encoder's


# ---- normalisations


def with_rules(study, model, target, **rules):
    """Rows as the score stage adds them: a constant distance to the study's own rule."""
    for recipe in study.recipes:
        for cell in study.cells(model, recipe, target):
            for main in [r for r in cell.rows if r["metric"] == "accuracy"]:
                for name, distance in rules.items():
                    value = main["value"] + distance
                    metric = f"accuracy_{name}"
                    cell.rows.append({**main, "metric": metric, "value": value, "main": False})
    return study


def test_other_normalisations_stand_in_a_table():
    study = studied()
    with_rules(study, "poet", "xcopa", sum=0, token=1, byte=-2, pmi=4)
    with_rules(study, "poet", "xnli", sum=0, token=1, byte=-2, pmi=4)
    found = answer(study)
    assert {line["model"] for line in rows(found, "normalisations")} == {"poet"}
    own = row(found, "normalisations", recipe="mnli", target="xnli")
    grid = study.grid("poet", "mnli", "xnli")
    mean = grid.of(code for code in grid.languages if code != "en").values.mean()
    assert own["main"] == own["sum"] == pytest.approx(mean, abs=1e-5)
    assert [own[rule] - own["sum"] for rule in ("token", "byte", "pmi")] == pytest.approx(
        [1, -2, 4]
    )
    assert own["chance"] == pytest.approx(100 / 3)
    assert row(found, "normalisations", recipe="none", target="xcopa")["pmi"] > 0


def test_without_them_there_is_no_such_table():
    assert "normalisations" not in {table.name for table in answer(studied()).tables}


def test_with_one_of_them_alone_neither():
    half = with_rules(studied(), "poet", "xcopa", sum=0)
    assert not rows(answer(half), "normalisations")

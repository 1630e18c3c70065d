"""Gains on reasoning: by hand, planted effects, no effect, and what cannot be said."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from examples import row, rows, study_of_examples
from planted import planted_study
from xstilts.analysis.answer import read_answer, write_answer
from xstilts.analysis.questions.reasoning.answer import answer
from xstilts.analysis.questions.reasoning.contrasts import contrasts_of, gains_of, same_examples
from xstilts.analysis.questions.reasoning.kinds import kinds_of
from xstilts.evaluation.score import STATISTICS
from xstilts.session import Session

pytestmark = pytest.mark.usefixtures("strict_results")

TARGETS = {
    "xcopa": {"kind": "reasoning", "title": "XCOPA", "choices": 2},
    "xnli": {"kind": "nli", "title": "XNLI", "choices": 3},
}
CODES = {
    "xcopa": ["et", "ht", "sw", "th", "tr", "zh"],
    "xnli": ["en", "sw", "th", "tr", "zh", "ar"],
}
RECIPES = ("none", "cosmos_qa", "mnli")


def drawn(rng, mean, of_languages, seeds=5, noise=0.8):
    """Scores [seeds, languages] around a mean, with the languages' own levels."""
    shape = seeds, len(of_languages)
    return mean + np.asarray(of_languages) + rng.normal(0, noise, shape)


def scored(effects, models=("m",), recipes=RECIPES, targets=("xcopa", "xnli"), seeds=5, level=65.0):
    """Scores with effects by model (or all), recipe and target."""
    rng = np.random.default_rng(7)
    levels = {target: rng.normal(0, 4, 6) for target in targets}
    return {
        (m, r, t): drawn(
            rng, level + effects.get((m, r, t), effects.get((r, t), 0)), levels[t], seeds
        )
        for m in models
        for r in recipes
        for t in targets
    }


def studied(scores, n=1000, **more):
    return study_of_examples(scores, n=n, targets=TARGETS, languages=CODES, **more)


# ---- planted effects


def test_planted_gains_are_found_by_recipe_and_target():
    found = answer(studied(scored({("cosmos_qa", "xcopa"): 4, ("mnli", "xnli"): 5})))
    cosmos = row(found, "gains", recipe="cosmos_qa", target="xcopa")
    assert cosmos["wide_low"] < 4 < cosmos["wide_high"]
    assert cosmos["wide_verdict"] == cosmos["items_verdict"] == "higher"
    assert row(found, "gains", recipe="mnli", target="xcopa")["wide_verdict"] not in ("higher",)
    contrast = row(found, "contrast", recipe="mnli")
    assert contrast["languages"] == 4  # sw th tr zh
    assert contrast["difference_low"] < -5 < contrast["difference_high"]
    assert contrast["difference_verdict"] == "lower"
    text = " ".join(found.says)
    assert "On XCOPA, 1 of 1 model gain with some recipe: m; 0 of 1 model lose" in text
    assert "Scores rise with cosmos_qa (+" in text
    assert "XNLI gains more with mnli" in text
    assert "XCOPA gains more with cosmos_qa" in text


def test_scores_are_held_against_chance():
    found = answer(studied(scored({}, level=50.5), n=100))
    level = row(found, "levels", recipe="none", target="xcopa")
    assert level["chance"] == 50
    assert level["above_value"] == pytest.approx(level["score"] - 50, abs=1e-5)
    assert level["above_verdict"] == "cannot be told apart"
    assert row(found, "levels", recipe="none", target="xnli")["chance"] == pytest.approx(100 / 3)
    assert row(found, "levels", recipe="none", target="xnli")["above_verdict"] == "higher"
    assert "Chance is 50.0; the distance is" in " ".join(found.says)
    unknown = {**TARGETS, "xcopa": {"kind": "reasoning"}}
    study = planted_with_examples(unknown)
    found = answer(study)
    assert row(found, "levels", recipe="none", target="xcopa")["chance"] is None
    assert any("blind guess" in text for text in found.cannot)


def planted_with_examples(targets):
    scores = {("x", *key[1:]): values for key, values in scored({}).items()}
    return study_of_examples(scores, targets=targets, languages=CODES)


# ---- examples


def test_an_example_is_drawn_with_its_translations():
    """Where all languages answer alike, more of them are no more evidence."""
    study = studied(scored({("cosmos_qa", "xcopa"): 4}, seeds=2), n=200)
    alike = {}
    for recipe in ("none", "cosmos_qa"):
        for cell in study.cells("m", recipe, "xcopa"):
            path = cell.folder / STATISTICS
            first = load_file(path)["et"]
            save_file(dict.fromkeys(CODES["xcopa"], first), path)
            alike[recipe, cell.seed] = first
    found = same_examples(study, "m", "cosmos_qa", study.target("xcopa"))
    both = [sum(alike[recipe, seed] for seed in (1, 2)) / 2 for recipe in ("cosmos_qa", "none")]
    gain = both[0][:, 0] - both[1][:, 0]
    assert found.value == pytest.approx(100 * gain.mean())
    error = 100 * gain.std(ddof=1) / np.sqrt(len(gain))
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.2)


def test_test_sets_of_other_lengths_are_not_matched():
    study = studied(scored({}), n={"sw": 46})
    found = answer(study)
    gain = row(found, "gains", recipe="mnli", target="xcopa")
    assert gain["items_low"] is None
    assert "differ in length" in gain["items_why"]
    assert gain["items_value"] == pytest.approx(gain["wide_value"])


def test_with_few_seeds_the_examples_are_told():
    found = answer(studied(scored({("cosmos_qa", "xcopa"): 8}, seeds=1)))
    gain = row(found, "gains", recipe="cosmos_qa", target="xcopa")
    assert gain["wide_low"] is None
    assert gain["items_low"] > 0
    text = " ".join(found.says)
    assert "No test is possible of" in text
    assert "With 1 seed, over the test examples, for these trainings and languages only" in text
    assert any("One seed" in sentence for sentence in found.cannot)


# ---- kinds and sizes of models

MODELS = {
    "small": {"kind": "encoder", "parameters": 100_000_000, "title": "Small"},
    "large": {"kind": "encoder", "parameters": 500_000_000, "title": "Large"},
    "writer": {"kind": "decoder", "parameters": 1_000_000_000, "title": "Writer"},
    "author": {"kind": "decoder", "parameters": 8_000_000_000, "title": "Author"},
}


def test_decoders_stand_against_encoders():
    effects = {(m, "cosmos_qa", "xcopa"): 6 for m in ("writer", "author")}
    effects |= {(m, "cosmos_qa", "xcopa"): 1 for m in ("small", "large")}
    found = answer(studied(scored(effects, models=tuple(MODELS)), models=MODELS))
    kinds = row(found, "kinds", recipe="cosmos_qa", target="xcopa")
    assert kinds["difference_low"] < 5 < kinds["difference_high"]
    assert kinds["difference_verdict"] == "higher"
    assert (kinds["encoders"], kinds["decoders"]) == ("small, large", "writer, author")
    size = row(found, "sizes", recipe="cosmos_qa", target="xcopa")
    assert size["models"] == 4
    assert size["pearson"] > 0.7
    text = " ".join(found.says)
    assert "Decoders gain more with cosmos_qa" in text
    assert "Writer (decoder, 1,000 M parameters)" in text
    assert not any("cannot be compared" in sentence for sentence in found.cannot)


def test_without_decoders_it_says_so():
    models = {"small": MODELS["small"], "large": MODELS["large"]}
    found = answer(studied(scored({}, models=tuple(models)), models=models))
    assert any("has no decoder models" in sentence for sentence in found.cannot)
    assert any("2 models of known size" in sentence for sentence in found.cannot)
    assert not rows(found, "kinds")


# ---- what cannot be said


def test_a_study_without_reasoning_cannot_answer():
    found = answer(studied(scored({}, targets=("xnli",))))
    assert not found.says
    assert "no target of kind reasoning" in found.cannot[0]


def test_without_none_or_nli_there_are_levels_only():
    found = answer(studied(scored({}, recipes=("mnli",), targets=("xcopa",))))
    assert not rows(found, "gains")
    assert row(found, "levels", recipe="mnli")["score"] > 0
    assert any("no recipe none" in sentence for sentence in found.cannot)
    assert any("no target of kind nli" in sentence for sentence in found.cannot)


def test_missing_cells_and_constant_gains():
    scores = scored({})
    del scores["m", "mnli", "xnli"]
    scores["m", "cosmos_qa", "xcopa"] = scores["m", "none", "xcopa"]
    study = studied(scores)
    for one, other in zip(
        study.cells("m", "cosmos_qa", "xcopa"), study.cells("m", "none", "xcopa"), strict=True
    ):
        (one.folder / STATISTICS).write_bytes((other.folder / STATISTICS).read_bytes())
    found = answer(study)
    gain = row(found, "gains", recipe="cosmos_qa", target="xcopa")
    assert gain["wide_value"] == 0
    assert gain["wide_low"] is None
    assert gain["items_verdict"] == "cannot be told apart"
    assert [r["recipe"] for r in rows(found, "contrast")] == ["cosmos_qa"]


def test_languages_that_no_two_targets_share():
    codes = {"xcopa": ["et", "ht", "sw"], "xnli": ["en", "ar", "bg"]}
    scores = {key: values[:, :3] for key, values in scored({}).items()}
    found = answer(study_of_examples(scores, targets=TARGETS, languages=codes))
    assert not rows(found, "contrast")
    assert any("share no language" in sentence for sentence in found.cannot)


# ---- simulations


@pytest.mark.slow
def test_intervals_hold_and_no_effect_is_rarely_found():
    rng = np.random.default_rng(11)
    held = rejected = differ = 0
    codes = [f"l{place}" for place in range(10)]
    for _ in range(1000):
        levels = rng.normal(0, 4, 10)
        scores = {}
        for recipe in ("none", "a", "b", "c"):
            for target in TARGETS:
                own = rng.normal(0, 1.0, 10)  # what a recipe does to a language
                planted = 3 if (recipe, target) == ("c", "xcopa") else 0
                scores["m", recipe, target] = drawn(rng, 60 + planted, levels + own, 5, 1.0)
        gains = gains_of(planted_study(scores, targets=TARGETS, languages=codes))
        by_key = {(gain.recipe, gain.target.name): gain.wide for gain in gains}
        held += by_key["c", "xcopa"].low <= 3 <= by_key["c", "xcopa"].high
        nothing = [by_key[recipe, "xnli"].verdict for recipe in "abc"]
        rejected += bool({"higher", "lower"} & set(nothing))
        contrasts = contrasts_of(gains, ("reasoning", "nli"))
        nothing = [c.difference.verdict for c in contrasts if c.first.recipe != "c"]
        differ += bool({"higher", "lower"} & set(nothing))
    assert 930 <= held <= 970
    # 5 % of 1,000, and two standard deviations of the count.
    assert rejected <= 64
    assert differ <= 64


def test_kinds_are_compared_over_what_all_their_models_share():
    scores = scored({}, models=("small", "large", "writer"), seeds=3)
    scores["large", "cosmos_qa", "xcopa"][2] = np.nan  # its third seed is missing
    study = planted_study(scores, targets=TARGETS, languages=CODES, models=MODELS)
    gains = [gain for gain in gains_of(study) if gain.target.name == "xcopa"]
    (found, _) = kinds_of(study, gains)
    assert found.difference.seeds == 2
    by_model = {gain.model: gain.grid.values[:2] for gain in gains if gain.recipe == "cosmos_qa"}
    encoders = (by_model["small"] + by_model["large"]) / 2
    assert found.difference.value == pytest.approx((by_model["writer"] - encoders).mean())


# ---- files and the study


def test_the_answer_is_the_same_bytes_twice():
    study = studied(
        scored({}, models=("small", "writer")), models={m: MODELS[m] for m in ("small", "writer")}
    )
    for name in ("a", "b"):
        write_answer(answer(study), Path(name))
    files = sorted(path.name for path in Path("a").iterdir())
    assert {"reasoning.svg", "against_nli.svg"} <= set(files)
    for name in files:
        assert Path("a", name).read_bytes() == Path("b", name).read_bytes()
    back = read_answer(Path("a/answer.json"))
    assert {figure.table for figure in back.figures} <= {table.name for table in back.tables}


def test_the_study_is_planned(repository):
    plan = Session.of_file(repository / "studies" / "reasoning.yaml", repository).plan
    stages = Counter(job.stage for job in plan.jobs.values())
    encoders, decoders, recipes, seeds = 3, 6, 7, 5
    trained = (recipes - 1) * seeds
    assert stages["intermediate"] == (encoders + decoders) * trained
    assert stages["merge"] == decoders * trained
    # XNLI after MNLI; XCOPA after Social IQa and COPA; PAWS-X
    assert stages["finetune"] == encoders * recipes * seeds * 4
    # Nothing random happens to a decoder that is asked as it is.
    assert stages["score"] == 3 * (encoders * recipes * seeds + decoders * (trained + 1))
    spec = plan.jobs["tables"].spec
    assert {target["kind"]: target["choices"] for target in spec["targets"]} == {
        "reasoning": 2,
        "nli": 3,
        "paraphrase": 2,
    }
    kinds = Counter(model["kind"] for model in spec["models"].values())
    assert kinds == {"encoder": encoders, "decoder": decoders}
    assert all(model["parameters"] for model in spec["models"].values())

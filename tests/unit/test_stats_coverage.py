"""Planted effects: how often intervals hold the truth, and tests find what is not there.

The quick tests run 100 simulations with loose bounds; the slow ones 1,000, and print what they
measure (`pytest -m slow -rP tests/unit/test_stats_coverage.py`). The standard error of a coverage
of 95 % over 1,000 simulations is 0.7 points; bounds allow two of them.
"""

import numpy as np
import pytest

from xstilts.analysis.stats import crossed, multiple, paired, regression
from xstilts.evaluation.metrics.accuracy import finish as accuracies
from xstilts.evaluation.metrics.seqeval import finish as spans

#: Standard deviations of seeds, languages, and what is left, in points: gains differ more between
#: languages than between seeds; as much between seeds; seeds matter little.
TYPICAL, RESTLESS, CALM = (0.5, 2.0, 1.0), (1.0, 2.0, 1.0), (0.3, 1.0, 0.5)
DESIGNS = [(seeds, languages) for seeds in (2, 3, 5) for languages in (6, 12, 40)]
ERROR = 0.014


def gains(generator, seeds, languages, spread, effect=1.5):
    """Differences [seeds, languages] with a known mean."""
    seed = generator.normal(0, spread[0], (seeds, 1))
    language = generator.normal(0, spread[1], (1, languages))
    return effect + seed + language + generator.normal(0, spread[2], (seeds, languages))


def covered(estimates, truth):
    known = [found for found in estimates if found.low is not None]
    return float(np.mean([found.low <= truth <= found.high for found in known]))


def crossed_coverage(simulations, seeds, languages, spread):
    generator = np.random.default_rng((seeds, languages))
    tables = (gains(generator, seeds, languages, spread) for _ in range(simulations))
    return covered(map(crossed.over_languages_and_seeds, tables), 1.5)


def over_seeds_coverage(simulations, seeds, languages):
    """The truth is the mean of these very languages, which is 1.5 here."""
    generator = np.random.default_rng((seeds, languages))
    tables = (gains(generator, seeds, languages, (0.5, 0.0, 1.0)) for _ in range(simulations))
    return covered(map(crossed.over_seeds, tables), 1.5)


def accuracy_pair(generator, examples):
    """Statistics of two systems; of all examples 12 % only the first has right, 8 % the second."""
    kind = generator.choice(4, examples, p=(0.6, 0.12, 0.08, 0.2))
    first, second = np.isin(kind, (0, 1)), np.isin(kind, (0, 2))
    one = np.ones(examples)
    return np.stack([first, one], axis=1) * 1.0, np.stack([second, one], axis=1) * 1.0


def f1_pair(generator, examples, shares=(0.9, 0.8), wrong=(0.3, 0.4)):
    """Statistics of spans: easy and hard sentences (2/3 in the mean), 2 spans in the mean."""
    gold = 1 + generator.poisson(1, examples)
    ease = generator.beta(2, 1, examples)
    systems = []
    for share, more in zip(shares, wrong, strict=True):
        correct = generator.binomial(gold, share * ease)
        predicted = correct + generator.poisson(more, examples)
        systems.append(np.stack([correct, predicted, gold, correct, gold], axis=1) * 1.0)
    return systems


def true_f1(share, wrong):
    correct = 2 * share * 2 / 3
    return 100 * 2 * correct / (correct + wrong + 2)


def accuracy(sums):
    return accuracies(sums)["accuracy"]


def f1(sums):
    return spans(sums)["f1"]


def paired_coverage(simulations, examples, metric):
    generator = np.random.default_rng(examples)
    finish, pair, truth = {
        "accuracy": (accuracy, accuracy_pair, 4.0),
        "f1": (f1, f1_pair, true_f1(0.9, 0.3) - true_f1(0.8, 0.4)),
    }[metric]
    pairs = (pair(generator, examples) for _ in range(simulations))
    found = (paired.compare(*two, finish, 1000, (i,)) for i, two in enumerate(pairs))
    return covered(found, truth)


def paired_rejections(simulations, examples):
    """Two systems of the same quality, with predictions of their own."""
    generator = np.random.default_rng(examples)
    pairs = (f1_pair(generator, examples, (0.8, 0.8), (0.4, 0.4)) for _ in range(simulations))
    found = [paired.compare(*two, f1, 499, (i,)).p for i, two in enumerate(pairs)]
    return float(np.mean(np.array(found) <= 0.05))


def sloped(generator, seeds, languages):
    """A measure, and scores that fall by 2 points per unit of it."""
    x = generator.normal(size=languages)
    return x, 70 - 2 * x + gains(generator, seeds, languages, (1.0, 3.0, 1.0), 0)


def slope_coverage(simulations, seeds, languages):
    generator = np.random.default_rng((seeds, languages))
    tables = (sloped(generator, seeds, languages) for _ in range(simulations))
    return covered((regression.slope(*table) for table in tables), -2)


def mixed_once(generator, seeds, languages, targets):
    """One in ten cells is missing; two predictors, of which the second does nothing."""
    seed, language, target = (i.ravel() for i in np.indices((seeds, languages, targets)))
    x, z = generator.normal(size=(2, languages))
    y = 70 - 2 * x[language] + 5 * target + generator.normal(0, 3, languages)[language]
    y = y + generator.normal(0, 1, seeds)[seed] + generator.normal(0, 1, len(seed))
    y = y + generator.normal(0, 1.5, (languages, targets))[language, target]
    y = y + generator.normal(0, 0.7, (seeds, targets))[seed, target]
    kept = generator.random(len(seed)) > 0.1
    predictors = {"x": x[language][kept], "z": z[language][kept]}
    places = (language[kept], seed[kept], target[kept])
    return regression.mixed(y[kept], predictors, *places)["x"]


def mixed_coverage(simulations, seeds, languages, targets):
    generator = np.random.default_rng((seeds, languages, targets))
    found = [mixed_once(generator, seeds, languages, targets) for _ in range(simulations)]
    assert sum(bool(estimate.why) for estimate in found) <= 0.02 * simulations
    return covered(found, -2)


def family(generator, seeds, languages, spread, recipes=9, targets=9):
    """Gains over one baseline of recipes that do nothing, on several targets."""
    for _ in range(targets):
        baseline = gains(generator, seeds, languages, spread, 0)
        for _ in range(recipes):
            yield (gains(generator, seeds, languages, spread, 0) - baseline) / np.sqrt(2)


def family_rejections(simulations, seeds, languages, spread):
    """How often at least one of 81 corrected tests finds an effect where there is none."""
    generator = np.random.default_rng((seeds, languages))
    hits = 0
    for _ in range(simulations):
        tables = family(generator, seeds, languages, spread)
        found = multiple.corrected([crossed.over_languages_and_seeds(table) for table in tables])
        hits += any(estimate.verdict in ("higher", "lower") for estimate in found)
    return hits / simulations


def ranks_covered(simulations, seeds, languages):
    """How often the sets of nine recipes, two of them equal, hold all true ranks."""
    generator = np.random.default_rng((seeds, languages))
    truth = {f"r{i}": effect for i, effect in enumerate((6, 4.5, 4.5, 3, 2, 1, 0.5, 0, -3))}
    hits = 0
    for _ in range(simulations):
        scores = {
            name: gains(generator, seeds, languages, TYPICAL, effect)
            for name, effect in truth.items()
        }
        hits += _holds(scores, truth)
    return hits / simulations


def _holds(scores, truth):
    def difference(first, second):
        return crossed.over_languages_and_seeds(scores[first] - scores[second])

    means = {name: float(table.mean()) for name, table in scores.items()}
    found = multiple.ranks(list(truth), means, difference)
    for name, effect in truth.items():
        best = 1 + sum(other > effect for other in truth.values())
        worst = sum(other >= effect for other in truth.values())
        if found[name].low > best or found[name].high < worst:
            return False
    return True


def test_quick_intervals_hold_the_truth():
    assert crossed_coverage(100, 3, 12, TYPICAL) >= 0.88
    assert over_seeds_coverage(100, 3, 12) >= 0.88
    assert paired_coverage(50, 200, "accuracy") >= 0.84
    assert slope_coverage(100, 3, 12) >= 0.88


def test_quick_ranks_hold_the_truth_and_are_not_empty_words():
    assert ranks_covered(10, 5, 40) >= 0.8
    generator = np.random.default_rng(1)
    scores = {
        name: gains(generator, 5, 40, TYPICAL, effect) for name, effect in (("a", 9), ("b", 0))
    }
    found = multiple.ranks(
        ["a", "b"],
        {name: float(table.mean()) for name, table in scores.items()},
        lambda one, other: crossed.over_languages_and_seeds(scores[one] - scores[other]),
    )
    assert (found["a"].high, found["b"].low) == (1, 2)


def test_quick_nothing_is_found_in_families_without_effects():
    assert family_rejections(5, 3, 12, TYPICAL) <= 0.2


@pytest.mark.slow
@pytest.mark.parametrize("spread", [TYPICAL, RESTLESS, CALM], ids=["typical", "restless", "calm"])
@pytest.mark.parametrize(("seeds", "languages"), DESIGNS)
def test_crossed_intervals_cover(seeds, languages, spread):
    found = crossed_coverage(1000, seeds, languages, spread)
    print(f"MEASURED crossed {spread} {seeds} seeds, {languages} languages: {found:.1%}")
    assert 0.93 - ERROR <= found <= 0.97 + ERROR


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "languages"), DESIGNS)
def test_over_seeds_and_slopes_cover(seeds, languages):
    for name, coverage in (("over_seeds", over_seeds_coverage), ("slope", slope_coverage)):
        found = coverage(1000, seeds, languages)
        print(f"MEASURED {name} {seeds} seeds, {languages} languages: {found:.1%}")
        assert 0.95 - 2 * ERROR <= found <= 0.95 + 2 * ERROR


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["accuracy", "f1"])
@pytest.mark.parametrize("examples", [46, 100, 200, 1000])
def test_paired_intervals_cover(examples, metric):
    found = paired_coverage(1000, examples, metric)
    print(f"MEASURED paired {metric} {examples} examples: {found:.1%}")
    assert 0.93 - ERROR <= found <= 0.97 + ERROR


@pytest.mark.slow
@pytest.mark.parametrize("examples", [46, 200])
def test_permutations_find_nothing_between_equal_systems(examples):
    found = paired_rejections(1000, examples)
    print(f"MEASURED permutation test {examples} examples, no effect: {found:.1%} rejected")
    assert found <= 0.05 + ERROR


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "languages", "targets"), [(2, 6, 1), (3, 12, 2)])
def test_mixed_intervals_cover(seeds, languages, targets):
    found = mixed_coverage(1000, seeds, languages, targets)
    print(f"MEASURED mixed {seeds} seeds, {languages} languages, {targets} targets: {found:.1%}")
    assert 0.93 - ERROR <= found <= 0.97 + ERROR


@pytest.mark.slow
@pytest.mark.parametrize("spread", [TYPICAL, RESTLESS], ids=["typical", "restless"])
@pytest.mark.parametrize(("seeds", "languages"), [(2, 40), (5, 12)])
def test_families_without_effects_reject_in_five_percent_at_most(seeds, languages, spread):
    found = family_rejections(1000, seeds, languages, spread)
    print(f"MEASURED family of 81 {spread} {seeds} seeds, {languages} languages: {found:.1%}")
    assert found <= 0.05 + ERROR


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "languages"), [(2, 12), (3, 12), (3, 40), (5, 40)])
def test_rank_sets_hold_all_true_ranks(seeds, languages):
    found = ranks_covered(1000, seeds, languages)
    print(f"MEASURED ranks of 9 {seeds} seeds, {languages} languages: all held in {found:.1%}")
    assert found >= 0.95 - ERROR

"""Holm's correction and confidence sets of ranks."""

import pytest

from xstilts.analysis.stats.estimate import Estimate
from xstilts.analysis.stats.multiple import Rank, corrected, holm, ranks


def test_holm_as_worked_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1, never below the one before.
    assert holm([0.03, None, 0.01, 0.04, 0.02]) == [
        pytest.approx(0.06),
        None,
        pytest.approx(0.04),
        pytest.approx(0.06),
        pytest.approx(0.06),
    ]
    assert holm([None, None]) == [None, None]
    assert holm([]) == []
    assert holm([0.5, 0.9]) == [1.0, 1.0]


def test_corrected_keeps_order_and_what_has_no_p():
    found = corrected([Estimate(1.0, p=0.03), Estimate(2.0, why="one seed"), Estimate(3.0, p=0.01)])
    assert [estimate.adjusted for estimate in found] == [0.03, None, 0.02]
    assert [estimate.verdict for estimate in found] == ["higher", "cannot be said", "higher"]


def _ranks(values, certain, untested=()):
    def difference(first, second):
        if {first, second} in untested:
            return None
        p = 1e-9 if {first, second} in certain else 0.9
        return Estimate(values[first] - values[second], p=p)

    return ranks(list(values), values, difference)


def test_ranks_that_pairs_leave_possible():
    # a and b are surely above c; a and b cannot be told apart; nothing is known of d.
    values = {"a": 5.0, "b": 4.0, "c": 1.0, "d": 3.0}
    found = _ranks(values, [{"a", "c"}, {"b", "c"}])
    assert found == {
        "a": Rank(1, 1, 3),
        "b": Rank(2, 1, 3),
        "c": Rank(4, 3, 4),
        "d": Rank(3, 1, 4),
    }


def test_all_pairs_certain_give_the_ranking_itself():
    values = {"a": 1.0, "b": 2.0, "c": 3.0}
    found = _ranks(values, [{"a", "b"}, {"a", "c"}, {"b", "c"}])
    assert found == {"a": Rank(3, 3, 3), "b": Rank(2, 2, 2), "c": Rank(1, 1, 1)}


def test_pairs_that_could_not_be_tested_are_named():
    values = {"a": 3.0, "b": 2.0, "c": 1.0}
    found = _ranks(values, [{"a", "b"}], [{"a", "c"}, {"b", "c"}])
    assert found["a"] == Rank(1, 1, 2, "Could not be tested against c.")
    assert found["c"] == Rank(3, None, None, "No difference could be tested.")


def test_ties_share_a_rank_and_one_name_has_nothing_to_compare_with():
    found = _ranks({"a": 0.1 + 0.2, "b": 0.3, "c": 0.1}, [])
    assert [found[name].rank for name in "abc"] == [1, 1, 3]
    assert _ranks({"a": 1.0}, [])["a"] == Rank(1, None, None, "Nothing to compare with.")
    assert _ranks({}, []) == {}

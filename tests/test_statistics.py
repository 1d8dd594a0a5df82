"""Intervals hold the truth as often as they say, and the paired test is exact where it can be."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spring_integrations.errors import DataError
from spring_integrations.evaluation import statistics
from spring_integrations.evaluation.statistics import Interval, PairedTest, mean_interval, paired_test

VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@pytest.fixture(autouse=True)
def _fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 999)


def test_an_interval_is_that_of_the_normal_approximation_where_that_holds() -> None:
    values = np.random.default_rng(0).binomial(1, 0.3, 2000).tolist()
    found = mean_interval(values)
    half = 1.96 * math.sqrt(found.mean * (1 - found.mean) / len(values))
    assert found.mean == pytest.approx(np.mean(values))
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=0.003)


def test_intervals_hold_the_true_mean_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    found = [mean_interval(rng.binomial(1, 0.4, 80).tolist()) for _ in range(200)]
    assert 0.89 <= np.mean([interval.low <= 0.4 <= interval.high for interval in found]) <= 0.99


@pytest.mark.parametrize("values", [[0.0], [1.0], [0.3] * 7, [0, 0, 0]])
def test_values_without_spread_give_an_interval_without_width(values: list[float]) -> None:
    assert mean_interval(values) == Interval(values[0], values[0], values[0])


@settings(deadline=None)  # the first call imports scipy
@given(VALUES)
def test_a_mean_lies_in_its_interval_and_that_among_the_values(values: list[float]) -> None:
    found = mean_interval(values)
    ordered = [min(values), found.low, found.mean, found.high, max(values)]
    assert all(a <= b + 1e-12 for a, b in pairwise(ordered))


def test_the_seed_alone_decides_on_the_resamples() -> None:
    first, second = np.random.default_rng(2).random((2, 50)).tolist()
    assert mean_interval(first) == mean_interval(first)
    assert mean_interval(first) != mean_interval(first, seed=1)
    assert paired_test(first, second) == paired_test(first, second)
    assert paired_test(first, second) != paired_test(first, second, seed=1)


def test_resampling_in_pieces_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = np.random.default_rng(3).random((2, 60)).tolist()
    whole = mean_interval(first), paired_test(first, second)
    monkeypatch.setattr(statistics, "_DRAWS_AT_ONCE", 60 * 7)
    pieces = mean_interval(first), paired_test(first, second)
    assert pieces[0].low == pytest.approx(whole[0].low, abs=0.02)
    assert pieces[1].p_value == pytest.approx(whole[1].p_value, abs=0.05)


def test_a_few_questions_are_tested_exactly() -> None:
    # Of the 2^4 ways to flip four signs, two give a mean as far from 0 as all four equal.
    found = paired_test([1, 1, 1, 1], [0, 0, 0, 0])
    assert (found.difference, found.p_value) == (1.0, 2 / 16)
    assert paired_test([1, 1, 1, 0], [0, 0, 0, 0]).p_value == 4 / 16


def test_a_clear_difference_is_found_and_noise_is_not() -> None:
    rng = np.random.default_rng(4)
    plain = rng.binomial(1, 0.3, 300)
    better = np.maximum(plain, rng.binomial(1, 0.2, 300))
    other = rng.permutation(plain)
    clear, noise = paired_test(better.tolist(), plain.tolist()), paired_test(other.tolist(), plain.tolist())
    assert clear.p_value < 0.01
    assert clear.interval.low > 0
    assert noise.p_value > 0.1
    assert noise.interval.low <= 0 <= noise.interval.high


def test_noise_is_called_a_difference_as_rarely_as_the_level_says() -> None:
    rng = np.random.default_rng(5)
    found = [paired_test(*rng.binomial(1, 0.5, (2, 40)).tolist()).p_value for _ in range(100)]
    assert np.mean(np.array(found) < 0.05) <= 0.12


@settings(deadline=None)  # the first call imports scipy
@given(VALUES)
def test_a_system_does_not_differ_from_itself(values: list[float]) -> None:
    assert paired_test(values, values) == PairedTest(0.0, Interval(0.0, 0.0, 0.0), 1.0)


def test_one_question_tells_nothing() -> None:
    assert paired_test([1.0], [0.0]) == PairedTest(1.0, Interval(1.0, 1.0, 1.0), 1.0)


@settings(deadline=None)  # the first call imports scipy
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.25, 1.0]), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=9))
def test_systems_that_change_places_change_the_sign_only(pairs: list[tuple[float, float]]) -> None:
    first, second = map(list, zip(*pairs, strict=True))
    one, other = paired_test(first, second), paired_test(second, first)
    assert one.difference == pytest.approx(-other.difference)
    assert one.p_value == pytest.approx(other.p_value)
    assert 0 < one.p_value <= 1


@pytest.mark.parametrize(
    ("values", "message"),
    [([], "got shape"), ([[1.0], [0.0]], "got shape"), ([0.0, math.nan], "value 1 is nan"), ([math.inf], "is inf")],
)
def test_values_that_have_no_mean_are_refused(values: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        mean_interval(values)
    with pytest.raises(DataError, match=message):
        paired_test([0.0], values)


def test_systems_on_different_questions_are_not_compared() -> None:
    with pytest.raises(DataError, match="2 values cannot be paired with 1: compare two systems on the same questions"):
        paired_test([0.0, 1.0], [1.0])

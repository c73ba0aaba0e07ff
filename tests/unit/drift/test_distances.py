"""Wasserstein and Jensen-Shannon against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from mlops.domain.drift.numeric import jensen_shannon, wasserstein

values = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=40)
counts = st.lists(st.integers(0, 50), min_size=2, max_size=12)


@given(first=values, second=values)
def test_it_is_scipys_wasserstein_distance(first: list[float], second: list[float]) -> None:
    found = wasserstein(np.sort(first), np.sort(second))
    assert found == pytest.approx(wasserstein_distance(first, second), rel=1e-9, abs=1e-6)


@given(
    first=st.lists(st.integers(-5, 5), min_size=1, max_size=40),
    second=st.lists(st.integers(-5, 5), min_size=1, max_size=40),
)
def test_ties_are_no_trouble(first: list[int], second: list[int]) -> None:
    found = wasserstein(np.sort(np.array(first, float)), np.sort(np.array(second, float)))
    assert found == pytest.approx(wasserstein_distance(first, second), abs=1e-12)


def test_a_shift_costs_its_size_on_a_large_level_too() -> None:
    x = np.sort(np.random.default_rng(0).normal(size=10_000))
    assert wasserstein(x, x + 0.25) == pytest.approx(0.25)
    assert wasserstein(x + 1e9, x[::7] + 1e9) == pytest.approx(wasserstein(x, x[::7]), abs=1e-6)


def test_an_empty_sample_has_no_distance() -> None:
    assert math.isnan(wasserstein(np.empty(0), np.ones(3)))
    assert math.isnan(jensen_shannon(np.zeros(2, int), np.ones(2, int)))


@given(
    pair=counts.flatmap(
        lambda one: st.tuples(st.just(one), st.lists(st.integers(0, 50), min_size=len(one), max_size=len(one)))
    )
)
def test_it_is_scipys_jensen_shannon_distance(pair: tuple[list[int], list[int]]) -> None:
    first, second = (np.array(one) for one in pair)
    if first.sum() and second.sum():
        assert jensen_shannon(first, second) == pytest.approx(jensenshannon(first, second, base=2), abs=1e-7)


def test_shares_without_a_common_bin_are_one_apart() -> None:
    assert jensen_shannon(np.array([3, 0]), np.array([0, 8])) == pytest.approx(1)


def test_values_near_the_largest_float_are_undefined_not_wrong() -> None:
    assert not math.isfinite(wasserstein(np.array([-1.7e308, 1.7e308]), np.array([-1e308, 1.7e308])))

"""The two-sample Kolmogorov-Smirnov test agrees with scipy at every size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from mlops.domain.drift.ks import KsTest, ks_statistic, ks_test
from mlops.domain.errors import InsufficientData

Floats = npt.NDArray[np.float64]
#: Few distinct values, so that ties are the rule.
SAMPLES = st.lists(st.integers(-20, 20), min_size=1, max_size=60).map(lambda values: np.sort(np.array(values, float)))


def drawn(seed: int, n: int, shift: float = 0.0, decimals: int = 12) -> Floats:
    values = np.random.default_rng(seed).normal(shift, 1.0, n)
    return np.sort(np.round(values, decimals))


@pytest.mark.parametrize("decimals", [12, 1, 0], ids=["no ties", "ties", "mostly ties"])
@pytest.mark.parametrize("shift", [0.0, 0.2, 3.0])
@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 7), (50, 50), (2_100, 150), (150, 2_100), (12_000, 12_001)])
def test_statistic_and_p_are_scipys_asymptotic_ones(n: int, m: int, shift: float, decimals: int) -> None:
    reference, current = drawn(1, n, decimals=decimals), drawn(2, m, shift, decimals)
    ours, oracle = ks_test(reference, current), ks_2samp(reference, current, method="asymp")
    assert ours.statistic == pytest.approx(float(oracle.statistic), abs=1e-12)
    assert ours.p_value == pytest.approx(float(oracle.pvalue), rel=1e-12, abs=1e-300)


def test_one_value_against_one_says_nothing() -> None:
    assert ks_test(np.array([0.0]), np.array([9.0])) == KsTest(statistic=1.0, p_value=1.0)


def test_scipys_own_example_with_unequal_sizes() -> None:
    # at 22: 22 of the 100, and of the other only 21.1 (the next is 22.008): 22/100 - 1/110 = 232/1100
    reference, current = np.linspace(1, 100, 100), np.linspace(1, 100, 110) + 20 + 0.1
    assert ks_test(reference, current).statistic == pytest.approx(232 / 1100, abs=1e-12)
    # the published p, 0.0157, is the exact one; the asymptotic one is a twentieth larger
    assert ks_test(reference, current).p_value == pytest.approx(0.015739183865607353, rel=0.06)


def test_scipys_own_example_of_a_small_shift() -> None:
    x = np.linspace(1, 100, 100)
    # 2.1 steps of 1: three of the hundred lie below all of the shifted ones
    assert ks_test(x, x + 2.1).statistic == pytest.approx(0.03, abs=1e-12)


def test_the_convention_does_not_change_at_ten_thousand_rows() -> None:
    # scipy's own choice is exact up to 10,000 rows and asymptotic above; ours is the same on both sides
    for n in (9_999, 10_000, 10_001):
        reference, current = drawn(3, n), drawn(4, n, 0.02)
        expected = float(ks_2samp(reference, current, method="asymp").pvalue)
        assert ks_test(reference, current).p_value == pytest.approx(expected, rel=1e-12)


def test_ties_make_the_p_conservative_never_anticonservative() -> None:
    # Poisson(1), n = m = 500: far fewer than 5 % of equal samples are below p = 0.05 (0.45 % measured)
    rng = np.random.default_rng(5)
    p = [ks_test(np.sort(rng.poisson(1, 500) * 1.0), np.sort(rng.poisson(1, 500) * 1.0)).p_value for _ in range(300)]
    assert np.mean(np.array(p) < 0.05) < 0.03


def test_infinities_are_the_largest_and_smallest_values() -> None:
    reference, current = np.array([-np.inf, 0.0, 1.0, 2.0]), np.array([0.0, 1.0, np.inf, np.inf])
    # ranks instead of values leave D as it is: F(2) - G(2) = 4/4 - 2/4
    assert ks_test(reference, current).statistic == 0.5


@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0)])
def test_an_empty_sample_is_refused_with_both_sizes(n: int, m: int) -> None:
    with pytest.raises(InsufficientData, match=f"found {n} and {m}"):
        ks_test(np.zeros(n), np.zeros(m))


@given(SAMPLES, SAMPLES)
def test_the_statistic_is_symmetric_and_between_0_and_1(reference: Floats, current: Floats) -> None:
    forward = ks_statistic(reference, current)
    assert forward == ks_statistic(current, reference)
    assert 0.0 <= forward <= 1.0


@given(SAMPLES)
def test_a_sample_does_not_differ_from_itself(sample: Floats) -> None:
    assert ks_test(sample, sample).statistic == 0.0
    assert ks_test(sample, sample).p_value == 1.0


@given(SAMPLES, SAMPLES)
def test_a_monotone_transform_of_both_samples_changes_nothing(reference: Floats, current: Floats) -> None:
    assert ks_test(reference, current) == ks_test(np.exp(reference / 4), np.exp(current / 4))

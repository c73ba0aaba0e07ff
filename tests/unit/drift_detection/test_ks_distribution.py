"""The p of a KS distance is scipy's at every size, at a fraction of its cost."""

from __future__ import annotations

import math

import pytest
from scipy.stats import kstwo

from mlops.domain.drift.ks import kolmogorov_tail


@pytest.mark.parametrize("n", [1, 2, 20, 139, 140, 141, 150, 495, 1023, 1024, 2047, 2048, 5000])
@pytest.mark.parametrize("n_d_squared", [0.01, 0.1, 0.3, 0.7, 1.0, 2.1, 2.19, 2.21, 2.5, 4.0, 9.0, 18.0, 60.0, 300.0])
def test_the_tail_is_scipys_within_1e_12_and_to_ten_digits(n: int, n_d_squared: float) -> None:
    statistic = min(1.0, math.sqrt(n_d_squared / n))
    expected = kstwo.sf(statistic, n)
    found = kolmogorov_tail(statistic, n)
    assert abs(found - expected) < 1e-12
    assert found == pytest.approx(expected, rel=1e-10, abs=1e-300)


@pytest.mark.parametrize(("n", "n_d_squared"), [(90_909, 0.5), (90_909, 2.3), (100_001, 0.9), (400_000, 9.0)])
def test_a_long_sum_is_scipys_although_few_of_its_terms_are_added(n: int, n_d_squared: float) -> None:
    statistic = math.sqrt(n_d_squared / n)
    assert kolmogorov_tail(statistic, n) == pytest.approx(kstwo.sf(statistic, n), rel=1e-11)


@pytest.mark.parametrize("n", [200, 999, 5000, 90_909])
def test_a_distance_on_the_border_of_two_methods_takes_scipys(n: int) -> None:
    # There scipy's own p has a step of up to 3e-8.
    statistic = math.sqrt(2.2 / n)
    assert abs(kolmogorov_tail(statistic, n) - kstwo.sf(statistic, n)) < 1e-12


def test_one_value_against_another_is_no_evidence() -> None:
    assert kolmogorov_tail(1.0, 1) == 0.0
    assert kolmogorov_tail(0.0, 5000) == 1.0

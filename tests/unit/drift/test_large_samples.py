"""What is done another way for many rows gives the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp, kstwo

from mlops.domain.drift.ks import ks_p_values, ks_test


@pytest.mark.parametrize("n", [10_001, 90_909, 400_000])
@pytest.mark.parametrize("n_d_squared", [18.0, 19.0, 25.0, 60.0])
def test_a_tiny_p_is_scipys_to_a_hundredth_of_itself(n: int, n_d_squared: float) -> None:
    statistic = (n_d_squared / n) ** 0.5
    expected = kstwo.sf(statistic, n)
    assert ks_p_values([statistic], [n])[0] == pytest.approx(expected, rel=0.01, abs=0)
    assert abs(ks_p_values([statistic], [n])[0] - expected) < 1e-17


def test_a_large_shift_agrees_with_scipy_within_1e_12() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=60_000), rng.normal(0.05, size=30_000)
    expected = ks_2samp(x, y, method="asymp")
    found = ks_test(np.sort(x), np.sort(y))
    assert found.statistic == pytest.approx(expected.statistic, abs=1e-15)
    assert abs(found.p_value - expected.pvalue) < 1e-12

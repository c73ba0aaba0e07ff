"""The test of the share of missing values."""

from __future__ import annotations

import math

import pytest
from scipy.stats import chi2_contingency

from mlops.domain.drift.data_quality import missing_share_test


@pytest.mark.parametrize(
    ("a", "n", "b", "m"), [(0, 100, 60, 100), (5, 2_100, 9, 150), (30, 60, 70, 150), (1, 10, 0, 9)]
)
def test_its_p_is_that_of_chi_square_on_the_two_by_two_table(a: int, n: int, b: int, m: int) -> None:
    # z squared is the chi-square statistic without continuity correction
    oracle = chi2_contingency([[a, n - a], [b, m - b]], correction=False)
    assert missing_share_test(a, n, b, m) == pytest.approx(float(oracle.pvalue), rel=1e-9)


def test_a_worked_example() -> None:
    # 10 of 100 and 20 of 100: pooled 0.15, z = 0.1 / sqrt(0.15 * 0.85 * 0.02) = 1.980; two-sided p 0.0477
    z = 0.1 / math.sqrt(0.15 * 0.85 * (1 / 100 + 1 / 100))
    assert missing_share_test(10, 100, 20, 100) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-12)
    assert missing_share_test(10, 100, 20, 100) == pytest.approx(0.0477, abs=5e-5)


@pytest.mark.parametrize("n_missing", [0, 1])
def test_none_or_all_missing_in_both_is_no_change(n_missing: int) -> None:
    assert missing_share_test(100 * n_missing, 100, 7 * n_missing, 7) == 1.0


def test_a_window_without_rows_is_undefined() -> None:
    assert math.isnan(missing_share_test(0, 0, 0, 5))

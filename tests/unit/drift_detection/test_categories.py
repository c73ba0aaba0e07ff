"""Categorical features: chi-square as scipy has it, PSI over categories, unseen categories."""

from __future__ import annotations

from math import log

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import chi2_contingency

from mlops.domain.drift.categorical import compare_categories


def texts(**counts: int) -> npt.NDArray[np.object_]:
    """So many of each; `missing` is None."""
    return np.array([None if name == "missing" else name for name, n in counts.items() for _ in range(n)], dtype=object)


def test_the_statistic_and_p_are_scipys_of_the_two_rows_of_counts() -> None:
    drift = compare_categories(texts(tech=60, energy=30, food=10), texts(tech=30, energy=30, food=40))
    # expected 45, 30, 25 in each row: 2 (15^2 / 45) + 0 + 2 (15^2 / 25) = 10 + 18
    assert drift.chi_square == pytest.approx(28.0, abs=1e-12)
    oracle = chi2_contingency([[60, 30, 10], [30, 30, 40]], correction=False)
    assert drift.p_value == pytest.approx(float(oracle.pvalue), rel=1e-12)


def test_two_categories_are_tested_without_continuity_correction() -> None:
    drift = compare_categories(texts(up=50, down=50), texts(up=60, down=40))
    # expected 55 and 45: 2 (5^2 / 55 + 5^2 / 45)
    assert drift.chi_square == pytest.approx(50 / 55 + 50 / 45, abs=1e-12)


def test_psi_is_over_the_categories_of_either_window() -> None:
    drift = compare_categories(texts(a=10, b=10), texts(a=10, c=10))
    # with halves 10.5, 10.5, 0.5 and 10.5, 0.5, 10.5 of 21.5 each
    assert drift.psi == pytest.approx(2 * 10 / 21.5 * log(10.5 / 0.5), abs=1e-12)


def test_a_category_that_the_reference_never_had_is_named() -> None:
    assert compare_categories(texts(a=5), texts(a=5, c=1, b=1)).unseen == ("b", "c")


def test_a_category_that_is_gone_counts_and_is_not_unseen() -> None:
    drift = compare_categories(texts(a=50, b=50), texts(a=100))
    assert drift.unseen == ()
    assert drift.psi > 0.2


def test_missing_is_a_category_of_its_own_but_never_unseen() -> None:
    drift = compare_categories(texts(a=100), texts(a=40, missing=60))
    assert drift.unseen == ()
    assert drift.psi > 0.2
    assert drift.p_value < 1e-6


def test_a_category_called_none_is_not_missing() -> None:
    drift = compare_categories(np.array(["None", None] * 20, dtype=object), np.array(["None"] * 40, dtype=object))
    assert drift.psi > 0.2


def test_one_and_the_same_category_does_not_differ() -> None:
    drift = compare_categories(texts(a=7), texts(a=3))
    assert (drift.chi_square, drift.p_value, drift.psi) == (0.0, 1.0, 0.0)

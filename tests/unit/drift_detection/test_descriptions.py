"""What a window looks like: moments and quantiles as pandas has them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.domain.drift.data_quality import QUANTILES, Description, describe
from mlops.domain.drift.ordered import ordered_column

Floats = npt.NDArray[np.float64]


def described(values: npt.ArrayLike) -> Description:
    return describe(ordered_column(np.asarray(values, dtype=np.float64)))


@pytest.mark.parametrize("n", [4, 5, 30, 2_100])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_moments_and_quantiles_are_pandas(n: int, scale: float) -> None:
    values = scale * np.random.default_rng(n).lognormal(size=n)
    ours, oracle = described(values), pd.Series(values)
    assert ours.mean == pytest.approx(oracle.mean(), rel=1e-12)
    assert ours.std == pytest.approx(oracle.std(), rel=1e-12)
    assert ours.skew == pytest.approx(oracle.skew(), rel=1e-9)
    assert ours.kurtosis == pytest.approx(oracle.kurt(), rel=1e-9, abs=1e-9)
    assert ours.quantiles == pytest.approx(oracle.quantile(list(QUANTILES)).tolist(), rel=1e-12)
    assert (ours.minimum, ours.maximum) == (oracle.min(), oracle.max())


def test_missing_and_infinite_values_are_counted_and_left_out() -> None:
    ours = described([1.0, np.nan, 3.0, np.inf, -np.inf, np.nan, 5.0])
    assert (ours.n, ours.n_missing, ours.n_infinite) == (7, 2, 2)
    assert (ours.mean, ours.std, ours.minimum, ours.maximum) == (3.0, 2.0, 1.0, 5.0)


@pytest.mark.parametrize("values", [[], [np.nan, np.nan], [np.inf, np.nan]])
def test_without_a_finite_value_everything_is_undefined(values: list[float]) -> None:
    ours = described(values)
    assert ours.n == len(values)
    assert (ours.mean, ours.std, ours.skew, ours.kurtosis, ours.minimum, ours.quantiles) == (None,) * 5 + ((),)
    assert not ours.is_constant


def test_a_constant_has_no_deviation_and_no_shape() -> None:
    # in floats three times 0.1 is 0.30000000000000004, so that their mean is not 0.1, and the deviation not 0
    ours = described(np.full(3, 0.1))
    assert ours.is_constant
    assert (ours.mean, ours.std, ours.skew, ours.kurtosis) == (0.1, 0.0, None, None)


@pytest.mark.parametrize(
    ("n", "known"),
    [(1, (False, False, False)), (2, (True, False, False)), (3, (True, True, False)), (4, (True, True, True))],
)
def test_a_moment_needs_enough_values(n: int, known: tuple[bool, ...]) -> None:
    ours = described(np.arange(float(n)))
    assert tuple(moment is not None for moment in (ours.std, ours.skew, ours.kurtosis)) == known


@pytest.mark.parametrize("exponent", [-250, -120, 120, 250])
def test_huge_and_tiny_values_keep_their_shape(exponent: int) -> None:
    # squares of 1e250 overflow and those of 1e-250 vanish; skew and kurtosis do not depend on the unit
    values = np.random.default_rng(0).lognormal(size=200)
    ours, plain = described(values * 10.0**exponent), described(values)
    assert ours.skew == pytest.approx(plain.skew, rel=1e-9)
    assert ours.kurtosis == pytest.approx(plain.kurtosis, rel=1e-9)
    assert plain.std is not None
    assert ours.std == pytest.approx(plain.std * 10.0**exponent, rel=1e-9)


def test_a_deviation_beyond_the_largest_float_is_undefined() -> None:
    # the deviation of -1.7e308 and 1.7e308 is 1.7e308 times the square root of 2, above 1.798e308
    ours = described([-1.7e308, 1.7e308])
    assert ours.std is None
    assert ours.mean == 0.0


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=30))
def test_every_column_has_a_description(values: list[float]) -> None:
    ours = described(values)
    numbers = [ours.mean, ours.std, ours.skew, ours.kurtosis, ours.minimum, ours.maximum, *ours.quantiles]
    assert all(np.isfinite(number) for number in numbers if number is not None)
    assert list(ours.quantiles) == sorted(ours.quantiles)
    if ours.mean is not None and ours.minimum is not None and ours.maximum is not None:
        # rounding may take the mean of equal values past them by an ulp
        slack = 1e-15 * max(abs(ours.minimum), abs(ours.maximum))
        assert ours.minimum - slack <= ours.mean <= ours.maximum + slack

"""Cells of values. numpy's binary search is the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mlops.domain.drift.cells import cell_of, quantile_cells

LONG = 8192


def _expected(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.searchsorted(edges, values, side="left")


@given(
    arrays.arrays(np.float64, st.integers(1, 63), elements=st.floats(allow_nan=False), unique=True),
    st.lists(st.floats(allow_nan=False), max_size=20),
    st.integers(0, 2**32 - 1),
)
def test_a_long_column_has_the_cells_of_a_binary_search(edges: np.ndarray, some: list[float], seed: int) -> None:
    edges = np.sort(edges)
    with np.errstate(over="ignore"):
        near = np.concatenate([edges, np.nextafter(edges, np.inf), np.nextafter(edges, -np.inf), some])
    values = np.random.default_rng(seed).choice(near, LONG)
    np.testing.assert_array_equal(cell_of(values, edges), _expected(values, edges))


@pytest.mark.parametrize("scale", [1.0, 1e-300, 1e-12, 1e12, 1e300])
@pytest.mark.parametrize("shape", ["normal", "lognormal", "whole", "shifted"])
def test_cells_of_common_features_are_those_of_a_binary_search(shape: str, scale: float) -> None:
    rng = np.random.default_rng(3)
    drawn = {
        "normal": rng.standard_normal(2 * LONG),
        "lognormal": np.exp(3 * rng.standard_normal(2 * LONG)),
        "whole": rng.poisson(3, 2 * LONG).astype(float),
        "shifted": 1e9 + rng.standard_normal(2 * LONG),
    }[shape]
    with np.errstate(over="ignore"):
        values = drawn * scale
    values[::97], values[::89] = np.inf, -np.inf
    edges, _ = quantile_cells(values)
    np.testing.assert_array_equal(cell_of(values, edges), _expected(values, edges))


def test_a_missing_value_does_not_disturb_the_others() -> None:
    values = np.random.default_rng(4).standard_normal(LONG)
    edges, _ = quantile_cells(values)
    holed = values.copy()
    holed[::5] = np.nan
    kept = ~np.isnan(holed)
    np.testing.assert_array_equal(cell_of(holed, edges)[kept], _expected(values, edges)[kept])

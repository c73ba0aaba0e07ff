"""Slices: a part that is worse is found, the market's bad months are not, and many looks find nothing by chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.domain.live.slices import compare_slices, holm

N_DAYS, N_NAMES = 120, 12
DATES = np.repeat(np.datetime64("2020-01-01") + np.arange(N_DAYS), N_NAMES)
SECTORS = np.tile(np.array(["tech", "energy", "health"] * 4, dtype=object), N_DAYS)


def outcomes(rng: np.random.Generator, share: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    return (rng.uniform(size=len(share)) < share).astype(np.int8)


def test_the_sector_that_is_predicted_worse_is_named_and_no_other() -> None:
    rng = np.random.default_rng(1)
    p = rng.uniform(0.2, 0.8, size=len(DATES))
    y = outcomes(rng, np.where(SECTORS == "energy", 1 - p, p))
    found = compare_slices({"sector": SECTORS}, dates=DATES, y=y, probability=p, horizon_dates=5)
    assert [one.value for one in found if one.is_worse] == ["energy"]
    assert found[0].excess_log_loss is not None
    assert found[0].excess_log_loss > 0.1
    assert found[0].n_days == N_DAYS
    inside = SECTORS == "energy"
    assert found[0].accuracy == pytest.approx(float(((p >= 0.5) == (y == 1))[inside].mean()))


def test_a_tercile_of_a_number_is_a_slice() -> None:
    rng = np.random.default_rng(2)
    p, size = rng.uniform(0.2, 0.8, size=len(DATES)), rng.normal(size=len(DATES))
    y = outcomes(rng, np.where(size > np.quantile(size, 2 / 3), 1 - p, p))
    found = compare_slices({"size": size}, dates=DATES, y=y, probability=p, horizon_dates=5)
    assert [one.value.split(",")[0] for one in found if one.is_worse] == ["high"]
    assert sum(one.n for one in found) == len(DATES)


def test_shocks_that_all_share_and_many_columns_name_no_slice_more_often_than_is_said() -> None:
    rng = np.random.default_rng(3)
    named = 0
    for _ in range(30):
        p = np.clip(rng.uniform(0.2, 0.8, size=len(DATES)), 0.01, 0.99)
        # Every month one way or the other for all names: bad for the model, and for no slice of it.
        shock = np.repeat(rng.normal(scale=1.0, size=N_DAYS // 20), 20 * N_NAMES)
        y = outcomes(rng, 1 / (1 + np.exp(-(np.log(p / (1 - p)) + shock))))
        columns = {f"column {i}": np.tile(rng.permutation(SECTORS[:N_NAMES]), N_DAYS) for i in range(6)}
        found = compare_slices(columns, dates=DATES, y=y, probability=p, horizon_dates=20)
        named += any(one.is_worse for one in found)
    # 5 % is asked: of 30, 6 and more have a probability below 1 %.
    assert named <= 5


def test_a_missing_value_belongs_to_no_slice_and_a_single_category_is_none() -> None:
    p, y = np.full(8, 0.6), np.ones(8, dtype=np.int8)
    dates = np.datetime64("2020-01-01") + np.arange(8) // 4
    mixed = np.array(["a", None, "b", float("nan")] * 2, dtype=object)
    found = compare_slices(
        {"mixed": mixed, "same": np.array(["x"] * 8, dtype=object), "nan": np.full(8, np.nan)},
        dates=dates,
        y=y,
        probability=p,
        horizon_dates=20,
    )
    assert sorted((one.column, one.value, one.n) for one in found) == [("mixed", "a", 2), ("mixed", "b", 2)]
    assert all(one.p_value == 1.0 for one in found)


def test_holm_is_the_textbooks() -> None:
    # 4 * 0.005; 3 * 0.01; 2 * 0.03; 0.04 raised to the one before: Holm 1979.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0.0, 1.0), max_size=12))
def test_a_corrected_p_value_is_never_smaller_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(a >= p for a, p in zip(adjusted, p_values, strict=True))
    ordered = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert [adjusted[i] for i in ordered] == sorted(adjusted)

"""Which daily number a label allows, and what it is of."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import norm

from mlops.domain.experiments.measures import day_part, differences_by_day, measures_of
from mlops.domain.experiments.records import Measure

RETURNS = np.array([0.02, -0.03, math.nan])


def test_a_return_label_that_asks_for_little_turns_the_days_return_around() -> None:
    part = day_part("target_return_5d <= -0.02")
    assert part is not None
    np.testing.assert_array_equal(part.of(RETURNS, pa.table({})), [-0.02, 0.03, math.nan])


def test_a_volatility_labels_part_is_the_absolute_return_in_units_of_the_level_it_compares_with() -> None:
    part = day_part("target_volatility_20d > volatility_20d")
    assert part is not None
    rows = pa.table({"volatility_20d": [0.01, 0.0, 0.02]})
    np.testing.assert_array_equal(part.of(np.array([0.02, -0.03, 0.05]), rows), [2.0, math.nan, 2.5])
    bare = day_part("target_volatility_20d > 0.3")
    assert bare is not None
    np.testing.assert_array_equal(bare.of(RETURNS, pa.table({})), [0.02, 0.03, math.nan])


@pytest.mark.parametrize(
    ("label", "n_names", "expected"),
    [
        ("target_return > 0", 8, (Measure.MARK, Measure.INCREMENT)),
        ("target_return > 0", 4, (Measure.MARK,)),
        ("target_return > 0", 20, (Measure.INCREMENT, Measure.MARK)),
        ("target_return < 0", 500, (Measure.INCREMENT,)),
        ("target_volatility_20d > volatility_20d", 500, (Measure.INCREMENT,)),
        ("target_volatility_20d > volatility_20d", 4, ()),
        ("target_rank > 10", 500, ()),
        ("target_return == 0", 500, ()),
    ],
)
def test_the_label_and_the_number_of_names_say_what_is_compared(
    label: str, n_names: int, expected: tuple[Measure, ...]
) -> None:
    assert measures_of(label, n_names=n_names) == expected


def test_each_day_is_one_number_and_a_day_without_returns_none() -> None:
    days = np.repeat(np.array(["2024-01-02", "2024-01-03", "2024-01-04"], dtype="datetime64[D]"), [2, 3, 2])
    ours, theirs = np.array([0.9, 0.1, 0.9, 0.9, 0.1, 0.9, 0.1]), np.full(7, 0.9)
    returns = np.array([0.02, -0.04, 0.01, 0.03, -0.05, math.nan, math.nan])
    found, values = differences_by_day(Measure.MARK, days, ours, theirs, returns, horizon_dates=20)
    np.testing.assert_array_equal(found, days[[0, 2]])
    # 0.02 held alone against the mean of both, -0.01; 0.02 against the mean of the three, -0.01 / 3
    np.testing.assert_allclose(values, [0.02 + 0.01, 0.02 + 0.01 / 3])


def test_an_increment_is_the_gain_in_log_density_of_the_days_returns() -> None:
    day = np.repeat(np.datetime64("2024-01-02", "D"), 6)
    ours, theirs = np.array([0.7, 0.6, 0.5, 0.5, 0.4, 0.3]), np.array([0.4, 0.5, 0.5, 0.5, 0.5, 0.6])
    came = np.array([0.03, 0.01, 0.0, 0.0, -0.01, -0.03])
    _, values = differences_by_day(Measure.INCREMENT, day, ours, theirs, came, horizon_dates=4)
    standard = came / came.std()
    densities = []
    for said in (ours, theirs):
        z = norm.ppf(said) / 2
        densities.append(norm.logpdf(standard, loc=z - z.mean()).mean())
    np.testing.assert_allclose(values, [densities[0] - densities[1]])

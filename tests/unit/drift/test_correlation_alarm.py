"""The alarm about a changed correlation: by hand, on made panels, and what it leaves alone."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from scipy.stats import spearmanr

from lab.placebos import coupled
from mlops.domain.drift.alarms import CorrelationChange, correlation_change, date_scores
from mlops.domain.drift.calibration import calibrate
from mlops.domain.drift.placements import MISSING
from mlops.domain.frame import FeatureFrame

FIRST = date(2018, 1, 1)
N_DATES, N_NAMES, REFERENCE, CURRENT = 560, 20, 62, 5


def change(
    seed: int, *, correlation: float | None = None, n_names: int = N_NAMES, alpha: float = 0.035
) -> CorrelationChange:
    """Of ten independent features; x1 is ordered by x0 over the newest 20 dates."""
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(N_DATES), n_names)
    numbers = {f"x{i}": rng.standard_normal(N_DATES)[day] / 2 + rng.standard_normal(len(day)) for i in range(10)}
    if correlation is not None:
        late = slice(-20 * n_names, None)
        numbers["x1"][late] = coupled(numbers["x0"][late], numbers["x1"][late], correlation, rng)
    dates = np.datetime64(FIRST, "D") + day.astype("timedelta64[D]")
    ends = [N_DATES - REFERENCE - CURRENT, N_DATES - CURRENT, N_DATES]
    frames = []
    for first, after in zip([0, *ends], ends, strict=False):
        rows = slice(first * n_names, after * n_names)
        part = {name: values[rows] for name, values in numbers.items()}
        frames.append(FeatureFrame(n_rows=len(dates[rows]), numbers=part, categories={}, dates=dates[rows]))
    start = FIRST + timedelta(days=ends[0])
    return calibrate(*frames, correlation_alpha=alpha, reference_start=start).correlations


def test_a_score_is_a_cell_less_the_mean_of_its_date_and_0_where_it_is_missing() -> None:
    cells = np.array([[1, 3, 10, MISSING, 20], [5, 5, 5, 5, 5]])
    assert date_scores(cells, np.array([0, 2])).tolist() == [[-1, 1, -5, 0, 5], [0, 0, 0, 0, 0]]


def test_two_features_that_come_to_move_together_are_named() -> None:
    found = [change(seed, correlation=0.7) for seed in range(5)]
    assert [one.pair for one in found if one.is_alarm] == [("x0", "x1")] * 5
    assert all(one.now is not None and one.before is not None and one.now - one.before > 0.4 for one in found)


def test_nothing_is_named_where_correlations_are_as_ever() -> None:
    assert sum(change(seed).is_alarm for seed in range(10, 25)) <= 2  # 15 checks at 3.5 %


def test_coupled_features_keep_their_values_and_have_the_correlation() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal(4000), rng.exponential(size=4000)
    other[7] = np.nan
    found = coupled(one, other, 0.7, rng)
    assert np.array_equal(np.sort(found), np.sort(other), equal_nan=True)
    assert np.isnan(found[7])
    # 6 / pi asin(0.7 / 2): Spearman's of a normal pair with Pearson's 0.7.
    assert spearmanr(one, found, nan_policy="omit").statistic == pytest.approx(0.683, abs=0.03)


def test_what_cannot_be_looked_at_says_why() -> None:
    few = np.arange(0, 1000, 10)
    nothing = [
        (change(1, n_names=2), "a date has 2.0 rows; correlations within a date need 3"),
        (change(1, alpha=0.0), "drift.correlation_alpha is 0"),
        (
            correlation_change(["a"], np.zeros((1, 1000), np.float32), few, alpha=0.05),
            "there are no two numeric features",
        ),
        (
            correlation_change(["a", "b"], np.zeros((2, 1000), np.float32), few, alpha=0.05),
            "the dates hold 1 earlier placements; an alarm at 0.05 needs 19",
        ),
    ]
    assert [(found.missing, found.is_alarm) for found, _ in nothing] == [(why, False) for _, why in nothing]

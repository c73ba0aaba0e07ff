"""The same season of earlier years: which dates it is, and the rank of a distance from it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from mlops.domain.drift.calibration import Calibration
from mlops.domain.drift.references.seasons import calibrate_season, season_history, season_windows, years_before
from mlops.domain.policies import DataPolicy, DriftPolicy
from mlops.domain.ports import Window
from tests.unit.drift.profiles import FIRST, day, frame

DATA = DataPolicy(reference="season", season_years=2, reference_days=31, current_days=5)
DRIFT = DriftPolicy(calibration_days=200, min_calibration_days=100)
N = 1200
"""Days of history and current window: 2 years of seasons, 200 + 31 + 5 days, and some to spare."""
AS_OF = day(N - 1)


def test_a_year_s_part_has_the_current_window_moved_back_in_its_middle() -> None:
    # 5 days to 31 December: 27 to 31; a year before, 13 days are added on either side.
    parts = season_windows(date(2021, 12, 31), DATA)
    assert parts[1] == Window(start=date(2020, 12, 13), end=date(2021, 1, 13))
    assert parts[0] == Window(start=date(2019, 12, 13), end=date(2020, 1, 13))


def test_a_leap_day_stands_for_the_28th_in_other_years() -> None:
    assert years_before(date(2024, 2, 29), 1) == date(2023, 2, 28)
    assert years_before(date(2024, 2, 29), 4) == date(2020, 2, 29)


@given(
    as_of=st.dates(min_value=date(1990, 1, 1), max_value=date(2090, 1, 1)),
    years=st.integers(1, 6),
    days=st.integers(1, 300),
    current=st.integers(1, 65),
)
def test_parts_are_as_long_as_asked_for_and_overlap_neither_each_other_nor_the_current_window(
    as_of: date, years: int, days: int, current: int
) -> None:
    data = DataPolicy(reference="season", season_years=years, reference_days=days, current_days=current)
    parts = season_windows(as_of, data)
    assert len(parts) == years
    assert {(part.end - part.start).days for part in parts} == {days}
    for part, later in zip(parts, [*parts[1:], Window(start=as_of - timedelta(days=current), end=as_of)], strict=True):
        assert part.end <= later.start


def values(seed: int = 0) -> np.ndarray:
    """At most 21 distinct values, so that each has a cell of its own and W1 is exact."""
    return np.random.default_rng(seed).integers(-10, 11, size=(N, 6)).astype(float)


def calibrated(x: np.ndarray, *, first: int = 0, data: DataPolicy = DATA, drift: DriftPolicy = DRIFT) -> Calibration:
    border = N - DATA.current_days
    wanted = season_history(AS_OF, data, drift)
    start = max(first, (wanted.start - FIRST).days + 1)
    return calibrate_season(
        frame(start, {"x": x[start:border]}), frame(border, {"x": x[border:]}), as_of=AS_OF, data=data, drift=drift
    )


def brute_statistic(x: np.ndarray, last: int, pooled: np.ndarray) -> float:
    parts = season_windows(day(last), DATA)
    rows = np.concatenate([x[(part.start - FIRST).days + 1 : (part.end - FIRST).days + 1].ravel() for part in parts])
    spread = np.sqrt(max(rows.std(), 0.1 * pooled.std()) * pooled.std())
    return max(wasserstein_distance(x[last + 1 - n : last + 1].ravel(), rows) / spread for n in (1, 2, 4, 5))


def test_statistic_and_p_are_the_rank_among_places_with_seasons_by_the_same_rule() -> None:
    x = values()
    found = calibrated(x)
    pooled = x[(season_history(AS_OF, DATA, DRIFT).start - FIRST).days + 1 :]
    # They end 5 + 31 days before the as-of date, and begin up to 200 days before that.
    border = N - 1 - 36
    lasts = range(border - 200 + 5, border + 1)
    earlier = [brute_statistic(x, last, pooled) for last in lasts]
    observed = brute_statistic(x, N - 1, pooled)
    assert found.statistic == pytest.approx(observed, rel=1e-6)
    assert found.placements is not None
    np.testing.assert_allclose(found.placements.statistics, earlier, rtol=1e-6)
    assert found.placements.last_dates[-1] == np.datetime64(day(border), "D")
    assert found.p_value == pytest.approx((1 + sum(e >= observed - 1e-12 for e in earlier)) / (1 + len(earlier)))


def test_what_comes_back_every_year_is_no_drift_and_what_does_not_is() -> None:
    wave = 5 * np.sin(2 * np.pi * np.arange(N) / 365.25)[:, None]
    x = wave + np.random.default_rng(1).normal(size=(N, 20))
    assert not calibrated(x).is_extreme
    x[-5:] += 4
    assert calibrated(x).is_extreme


def test_years_that_are_not_there_are_said() -> None:
    found = calibrated(values(), first=600)
    assert found.p_value is None
    missing = found.missing or ""
    assert "the seasons of 2 earlier years are asked for, from " in missing
    assert f"the history begins on {day(600)}: load earlier features, lower season_years" in missing


def test_too_few_places_are_said() -> None:
    # The check has its two years, but hardly any earlier date has.
    found = calibrated(values(), first=(season_windows(AS_OF, DATA)[0].start - FIRST).days - 60)
    assert found.p_value is None
    assert "that have the seasons of 2 years before them" in (found.missing or "")


def test_no_history_says_so() -> None:
    empty = frame(0, {"x": np.empty((1, 0))})
    found = calibrate_season(empty, frame(0, {"x": np.zeros((1, 3))}), as_of=AS_OF, data=DATA, drift=DRIFT)
    assert "there are no rows before" in (found.missing or "")


def test_more_years_need_a_longer_history() -> None:
    three = replace(DATA, season_years=3)
    assert season_history(AS_OF, three, DRIFT).start < season_history(AS_OF, DATA, DRIFT).start
    assert season_history(AS_OF, DATA, DRIFT).end == AS_OF - timedelta(days=5)

"""The rank of a distance from a frozen profile among places as far apart."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from mlops.domain.drift.calibration import Calibration
from mlops.domain.drift.references.frozen import calibrate_frozen, gap_dates
from tests.unit.drift.profiles import SPANS, day, frame, profile_of

N, K = sum(SPANS), 5
R, FIRST = SPANS[1], SPANS[0]


def values(seed: int = 0, *, n: int = N + 60, rows: int = 6) -> np.ndarray:
    """At most 21 distinct values, so that each has a cell of its own and W1 is exact; all of them occur."""
    found = np.random.default_rng(seed).integers(-10, 11, size=(n, rows)).astype(float)
    found[:4].flat[:21] = np.arange(-10, 11)
    return found


def calibrated(
    columns: dict[str, np.ndarray], *, start: int = N, min_days: int = 100, alpha: float = 0.05
) -> Calibration:
    """The check whose current window begins at date `start`."""
    profile = profile_of({name: column[:N] for name, column in columns.items()})
    current = frame(start, {name: column[start : start + K] for name, column in columns.items()})
    return calibrate_frozen(
        profile, current, current_start=day(start - 1), alpha=alpha, min_days=min_days, owner="version 3"
    )


def brute_distance(x: np.ndarray, reference: tuple[int, int], end: int) -> float:
    """The definition with scipy over the raw rows."""
    rows = x[slice(*reference)].ravel()
    overall = x[:N].std()
    spread = np.sqrt(max(rows.std(), 0.1 * overall) * overall)
    return max(wasserstein_distance(x[end - n : end].ravel(), rows) / spread for n in (1, 2, 4, 5))


@pytest.mark.parametrize("start", [N, N + 20, N - 10])
def test_statistic_and_p_are_the_rank_among_all_places_with_the_same_gap(start: int) -> None:
    columns = {"x": values(1), "y": values(2), "z": values(3)}
    found = calibrated(columns, start=start)
    gap = start - (FIRST + R)
    last = min(start, N)  # nothing from the current window on
    places = range(last - R - gap - K + 1)
    earlier = [np.mean([brute_distance(x, (j, j + R), j + R + gap + K) for x in columns.values()]) for j in places]
    observed = np.mean([brute_distance(x, (FIRST, FIRST + R), start + K) for x in columns.values()])
    assert found.statistic == pytest.approx(observed, rel=1e-5)
    assert found.placements is not None
    np.testing.assert_allclose(found.placements.statistics, earlier, rtol=1e-5)
    assert found.n_placements == len(earlier)
    assert found.p_value == pytest.approx((1 + sum(e >= observed for e in earlier)) / (1 + len(earlier)), abs=1e-9)
    assert found.placements.last_dates[0] == np.datetime64(day(R + gap + K - 1), "D")
    assert found.placements.last_dates[-1] < np.datetime64(day(start), "D")


def test_missing_values_and_categories_count_by_total_variation() -> None:
    x = values(4)
    x[N : N + K, :3] = np.nan
    texts = np.full((N + 60, 6), "a", dtype=object)
    texts[N : N + K, :2] = "never seen"
    found = calibrated({"x": x, "sector": texts})
    assert found.distances["sector"] == pytest.approx(2 / 6)
    assert found.distances["x"] >= 0.5
    assert found.is_extreme


def test_a_constant_that_starts_to_vary_moves_by_the_share_that_left() -> None:
    x = np.full((N + 60, 6), 7.0)
    x[N : N + K, :3] = [6.0, 8.0, 9.0]
    found = calibrated({"x": x})
    assert found.distances["x"] == pytest.approx(0.5)
    assert found.is_extreme


def test_a_shift_beyond_everything_seen_has_the_smallest_p_there_is() -> None:
    x = values(5)
    x[N:] += 100
    found = calibrated({"x": x})
    assert found.p_value == pytest.approx(1 / (1 + found.n_placements))


def test_infinities_give_a_finite_statistic() -> None:
    x = values(6)
    x[3, 1], x[N, 0] = -np.inf, np.inf
    assert np.isfinite(calibrated({"x": x}).statistic or np.nan)


def test_fewer_places_are_left_as_the_champion_ages_until_there_are_too_few() -> None:
    columns = {"x": values(7, n=N + 200)}
    places = [calibrated(columns, start=N + age).n_placements for age in (0, 10, 20)]
    assert places == [N - R - 20 - age - K + 1 for age in (0, 10, 20)]
    old = calibrated(columns, start=N + 95)
    assert old.p_value is None
    assert old.missing == (
        "version 3 is 115 days past the dates that it was trained on: its profile leaves 21 places for windows "
        "115 dates apart, 4 without a common date; a calibrated verdict needs 19 and 5: retrain, or use the trailing "
        "reference"
    )


def test_a_champion_older_than_its_profile_is_long_has_no_place_left() -> None:
    assert calibrated({"x": values(8, n=N + 900)}, start=N + 800).n_placements == 0


def test_a_profile_with_a_short_history_says_what_to_load() -> None:
    found = calibrated({"x": values(9)}, min_days=365)
    assert "reaches 119 days before the dates that were trained on; a calibrated verdict needs 365" in (
        found.missing or ""
    )


def test_the_gap_counts_the_profiles_dates_and_takes_later_ones_to_be_as_dense() -> None:
    profile = profile_of({"x": values()[:N]})
    assert gap_dates(profile, day(N - 1)) == SPANS[2]
    assert gap_dates(profile, day(N + 29)) == SPANS[2] + 30
    assert gap_dates(profile, day(N - 8)) == SPANS[2] - 7

"""The rank of a shift among earlier ones."""

from __future__ import annotations

import itertools
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from mlops.domain.drift.calibration import Calibration, calibrate
from mlops.domain.drift.placements import rows_kept
from mlops.domain.frame import FeatureFrame

K, R = 3, 6
FIRST = date(2020, 1, 1)


def panel(
    values: np.ndarray, *, dates_of_history: int, k: int = K, r: int = R, text: bool = False
) -> list[FeatureFrame]:
    """History, reference and current of one feature. values : (dates, rows)."""
    bounds = [0, dates_of_history, dates_of_history + r, dates_of_history + r + k]
    frames = []
    for start, end in itertools.pairwise(bounds):
        rows = values[start:end].ravel()
        days = np.repeat(np.datetime64(FIRST, "D") + np.arange(start, end), values.shape[1])
        columns = {"x": rows}
        frames.append(
            FeatureFrame(
                n_rows=len(rows), numbers={} if text else columns, categories=columns if text else {}, dates=days
            )
        )
    return frames


def calibrated(values: np.ndarray, *, dates_of_history: int = 60, min_days: int = 50, **options: object) -> Calibration:
    frames = panel(values, dates_of_history=dates_of_history, **options)  # type: ignore[arg-type]
    start = FIRST + timedelta(days=dates_of_history)
    return calibrate(*frames, min_days=min_days, reference_start=start)


def noise(seed: int = 0, dates: int = 60 + R + K, rows: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(dates, rows))


def few_values(seed: int = 0) -> np.ndarray:
    """At most 21 distinct values, so that every value has a cell of its own and W1 is exact."""
    return np.random.default_rng(seed).integers(-10, 11, size=(60 + R + K, 8)).astype(float)


def scipy_statistic(values: np.ndarray, end: int) -> float:
    """The module's definition, written with scipy and numpy over the raw rows."""
    reference = values[end - K - R : end - K].ravel()
    spread = np.sqrt(max(reference.std(), 0.1 * values.std()) * values.std())
    return max(wasserstein_distance(values[end - n : end].ravel(), reference) / spread for n in (1, 2, 3))


def test_the_statistic_is_scipys_wasserstein_distance_of_the_newest_dates_in_spreads() -> None:
    values = few_values()
    assert calibrated(values).statistic == pytest.approx(scipy_statistic(values, len(values)), rel=1e-6)


def test_p_is_the_rank_among_every_earlier_place_of_both_windows() -> None:
    values = few_values(3)
    result = calibrated(values)
    earlier = [scipy_statistic(values, end) for end in range(R + K, 60 + 1)]
    observed = scipy_statistic(values, len(values))
    assert result.n_placements == len(earlier) == 60 - R - K + 1
    assert result.p_value == pytest.approx((1 + sum(x >= observed - 1e-12 for x in earlier)) / (1 + len(earlier)))


def test_no_placement_touches_the_reference_window() -> None:
    values = few_values()
    result = calibrated(values)
    assert result.placements is not None
    assert result.placements.last_dates[-1] == np.datetime64(FIRST, "D") + 59
    assert result.placements.last_dates[0] == np.datetime64(FIRST, "D") + R + K - 1


def test_a_shift_beyond_all_earlier_ones_has_the_smallest_p_there_is() -> None:
    values = noise()
    values[-K:] += 5
    result = calibrated(values)
    assert result.p_value == pytest.approx(1 / (1 + 52))
    assert result.is_extreme


def test_a_shift_at_the_critical_value_is_seen() -> None:
    values = noise(4)
    result = calibrated(values)
    values[-K:] += 2 * (result.critical or 0) * values.std()
    again = calibrated(values)
    assert again.is_extreme
    assert (again.statistic or 0) > (again.critical or 0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_p_is_at_most_alpha_exactly_where_the_statistic_is_above_the_critical_value(seed: int) -> None:
    result = calibrated(noise(seed))
    assert result.is_extreme == ((result.statistic or 0) > (result.critical or 0))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), factor=st.sampled_from([1e-200, 1e-9, 3.0, 1e9, 1e200]))
def test_the_unit_of_a_feature_does_not_matter(seed: int, factor: float) -> None:
    values = noise(seed)
    assert calibrated(values * factor).statistic == pytest.approx(calibrated(values).statistic, rel=1e-9)


def test_repeating_every_row_of_every_date_adds_no_evidence() -> None:
    values = few_values(1)
    assert calibrated(np.repeat(values, 5, axis=1)).p_value == calibrated(values).p_value


def test_one_wild_value_is_no_shift() -> None:
    values = noise(2, rows=40)
    before = calibrated(values)
    values[-1, 0] = 1e12
    after = calibrated(values)
    assert after.p_value == pytest.approx(before.p_value or 0, abs=0.15)
    assert (after.statistic or 0) < (before.critical or 0)


def test_missing_values_that_appear_are_a_shift() -> None:
    values = noise(5, rows=20)
    values[-K:, :12] = np.nan
    assert calibrated(values).statistic == pytest.approx(0.6, abs=0.5)
    assert calibrated(values).is_extreme


def test_infinite_values_give_a_finite_statistic() -> None:
    values = noise(6)
    values[-1, :4] = np.inf
    values[3, 2] = -np.inf
    assert np.isfinite(calibrated(values).statistic or np.nan)


def test_a_constant_feature_has_no_distance_and_is_never_extreme() -> None:
    result = calibrated(np.full((60 + R + K, 8), 7.0))
    assert result.statistic == 0
    assert result.p_value == 1


def test_a_constant_that_starts_to_vary_is_extreme() -> None:
    values = np.full((60 + R + K, 8), 7.0)
    values[-K:] += noise(dates=K)
    assert calibrated(values).is_extreme


def test_categories_count_by_total_variation() -> None:
    names = np.full((60 + R + K, 8), "a", dtype=object)
    names[-K:, :2] = "b"
    result = calibrated(names, text=True)
    assert result.statistic == pytest.approx(0.25)  # 2 of 8 rows left `a`
    assert result.is_extreme


def test_a_missing_category_is_not_the_text_of_it() -> None:
    names = np.full((60 + R + K, 8), "None", dtype=object)
    names[-K:, :4] = None
    assert calibrated(names, text=True).statistic == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"min_days": 365}, "reaches 60 days before the reference window; a calibrated verdict needs 365"),
        ({"dates_of_history": 20, "min_days": 10}, "raise calibration_days"),
    ],
)
def test_a_short_history_says_what_is_missing(options: dict[str, int], said: str) -> None:
    result = calibrated(noise(), **options)
    assert result.p_value is None
    assert not result.is_extreme
    assert said in (result.missing or "")


def test_no_history_says_so() -> None:
    _, reference, current = panel(noise(), dates_of_history=60)
    result = calibrate(None, reference, current, reference_start=FIRST)
    assert "no rows before 2020-01-01" in (result.missing or "")


def test_a_date_with_a_thousand_rows_is_thinned_evenly() -> None:
    values = np.random.default_rng(0).normal(size=(60 + R + K, 1000))
    values[-K:] += 0.3
    # One date keeps 48 rows, whose mean alone has a deviation of 1 / sqrt(48) = 0.14.
    assert calibrated(values).statistic == pytest.approx(0.3, abs=0.28)


def test_many_rows_a_date_are_ranked_as_few_are() -> None:
    # 8,192 values and more go another way to their cells; repeated rows must not change the rank.
    values = few_values(9)
    assert calibrated(np.repeat(values, 40, axis=1)).p_value == calibrated(values).p_value


@pytest.mark.parametrize("per_date", [3, 48, 200])
def test_rows_in_any_order_are_kept_evenly_of_each_date(per_date: int) -> None:
    days = np.repeat(np.arange("2024-01-01", "2024-01-21", dtype="datetime64[D]"), per_date)
    for rows in (days, np.random.default_rng(0).permutation(days), days[:0]):
        kept = rows[rows_kept(rows)]
        _, sizes = np.unique(kept, return_counts=True)
        assert len(sizes) == len(np.unique(rows))
        assert (sizes == min(per_date, 48)).all()
        assert (kept[1:] >= kept[:-1]).all()


def test_rows_with_tickers_are_kept_by_their_marks_whatever_their_order_and_kept_again() -> None:
    days = np.repeat(np.arange("2024-01-01", "2024-01-06", dtype="datetime64[D]"), 300)
    tickers = [f"T{number:03}" for _ in range(5) for number in range(300)]

    def kept(order: npt.NDArray[np.intp]) -> list[tuple[str, np.datetime64]]:
        names = pa.chunked_array([pa.array([tickers[i] for i in order])])
        return [(tickers[i], days[i]) for i in order[rows_kept(days[order], tickers=names)]]

    found = kept(np.arange(len(days)))
    assert sorted(found) == sorted(kept(np.random.default_rng(1).permutation(len(days))))
    _, sizes = np.unique([day for _, day in found], return_counts=True)
    assert sizes.tolist() == [48] * 5
    # 300 names of which each sixth would be taken by turns: no seventh or half of the names is left out.
    assert {int(name[1:]) % 7 for name, _ in found} == set(range(7))
    names = pa.chunked_array([pa.array([name for name, _ in found])])
    assert len(rows_kept(np.array([day for _, day in found]), tickers=names)) == len(found)

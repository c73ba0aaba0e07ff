"""The alarm about a single feature's feed: jumps by hand, ranks on made panels, and what it leaves alone."""

from __future__ import annotations

import itertools
from datetime import date, timedelta

import numpy as np
import pytest

from mlops.domain.drift.alarms import FeatureJumps, date_means, jumps, rank_jumps
from mlops.domain.drift.calibration import calibrate
from mlops.domain.frame import FeatureFrame, Floats

FIRST = date(2018, 1, 1)
N_DATES, N_NAMES, REFERENCE, CURRENT = 560, 12, 62, 5


def test_a_dates_mean_is_of_its_finite_values_and_a_date_without_has_the_one_before() -> None:
    values = np.array([[1.0, 3.0, np.nan, np.nan, np.inf, 5.0]])
    assert date_means(values, np.array([0, 2, 4])).tolist() == [[2.0, 2.0, 5.0]]


def test_jumps_are_day_to_day_day_against_week_and_week_to_week() -> None:
    series = np.array([0.0, 0, 0, 0, 0, 0, 0, 0, 0, 10.0])
    # The last date against the one before; against the five before; the last five, of mean 2, against the five before.
    assert jumps(series)[:, -1].tolist() == [10.0, 10.0, 2.0]
    assert jumps(series[:9]).shape == (3, 0)


def ranks(own: float, *, n_dates: int = 205) -> FeatureJumps:
    """One feature whose jumps were 1, 2, … 200 thousandths, the newest week 0 and the last `own`."""
    found = np.concatenate([np.arange(1, n_dates - 4) / 1000, np.zeros(4), [own]])
    return rank_jumps({"x": np.stack([found] * 3)}, alpha=0.05)


def test_p_counts_the_earlier_weeks_that_reached_the_jump() -> None:
    # 200 dates are 196 weeks of five, the largest of them .005 to .200.
    assert ranks(0.3).p_values == {"x": pytest.approx(1 / 197)}
    assert ranks(0.2).p_values == {"x": pytest.approx(2 / 197)}
    assert ranks(0.0).p_values == {"x": 1.0}


def test_the_size_is_in_what_the_feature_stays_below_on_most_dates() -> None:
    # 95 % of 200 dates: the value in place 190 from 0, which is .191.
    found = ranks(0.382)
    assert found.sizes == {"x": pytest.approx(2.0)}
    assert found.alarms == ("x",)
    # Above the tenth largest of 196 weeks p is at most 9 / 197 = .046.
    assert found.critical == pytest.approx(0.192 / 0.191)


def test_too_few_weeks_give_no_alarm_and_say_so() -> None:
    found = ranks(0.9, n_dates=25)
    assert (found.alarms, found.n_weeks) == ((), 16)
    assert found.missing == "the dates hold 16 earlier weeks; an alarm at 0.05 needs 19"


def panel(seed: int, n_features: int, *, planted: dict[str, Floats] | None = None) -> list[FeatureFrame]:
    """History, reference and current: a third of a feature's variance is a date's common move."""
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(N_DATES), N_NAMES)
    numbers = {
        f"x{i}": np.sqrt(1 / 3) * rng.standard_normal(N_DATES)[day] + np.sqrt(2 / 3) * rng.standard_normal(len(day))
        for i in range(n_features)
    }
    numbers |= planted or {}
    whole = FeatureFrame(
        n_rows=len(day), numbers=numbers, categories={}, dates=np.datetime64(FIRST, "D") + day.astype("timedelta64[D]")
    )
    bounds = [0, N_DATES - REFERENCE - CURRENT, N_DATES - CURRENT, N_DATES]
    frames = []
    for start, end in itertools.pairwise(bounds):
        rows = slice(start * N_NAMES, end * N_NAMES)
        part = {name: values[rows].copy() for name, values in whole.numbers.items()}
        assert whole.dates is not None
        frames.append(FeatureFrame(n_rows=len(part["x0"]), numbers=part, categories={}, dates=whole.dates[rows]))
    return frames


def alarms(frames: list[FeatureFrame], alpha: float = 0.02) -> FeatureJumps:
    start = FIRST + timedelta(days=N_DATES - REFERENCE - CURRENT)
    return calibrate(*frames, feature_alpha=alpha, reference_start=start).jumps


def test_one_feature_of_45_that_shifts_by_three_deviations_is_named_alone() -> None:
    frames = panel(1, 45)
    frames[2].numbers["x7"][-5 * N_NAMES :] += 3.0
    assert alarms(frames).alarms == ("x7",)


def test_nothing_is_named_where_all_features_are_as_ever() -> None:
    fired = [bool(alarms(panel(seed, 20)).alarms) for seed in range(2, 22)]
    assert sum(fired) <= 2  # 20 checks at 1.5 % a week


def test_a_unit_of_a_hundred_times_the_value_is_named() -> None:
    rng = np.random.default_rng(9)
    price = 50 + rng.standard_normal(N_DATES * N_NAMES)
    frames = panel(1, 10, planted={"price": price})
    frames[2].numbers["price"][-N_NAMES:] *= 100
    assert alarms(frames).alarms == ("price",)


def test_a_feature_that_never_moved_before_is_named_and_has_no_size() -> None:
    frames = panel(1, 5, planted={"flag": np.zeros(N_DATES * N_NAMES)})
    frames[2].numbers["flag"][-1] = 1.0
    found = alarms(frames)
    assert (found.alarms, found.sizes["flag"]) == (("flag",), np.inf)


def test_the_alarm_can_be_switched_off() -> None:
    found = alarms(panel(1, 5), alpha=0.0)
    assert (found.alarms, found.missing) == ((), "drift.feature_alpha is 0")


def test_missing_and_infinite_values_are_no_jump() -> None:
    frames = panel(1, 10)
    frames[2].numbers["x3"][-3 * N_NAMES :: 2] = np.nan
    frames[2].numbers["x4"][-1] = np.inf
    assert alarms(frames).alarms == ()

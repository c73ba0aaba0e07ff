"""Prices with gaps: what indicators and labels make of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops.features.gaps import BRIDGED_DATES, find_stretches, on_own_dates
from mlops.features.price_universes import price_universes
from mlops.features.sample_features import HORIZON, WARM_UP, compute_features, compute_targets, momentum_members
from tests.support.prices import commodities, random_walks

N_DATES = 700
CLOSE = random_walks(3, pd.bdate_range("2015-01-01", periods=N_DATES), seed=4)
CLOSE.columns = ["A", "B", "C"]
FEATURES, TARGETS = compute_features(CLOSE), compute_targets(CLOSE)
ALONE = [name for name in FEATURES if not name.endswith("_rank")]


def without(*places: int) -> pd.DataFrame:
    """The panel without A's closes of those dates."""
    close = CLOSE.copy()
    close.iloc[list(places), 0] = np.nan
    return close


def of_shorter_series(*places: int) -> dict[str, pd.Series]:
    """Features of A on a panel of A alone that lacks those dates altogether."""
    alone = CLOSE[["A"]].drop(CLOSE.index[list(places)])
    return {name: frame["A"] for name, frame in compute_features(alone).items()}


@given(first=st.integers(0, N_DATES - 1), length=st.integers(1, BRIDGED_DATES))
@settings(max_examples=12, deadline=None)
def test_a_bridged_gap_gives_the_features_of_the_series_without_those_dates(first: int, length: int) -> None:
    places = range(first, min(first + length, N_DATES))
    found, expected = compute_features(without(*places)), of_shorter_series(*places)
    for name in ALONE:
        pd.testing.assert_series_equal(
            found[name]["A"].drop(CLOSE.index[list(places)]), expected[name], check_freq=False
        )
        assert found[name]["A"].iloc[list(places)].isna().all()


@given(places=st.sets(st.integers(0, N_DATES - 1), min_size=1, max_size=40))
@settings(max_examples=12, deadline=None)
def test_gaps_of_one_name_change_no_other_name_and_nothing_before_them(places: set[int]) -> None:
    close = without(*places)
    found, targets = compute_features(close), compute_targets(close)
    for name in ALONE:
        pd.testing.assert_frame_equal(found[name][["B", "C"]], FEATURES[name][["B", "C"]], rtol=1e-9, atol=1e-12)
        pd.testing.assert_frame_equal(
            found[name].iloc[: min(places)], FEATURES[name].iloc[: min(places)], rtol=1e-9, atol=1e-12
        )
    for name, frame in targets.items():
        pd.testing.assert_frame_equal(frame[["B", "C"]], TARGETS[name][["B", "C"]])
        # A target of a date so far before the first gap that it does not look at it.
        pd.testing.assert_frame_equal(
            frame.iloc[: max(0, min(places) - HORIZON)], TARGETS[name].iloc[: max(0, min(places) - HORIZON)]
        )


def test_one_missing_close_leaves_no_trace_beyond_the_window_of_an_indicator() -> None:
    gap = 400
    found = compute_features(without(gap))
    # Own dates in the window of each feature, and one more where it is of returns.
    windows = {
        "return_1d": 1,
        "return_5d": 5,
        "return_20d": 20,
        "return_60d": 60,
        "momentum_50d": 50,
        "momentum_12_1": 252,
    }
    windows |= {"volatility_20d": 20, "volatility_60d": 60, "range_20d": 20, "drawdown_252d": 252}
    windows |= {f"price_vs_sma{days}": days for days in (20, 50, 200)}
    for name, window in windows.items():
        after = slice(gap + window + 1, None)
        np.testing.assert_allclose(
            found[name]["A"].iloc[after], FEATURES[name]["A"].iloc[after], rtol=1e-7, atol=1e-12, err_msg=name
        )
    # Exponential means forget: after 1,000 dates of a mean of 200 there would be e^-10 of the gap left.
    for name in set(ALONE) - set(windows):
        assert abs(found[name]["A"].iloc[-1] - FEATURES[name]["A"].iloc[-1]) < 0.01 * FEATURES[name]["A"].std(), name


def test_a_missing_close_costs_its_own_row_alone_and_invents_no_return_of_zero() -> None:
    found = compute_features(without(400))
    complete = pd.concat([frame["A"] for frame in found.values()], axis=1).notna().all(axis=1)
    assert complete.sum() == N_DATES - WARM_UP - 1
    assert not complete.iloc[400]
    assert found["return_1d"]["A"].iloc[401] == pytest.approx(CLOSE["A"].iloc[401] / CLOSE["A"].iloc[399] - 1)


def test_a_longer_gap_begins_the_history_anew() -> None:
    gap = range(300, 300 + BRIDGED_DATES + 1)
    found = compute_features(without(*gap))
    fresh = compute_features(CLOSE.iloc[gap.stop :][["A"]])
    for name in ALONE:
        pd.testing.assert_series_equal(found[name]["A"].iloc[gap.stop :], fresh[name]["A"])
    assert found["momentum_12_1"]["A"].iloc[300:].first_valid_index() == CLOSE.index[gap.stop + WARM_UP]


@given(
    places=st.sets(st.integers(0, N_DATES - 1), max_size=60),
    halt=st.integers(0, N_DATES - 1),
    length=st.integers(0, 40),
)
@settings(max_examples=12, deadline=None)
def test_a_target_looks_at_the_twentieth_date_and_no_further(places: set[int], halt: int, length: int) -> None:
    close = without(*places, *range(halt, min(halt + length, N_DATES)))
    targets = compute_targets(close)
    day = 350
    changed = close.copy()
    changed.iloc[day + HORIZON + 1 :] *= 3
    for name, frame in compute_targets(changed).items():
        pd.testing.assert_frame_equal(frame.iloc[: day + 1], targets[name].iloc[: day + 1])
    prices, found = close["A"].to_numpy(), targets["target_return"]["A"].to_numpy()
    for at in np.flatnonzero(~np.isnan(found)):
        # Both ends are prices of their own dates, never one carried over.
        assert found[at] == pytest.approx(prices[at + HORIZON] / prices[at] - 1)
        runs = np.diff(np.flatnonzero(~np.isnan(prices[at : at + HORIZON + 1])))
        assert runs.max() <= BRIDGED_DATES + 1


def test_a_target_without_a_price_at_its_end_is_unknown() -> None:
    targets = compute_targets(without(400))
    unknown = [at for at in range(N_DATES - HORIZON) if np.isnan(targets["target_return"]["A"].iloc[at])]
    assert unknown == [400 - HORIZON, 400]
    assert targets["target_volatility_20d"]["A"].iloc[:-HORIZON].isna().sum() == 2
    # A halt of twelve dates: none of the dates whose twenty look across it.
    halted = compute_targets(without(*range(400, 412)))["target_return"]["A"]
    assert halted.iloc[400 - HORIZON : 412].isna().all()
    assert halted.iloc[[399 - HORIZON, 412]].notna().all()


def test_a_volatility_target_needs_half_of_its_dates() -> None:
    close = without(*(at for at in range(401, 420) if at not in (405, 410, 415)))
    target = compute_targets(close)["target_volatility_20d"]["A"]
    # Four returns up to the date of 420.
    assert np.isnan(target.iloc[400])
    assert compute_targets(close)["target_return"]["A"].notna().iloc[400]


def test_names_of_two_calendars_keep_their_own_features() -> None:
    weekdays = random_walks(2, pd.bdate_range("2015-01-01", periods=500), seed=5)
    daily = random_walks(2, pd.date_range("2015-01-01", periods=700), seed=6).set_axis(["X", "Y"], axis=1)
    found = compute_features(daily.join(weekdays))
    alone = compute_features(weekdays)
    for name in ALONE:
        pd.testing.assert_frame_equal(found[name].loc[weekdays.index, list(weekdays)], alone[name], check_freq=False)
        assert found[name].loc[found[name].index.day_of_week >= 5, list(weekdays)].isna().all(axis=None)


def test_many_short_stretches_are_computed_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    close = random_walks(4, pd.bdate_range("2015-01-01", periods=900), seed=7)
    for column in range(4):
        for start in rng.integers(0, 900, size=12):
            close.iloc[start : start + int(rng.integers(1, 30)), column] = np.nan
    found = on_own_dates(close, lambda prices: {"mean": prices.rolling(5).mean()})["mean"]
    stretches = find_stretches(close)
    for number in range(stretches.number.max() + 1):
        on = stretches.number == number
        prices = pd.Series(close.to_numpy()[stretches.row[on], stretches.column[on]])
        np.testing.assert_array_equal(
            found.to_numpy()[stretches.row[on], stretches.column[on]], prices.rolling(5).mean().to_numpy()
        )
    assert np.isnan(found.to_numpy()[close.isna().to_numpy()]).all()


def test_a_panel_without_prices_has_no_features() -> None:
    close = CLOSE.mask(CLOSE > 0)
    assert all(frame.isna().all(axis=None) for frame in compute_features(close).values())
    assert all(frame.isna().all(axis=None) for frame in compute_targets(close).values())


def test_universes_are_chosen_by_momentum_on_own_dates() -> None:
    close = commodities().where(lambda prices: prices > 0)
    whole = random_walks(11, close.index, seed=1, volatility=0.015)
    members, unharmed = momentum_members(close, size=3), momentum_members(whole, size=3)
    # Names with gaps are chosen as they would be without, but for those halted, late or ended.
    assert (members == unharmed).mean(axis=None) > 0.85
    assert all(one.to_numpy().sum() > 0 for one in price_universes(close).values())

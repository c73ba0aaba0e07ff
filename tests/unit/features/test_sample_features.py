from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mlops.features.sample_features import (
    HORIZON,
    compute_features,
    compute_targets,
    long_table,
    momentum_members,
    relative_strength,
)


@pytest.fixture(scope="module")
def close() -> pd.DataFrame:
    """600 days of three random walks."""
    rng = np.random.default_rng(7)
    steps = rng.normal(0.0005, 0.02, size=(600, 3))
    return pd.DataFrame(
        100 * np.exp(np.cumsum(steps, axis=0)),
        index=pd.bdate_range("2018-01-01", periods=600),
        columns=["AAA", "BBB", "CCC"],
    )


def test_no_feature_looks_ahead(close: pd.DataFrame) -> None:
    day = 400
    changed = close.copy()
    changed.iloc[day + 1 :] *= np.linspace(0.2, 5, len(close) - day - 1)[:, None]
    before, after = compute_features(close), compute_features(changed)
    for name, frame in before.items():
        pd.testing.assert_frame_equal(frame.iloc[: day + 1], after[name].iloc[: day + 1], check_exact=True, obj=name)


def test_every_feature_looks_at_the_day_itself_or_the_past(close: pd.DataFrame) -> None:
    # The other way round: a change of the past is seen, so the test above does not pass for want of features.
    changed = close.copy()
    changed.iloc[:390, 0] *= np.linspace(0.5, 2, 390)
    before, after = compute_features(close), compute_features(changed)
    unseen = {name for name in before if np.array_equal(before[name].iloc[395, 0], after[name].iloc[395, 0])}
    assert unseen <= {"return_1d", "return_5d", "return_20d_rank", "momentum_12_1_rank", "volatility_20d_rank"}


def test_targets_are_all_that_looks_ahead_and_only_over_the_horizon(close: pd.DataFrame) -> None:
    day = 400
    changed = close.copy()
    changed.iloc[day + HORIZON + 1 :] *= 3
    before, after = compute_targets(close), compute_targets(changed)
    assert sorted(before) == ["target_return", "target_volatility_20d"]
    for name, frame in before.items():
        pd.testing.assert_frame_equal(frame.iloc[: day + 1], after[name].iloc[: day + 1])
        assert not frame.iloc[day + 1].equals(after[name].iloc[day + 1])


def test_the_target_is_the_return_of_the_next_twenty_days(close: pd.DataFrame) -> None:
    target = compute_targets(close)["target_return"]
    assert target.iloc[100, 1] == pytest.approx(close.iloc[120, 1] / close.iloc[100, 1] - 1)
    assert target.iloc[-HORIZON:].isna().all(axis=None)
    assert target.iloc[:-HORIZON].notna().all(axis=None)


def test_the_volatility_target_is_the_volatility_feature_twenty_days_later(close: pd.DataFrame) -> None:
    feature = compute_features(close)["volatility_20d"]
    target = compute_targets(close)["target_volatility_20d"]
    assert target.iloc[100, 0] == feature.iloc[120, 0]
    # By hand: the sample deviation of the 20 returns of days 101 to 120.
    returns = close.iloc[100:121, 0].pct_change().iloc[1:]
    assert target.iloc[100, 0] == pytest.approx(np.std(returns, ddof=1), rel=1e-9)


def test_a_doubling_price_has_the_features_that_arithmetic_says() -> None:
    # +1 % a day: every quotient of prices d days apart is 1.01**d.
    close = pd.DataFrame(
        {"AAA": 1.01 ** np.arange(400.0), "BBB": np.full(400, 5.0)}, index=pd.bdate_range("2018-01-01", periods=400)
    )
    last = {name: frame.iloc[-1] for name, frame in compute_features(close).items()}
    assert last["return_5d"]["AAA"] == pytest.approx(1.01**5 - 1)
    assert last["momentum_50d"]["AAA"] == pytest.approx(1.01**50 - 1)
    # One year ago to one month ago: 252 - 21 days.
    assert last["momentum_12_1"]["AAA"] == pytest.approx(1.01**231 - 1)
    assert last["volatility_20d"]["AAA"] == pytest.approx(0, abs=1e-12)
    assert last["drawdown_252d"]["AAA"] == 0
    assert last["rsi_14"]["AAA"] == pytest.approx(100)
    # Highest minus lowest close of 20 days, over the close.
    assert last["range_20d"]["AAA"] == pytest.approx(1 - 1.01**-19)
    mean_20 = np.mean(1.01 ** -np.arange(20.0))
    assert last["price_vs_sma20"]["AAA"] == pytest.approx(1 / mean_20 - 1)
    # The better of two is the last of two in rank.
    assert (last["return_20d_rank"]["AAA"], last["return_20d_rank"]["BBB"]) == (1.0, 0.5)


def test_a_price_that_never_moves_is_neither_strong_nor_weak() -> None:
    daily = pd.DataFrame({"AAA": np.zeros(40)})
    assert relative_strength(daily, 14).iloc[-1, 0] == 50


def test_a_falling_price_has_no_strength() -> None:
    daily = pd.DataFrame({"AAA": np.full(40, -0.01)})
    assert relative_strength(daily, 14).iloc[-1, 0] == 0


def test_features_do_not_depend_on_the_price_level(close: pd.DataFrame) -> None:
    one, thousand = compute_features(close), compute_features(close * 1000)
    for name, frame in one.items():
        pd.testing.assert_frame_equal(frame, thousand[name], rtol=1e-9, atol=1e-9, obj=name)


def test_momentum_is_chosen_at_a_months_end_and_held_the_next_month(close: pd.DataFrame) -> None:
    members = momentum_members(close, size=1)
    momentum = close.shift(21) / close.shift(252) - 1
    november, december = (members.index.to_period("M") == pd.Period(month) for month in ("2019-11", "2019-12"))
    best = momentum[november].iloc[-1].idxmax()
    held = members[december]
    assert held[best].all()
    assert (held.sum(axis=1) == 1).all()


def test_a_months_prices_do_not_change_that_months_members(close: pd.DataFrame) -> None:
    changed = close.copy()
    changed.loc["2019-12":, "CCC"] *= 10
    december = close.index.to_period("M") == pd.Period("2019-12")
    pd.testing.assert_frame_equal(
        momentum_members(close, size=1)[december], momentum_members(changed, size=1)[december]
    )


def test_rows_start_when_the_slowest_feature_does_and_keep_unknown_targets(close: pd.DataFrame) -> None:
    frames = {**compute_features(close), **compute_targets(close)}
    everyone = pd.DataFrame(True, index=close.index, columns=close.columns)
    rows = long_table(frames, everyone)
    # momentum_12_1 needs the price of 252 days ago.
    assert rows["date"].min() == close.index[252]
    assert len(rows) == (600 - 252) * 3
    assert rows["target_return"].isna().sum() == HORIZON * 3
    assert rows.drop(columns=["target_return", "target_volatility_20d"]).notna().all(axis=None)

"""False alarms and detection on a made history, and prices read from a user's file."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from lab.drift_evaluation import (
    DatedRows,
    DayVerdict,
    calm_days,
    dated_rows,
    evaluate,
    evaluate_alarms,
    retrainings,
)
from mlops.domain.errors import InsufficientData
from mlops.domain.policies import DataPolicy, DriftPolicy
from mlops.features.price_universes import feature_rows, price_universes

FIRST = date(2018, 1, 1)
BREAK = FIRST + timedelta(days=600)


def history(*, shift_after_break: float) -> DatedRows:
    """Every value moves by `shift_after_break` from the break on."""
    table = history_table()
    table.loc[table["date"] >= pd.Timestamp(BREAK), "x"] += shift_after_break
    return dated_rows(table)


def history_table() -> pd.DataFrame:
    """700 days of 20 rows."""
    rng = np.random.default_rng(0)
    days = [FIRST + timedelta(days=i) for i in range(700)]
    return pd.DataFrame(
        {
            "date": pd.to_datetime(np.repeat(days, 20)),
            "ticker": [f"t{i}" for i in range(20)] * 700,
            "x": rng.normal(size=14_000),
            "target_return": np.nan,
        }
    )


def always(calm: bool) -> pd.Series:
    return pd.Series(calm, index=pd.date_range(FIRST, periods=700))


def test_targets_are_no_features() -> None:
    assert list(history(shift_after_break=0).features) == ["x"]


def test_a_break_is_dated_by_trading_days_and_only_checks_with_history_count() -> None:
    found = evaluate(
        "growth",
        history(shift_after_break=3.0),
        always(True),
        data=DataPolicy(),
        drift=DriftPolicy(),
        breaks=[BREAK, FIRST + timedelta(days=100)],
        every=50,
    )
    # Days 500, 550, 600 and 650: earlier ones lack 7 + 90 + 365 days.
    assert found.n_checks == found.n_calm == 4
    # One shifted date of seven lifts the top tenth to .1 * 6/7 + 1/7 = .229: PSI .129 ln 2.29 + .129 ln 1.17 = .13;
    # two lift it to .357: .257 ln 3.57 + .257 ln 1.4 = .41, above .2.
    assert found.days_to_detection == {str(BREAK): 1}
    assert found.calm_rate == found.rate == pytest.approx(1 / 4)
    assert found.turbulent_rate is None
    assert found.insufficient_rate == 0


def test_nothing_fires_where_nothing_changes() -> None:
    found = evaluate(
        "growth", history(shift_after_break=0), always(False), data=DataPolicy(), drift=DriftPolicy(), breaks=[BREAK],
        every=50,
    )  # fmt: skip
    assert found.turbulent_rate == 0
    assert found.calm_rate is None
    assert found.days_to_detection == {str(BREAK): None}


def test_a_storm_of_sixty_days_retrains_twice_by_its_plan_and_never_beside_forced_ones() -> None:
    verdicts = [
        DayVerdict(
            day=FIRST + timedelta(days=i),
            verdict="drifted" if 100 <= i < 160 else "stable",
            raw="drifted",
            p_value=0.01,
            reason="",
        )
        for i in range(366)
    ]
    found = retrainings(verdicts, DriftPolicy())
    assert found.n_years == pytest.approx(365 / 365.25)
    counts = [found.n_episodes, found.per_check, found.per_episode, found.beside_forced]
    assert [round(rate * found.n_years) for rate in counts] == [1, 60, 2, 0]


def test_calm_is_a_volatility_below_its_own_trailing_median() -> None:
    rng = np.random.default_rng(0)
    size = np.where(np.arange(700) < 500, 0.02, 0.001)
    close = pd.DataFrame({"a": 100 * np.exp(np.cumsum(rng.normal(size=700) * size))})
    calm = calm_days(close)
    assert not calm.iloc[:271].any()  # 1 return + 19 + 251 days before the first median
    assert calm.iloc[540:600].all()


def test_dates_on_which_one_name_alone_trades_make_no_year_turbulent() -> None:
    rng = np.random.default_rng(0)
    days = pd.bdate_range("2018-01-01", periods=700)
    close = pd.DataFrame(100 * np.exp(np.cumsum(rng.normal(size=(700, 4)) * 0.01, axis=0)), index=days)
    stray = close.reindex(days.union([pd.Timestamp("2019-06-01")]))  # a Saturday, with a first price of another name
    stray["late"] = np.where(stray.index == pd.Timestamp("2019-06-01"), 5.0, np.nan)
    calm = calm_days(stray)
    assert not calm.loc["2019-06-01"]
    pd.testing.assert_series_equal(calm.drop(pd.Timestamp("2019-06-01")), calm_days(close), check_freq=False)


def test_universes_by_price_know_nothing_of_the_future() -> None:
    rng = np.random.default_rng(1)
    close = pd.DataFrame(
        100 * np.exp(np.cumsum(rng.normal(size=(400, 9)) * 0.01, axis=0)),
        index=pd.bdate_range("2019-01-01", periods=400),
        columns=list("ABCDEFGHI"),
    )
    changed = close.copy()
    changed.iloc[350:] *= rng.uniform(0.5, 2, size=9)
    before, after = price_universes(close), price_universes(changed)
    for name in before:
        pd.testing.assert_frame_equal(before[name].iloc[:350], after[name].iloc[:350])
    assert (before["steady"].iloc[-1].sum(), before["volatile"].iloc[-1].sum()) == (3, 3)
    assert not (before["steady"] & before["volatile"]).iloc[-1].any()
    assert set(feature_rows(close, before)) == {"momentum", "laggards", "steady", "volatile"}


def test_a_planted_shift_is_seen_in_every_week_and_nothing_in_weeks_as_they_were() -> None:
    found = evaluate_alarms(
        "growth", history(shift_after_break=0), always(True), data=DataPolicy(), drift=DriftPolicy(), n_weeks=6, size=6.0,
        rng=np.random.default_rng(1),
    )  # fmt: skip
    # A date's mean of 20 values has a deviation of .22: six deviations of the values are 27 of it.
    assert (found.n_weeks, found.n_calm, found.seen_rate.share, found.false_rate.share) == (6, 6, 1.0, 0.0)


def test_without_weeks_enough_it_says_what_is_missing() -> None:
    with pytest.raises(InsufficientData, match="holds no week with 515 days before it"):  # 60 + 90 + 365
        evaluate_alarms(
            "growth", dated_rows(history_table().head(20 * 300)), always(True), data=DataPolicy(), drift=DriftPolicy(),
            n_weeks=6, size=3.0, rng=np.random.default_rng(1),
        )  # fmt: skip

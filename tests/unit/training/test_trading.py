from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from mlops.domain.training.trading import (
    drawdown_interval,
    evaluate_trading,
    max_drawdown,
    share_interval,
    sharpe_interval,
    sharpe_ratio,
    signal_curve,
)

DAYS = np.repeat(np.datetime64("2020-01-01") + np.arange(4), 2)  # 4 dates, 2 names


def trading(p: list[float], returns: list[float], **changes: object) -> tuple[dict[str, float], tuple[str, ...]]:
    options = {"label": "target_return > 0", "horizon_dates": 2, "min_periods": 2} | changes
    found = evaluate_trading(DAYS, np.array(p), np.array(returns), **options)  # type: ignore[arg-type]
    return found.metrics, found.notes


def test_every_horizon_th_date_holds_the_called_names_at_equal_weight() -> None:
    #        1st: both held   2nd: skipped    3rd: first held  4th: skipped
    metrics, notes = trading([0.9, 0.6, 0.9, 0.9, 0.7, 0.1, 0.9, 0.9], [0.10, 0.20, 9, 9, -0.10, 5, 9, 9])
    # Periods: (0.10 + 0.20) / 2 = 0.15 and -0.10; trades: 0.10, 0.20, -0.10.
    assert metrics["win_rate"] == pytest.approx(2 / 3)
    assert metrics["n_periods"] == 2
    assert metrics["max_drawdown"] == pytest.approx(0.10)
    deviation = 0.25 / np.sqrt(2)  # two values 0.25 apart, n - 1
    assert metrics["sharpe_ratio"] == pytest.approx(0.025 / deviation * np.sqrt(252 / 2))
    assert notes == ()


def test_three_periods_say_nothing_and_the_note_says_how_many_would() -> None:
    metrics, notes = trading([0.9] * 8, [0.10, 0.20, 9, 9, 0.30, 0.1, 9, 9], min_periods=10)
    assert metrics == {"n_periods": 2, "n_trades": 4}
    assert notes[0] == (
        "sharpe_ratio, max_drawdown and win_rate are left out: 2 periods of 2 dates are fewer than the 10 that say "
        "anything; hold out 20 dates for them (training.holdout_dates)"
    )


def test_a_sharpe_ratio_of_a_normal_sample_has_los_standard_error() -> None:
    # Lo 2002: sqrt((1 + s^2 / 2) / n), here of s = 0.5 and n = 400; the sample's skew and tails move it a little.
    returns = np.random.default_rng(1).normal(0.5, 1.0, 400)
    low, high = sharpe_interval(returns, periods_per_year=1.0)
    assert (high - low) / 2 == pytest.approx(1.6487 * np.sqrt((1 + 0.5**2 / 2) / 400), rel=0.05)
    assert (low + high) / 2 == pytest.approx(sharpe_ratio(returns, periods_per_year=1.0))


def test_the_sharpe_interval_holds_the_truth_in_nine_of_ten_short_samples() -> None:
    rng = np.random.default_rng(2)
    samples = (rng.normal(0.3, 1.0, 12) for _ in range(2_000))
    inside = [low <= 0.3 <= high for low, high in (sharpe_interval(one, periods_per_year=1.0) for one in samples)]
    assert 0.87 <= np.mean(inside) <= 0.94


def test_a_win_rate_counts_a_periods_positions_once() -> None:
    # Clopper-Pearson, 6 of 12 at 90 %: scipy.stats.binomtest(6, 12).proportion_ci(0.90).
    expected = binomtest(6, 12).proportion_ci(0.90)
    assert share_interval(0.5, 12) == pytest.approx((expected.low, expected.high))
    assert share_interval(0.0, 12)[0] == 0.0
    assert share_interval(1.0, 12)[1] == 1.0


def test_a_drawdown_of_another_order_of_the_same_periods_is_in_its_interval() -> None:
    returns = np.array([0.1, -0.05] * 8)
    low, high = drawdown_interval(returns)
    assert 0.0 <= low <= max_drawdown(returns) <= high < 0.5


def test_every_traded_metric_has_its_interval() -> None:
    days = np.repeat(np.datetime64("2020-01-01") + np.arange(40), 2)
    earned = np.random.default_rng(3).normal(0.01, 0.05, 80)
    found = evaluate_trading(days, np.full(80, 0.9), earned, label="target_return > 0", horizon_dates=2).metrics
    for name in ("sharpe_ratio", "max_drawdown", "win_rate"):
        assert found[f"{name}_low"] <= found[name] <= found[f"{name}_high"]
    assert (found["n_periods"], found["n_trades"]) == (20, 40)


def test_a_period_without_a_call_earns_nothing_and_counts() -> None:
    metrics, _ = trading([0.9, 0.9, 0, 0, 0.1, 0.1, 0, 0], [0.1, 0.3, 0, 0, -0.9, -0.9, 0, 0])
    # Periods 0.2 and 0: mean 0.1, deviation 0.2 / sqrt(2).
    assert metrics["sharpe_ratio"] == pytest.approx(0.1 / (0.2 / np.sqrt(2)) * np.sqrt(126))
    assert metrics["win_rate"] == 1


@pytest.mark.parametrize("label", ["target_volatility_20d > volatility_20d", "target_return < 0", "pe_ratio > 3"])
def test_a_label_that_does_not_say_when_to_be_long_has_no_trading_metrics(label: str) -> None:
    metrics, notes = trading([0.9] * 8, [0.1] * 8, label=label)
    assert metrics == {}
    assert label in notes[0]


def test_without_returns_nothing_is_invented() -> None:
    found = evaluate_trading(DAYS, np.full(8, 0.9), None, label="target_return > 0", horizon_dates=2)
    assert found.metrics == {}
    assert "no target_return" in found.notes[0]


def test_no_call_at_all_is_said() -> None:
    metrics, notes = trading([0.1] * 8, [0.1] * 8)
    assert metrics == {}
    assert "no name was called positive" in notes[0]


def test_equal_periods_have_no_sharpe_ratio() -> None:
    metrics, notes = trading([0.9] * 8, [0.1] * 8)
    assert "sharpe_ratio" not in metrics
    assert "undefined" in notes[0]
    assert sharpe_ratio(np.array([0.1]), periods_per_year=12) is None


def test_a_drawdown_is_the_deepest_fall_below_an_earlier_peak() -> None:
    # Wealth 1.5, 0.75, 1.5, 1.2: falls of 1/2 and 1/5.
    assert max_drawdown(np.array([0.5, -0.5, 1.0, -0.2])) == pytest.approx(0.5)
    assert max_drawdown(np.array([-0.2])) == pytest.approx(0.2)  # below the start
    assert max_drawdown(np.array([0.1, 0.1])) == 0


def test_the_curve_compounds_the_called_names_and_all_names() -> None:
    # Two periods of 2 dates, two names. Called: the first name in period 1 (+10 %), nothing in period 2.
    days = np.array(["2020-01-01"] * 2 + ["2020-01-02"] * 2 + ["2020-01-03"] * 2, dtype="datetime64[D]")
    p = np.array([0.9, 0.1, 0.9, 0.9, 0.2, 0.3])
    returns = np.array([0.10, -0.30, 9.0, 9.0, 0.20, 0.40])
    curve = signal_curve(days, p, returns, label="target_return > 0", horizon_dates=2)
    assert curve is not None
    np.testing.assert_allclose(curve.signal, [1.0, 1.1, 1.1])
    np.testing.assert_allclose(curve.everything, [1.0, 0.9, 0.9 * 1.3])
    assert curve.dates.tolist() == [day.item() for day in np.array(days[[0, 4, 5]])]


@pytest.mark.parametrize(
    ("returns", "label"),
    [(None, "target_return > 0"), (np.ones(2), "beta > 1"), (np.full(2, np.nan), "target_return > 0")],
)
def test_there_is_no_curve_where_there_is_no_position_to_take(returns: np.ndarray | None, label: str) -> None:
    days = np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[D]")
    assert signal_curve(days, np.ones(2), returns, label=label, horizon_dates=1) is None


def test_a_label_without_a_horizon_is_traded_every_date() -> None:
    days = np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[D]")
    found = evaluate_trading(days, np.ones(2), np.array([0.1, 0.2]), label="target_return > 0", horizon_dates=0)
    assert found.metrics["n_periods"] == 2

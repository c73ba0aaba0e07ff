from __future__ import annotations

import numpy as np
import pytest

from mlops.training.trading import evaluate_trading, max_drawdown, sharpe_ratio, signal_curve

DAYS = np.repeat(np.datetime64("2020-01-01") + np.arange(4), 2)  # 4 dates, 2 names


def trading(p: list[float], returns: list[float], **changes: object) -> tuple[dict[str, float], tuple[str, ...]]:
    options = {"label": "target_return > 0", "horizon_dates": 2} | changes
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

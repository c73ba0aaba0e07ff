from __future__ import annotations

import numpy as np
import pytest

from mlops.training.trading import evaluate_trading, max_drawdown, sharpe_ratio

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

"""What the classifier's calls would have earned on the held-out dates.

Pure; called by the train stage. Only for labels that say "the return will be high": for any other label
a long position is not what the probability speaks of, so nothing is reported.

Rule: from the first held-out date on, every `horizon_dates`-th date (periods do not overlap), hold each
name with p >= 0.5 at equal weight until the next; no name, no position (return 0). No costs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlops.training.metrics import THRESHOLD, Evaluation, Floats

TRADING_DAYS = 252
"""Trading days of a year, to annualise."""
_LONG_LABEL = re.compile(r"\s*target_return\s*>=?\s*\S+\s*")


def evaluate_trading(
    dates: npt.NDArray[np.datetime64],
    probability: Floats,
    target_return: Floats | None,
    *,
    label: str,
    horizon_dates: int,
) -> Evaluation:
    """sharpe_ratio (annualised, of period returns), max_drawdown (share of the peak), win_rate (of positions).

    dates, probability, target_return : (n,) of the held-out rows; the return is simple, over the horizon
    """
    if target_return is None:
        return _nothing("the features hold no target_return")
    if not is_long_label(label):
        return _nothing(f"the label {label!r} does not say when to be long")
    usable = np.isfinite(target_return)
    returns, trades = _periods(dates[usable], np.asarray(probability)[usable], target_return[usable], horizon_dates)
    if not len(trades):
        return _nothing("no name was called positive on a rebalancing date")
    metrics = {
        "win_rate": float(np.mean(trades > 0)),
        "max_drawdown": max_drawdown(returns),
        "n_periods": float(len(returns)),
    }
    ratio = sharpe_ratio(returns, periods_per_year=TRADING_DAYS / max(1, horizon_dates))
    if ratio is None:
        return Evaluation(metrics=metrics, notes=(f"sharpe_ratio is undefined for {len(returns)} equal periods",))
    return Evaluation(metrics=metrics | {"sharpe_ratio": ratio})


@dataclass(frozen=True, kw_only=True)
class SignalCurve:
    """What 1 became by the rule, and by holding every name at equal weight over the same periods."""

    dates: npt.NDArray[np.datetime64]
    """(m + 1,) starts of the periods, and the last date judged"""
    signal: npt.NDArray[np.float64]
    """(m + 1,)"""
    everything: npt.NDArray[np.float64]
    """(m + 1,)"""


def signal_curve(
    dates: npt.NDArray[np.datetime64],
    probability: Floats,
    target_return: Floats | None,
    *,
    label: str,
    horizon_dates: int,
) -> SignalCurve | None:
    """The curve behind `evaluate_trading`; None where that reports nothing."""
    if target_return is None or not is_long_label(label):
        return None
    usable = np.isfinite(target_return)
    days, p, earned = dates[usable], np.asarray(probability)[usable], target_return[usable]
    if not len(days):
        return None
    called, _ = _periods(days, p, earned, horizon_dates)
    everything, _ = _periods(days, np.ones_like(p), earned, horizon_dates)
    distinct = np.unique(days)
    return SignalCurve(
        dates=np.append(distinct[:: max(1, horizon_dates)], distinct[-1]),
        signal=np.concatenate([[1.0], np.cumprod(1 + called)]),
        everything=np.concatenate([[1.0], np.cumprod(1 + everything)]),
    )


def is_long_label(label: str) -> bool:
    """Whether a high probability says that the return will be high."""
    return _LONG_LABEL.fullmatch(label) is not None


def sharpe_ratio(returns: npt.NDArray[np.float64], *, periods_per_year: float) -> float | None:
    """Mean over standard deviation (n - 1), annualised, risk-free rate 0; None where it does not vary."""
    if len(returns) < 2:
        return None
    deviation = float(np.std(returns, ddof=1))
    # Equal returns leave a rounding rest of the order of eps * mean, not exactly 0.
    if deviation <= 1e-12 * max(1.0, float(np.abs(returns).max())):
        return None
    return float(np.mean(returns)) / deviation * float(np.sqrt(periods_per_year))


def max_drawdown(returns: npt.NDArray[np.float64]) -> float:
    """Largest fall of the compounded wealth below its earlier peak, as a share of it: 0.2 lost a fifth."""
    wealth = np.concatenate([[1.0], np.cumprod(1.0 + returns)])
    return float(np.max(1.0 - wealth / np.maximum.accumulate(wealth)))


def _periods(
    dates: npt.NDArray[np.datetime64], probability: Floats, target_return: Floats, horizon_dates: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return of each period, and of each single position in them."""
    returns, trades = [], [np.empty(0)]
    for day in np.unique(dates)[:: max(1, horizon_dates)]:
        held = (dates == day) & (probability >= THRESHOLD)
        earned = np.asarray(target_return[held], dtype=np.float64)
        returns.append(float(earned.mean()) if len(earned) else 0.0)
        trades.append(earned)
    return np.asarray(returns, dtype=np.float64), np.concatenate(trades)


def _nothing(why: str) -> Evaluation:
    return Evaluation(metrics={}, notes=(f"sharpe_ratio, max_drawdown and win_rate are left out: {why}",))

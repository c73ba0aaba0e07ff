"""Returns that the classifier's calls would have earned on the held-out dates.

Pure; called by the train stage. Only for labels that say "the return will be high": for any other label
a long position is not what the probability speaks of, so nothing is reported.

Rule: from the first held-out date on, every `horizon_dates`-th date (periods do not overlap), hold each
name with p >= 0.5 at equal weight until the next; no name, no position (return 0). No costs.

Each metric has a 90 % interval, `_low` to `_high`, and is left out where there are too few periods for one. A policy
that wants to be sure asks for the end: `gates = { sharpe_ratio_low = 0.0, max_drawdown_high = 0.25 }`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, kurtosis, skew, t

from mlops.domain.training.metrics import THRESHOLD, Evaluation, Floats

TRADING_DAYS = 252
"""Trading days of a year, to annualise."""
_MIN_PERIODS = 10
"""With fewer periods nothing is said: of three months, no skill at all gives a Sharpe ratio above 3.8 in one of ten."""
CONFIDENCE = 0.90
"""Of the intervals, as that of the paired test."""
_RESAMPLES, _SEED = 2_000, 42
_LONG_LABEL = re.compile(r"\s*target_return\s*>=?\s*\S+\s*")


def evaluate_trading(
    dates: npt.NDArray[np.datetime64],
    probability: Floats,
    target_return: Floats | None,
    *,
    label: str,
    horizon_dates: int,
    min_periods: int = _MIN_PERIODS,
) -> Evaluation:
    """Compute sharpe_ratio (annualised), max_drawdown (share of the peak) and win_rate (of positions).

    Beside them n_periods, n_trades and the intervals.
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
    counts = {"n_periods": float(len(returns)), "n_trades": float(len(trades))}
    if len(returns) < min_periods:
        few = (
            f"{len(returns)} periods of {horizon_dates} dates are fewer than the {min_periods} that say anything; "
            f"hold out {min_periods * max(1, horizon_dates)} dates for them (training.holdout_dates)"
        )
        return Evaluation(metrics=counts, notes=_nothing(few).notes)
    win_rate = float(np.mean(trades > 0))
    metrics = {
        **counts,
        **_with_interval("win_rate", win_rate, share_interval(win_rate, len(returns))),
        **_with_interval("max_drawdown", max_drawdown(returns), drawdown_interval(returns)),
    }
    per_year = TRADING_DAYS / max(1, horizon_dates)
    ratio = sharpe_ratio(returns, periods_per_year=per_year)
    if ratio is None:
        return Evaluation(metrics=metrics, notes=(f"sharpe_ratio is undefined for {len(returns)} equal periods",))
    interval = sharpe_interval(returns, periods_per_year=per_year)
    return Evaluation(metrics=metrics | _with_interval("sharpe_ratio", ratio, interval))


@dataclass(frozen=True, kw_only=True)
class SignalCurve:
    """Wealth of 1 invested by the rule, and in every name at equal weight, over the same periods."""

    dates: npt.NDArray[np.datetime64]
    """(m + 1,) starts of the periods, and the last held-out date"""
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
    """Compute the curve behind `evaluate_trading`; None where that reports nothing."""
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


def sharpe_interval(returns: npt.NDArray[np.float64], *, periods_per_year: float) -> tuple[float, float]:
    """90 % interval of the annualised ratio of independent periods, whatever their skew and tails.

    Standard error of one period's ratio s: sqrt((1 + s^2 / 2 - g3 s + (g4 - 3) s^2 / 4) / n), with skewness g3 and
    kurtosis g4, times Student's quantile. Source: Mertens 2002; Opdyke 2007, J. Asset Management 8.
    """
    n = len(returns)
    ratio = sharpe_ratio(returns, periods_per_year=1.0) or 0.0
    spread = 1.0 + ratio**2 / 2 - float(skew(returns)) * ratio + float(kurtosis(returns)) * ratio**2 / 4
    half = float(t.ppf((1 + CONFIDENCE) / 2, n - 1)) * math.sqrt(max(spread, 0.0) / n)
    scale = math.sqrt(periods_per_year)
    return (ratio - half) * scale, (ratio + half) * scale


def share_interval(share: float, n_periods: int) -> tuple[float, float]:
    """90 % interval of a share of positions (Clopper & Pearson 1934), as of one observation a period.

    Names that are held together rise and fall together, so a period's positions count once.
    """
    hits, tail = share * n_periods, (1 - CONFIDENCE) / 2
    low = float(beta.ppf(tail, hits, n_periods - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, n_periods - hits)) if hits < n_periods else 1.0
    return low, high


def drawdown_interval(returns: npt.NDArray[np.float64]) -> tuple[float, float]:
    """90 % of the drawdowns of as many periods drawn from these, with replacement and in any order."""
    drawn = np.random.default_rng(_SEED).choice(returns, size=(_RESAMPLES, len(returns)))
    low, high = np.quantile([max_drawdown(one) for one in drawn], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _with_interval(name: str, value: float, interval: tuple[float, float]) -> dict[str, float]:
    return {name: value, f"{name}_low": interval[0], f"{name}_high": interval[1]}


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
        called = (dates == day) & (probability >= THRESHOLD)
        earned = np.asarray(target_return[called], dtype=np.float64)
        returns.append(float(earned.mean()) if len(earned) else 0.0)
        trades.append(earned)
    return np.asarray(returns, dtype=np.float64), np.concatenate(trades)


def _nothing(why: str) -> Evaluation:
    return Evaluation(metrics={}, notes=(f"sharpe_ratio, max_drawdown and win_rate are left out: {why}",))

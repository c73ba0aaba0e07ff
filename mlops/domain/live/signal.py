"""The signal of a version over a range of days beside holding all names, each number with a 90 % interval; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from mlops.domain.live.day_score import DayScore
from mlops.domain.live.resampling import RESAMPLES, SEED, Measured, Vector
from mlops.domain.promotion.bootstrap import (
    INTERVAL,
    MIN_BLOCKS,
    automatic_block_length,
    spread_of_few_blocks,
    stationary_counts,
)
from mlops.domain.training.trading import (
    TRADING_DAYS,
    drawdown_interval,
    max_drawdown,
    share_interval,
    sharpe_interval,
    sharpe_ratio,
)

MIN_MARKS = 10
"""With fewer daily marks there is no interval."""


@dataclass(frozen=True, kw_only=True)
class SignalPerformance:
    """Daily marks of the signal: its positions of a day times the next day's return, which do not overlap. No costs."""

    days: tuple[date, ...]
    wealth: tuple[float, ...]
    """Worth of 1 invested before the first of `days`, at the end of the day after each"""
    wealth_of_all: tuple[float, ...]
    """The same, with every name held at equal weight"""
    total: Measured
    """Compounded return"""
    total_of_all: Measured
    sharpe_ratio: Measured | None
    """Annualised; None where the marks do not vary"""
    sharpe_ratio_of_all: Measured | None
    max_drawdown: Measured
    max_drawdown_of_all: Measured
    win_rate: Measured | None
    """Share of the positions with a return above 0; None without a position"""


def measure_signal(days: Sequence[tuple[date, DayScore]]) -> SignalPerformance | None:
    """Mark each day; intervals as in `mlops.domain.training.trading`, with a day as the period."""
    if not days:
        return None
    scores = [score for _, score in days]
    marks = np.array([score.mark for score in scores], dtype=np.float64)
    of_all = np.array([score.mark_of_all for score in scores], dtype=np.float64)
    n_held, n_won = (sum(getattr(score, name) for score in scores) for name in ("n_held", "n_won"))
    enough = len(marks) >= MIN_MARKS
    win_rate = None
    if n_held:
        share = n_won / n_held
        n_days_held = sum(score.n_held > 0 for score in scores)
        win_rate = Measured(share, *(share_interval(share, n_days_held) if enough else (None, None)))
    return SignalPerformance(
        days=tuple(day for day, _ in days),
        wealth=_wealth(marks),
        wealth_of_all=_wealth(of_all),
        total=_total(marks),
        total_of_all=_total(of_all),
        sharpe_ratio=_sharpe(marks),
        sharpe_ratio_of_all=_sharpe(of_all),
        max_drawdown=Measured(max_drawdown(marks), *(drawdown_interval(marks) if enough else (None, None))),
        max_drawdown_of_all=Measured(max_drawdown(of_all), *(drawdown_interval(of_all) if enough else (None, None))),
        win_rate=win_rate,
    )


def _wealth(marks: Vector) -> tuple[float, ...]:
    return tuple(np.cumprod(1.0 + marks).tolist())


def _sharpe(marks: Vector) -> Measured | None:
    ratio = sharpe_ratio(marks, periods_per_year=TRADING_DAYS)
    if ratio is None:
        return None
    return Measured(
        ratio, *(sharpe_interval(marks, periods_per_year=TRADING_DAYS) if len(marks) >= MIN_MARKS else (None, None))
    )


def _total(marks: Vector) -> Measured:
    """Compound the marks; the interval is of as many days drawn in blocks, on the scale of growth rates."""
    growth = np.log1p(np.maximum(marks, -1.0 + 1e-9))
    total, n = float(growth.sum()), len(marks)
    if n < MIN_MARKS:
        return Measured(math.expm1(total), None, None)
    block = min(max(1.0, round(automatic_block_length(growth), 2)), n / MIN_BLOCKS)
    counts = stationary_counts(n, block_dates=block, resamples=RESAMPLES, seed=SEED)
    drawn = total + spread_of_few_blocks(n, block, INTERVAL[1]) * (counts @ growth - total)
    low, high = np.quantile(drawn, INTERVAL)
    return Measured(math.expm1(total), math.expm1(float(low)), math.expm1(float(high)))

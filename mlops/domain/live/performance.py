"""Performance of one version over a range of days, each number with a 90 % interval; pure.

Days are resampled whole and in blocks: names of one day move together, and labels that look h dates ahead overlap for
h dates. Called by the score stage, the page and the commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from mlops.domain.live.day_score import DayScore


class Measured(NamedTuple):
    """A number and its 90 % interval; None where there are too few days for one."""

    value: float
    low: float | None
    high: float | None


class CalibrationPoint(NamedTuple):
    """Predictions of like probability: what they said, and what came."""

    probability: float
    """Mean"""
    share: float
    """Of them whose label is 1"""
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, kw_only=True)
class SignalPerformance:
    """Daily marks of the signal: its positions of a day times the next day's return, which do not overlap. No costs."""

    days: tuple[date, ...]
    wealth: tuple[float, ...]
    """Of 1 invested before the first of `days`, at the end of the day after each"""
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
    win_rate_of_all: Measured | None
    """Share of the days on which all names together rose"""


@dataclass(frozen=True, kw_only=True)
class Performance:
    """What a version did on some days; a metric that is not defined is None."""

    first: date | None
    last: date | None
    """Of the days with a known outcome"""
    n_days: int
    """Days with a known outcome"""
    n_predictions: int
    """Of all days"""
    n_labelled: int
    n_waiting: int
    """Predictions whose outcome is not known yet"""
    positive_share: float | None
    accuracy: Measured | None
    roc_auc: Measured | None
    """Over all pairs, of different days too, as in training"""
    log_loss: Measured | None
    brier: Measured | None
    calibration_bias: Measured | None
    """Mean probability minus share of label 1; 0: right on average, above: it says too much"""
    calibration_error: Measured | None
    """Root of the mean squared distance of the calibration curve from the diagonal, less what chance adds to it"""
    calibration: tuple[CalibrationPoint, ...]
    """At most ten points of about as many predictions each"""
    signal: SignalPerformance | None
    """None where no day is priced"""
    notes: tuple[str, ...]


def measure_performance(days: Mapping[date, DayScore], *, horizon_dates: int) -> Performance:
    """Measure one version's days, in any order.

    horizon_dates : trading days that the label looks ahead
    """
    raise NotImplementedError

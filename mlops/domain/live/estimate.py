"""Performance estimated before outcomes are known, and how far earlier estimates were off; pure.

Called by the score stage, the page and the commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

from mlops.domain.live.day_score import DayScore

EstimatedMetric = Literal["accuracy", "roc_auc", "log_loss", "brier"]
METRICS: tuple[EstimatedMetric, ...] = ("accuracy", "roc_auc", "log_loss", "brier")


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """An estimated metric of days whose outcomes are not all known. It is no measurement, and shown as an estimate."""

    metric: EstimatedMetric
    first: date
    last: date
    n_days: int
    n_predictions: int
    value: float
    low: float
    high: float
    """90 % interval of what will come"""
    n_earlier: int
    """Earlier errors, known on the day of the estimate, on which the interval rests; with few it is wide"""


@dataclass(frozen=True, kw_only=True)
class EstimateCheck:
    """An earlier estimate of a month, as it could be made on the month's last day, and what came."""

    estimate: Estimate
    came: float

    @property
    def is_covered(self) -> bool:
        """Whether what came lies within the estimate's interval."""
        return self.estimate.low <= self.came <= self.estimate.high


def estimate_performance(
    days: Mapping[date, DayScore], *, first: date, as_of: date, horizon_dates: int
) -> tuple[Estimate, ...]:
    """Estimate each metric of the days from `first` to `as_of`; empty without a prediction among them.

    days : the champions' scores of a strategy by day, oldest champions too: the more, the better the interval. A day's
    outcome is used only when `horizon_dates` of these days lie between it and `as_of`, even where it is there already.
    """
    raise NotImplementedError


def check_estimates(days: Mapping[date, DayScore], *, as_of: date, horizon_dates: int) -> tuple[EstimateCheck, ...]:
    """Estimate each past month as it could be on its last day, beside what came; months whose outcomes are all known."""
    raise NotImplementedError

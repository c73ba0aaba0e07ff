"""One metric of the newest dates as the days go by: what a picture's curve and its points are made of; pure.

Called by the page. All windows are measured at once, as `mlops.domain.live.performance` measures its resamples: each
is how often it has every day.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np

from mlops.domain.live.day_score import DayScore
from mlops.domain.live.resampling import (
    Measured,
    OutcomesByDay,
    Resamples,
    Vector,
    accuracy,
    mean_brier,
    mean_log_loss,
    roc_auc,
)

LiveMetric = Literal["roc_auc", "accuracy", "log_loss", "brier"]
_METRICS: Mapping[LiveMetric, tuple[Callable[[OutcomesByDay, Vector], Vector], float]] = {
    "roc_auc": (roc_auc, 1.0),
    "accuracy": (accuracy, 1.0),
    "log_loss": (mean_log_loss, math.inf),
    "brier": (mean_brier, 1.0),
}
"""Each with the most that it can be."""


@dataclass(frozen=True, kw_only=True)
class WindowPoint:
    """A metric of the labelled dates of a window that ends with a day."""

    day: date
    n_days: int
    value: float | None
    """None where it is not defined, as the AUC of one class"""
    low: float | None = None
    high: float | None = None
    """90 % interval, where one was asked for and there are days enough"""


def rolling_metric(
    days: Mapping[date, DayScore], metric: LiveMetric, *, window: int, least: int = 5
) -> tuple[WindowPoint, ...]:
    """Measure each labelled day with the `window` - 1 labelled ones before it, in order, without intervals.

    least : labelled days that a window must have; the first windows are shorter
    """
    labelled = _labelled(days)
    if len(labelled) < least:
        return ()
    index = np.arange(len(labelled))
    age = index[:, None] - index[None, :]
    counts = ((age >= 0) & (age < window)).astype(np.float64)[least - 1 :]
    values = _METRICS[metric][0](OutcomesByDay.of([days[day] for day in labelled]), counts)
    return tuple(
        WindowPoint(day=day, n_days=int(n), value=float(value) if math.isfinite(value) else None)
        for day, n, value in zip(labelled[least - 1 :], counts.sum(axis=1), values, strict=True)
    )


def measured_windows(
    days: Mapping[date, DayScore], metric: LiveMetric, *, window: int, step: int, least: int, horizon_dates: int
) -> tuple[WindowPoint, ...]:
    """Measure the window that ends with the newest labelled day, and one every `step` days before, with intervals.

    horizon_dates : trading days that the label looks ahead
    """
    labelled = _labelled(days)
    found = []
    for end in range(len(labelled), least - 1, -step):
        within = labelled[max(0, end - window) : end]
        measured = measure_metric({day: days[day] for day in within}, metric, horizon_dates=horizon_dates)
        if measured is not None:
            low, high = measured.low, measured.high
            found.append(WindowPoint(day=within[-1], n_days=len(within), value=measured.value, low=low, high=high))
    return tuple(reversed(found))


def measure_metric(days: Mapping[date, DayScore], metric: LiveMetric, *, horizon_dates: int) -> Measured | None:
    """One metric of `measure_performance`, at a fraction of its cost."""
    labelled = _labelled(days)
    if not labelled:
        return None
    outcomes = OutcomesByDay.of([days[day] for day in labelled])
    measure, most = _METRICS[metric]
    return Resamples.of(outcomes, horizon_dates=horizon_dates).measured(
        lambda counts: measure(outcomes, counts), 0.0, most
    )


def _labelled(days: Mapping[date, DayScore]) -> list[date]:
    return [day for day in sorted(days) if days[day].n_labelled]

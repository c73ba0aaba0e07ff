"""Performance of one version over a range of days, each number with a 90 % interval; pure.

Called by the score stage, the page and the commands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

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
    ratio,
    roc_auc,
)
from mlops.domain.live.signal import SignalPerformance, measure_signal
from mlops.domain.promotion.bootstrap import INTERVAL, MIN_BLOCKS

_CALIBRATION_POINTS = 10


class CalibrationPoint(NamedTuple):
    """Predictions of similar probability, and the share of them that came true."""

    probability: float
    """Mean"""
    share: float
    """Share of those with label 1"""
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, kw_only=True)
class Performance:
    """What a version did on some days; a metric that is not defined is None."""

    first: date | None
    last: date | None
    """First and last day with a known outcome; None without one"""
    n_days: int
    """Days with a known outcome"""
    n_predictions: int
    """Predictions of all days"""
    n_labelled: int
    n_waiting: int
    """Predictions whose outcome is not known yet"""
    positive_share: float | None
    accuracy: Measured | None
    roc_auc: Measured | None
    """Over all pairs, of different days too, as in training; pairs within a 256th of the predictions are ties"""
    log_loss: Measured | None
    brier: Measured | None
    calibration_bias: Measured | None
    """Mean probability minus share of label 1; above 0: it says too much"""
    calibration_error: Measured | None
    """Root of the mean squared distance of the calibration curve from the diagonal, less what chance adds to it"""
    calibration: tuple[CalibrationPoint, ...]
    """At most ten points of about as many predictions each, by ascending probability"""
    signal: SignalPerformance | None
    """None where no day is marked"""
    notes: tuple[str, ...]


def measure_performance(days: Mapping[date, DayScore], *, horizon_dates: int) -> Performance:
    """Measure one version's days, in any order.

    horizon_dates : trading days that the label looks ahead. With fewer days than two horizons there is no interval.
    """
    ordered = [(day, days[day]) for day in sorted(days)]
    known = [(day, score) for day, score in ordered if score.n_labelled]
    scores = [score for _, score in known]
    n_predictions, n_labelled = (sum(getattr(score, name) for _, score in ordered) for name in _TOTALS)
    outcomes = OutcomesByDay.of(scores)
    sample = Resamples.of(outcomes, horizon_dates=horizon_dates) if scores else None
    notes = []
    if sample is not None and sample.counts is None:
        notes.append(
            f"no intervals: {len(scores)} days with outcomes are fewer than {MIN_BLOCKS} blocks of {horizon_dates}"
        )
    curve, error = _calibration(outcomes, sample) if sample is not None else ((), None)

    def measured(
        metric: Callable[[OutcomesByDay, Vector], Vector], *, most: float = math.inf, least: float = 0.0
    ) -> Measured | None:
        return None if sample is None else sample.measured(lambda counts: metric(outcomes, counts), least, most)

    return Performance(
        first=known[0][0] if known else None,
        last=known[-1][0] if known else None,
        n_days=len(known),
        n_predictions=n_predictions,
        n_labelled=n_labelled,
        n_waiting=n_predictions - n_labelled,
        positive_share=sum(score.n_positive for score in scores) / n_labelled if n_labelled else None,
        accuracy=measured(accuracy, most=1.0),
        roc_auc=measured(roc_auc, most=1.0),
        log_loss=measured(mean_log_loss),
        brier=measured(mean_brier, most=1.0),
        calibration_bias=measured(_bias, most=1.0, least=-1.0),
        calibration_error=error,
        calibration=curve,
        signal=measure_signal([(day, score) for day, score in ordered if score.n_marked]),
        notes=tuple(notes),
    )


_TOTALS = ("n_predictions", "n_labelled")


def _bias(outcomes: OutcomesByDay, counts: Vector) -> Vector:
    excess = (outcomes.cell_probability - outcomes.cell_positive).sum(axis=1)
    return ratio(counts @ excess, counts @ outcomes.n)


def _calibration(outcomes: OutcomesByDay, sample: Resamples) -> tuple[tuple[CalibrationPoint, ...], Measured | None]:
    """Compute the curve, and the distance from the diagonal without what chance adds to its square.

    Chance adds the variance of a point's distance, taken from the resamples, so that names of a day and neighbouring
    days are not counted as independent; a resample's own square has it twice.
    """
    total = outcomes.cell_n.sum(axis=0)
    ends = np.floor((np.cumsum(total) - total / 2) / max(1.0, total.sum()) * _CALIBRATION_POINTS)
    groups = [np.flatnonzero((ends == end) & (total > 0)) for end in np.unique(ends[total > 0])]

    def of_groups(values: Vector) -> Vector:
        return np.stack([values[:, group].sum(axis=1) for group in groups], axis=1)

    n, positive, probability = (
        of_groups(values) for values in (outcomes.cell_n, outcomes.cell_positive, outcomes.cell_probability)
    )
    shares, means = positive.sum(axis=0) / n.sum(axis=0), probability.sum(axis=0) / n.sum(axis=0)
    weights = n.sum(axis=0) / n.sum()
    if sample.counts is None:
        points = (Measured(float(share), None, None) for share in shares)
        return _points(means, points, n), Measured(float(np.sqrt(np.sum(weights * (shares - means) ** 2))), None, None)
    drawn_n = sample.counts @ n
    drawn_shares, gaps = (
        ratio(sample.counts @ positive, drawn_n),
        ratio(sample.counts @ (positive - probability), drawn_n),
    )
    measured = [sample.interval(float(share), drawn_shares[:, i], 0.0, 1.0) for i, share in enumerate(shares)]
    distances = shares - means + sample.widened * (gaps - (shares - means))
    by_chance = np.nan_to_num(np.nanvar(distances, axis=0))
    squared = float(np.sum(weights * ((shares - means) ** 2 - by_chance)))
    drawn_squared = np.nansum(weights * (distances**2 - 2 * by_chance), axis=1)
    low, high = np.quantile(drawn_squared, INTERVAL)
    error = Measured(*(math.sqrt(max(0.0, float(one))) for one in (squared, min(low, squared), max(high, squared))))
    return _points(means, measured, n), error


def _points(means: Vector, shares: Iterable[Measured], n: Vector) -> tuple[CalibrationPoint, ...]:
    return tuple(
        CalibrationPoint(float(mean), share.value, share.low, share.high, int(count))
        for mean, share, count in zip(means, shares, n.sum(axis=0), strict=True)
    )

"""Performance estimated before outcomes are known, and how far earlier estimates were off; pure.

The estimate is what a version's probabilities promise once they are corrected by earlier outcomes: a logistic
recalibration of all outcomes known by then. Its interval is that of the errors of earlier estimates of as many days,
each made with what was known on its own day: names of a month share its shocks, so no count of rows says how sure an
estimate is. Misses widen it further. Called by the score stage, the page and the commands.

Source: the estimate from calibrated confidence is Garg et al. 2022, Leveraging unlabeled data to predict
out-of-distribution performance, and NannyML's CBPE; the recalibration Platt 1999; the interval from earlier errors is
conformal prediction over time (Gibbs & Candès 2021, Adaptive conformal inference under distribution shift).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from scipy.stats import norm

from mlops.domain.live.day_score import DayScore
from mlops.domain.live.resampling import OutcomesByDay, accuracy, area_of_cells, mean_brier, mean_log_loss, roc_auc
from mlops.domain.promotion.bootstrap import INTERVAL
from mlops.domain.training.metrics import THRESHOLD

Vector = npt.NDArray[np.float64]

EstimatedMetric = Literal["accuracy", "roc_auc", "log_loss", "brier"]
_SPREAD: dict[EstimatedMetric, float] = {"accuracy": 0.15, "roc_auc": 0.17, "log_loss": 0.20, "brier": 0.07}
"""Standard deviation of an estimate's error before any is known. About a month's: `acis evaluate-live` prints
those of the sample's 1995-2018."""
_ASSUMED_ERRORS = 19
"""Earlier errors that are assumed beside the known ones, at the normal's twentieths: alone they give 90 %."""
_ROWS_PER_HORIZON = 5.0
"""Independent rows that the outcomes of one horizon's days count as in the recalibration: they share its shocks."""
_PRIOR_SPREAD = 0.5
"""Prior deviation of the recalibration's intercept from 0 and of its slope from 1."""
_MISSES = 1.0 - (INTERVAL[1] - INTERVAL[0])
"""Share of the estimates whose interval may miss what comes"""
_STEP, _AIMS = 0.05, (0.005, 0.4)
"""How much a miss moves what the next interval aims at, and within which bounds. Among 0, 0.01, 0.02 and 0.05 it put
most 36-month windows of the sample's 1995-2018 between 85 and 95 % covered: docs/decisions/0046."""
_BOUNDS: dict[EstimatedMetric, tuple[float, float]] = {
    "accuracy": (0.0, 1.0),
    "roc_auc": (0.0, 1.0),
    "log_loss": (0.0, math.inf),
    "brier": (0.0, 1.0),
}


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
    """Earlier errors, known on the day of the estimate, on which the interval rests beside 19 that are assumed"""


@dataclass(frozen=True, kw_only=True)
class EstimateCheck:
    """An earlier estimate of a month, as it could be made on the month's last day, and what was measured later."""

    estimate: Estimate
    measured: float

    @property
    def is_covered(self) -> bool:
        """Whether the measured value lies within the estimate's interval."""
        return self.estimate.low <= self.measured <= self.estimate.high


def estimate_performance(
    days: Mapping[date, DayScore], *, first: date, as_of: date, horizon_dates: int
) -> tuple[Estimate, ...]:
    """Estimate each metric of the days from `first` to `as_of`; empty without a prediction among them.

    days : scores of a strategy's champion of each day, those of earlier champions too: the interval rests on them. An
    outcome is used only where `horizon_dates` of these days lie between its day and `as_of`, even if it is there.
    """
    return _History(days, horizon_dates).estimates(first, as_of)


def check_estimates(days: Mapping[date, DayScore], *, as_of: date, horizon_dates: int) -> tuple[EstimateCheck, ...]:
    """Estimate each past month as on its last day, beside what was measured of it, oldest first.

    Months whose outcomes are all known on `as_of` as `estimate_performance` says; metrics that were defined.
    """
    history = _History(days, horizon_dates)
    n_known = history.n_known(as_of)
    months: dict[tuple[int, int], list[int]] = {}
    for i, day in enumerate(history.days):
        months.setdefault((day.year, day.month), []).append(i)
    checks = []
    for of_month in months.values():
        if of_month[-1] >= n_known or not history.is_labelled(of_month[0], of_month[-1] + 1):
            continue
        measured = history.measured(of_month[0], of_month[-1] + 1)
        checks += [
            EstimateCheck(estimate=estimate, measured=measured[estimate.metric])
            for estimate in history.estimates(history.days[of_month[0]], history.days[of_month[-1]])
            if math.isfinite(measured[estimate.metric])
        ]
    return tuple(checks)


class _History:
    """Days of one strategy, ascending; a day's outcome is known `horizon_dates` days later."""

    def __init__(self, days: Mapping[date, DayScore], horizon_dates: int) -> None:
        self.days = sorted(days)
        self._horizon = max(1, horizon_dates)
        scores = [days[day] for day in self.days]
        self._outcomes = OutcomesByDay.of(scores)
        self._n, self._probability = self._outcomes.cell_predicted, self._outcomes.cell_predicted_probability
        labelled = (self._outcomes.n > 0).astype(np.float64)[:, None]
        cells = (labelled, self._outcomes.cell_n, self._outcomes.cell_positive, self._outcomes.cell_probability)
        self._sums = tuple(np.cumsum(np.vstack([np.zeros((1, one.shape[1])), one]), axis=0) for one in cells)
        self._corrections: dict[int, tuple[float, float]] = {}
        self._errors: dict[tuple[int, int], dict[EstimatedMetric, float]] = {}
        self._stretches: dict[tuple[EstimatedMetric, int], _EarlierErrors] = {}

    def n_known(self, as_of: date) -> int:
        """Number of days, the oldest ones, whose outcomes are known on a day."""
        return max(0, bisect_right(self.days, as_of) - self._horizon)

    def is_labelled(self, first: int, after: int) -> bool:
        """Whether each of these days has an outcome."""
        return bool(self._sums[0][after, 0] - self._sums[0][first, 0] == after - first)

    def estimates(self, first: date, as_of: date) -> tuple[Estimate, ...]:
        """Estimate each metric of the days from `first` to `as_of`."""
        after = bisect_right(self.days, as_of)
        begin = bisect_left(self.days, first, hi=after)
        n_predictions = int(self._n[begin:after].sum())
        if not n_predictions:
            return ()
        n_days, found = after - begin, []
        for metric, value in self._promised(begin, after).items():
            errors, miss = self._earlier_errors(metric, n_days).known(max(0, after - self._horizon) // n_days)
            low, high = _interval(metric, value, errors, miss)
            if math.isfinite(value):
                found.append(
                    Estimate(
                        metric=metric,
                        first=self.days[begin],
                        last=self.days[after - 1],
                        n_days=n_days,
                        n_predictions=n_predictions,
                        value=value,
                        low=low,
                        high=high,
                        n_earlier=len(errors),
                    )
                )
        return tuple(found)

    def measured(self, begin: int, after: int) -> dict[EstimatedMetric, float]:
        """Measure each metric of some days; nan where it is not defined."""
        outcomes, once = self._outcomes.between(begin, after), np.ones((1, after - begin))
        return {
            "accuracy": float(accuracy(outcomes, once)[0]),
            "roc_auc": float(roc_auc(outcomes, once)[0]),
            "log_loss": float(mean_log_loss(outcomes, once)[0]),
            "brier": float(mean_brier(outcomes, once)[0]),
        }

    def _earlier_errors(self, metric: EstimatedMetric, n_days: int) -> _EarlierErrors:
        """Earlier estimates of successive stretches of so many days, the first from the first day on."""
        if (metric, n_days) not in self._stretches:
            self._stretches[metric, n_days] = _EarlierErrors(
                metric,
                error=lambda i: self._stretch_error(metric, i * n_days, (i + 1) * n_days),
                n_known_then=lambda i: max(0, (i + 1) * n_days - self._horizon) // n_days,
            )
        return self._stretches[metric, n_days]

    def _stretch_error(self, metric: EstimatedMetric, begin: int, after: int) -> float:
        """Measured value minus the promised one; nan where outcomes are missing, or the metric is not defined."""
        return self._error(begin, after)[metric] if self.is_labelled(begin, after) else math.nan

    def _error(self, begin: int, after: int) -> dict[EstimatedMetric, float]:
        if (begin, after) not in self._errors:
            promised, measured = self._promised(begin, after), self.measured(begin, after)
            self._errors[begin, after] = {metric: measured[metric] - promised[metric] for metric in promised}
        return self._errors[begin, after]

    def _promised(self, begin: int, after: int) -> dict[EstimatedMetric, float]:
        """Expect each metric of some days, as on the last of them."""
        n = self._n[begin:after].sum(axis=0)
        filled = n > 0
        n, p = n[filled], self._probability[begin:after].sum(axis=0)[filled] / n[filled]
        intercept, slope = self._correction(after)
        q = expit(intercept + slope * _logit(p))
        called = p >= THRESHOLD
        p = np.clip(p, *_CLIP)
        positive, negative = (n * q)[None], (n * (1 - q))[None]
        return {
            "accuracy": float(np.average(np.where(called, q, 1 - q), weights=n)),
            "roc_auc": float(area_of_cells(positive, negative)[0]),
            "log_loss": float(np.average(-q * np.log(p) - (1 - q) * np.log1p(-p), weights=n)),
            "brier": float(np.average(q * (1 - p) ** 2 + (1 - q) * p**2, weights=n)),
        }

    def _correction(self, after: int) -> tuple[float, float]:
        """Intercept and slope of the recalibration by the outcomes that are known on the day before `after`."""
        known = max(0, after - self._horizon)
        if known not in self._corrections:
            n_labelled, n, positive, probability = (total[known] for total in self._sums)
            filled = n > 0
            weight = _ROWS_PER_HORIZON * float(n_labelled[0]) / self._horizon / max(1.0, float(n.sum()))
            x = _logit(probability[filled] / n[filled])
            self._corrections[known] = _fitted(x, n[filled] * weight, positive[filled] * weight)
        return self._corrections[known]


_CLIP = (1e-6, 1 - 1e-6)
_MOST_STEPS, _SMALLEST_STEP = 100, 1e-9


def _logit(p: Vector) -> Vector:
    clipped = np.clip(p, *_CLIP)
    return np.asarray(np.log(clipped / (1 - clipped)))


def _fitted(x: Vector, n: Vector, positive: Vector) -> tuple[float, float]:
    """Fit log odds = intercept + slope x by Newton's method; normal priors around 0 and 1 keep it defined.

    A step is halved until it lowers the loss: whole ones may run away from odds that are stated far too large.
    """
    design = np.stack([np.ones_like(x), x])
    prior, precision = np.array([0.0, 1.0]), 1 / _PRIOR_SPREAD**2

    def loss(beta: Vector) -> float:
        odds = beta @ design
        likelihood = float(np.sum(n * np.logaddexp(0.0, odds) - positive * odds))
        return likelihood + precision / 2 * float(np.sum((beta - prior) ** 2))

    beta, lowest = prior, loss(prior)
    for _ in range(_MOST_STEPS):
        q = expit(beta @ design)
        gradient = design @ (positive - n * q) - precision * (beta - prior)
        step = np.linalg.solve((design * (n * q * (1 - q))) @ design.T + precision * np.eye(2), gradient)
        while loss(beta + step) > lowest and float(np.abs(step).max()) > _SMALLEST_STEP:
            step = step / 2
        if float(np.abs(step).max()) <= _SMALLEST_STEP:
            break
        beta = beta + step
        lowest = loss(beta)
    return float(beta[0]), float(beta[1])


class _EarlierErrors:
    """Errors of successive earlier estimates of one metric, and the share of misses that the next is aimed at.

    Each estimate that missed aims the next at fewer misses, each that did not at slightly more, so that in the long run
    a tenth is missed also where errors change in size (adaptive conformal inference, Gibbs & Candès 2021).
    """

    def __init__(
        self, metric: EstimatedMetric, *, error: Callable[[int], float], n_known_then: Callable[[int], int]
    ) -> None:
        """Begin without errors.

        error : of the i-th estimate      n_known_then : how many earlier errors were known when it was made
        """
        self._metric, self._error, self._n_known_then = metric, error, n_known_then
        self._errors: list[float] = []
        self._aims = [_MISSES]

    def known(self, n: int) -> tuple[list[float], float]:
        """Return the first `n` errors as far as they are defined, and the share of misses to aim at after them."""
        while len(self._errors) < n:
            self._add(self._error(len(self._errors)))
        return [error for error in self._errors[:n] if math.isfinite(error)], self._aims[n]

    def _add(self, error: float) -> None:
        known, aim = self.known(min(self._n_known_then(len(self._errors)), len(self._errors)))
        self._errors.append(error)
        if not math.isfinite(error):
            self._aims.append(self._aims[-1])
            return
        low, high = _quantiles(self._metric, known, aim)
        missed = not low <= error <= high
        self._aims.append(min(max(self._aims[-1] + _STEP * (_MISSES - missed), _AIMS[0]), _AIMS[1]))


def _interval(metric: EstimatedMetric, value: float, errors: list[float], aim: float) -> tuple[float, float]:
    low, high = _quantiles(metric, errors, aim)
    least, most = _BOUNDS[metric]
    return float(np.clip(value + low, least, most)), float(np.clip(value + high, least, most))


def _quantiles(metric: EstimatedMetric, errors: list[float], aim: float) -> tuple[float, float]:
    """Ends of all errors, known and assumed, but a share `aim`; by the ranks that one more error would have."""
    assumed = _SPREAD[metric] * norm.ppf(np.arange(1, _ASSUMED_ERRORS + 1) / (_ASSUMED_ERRORS + 1))
    ordered = np.sort(np.concatenate([np.asarray(errors, dtype=np.float64), assumed]))
    rank = max(0, math.floor(aim / 2 * (len(ordered) + 1) + 1e-9) - 1)
    return float(ordered[rank]), float(ordered[len(ordered) - 1 - rank])

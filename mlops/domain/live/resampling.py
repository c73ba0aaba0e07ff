"""Days of outcomes as arrays, metrics of any choice of them, and the resamples that give a metric its interval; pure.

Days are resampled whole and in blocks: names of one day move together, and labels that look h dates ahead overlap for
h dates. The resamples' distances are widened for few blocks and for the overlap that blocks of random length miss, as
in the paired test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mlops.domain.live.day_score import DayScore
from mlops.domain.promotion.bootstrap import (
    INTERVAL,
    MIN_BLOCKS,
    automatic_block_length,
    missed_by_blocks,
    spread_of_few_blocks,
    stationary_counts,
)
from mlops.domain.training.metrics import THRESHOLD

Vector = npt.NDArray[np.float64]

RESAMPLES, SEED = 1_000, 42
_GRID = 256
"""Cells of the days that are put together, of about as many predictions each, and one more at the threshold."""


class Measured(NamedTuple):
    """A number and its 90 % interval; None where there are too few days for one."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class OutcomesByDay:
    """Days as arrays: totals of the d days, and of their g cells of ascending probability, the same for all days."""

    n: Vector
    """(d,) labelled predictions"""
    hits: Vector
    log_loss: Vector
    brier: Vector
    cell_n: Vector
    """(d, g) labelled predictions"""
    cell_positive: Vector
    cell_probability: Vector
    """(d, g) sums of the labelled predictions' probabilities"""
    cell_predicted: Vector
    """(d, g) predictions, labelled or not"""
    cell_predicted_probability: Vector

    @classmethod
    def of(cls, scores: Sequence[DayScore]) -> OutcomesByDay:
        """Gather the scores of d days. The cells hold about as many of their predictions each."""
        parts = np.array([cell for score in scores for cell in score.cells], dtype=np.float64).reshape(-1, 5).T
        predicted, predicted_probability, n, probability, positive = parts
        position = _positions(predicted_probability / predicted, predicted)
        n_cells = int(position.max(initial=-1)) + 1
        day = np.repeat(np.arange(len(scores)), [len(score.cells) for score in scores])

        def cells(part: Vector) -> Vector:
            index = day * n_cells + position
            return np.asarray(np.bincount(index, part, len(scores) * n_cells).reshape(len(scores), n_cells), np.float64)

        def totals(name: str) -> Vector:
            return np.array([getattr(score, name) for score in scores], dtype=np.float64)

        return cls(
            n=totals("n_labelled"),
            hits=totals("n_hits"),
            log_loss=totals("log_loss"),
            brier=totals("brier"),
            cell_n=cells(n),
            cell_positive=cells(positive),
            cell_probability=cells(probability),
            cell_predicted=cells(predicted),
            cell_predicted_probability=cells(predicted_probability),
        )

    def between(self, begin: int, after: int) -> OutcomesByDay:
        """Return the days from `begin` to before `after`; views."""
        return OutcomesByDay(**{field.name: getattr(self, field.name)[begin:after] for field in fields(self)})


def _positions(means: Vector, n: Vector) -> npt.NDArray[np.intp]:
    """Return the cell of each part of the days, from 0 on by ascending mean probability; equal means are together."""
    values, index = np.unique(means, return_inverse=True)
    if len(values) <= _GRID:
        return index
    weights = np.bincount(index, n)
    cell = 2 * ((np.cumsum(weights) - weights) / weights.sum() * _GRID).astype(np.int64) + (values >= THRESHOLD)
    return np.asarray(np.unique(cell, return_inverse=True)[1][index])


def accuracy(outcomes: OutcomesByDay, counts: Vector) -> Vector:
    """(r,) of each resample of days; counts : (r, d) how often it has each day. nan where it is not defined."""
    return ratio(counts @ outcomes.hits, counts @ outcomes.n)


def mean_log_loss(outcomes: OutcomesByDay, counts: Vector) -> Vector:
    """(r,) as `accuracy`, nats."""
    return ratio(counts @ outcomes.log_loss, counts @ outcomes.n)


def mean_brier(outcomes: OutcomesByDay, counts: Vector) -> Vector:
    """(r,) as `accuracy`."""
    return ratio(counts @ outcomes.brier, counts @ outcomes.n)


def roc_auc(outcomes: OutcomesByDay, counts: Vector) -> Vector:
    """(r,) as `accuracy`: over all pairs of the resample, ties within a cell half."""
    return area_of_cells(counts @ outcomes.cell_positive, counts @ (outcomes.cell_n - outcomes.cell_positive))


def area_of_cells(positive: Vector, negative: Vector) -> Vector:
    """(r,) AUC of positives and negatives, (r, g) by cell of ascending probability; nan with one class only."""
    below = np.cumsum(negative, axis=1) - negative
    wins = np.sum(positive * (below + negative / 2), axis=1)
    return ratio(wins, positive.sum(axis=1) * negative.sum(axis=1))


def ratio(top: Vector, bottom: Vector) -> Vector:
    """Divide; nan or infinite where it is not defined."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(top / bottom)


@dataclass(frozen=True, kw_only=True)
class Resamples:
    """Resamples of days in blocks; the interval of any number that is a function of how often each day is drawn."""

    counts: Vector | None
    """(r, d); None where there are too few days"""
    n_days: int
    widened: float
    """Factor on the resamples' distances from what was measured"""

    @classmethod
    def of(cls, outcomes: OutcomesByDay, *, horizon_dates: int) -> Resamples:
        """Draw blocks of the label's horizon, or of the automatic length of the daily log loss where that is longer."""
        n = len(outcomes.n)
        if n < MIN_BLOCKS * max(1, horizon_dates):
            return cls(counts=None, n_days=n, widened=1.0)
        excess = outcomes.log_loss - outcomes.log_loss.sum() / outcomes.n.sum() * outcomes.n
        block = min(max(float(horizon_dates), 1.0, round(automatic_block_length(excess), 2)), n / MIN_BLOCKS)
        return cls(
            counts=stationary_counts(n, block_dates=block, resamples=RESAMPLES, seed=SEED),
            n_days=n,
            widened=spread_of_few_blocks(n, block, INTERVAL[1]) * missed_by_blocks(horizon_dates, block),
        )

    def measured(self, metric: Callable[[Vector], Vector], least: float, most: float) -> Measured | None:
        """Measure all days, with the interval; None where it is not defined for them. Ends lie within the bounds."""
        value = float(metric(np.ones((1, self.n_days)))[0])
        if not math.isfinite(value):
            return None
        if self.counts is None:
            return Measured(value, None, None)
        return self.interval(value, metric(self.counts), least, most)

    def interval(self, value: float, drawn: Vector, least: float, most: float) -> Measured:
        """Give a number its interval from its values in the resamples."""
        defined = drawn[np.isfinite(drawn)]
        if self.counts is None or not len(defined):
            return Measured(value, None, None)
        low, high = np.quantile(value + self.widened * (defined - value), INTERVAL)
        return Measured(value, float(np.clip(low, least, most)), float(np.clip(high, least, most)))

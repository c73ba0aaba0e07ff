"""Performance of one version over a range of days, each number with a 90 % interval; pure.

Days are resampled whole and in blocks: names of one day move together, and labels that look h dates ahead overlap for
h dates. The resamples' distances are widened for few blocks and for the overlap that blocks of random length miss, as
in the paired test. Called by the score stage, the page and the commands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mlops.domain.live.day_score import DayScore
from mlops.domain.promotion.bootstrap import (
    INTERVAL,
    automatic_block_length,
    missed_by_blocks,
    spread_of_few_blocks,
    stationary_counts,
)
from mlops.domain.training.metrics import THRESHOLD
from mlops.domain.training.trading import (
    TRADING_DAYS,
    drawdown_interval,
    max_drawdown,
    share_interval,
    sharpe_interval,
    sharpe_ratio,
)

Vector = npt.NDArray[np.float64]

MIN_BLOCKS = 2
"""With fewer blocks than this there is no interval: one block is one observation."""
MIN_MARKS = 10
"""With fewer daily marks there is no interval."""
_RESAMPLES, _SEED = 1_000, 42
_CALIBRATION_POINTS = 10
_GRID = 256
"""Cells of the days that are put together, of about as many predictions each, and one more at the threshold."""


class Measured(NamedTuple):
    """A number and its 90 % interval; None where there are too few days for one."""

    value: float
    low: float | None
    high: float | None


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
    outcomes = Outcomes.of(scores)
    sample = Resamples.of(outcomes, horizon_dates=horizon_dates) if scores else None
    notes = []
    if sample is not None and sample.counts is None:
        notes.append(
            f"no intervals: {len(scores)} days with outcomes are fewer than {MIN_BLOCKS} blocks of {horizon_dates}"
        )
    curve, error = _calibration(outcomes, sample) if sample is not None else ((), None)

    def measured(
        metric: Callable[[Outcomes, Vector], Vector], *, most: float = math.inf, least: float = 0.0
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
        signal=_signal([(day, score) for day, score in ordered if score.n_marked]),
        notes=tuple(notes),
    )


_TOTALS = ("n_predictions", "n_labelled")


@dataclass(frozen=True, kw_only=True)
class Outcomes:
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
    def of(cls, scores: Sequence[DayScore]) -> Outcomes:
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

    def between(self, begin: int, after: int) -> Outcomes:
        """Return the days from `begin` to before `after`; views."""
        return Outcomes(**{field.name: getattr(self, field.name)[begin:after] for field in fields(self)})


def _positions(means: Vector, n: Vector) -> npt.NDArray[np.intp]:
    """Return the cell of each part of the days, from 0 on by ascending mean probability; equal means are together."""
    values, index = np.unique(means, return_inverse=True)
    if len(values) <= _GRID:
        return index
    weights = np.bincount(index, n)
    cell = 2 * ((np.cumsum(weights) - weights) / weights.sum() * _GRID).astype(np.int64) + (values >= THRESHOLD)
    return np.asarray(np.unique(cell, return_inverse=True)[1][index])


def accuracy(outcomes: Outcomes, counts: Vector) -> Vector:
    """(r,) of each resample of days; counts : (r, d) how often it has each day. nan where it is not defined."""
    return _ratio(counts @ outcomes.hits, counts @ outcomes.n)


def mean_log_loss(outcomes: Outcomes, counts: Vector) -> Vector:
    """(r,) as `accuracy`, nats."""
    return _ratio(counts @ outcomes.log_loss, counts @ outcomes.n)


def mean_brier(outcomes: Outcomes, counts: Vector) -> Vector:
    """(r,) as `accuracy`."""
    return _ratio(counts @ outcomes.brier, counts @ outcomes.n)


def roc_auc(outcomes: Outcomes, counts: Vector) -> Vector:
    """(r,) as `accuracy`: over all pairs of the resample, ties within a cell half."""
    return area_of_cells(counts @ outcomes.cell_positive, counts @ (outcomes.cell_n - outcomes.cell_positive))


def area_of_cells(positive: Vector, negative: Vector) -> Vector:
    """(r,) AUC of positives and negatives, (r, g) by cell of ascending probability; nan with one class only."""
    below = np.cumsum(negative, axis=1) - negative
    wins = np.sum(positive * (below + negative / 2), axis=1)
    return _ratio(wins, positive.sum(axis=1) * negative.sum(axis=1))


def _bias(outcomes: Outcomes, counts: Vector) -> Vector:
    excess = (outcomes.cell_probability - outcomes.cell_positive).sum(axis=1)
    return _ratio(counts @ excess, counts @ outcomes.n)


def _ratio(top: Vector, bottom: Vector) -> Vector:
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
    def of(cls, outcomes: Outcomes, *, horizon_dates: int) -> Resamples:
        """Draw blocks of the label's horizon, or of the automatic length of the daily log loss where that is longer."""
        n = len(outcomes.n)
        if n < MIN_BLOCKS * max(1, horizon_dates):
            return cls(counts=None, n_days=n, widened=1.0)
        excess = outcomes.log_loss - outcomes.log_loss.sum() / outcomes.n.sum() * outcomes.n
        block = min(max(float(horizon_dates), 1.0, round(automatic_block_length(excess), 2)), n / MIN_BLOCKS)
        return cls(
            counts=stationary_counts(n, block_dates=block, resamples=_RESAMPLES, seed=_SEED),
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


def _calibration(outcomes: Outcomes, sample: Resamples) -> tuple[tuple[CalibrationPoint, ...], Measured | None]:
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
        _ratio(sample.counts @ positive, drawn_n),
        _ratio(sample.counts @ (positive - probability), drawn_n),
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


def _signal(days: Sequence[tuple[date, DayScore]]) -> SignalPerformance | None:
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
    counts = stationary_counts(n, block_dates=block, resamples=_RESAMPLES, seed=_SEED)
    drawn = total + spread_of_few_blocks(n, block, INTERVAL[1]) * (counts @ growth - total)
    low, high = np.quantile(drawn, INTERVAL)
    return Measured(math.expm1(total), math.expm1(float(low)), math.expm1(float(high)))

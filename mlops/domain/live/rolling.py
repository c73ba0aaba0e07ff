"""Performance of the newest dates as the days go by, without intervals: what a picture's curve is made of; pure.

Called by the page. Sums over all windows at once: the AUC is that of the counts in the cells of `day_score`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from mlops.domain.live.day_score import N_CELLS, DayScore


@dataclass(frozen=True, kw_only=True)
class RollingPoint:
    """The labelled dates of a window that ends with `day`."""

    day: date
    n_days: int
    accuracy: float
    roc_auc: float | None
    """Over all pairs, of different days too; None where one class is missing"""
    log_loss: float
    brier: float


def rolling_performance(days: Mapping[date, DayScore], *, window: int, least: int = 5) -> tuple[RollingPoint, ...]:
    """Of each labelled day and the `window` - 1 before it, one version's or one strategy's; in order of the days.

    least : labelled days that a window must have: the first windows are shorter
    """
    labelled = [(day, days[day]) for day in sorted(days) if days[day].n_labelled]
    if len(labelled) < least:
        return ()
    scores = [score for _, score in labelled]
    sums = _windowed(
        np.array([(one.n_labelled, one.n_hits, one.log_loss, one.brier) for one in scores], dtype=float), window
    )
    auc = _auc(*(_windowed(counts, window) for counts in _counts(scores)))
    return tuple(
        RollingPoint(
            day=labelled[place][0],
            n_days=min(place + 1, window),
            accuracy=float(sums[place, 1] / sums[place, 0]),
            roc_auc=float(auc[place]) if np.isfinite(auc[place]) else None,
            log_loss=float(sums[place, 2] / sums[place, 0]),
            brier=float(sums[place, 3] / sums[place, 0]),
        )
        for place in range(least - 1, len(labelled))
    )


def _counts(scores: list[DayScore]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Positives and negatives of each day by cell: (days, cells) each."""
    positive, negative = (np.zeros((len(scores), N_CELLS)) for _ in range(2))
    for place, score in enumerate(scores):
        for cell in score.cells:
            positive[place, cell.index] = cell.n_positive
            negative[place, cell.index] = cell.n_labelled - cell.n_positive
    return positive, negative


def _windowed(values: npt.NDArray[np.float64], window: int) -> npt.NDArray[np.float64]:
    """Sum of each row and the `window` - 1 before it."""
    total = np.cumsum(values, axis=0)
    total[window:] -= total[:-window].copy()
    return total


def _auc(positive: npt.NDArray[np.float64], negative: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Share of pairs whose positive lies in the higher cell, ties half; nan without a pair."""
    below = np.cumsum(negative, axis=1) - negative
    won = np.sum(positive * (below + negative / 2), axis=1)
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return np.divide(won, pairs, out=np.full(len(won), np.nan), where=pairs > 0)

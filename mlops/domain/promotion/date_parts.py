"""Contributions of each date to a metric, so that the metric of any resample of dates is arithmetic on counts.

Pure; called by `mlops.domain.promotion.paired`. All parts are whole numbers or lie on a grid on which float64 adds
exactly, so that a resample's value is the same to the last bit on every machine and in any order.

    accuracy   hits, rows                        f1_score   true positives, called, positive
    log_loss   sum of losses, rows               sharpe     return of the position opened on the date
    brier      sum of squared errors, rows       lift_over_majority   hits, rows, positive rows
    roc_auc    wins of the positives of date d over the negatives of date e (ties half), positives, negatives
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlops.domain.training.metrics import THRESHOLD, Floats, Labels
from mlops.domain.training.trading import TRADING_DAYS

Parts = Mapping[str, npt.NDArray[np.float64]]

_LOSS_GRID = 2.0**-24
"""Nats. 1,000 dates of 1,000 rows at the largest loss (36) fill 26 bits beside the 24 of the grid."""
_RETURN_GRID = 2.0**-20
"""Of a simple return: 0.0001 %. Its square needs 40 bits, and 1,000 dates ten more."""


@dataclass(frozen=True, kw_only=True)
class ScoredRows:
    """A model's probabilities on the rows of some dates."""

    dates: npt.NDArray[np.datetime64]
    """(n,) ascending"""
    y: Labels
    """(n,) of 0 and 1"""
    probability: Floats
    """(n,) of class 1"""
    target_return: Floats | None
    """(n,) simple, over the horizon; None where the features hold none"""


def date_parts(metric: str, rows: ScoredRows) -> Parts:
    """Compute the parts of each distinct date, ascending. Raises KeyError for a metric without parts."""
    days, of_day = np.unique(rows.dates, return_inverse=True)
    return _PARTS[metric](rows, of_day, len(days))


def has_parts(metric: str) -> bool:
    """Whether a metric is a function of what each date contributes, without returns."""
    return metric in _PARTS and metric != "sharpe"


def metric_of(metric: str, parts: Parts, counts: npt.NDArray[np.float64], *, horizon_dates: int) -> Floats:
    """(r,) the metric of each resample of `counts` (r, d); nan where it is undefined.

    sharpe is annualised from returns over `horizon_dates`; the others need no horizon.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        if metric == "sharpe":
            return _sharpe(parts["returns"], counts, np.sqrt(TRADING_DAYS / max(1, horizon_dates)))
        if metric == "roc_auc":
            wins = np.sum((counts @ parts["wins"]) * counts, axis=1)
            return np.asarray(wins / ((counts @ parts["positive"]) * (counts @ parts["negative"])))
        if metric == "f1_score":
            return np.asarray(
                2.0 * (counts @ parts["true_positive"]) / (counts @ (parts["called"] + parts["positive"]))
            )
        found = np.asarray((counts @ parts["total"]) / (counts @ parts["rows"]))
        if metric == "lift_over_majority":
            share = (counts @ parts["positive"]) / (counts @ parts["rows"])
            found = found - np.maximum(share, 1.0 - share)
        return found


def influence(metric: str, parts: Parts) -> npt.NDArray[np.float64]:
    """(d,) how much each date moves the metric, to first order: the series whose dependence sets the block length."""
    if metric == "roc_auc":
        wins, positive, negative = parts["wins"], parts["positive"], parts["negative"]
        area = wins.sum() / (positive.sum() * negative.sum())
        own = wins.sum(axis=1) / negative.sum() - area * positive
        others = wins.sum(axis=0) / positive.sum() - area * negative
        return np.asarray(own / positive.sum() + others / negative.sum())
    if metric == "sharpe":
        r = parts["returns"]
        deviation = float(r.std())
        z = (r - r.mean()) / deviation if deviation else np.zeros_like(r)
        return np.asarray(z - (r.mean() / deviation if deviation else 0.0) * (z**2 - 1) / 2)
    if metric == "lift_over_majority":
        of_majority = parts["positive"] if 2 * parts["positive"].sum() >= parts["rows"].sum() else None
        majority = parts["rows"] - parts["positive"] if of_majority is None else of_majority
        top, bottom = parts["total"] - majority, parts["rows"]
    elif metric == "f1_score":
        top, bottom = 2 * parts["true_positive"], parts["called"] + parts["positive"]
    else:
        top, bottom = parts["total"], parts["rows"]
    return np.asarray((top - top.sum() / bottom.sum() * bottom) / bottom.sum())


def _accuracy(rows: ScoredRows, of_day: npt.NDArray[np.intp], n_days: int) -> Parts:
    hits = (rows.probability >= THRESHOLD) == (rows.y == 1)
    return {"total": _sum(hits, of_day, n_days), "rows": _sum(np.ones(len(hits)), of_day, n_days)}


def _log_loss(rows: ScoredRows, of_day: npt.NDArray[np.intp], n_days: int) -> Parts:
    eps = float(np.finfo(np.float64).eps)
    p = np.clip(rows.probability.astype(np.float64), eps, 1 - eps)
    loss = _on_grid(-np.where(rows.y == 1, np.log(p), np.log1p(-p)), _LOSS_GRID)
    return {"total": _sum(loss, of_day, n_days), "rows": _sum(np.ones(len(p)), of_day, n_days)}


def _brier(rows: ScoredRows, of_day: npt.NDArray[np.intp], n_days: int) -> Parts:
    loss = _on_grid((rows.probability.astype(np.float64) - rows.y) ** 2, _LOSS_GRID)
    return {"total": _sum(loss, of_day, n_days), "rows": _sum(np.ones(len(loss)), of_day, n_days)}


def _lift(rows: ScoredRows, of_day: npt.NDArray[np.intp], n_days: int) -> Parts:
    return {**_accuracy(rows, of_day, n_days), "positive": _sum(rows.y == 1, of_day, n_days)}


def _f1(rows: ScoredRows, of_day: npt.NDArray[np.intp], n_days: int) -> Parts:
    called, positive = rows.probability >= THRESHOLD, rows.y == 1
    return {
        "true_positive": _sum(called & positive, of_day, n_days),
        "called": _sum(called, of_day, n_days),
        "positive": _sum(positive, of_day, n_days),
    }


def _roc_auc(rows: ScoredRows, of_day: npt.NDArray[np.intp], n_days: int) -> Parts:
    positive = rows.y == 1
    p_positive, day_positive = rows.probability[positive], of_day[positive]
    wins = np.zeros((n_days, n_days))
    for day in range(n_days):
        negatives = np.sort(rows.probability[~positive & (of_day == day)])
        below = np.searchsorted(negatives, p_positive, side="left")
        not_above = np.searchsorted(negatives, p_positive, side="right")
        wins[:, day] = _sum((below + not_above) / 2, day_positive, n_days)
    return {
        "wins": wins,
        "positive": _sum(positive, of_day, n_days),
        "negative": _sum(~positive, of_day, n_days),
    }


def _position_returns(rows: ScoredRows, of_day: npt.NDArray[np.intp], n_days: int) -> Parts:
    """Returns at equal weight in every name with p >= 0.5 whose return is known; 0 without such a name."""
    if rows.target_return is None:
        message = "sharpe needs target_return"
        raise KeyError(message)
    called = (rows.probability >= THRESHOLD) & np.isfinite(rows.target_return)
    earned = _sum(np.where(called, rows.target_return, 0.0), of_day, n_days)
    return {"returns": _on_grid(earned / np.maximum(1.0, _sum(called, of_day, n_days)), _RETURN_GRID)}


def _sharpe(returns: npt.NDArray[np.float64], counts: npt.NDArray[np.float64], annual: float) -> Floats:
    n = counts.sum(axis=1)
    total, squares = counts @ returns, counts @ returns**2
    variance = (squares - total**2 / n) / (n - 1)
    # Equal returns leave a rounding rest instead of 0.
    is_defined = variance > 1e-12
    return np.where(is_defined, total / n / np.sqrt(np.where(is_defined, variance, 1.0)) * annual, np.nan)


def _sum(values: npt.ArrayLike, of_day: npt.NDArray[np.intp], n_days: int) -> npt.NDArray[np.float64]:
    sums = np.bincount(of_day, weights=np.asarray(values, dtype=np.float64), minlength=n_days)
    return np.asarray(sums, dtype=np.float64)


def _on_grid(values: npt.NDArray[np.float64], grid: float) -> npt.NDArray[np.float64]:
    return np.asarray(np.round(values / grid) * grid)


_PARTS = {
    "accuracy": _accuracy,
    "brier": _brier,
    "lift_over_majority": _lift,
    "log_loss": _log_loss,
    "f1_score": _f1,
    "roc_auc": _roc_auc,
    "sharpe": _position_returns,
}

"""Streams whose labels are turned around on a known date, and detectors of the literature to compare with; pure.

SEA: three numbers, uniform from 0 to 10; label 1 where the first two sum to at most 8, the third says nothing (Street &
Kim 2001). STAGGER: size, colour and shape of three values each; label 1 where the colour is green or the shape is a
circle (Schlimmer & Granger 1986). A share of the labels is drawn by a coin. Called by `label_evaluation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int8]
StreamName = Literal["SEA", "STAGGER"]
Change = Literal["none", "market", "turned", "gradual"]

STREAMS: tuple[StreamName, ...] = ("SEA", "STAGGER")
CHANGES: tuple[Change, ...] = ("none", "market", "turned", "gradual")
"""What happens on the date of the change: nothing; four rows of five are of label 1, with the features of such rows as
ever; labels are turned around at once, or each row's with a probability that rises for `GRADUAL_DATES`"""
GRADUAL_DATES = 60
_MARKET, _POOL = 0.8, 8


@dataclass(frozen=True, kw_only=True)
class StreamRows:
    """Rows of successive dates, as many on each."""

    x: Rows
    """(dates, rows, 3)"""
    y: Labels
    """(dates, rows)"""


def draw_stream(
    name: StreamName,
    *,
    coin: float,
    n_dates: int,
    n_rows: int,
    change: Change = "none",
    change_at: int = 0,
    rng: np.random.Generator,
) -> StreamRows:
    """Draw a stream. coin : share of labels that a coin draws      change_at : index of the first date of the change"""
    rows = _rows(name, coin, n_dates, n_rows, rng)
    if change == "none":
        return rows
    since = np.arange(n_dates) - change_at
    if change == "market":
        return _crowded(rows, _rows(name, coin, n_dates, _POOL * n_rows, rng), since >= 0, rng)
    chance = (since + 1) / (GRADUAL_DATES if change == "gradual" else 1)
    turned = (since >= 0)[:, None] & (rng.random(rows.y.shape) < chance[:, None])
    return StreamRows(x=rows.x, y=np.where(turned, 1 - rows.y, rows.y).astype(np.int8))


def _rows(name: StreamName, coin: float, n_dates: int, n_rows: int, rng: np.random.Generator) -> StreamRows:
    shape = (n_dates, n_rows)
    if name == "SEA":
        x = rng.uniform(0.0, 10.0, (*shape, 3))
        is_one = x[..., 0] + x[..., 1] <= 8.0
    else:
        x = rng.integers(0, 3, (*shape, 3)).astype(np.float64)
        is_one = (x[..., 1] == 1) | (x[..., 2] == 1)
    is_one = np.where(rng.random(shape) < coin, rng.random(shape) < 1 / 2, is_one)
    return StreamRows(x=x.astype(np.float32), y=is_one.astype(np.int8))


def _crowded(rows: StreamRows, pool: StreamRows, on: npt.NDArray[np.bool_], rng: np.random.Generator) -> StreamRows:
    """Replace the rows of some dates by rows of a pool, a share `_MARKET` of them of label 1."""
    x, y = rows.x.copy(), rows.y.copy()
    for i in np.flatnonzero(on):
        wanted = rng.random(y.shape[1]) < _MARKET
        for label in (0, 1):
            places = np.flatnonzero(wanted == label)
            x[i, places] = pool.x[i, np.flatnonzero(pool.y[i] == label)[: len(places)]]
            y[i, places] = label
    return StreamRows(x=x, y=y)


# ---- Detectors of the literature on the rows' losses, asked once a date; each begins with the held-out rows


def page_hinkley(
    losses: Floats, ends: npt.NDArray[np.intp], *, delta: float = 0.005, bound: float = 50.0
) -> int | None:
    """Index of the first date on which Page's sum of a row's loss over the mean so far reaches the bound.

    losses : (n,) in order      ends : (d,) number of rows up to each date. Bounds as in River's `PageHinkley`.
    """
    mean = np.cumsum(losses) / np.arange(1, len(losses) + 1)
    total = np.cumsum(losses - mean - delta)
    return _first(total - np.minimum.accumulate(total) > bound, ends)


def ddm(wrong: npt.NDArray[np.bool_], ends: npt.NDArray[np.intp], *, warm: int = 30) -> int | None:
    """Index of the first date on which the error rate is 3 deviations above its least (Gama et al. 2004)."""
    n = np.arange(1, len(wrong) + 1)
    rate = np.cumsum(wrong) / n
    deviation = np.sqrt(rate * (1 - rate) / n)
    level = np.where(n >= warm, rate + deviation, np.inf)
    least = np.minimum.accumulate(level)
    at = np.maximum.accumulate(np.where(level == least, n - 1, 0))
    return _first((n >= warm) & (level > rate[at] + 3 * deviation[at]), ends)


def adwin(wrong: npt.NDArray[np.bool_], ends: npt.NDArray[np.intp], *, delta: float = 0.002) -> int | None:
    """Index of the first date on which two parts of the window have another error rate (Bifet & Gavaldà 2007).

    The window is all rows so far, cut between dates; a rate that fell is no alarm.
    """
    total = np.concatenate([[0], np.cumsum(wrong)])
    ends = np.concatenate([[0], ends])
    for i in range(2, len(ends)):
        n, n_before = ends[i], ends[1:i]
        n_after = n - n_before
        before, after = total[n_before] / n_before, (total[n] - total[n_before]) / n_after
        harmonic = 1.0 / (1.0 / n_before + 1.0 / n_after)
        rate = total[n] / n
        confidence = np.log(2.0 * np.log(n) / delta)
        cut = np.sqrt(2.0 / harmonic * rate * (1 - rate) * confidence) + 2.0 / (3.0 * harmonic) * confidence
        if np.any(after - before > cut):
            return i - 1
    return None


def _first(fired: npt.NDArray[np.bool_], ends: npt.NDArray[np.intp]) -> int | None:
    found = np.flatnonzero(fired)
    return int(np.searchsorted(ends, found[0], side="right")) if len(found) else None

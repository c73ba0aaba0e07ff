"""The stationary bootstrap over dates, as counts: how often each date is drawn in each resample.

Pure; called by `mlops.domain.promotion.paired`. Blocks of dates keep what overlapping labels do to their neighbours,
and a date is drawn whole, so that names which move together stay together.

Source: Politis & Romano 1994, The Stationary Bootstrap, JASA 89.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.float64]

INTERVAL = (0.05, 0.95)
"""Quantiles of the resamples that an interval is read at."""
INTERVAL_LEVEL = f"{INTERVAL[1] - INTERVAL[0]:.0%}".replace("%", " %")
"""How sure such an interval is, as it is written beside it."""
_BITS = 53
"""Of a float64's mantissa."""


def stationary_counts(n_dates: int, *, block_dates: float, resamples: int, seed: int) -> Counts:
    """(resamples, n_dates) how often each date is drawn; every row sums to n_dates.

    A block begins anywhere, goes on around the end to the beginning, and has a geometric length of mean
    `block_dates` (at least 1). The same seed gives the same counts on every machine and numpy version: only the
    generator's raw bits are used, whose stream is part of numpy's promise, while that of its distributions is not.
    """
    uniform = _uniform(2 * resamples * n_dates, seed).reshape(2, resamples, n_dates)
    begins = uniform[0] < 1.0 / max(1.0, block_dates)
    begins[:, 0] = True
    start = (uniform[1] * n_dates).astype(np.int64)
    position = np.arange(n_dates)
    # Where the block of each position began: the newest position so far at which one did.
    began_at = np.maximum.accumulate(np.where(begins, position, 0), axis=1)
    drawn = (np.take_along_axis(start, began_at, axis=1) + position - began_at) % n_dates
    cells = drawn + n_dates * np.arange(resamples)[:, None]
    return np.bincount(cells.ravel(), minlength=resamples * n_dates).reshape(resamples, n_dates).astype(np.float64)


def _uniform(n: int, seed: int) -> npt.NDArray[np.float64]:
    raw = np.random.PCG64(seed).random_raw(n)
    return (raw >> np.uint64(64 - _BITS)).astype(np.float64) * 2.0**-_BITS

"""The stationary bootstrap over dates, as counts: how often each date is drawn in each resample.

Pure; called by `paired` of this package and by `mlops.domain.live`. Blocks of dates keep what overlapping labels do to
their neighbours, and a date is drawn whole, so that names which move together stay together.

Source: Politis & Romano 1994, The Stationary Bootstrap, JASA 89.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

Counts = npt.NDArray[np.float64]

INTERVAL = (0.05, 0.95)
"""Quantiles of the resamples that an interval is read at."""
INTERVAL_LEVEL = f"{INTERVAL[1] - INTERVAL[0]:.0%}".replace("%", " %")
"""How sure such an interval is, as it is written beside it."""
MIN_BLOCKS = 2
"""With fewer blocks than this nothing is said: one block is one observation."""
_BITS = 53
"""Of a float64's mantissa."""


def stationary_counts(n_dates: int, *, block_dates: float, resamples: int, seed: int) -> Counts:
    """(resamples, n_dates) how often each date is drawn; every row sums to n_dates.

    A block begins anywhere, goes on around the end to the beginning, and has a geometric length of mean
    `block_dates` (at least 1). The same seed gives the same counts on every machine and numpy version: only the
    generator's raw bits are used, whose stream is part of numpy's promise, while that of its distributions is not.
    """
    uniform = portable_uniform(2 * resamples * n_dates, seed).reshape(2, resamples, n_dates)
    begins = uniform[0] < 1.0 / max(1.0, block_dates)
    begins[:, 0] = True
    start = (uniform[1] * n_dates).astype(np.int64)
    position = np.arange(n_dates)
    # Where the block of each position began: the newest position so far at which one did.
    began_at = np.maximum.accumulate(np.where(begins, position, 0), axis=1)
    drawn = (np.take_along_axis(start, began_at, axis=1) + position - began_at) % n_dates
    cells = drawn + n_dates * np.arange(resamples)[:, None]
    return np.bincount(cells.ravel(), minlength=resamples * n_dates).reshape(resamples, n_dates).astype(np.float64)


def portable_uniform(n: int, seed: int) -> npt.NDArray[np.float64]:
    """(n,) uniform on [0, 1), the same on every machine and numpy version."""
    raw = np.random.PCG64(seed).random_raw(n)
    return (raw >> np.uint64(64 - _BITS)).astype(np.float64) * 2.0**-_BITS


def automatic_block_length(series: npt.NDArray[np.float64]) -> float:
    """Expected block length that minimises the mean squared error of the bootstrap's variance; at least 1.

    b = (2 G^2 / D)^(1/3) n^(1/3), G = sum w(k/M) |k| R(k), D = 2 (sum w(k/M) R(k))^2, with the flat-top window w
    and M twice the lag after which the autocorrelations stay within 2 sqrt(log10(n) / n). At most 3 sqrt(n) and
    n / 3. A constant or very short series (n < 8) gives 1.

    Source: Politis & White 2004, Automatic block-length selection; corrected by Patton, Politis & White 2009.
    """
    n = len(series)
    if n < 8 or float(np.ptp(series)) == 0.0:
        return 1.0
    centred = series - series.mean()
    k_n = max(5, math.ceil(math.sqrt(math.log10(n))))
    m_max = min(n - 1, math.ceil(math.sqrt(n)) + k_n)
    covariance = np.array([float(centred[lag:] @ centred[: n - lag]) / n for lag in range(m_max + 1)])
    bandwidth = min(2 * max(1, _last_lag(covariance / covariance[0], n, k_n, m_max)), m_max)
    lags = np.arange(1, bandwidth + 1)
    weight = np.clip(2.0 * (1.0 - lags / bandwidth), 0.0, 1.0)
    g = 2.0 * float(np.sum(weight * lags * covariance[lags]))
    spectrum = float(covariance[0] + 2.0 * np.sum(weight * covariance[lags]))
    if spectrum <= 0.0:
        return 1.0
    length = float(np.cbrt(2.0 * g**2 / (2.0 * spectrum**2) * n))
    return max(1.0, min(length, 3.0 * math.sqrt(n), n / 3.0))


def _last_lag(correlation: npt.NDArray[np.float64], n: int, k_n: int, m_max: int) -> int:
    """Smallest lag after which `k_n` autocorrelations in a row are insignificant, else the last significant one."""
    is_large = np.abs(correlation) >= 2.0 * math.sqrt(math.log10(n) / n)
    for lag in range(m_max - k_n + 1):
        if not is_large[lag + 1 : lag + 1 + k_n].any():
            return lag
    significant = np.flatnonzero(is_large[1:]) + 1
    return int(significant[-1]) if len(significant) else 0


def missed_by_blocks(horizon_dates: int, block_dates: float) -> float:
    """Factor on the standard error for what the blocks miss of labels that look `horizon_dates` ahead.

    Sums over h dates have autocorrelations 1 - k / h, whose long-run sum is h; resampled in blocks of geometric length
    of mean L, dates k apart stay together with probability (1 - 1 / L)^k (Politis & Romano 1994, lemma 1). The root of
    the quotient: sqrt(e / 2) = 1.166 for long h = L, 1 for labels that do not overlap.
    """
    k = np.arange(1, max(1, horizon_dates))
    shared = 1 - k / max(1, horizon_dates)
    seen = 1 + 2 * float(np.sum(shared * (1 - 1 / block_dates) ** k))
    return round(math.sqrt(max(1, horizon_dates) / seen), 4)


def spread_of_few_blocks(n_dates: int, block_dates: float, confidence: float) -> float:
    """Factor that makes up for few blocks, b = n / L: sqrt(b / (b - 1)) times Student's quantile over the normal's.

    The variance of b blocks around their own mean is short by (b - 1) / b, and it is itself estimated from few:
    overlapping blocks give it 1.5 (b - 1) degrees of freedom (Meketon & Schmeiser 1984). Taken at the policy's
    confidence, at least 0.9: at a half both quantiles are 0.
    """
    blocks, level = n_dates / block_dates, max(0.9, confidence)
    student = float(t.ppf(level, 1.5 * (blocks - 1)))
    return round(math.sqrt(blocks / (blocks - 1)) * student / float(norm.ppf(level)), 4)


def excess_p_value(excess: float, in_blocks: float, by_date: float, *, blocks: float) -> float:
    """One-sided p-value of an excess over the bar: the larger of Student's t in blocks and the normal by single dates.

    The standard error in blocks is widened by sqrt(b / (b - 1)), with 1.5 (b - 1) degrees of freedom, as in
    `spread_of_few_blocks`.
    To six digits: the last bits of sums differ between machines.
    """
    widened = in_blocks * math.sqrt(blocks / (blocks - 1))
    if widened <= 0.0 or by_date <= 0.0:
        return 1.0 if excess <= 0.0 else 0.0
    p = max(float(t.sf(excess / widened, 1.5 * (blocks - 1))), float(norm.sf(excess / by_date)))
    return float(f"{p:.6g}")

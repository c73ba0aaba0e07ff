"""How far two samples of one feature lie apart; pure.

    Wasserstein    W1 = integral over u of |Q_reference(u) - Q_current(u)|, in the reference's standard deviations
    Jensen-Shannon sqrt of the mean Kullback-Leibler divergence (base 2) of both shares from their mean: 0 to 1

Beside KS and PSI these say how far, not only how surely. Called for each feature by `detect`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def wasserstein(first: Floats, second: Floats) -> float:
    """Exact W1 of two samples in ascending order, finite, in their own unit; nan where one is empty, not finite
    where their sums are beyond the largest float.

    Of the larger sample only prefix sums are needed: O(n + m log n), no merged sort.
    """
    large, small = (first, second) if len(first) >= len(second) else (second, first)
    if not len(small):
        return float("nan")
    # Sums of large levels would cancel; from the middle of the larger sample they are small.
    centre = large[len(large) // 2]
    x, y = large - centre, small - centre
    n, m = len(x), len(y)
    sums = np.concatenate([[0.0], np.cumsum(x)])

    def integral(u: Floats) -> Floats:
        """Integral of the larger sample's quantile function from 0 to u."""
        whole = np.minimum(u.astype(np.int64), n - 1)
        return np.asarray((sums[whole] + (u - whole) * x[whole]) / n)

    # Within a step of the smaller sample's quantile function the larger one's crosses it once, in `u` times n.
    low = np.arange(m, dtype=np.float64) * (n / m)
    high = np.minimum(np.arange(1, m + 1, dtype=np.float64) * (n / m), float(n))
    crossing = np.clip(np.searchsorted(x, y, side="right").astype(np.float64), low, high)
    at_crossing = integral(crossing)
    at_border = np.append(integral(low), sums[n] / n)
    below = y * (crossing - low) / n - (at_crossing - at_border[:-1])
    above = at_border[1:] - at_crossing - y * (high - crossing) / n
    return float(max(np.sum(below + above), 0.0))


def jensen_shannon(reference: Counts, current: Counts) -> float:
    """Distance of two count vectors: 0 for equal shares, 1 where they share no bin; nan where one is empty."""
    if not reference.sum() or not current.sum():
        return float("nan")
    r, c = reference / reference.sum(), current / current.sum()
    mean = (r + c) / 2
    divergence = (_divergence(r, mean) + _divergence(c, mean)) / 2
    return float(np.sqrt(max(divergence, 0.0)))


def _divergence(shares: Floats, base: Floats) -> float:
    used = shares > 0
    return float(np.sum(shares[used] * np.log2(shares[used] / base[used])))

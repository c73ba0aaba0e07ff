"""Two-sample Kolmogorov-Smirnov test; pure.

    D = max over x of |F_reference(x) - F_current(x)|
    p = P(D_n >= D) of the one-sample statistic at n = round(n m / (n + m)), two-sided

The same convention at every size (scipy switches at 10,000 rows, which makes a visible step); it is scipy's
`method="asymp"`. Source: Hodges 1958; Simard and L'Ecuyer 2011 for the distribution (scipy.stats.kstwo).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlops.drift_detection.ks_distribution import kolmogorov_tail
from mlops.errors import InsufficientData

Floats = npt.NDArray[np.float64]

#: So many neighbours of the smaller sample are looked at together, or passed over together.
_STRETCH = 64
#: A sample this small is looked at whole.
_WHOLE = 4096


@dataclass(frozen=True, kw_only=True)
class KsTest:
    """Statistic and p of one feature."""

    statistic: float
    p_value: float


def ks_test(reference: Floats, current: Floats) -> KsTest:
    """Exact D and its p for two samples in ascending order without nan; infinities are largest and smallest.

    reference : (n,) sorted      current : (m,) sorted
    Raises InsufficientData when a sample is empty. With ties the p is conservative.
    """
    n, m = len(reference), len(current)
    if n == 0 or m == 0:
        raise InsufficientData(f"a KS test needs values in both samples; found {n} and {m}")
    statistic = ks_statistic(reference, current)
    effective_n = round(n * m / (n + m))
    return KsTest(statistic=statistic, p_value=ks_p_value(statistic, effective_n))


def ks_p_value(statistic: float, n: int) -> float:
    """P of a distance as large at the effective size n, the rounded n m / (n + m)."""
    # At n = 0 it is one value against one: they always differ as much as they can, and the distribution is undefined.
    return kolmogorov_tail(statistic, n) if n else 1.0


def ks_statistic(reference: Floats, current: Floats) -> float:
    """Largest distance of the two empirical distribution functions; both samples in ascending order.

    The smaller sample is looked up in the larger one: O(m log n). Where its function is above the other's, the
    supremum lies at one of its points; where it is below, just before one. Of a long sample every 64th point is
    looked up first: both functions only rise, which bounds the distance between two of them, and most stretches
    cannot hold the supremum.
    """
    small, large = (current, reference) if len(current) <= len(reference) else (reference, current)
    if len(small) <= _WHOLE:
        return _distance(small, large, np.arange(len(small)))
    chosen = np.append(np.arange(0, len(small) - 1, _STRETCH), len(small) - 1)
    least = _distance(small, large, chosen)
    first, last = chosen[:-1], chosen[1:]
    upto, before = _counts(small[chosen], large)
    above = (last + 1) / len(small) - upto[:-1] / len(large)
    below = before[1:] / len(large) - first / len(small)
    open_stretches = np.append(np.maximum(above, below) > least, False)
    inside = np.flatnonzero(np.repeat(open_stretches, _STRETCH)[: len(small)])
    return max(least, _distance(small, large, inside)) if len(inside) else least


def _distance(small: Floats, large: Floats, chosen: npt.NDArray[np.int64]) -> float:
    """Largest distance at, or just before, the chosen points of the smaller sample.

    Of equal values the last has the function's value at them, the first that before: the others' are nearer.
    """
    upto, before = _counts(small[chosen], large)
    above = (chosen + 1) / len(small) - upto / len(large)
    below = before / len(large) - chosen / len(small)
    return float(max(above.max(), below.max()))


def _counts(points: Floats, large: Floats) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """How many values are at or below each point, and how many are below it."""
    upto = large.searchsorted(points, side="right")
    before = upto.copy()
    # Where the large sample does not hold the point, as many values are before it as up to it.
    held = large[np.maximum(upto - 1, 0)] == points
    if held.any():
        before[held] = large.searchsorted(points[held], side="left")
    return upto, before

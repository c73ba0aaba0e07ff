"""Two-sample Kolmogorov-Smirnov test; pure.

    D = max over x of |F_reference(x) - F_current(x)|
    p = P(D_n >= D) of the one-sample statistic at n = round(n m / (n + m)), two-sided

The same convention at every size (scipy switches at 10,000 rows, which makes a visible step); it is scipy's
`method="asymp"`. Source: Hodges 1958; Simard and L'Ecuyer 2011 for the distribution (scipy.stats.kstwo).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import kstwo

from mlops.errors import InsufficientData

#: From this effective n on, and this n D^2, the p is so small that its leading term is enough.
_MANY, _CERTAIN = 10_000, 18.0

Floats = npt.NDArray[np.float64]


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
    return KsTest(statistic=statistic, p_value=_p_value(statistic, effective_n))


def _p_value(statistic: float, n: int) -> float:
    if n == 0:
        # One value against one: they always differ as much as they can, and the distribution at n = 0 is undefined.
        return 1.0
    if n > _MANY and n * statistic**2 >= _CERTAIN:
        # 2 exp(-36) = 5e-16 and less: there kstwo sums n terms, which takes as long as the sort.
        # Maag and Dicaire 1971, with the next term of the large-deviation rate 2 D^2 + 4/9 D^4.
        rate = (6 * n * statistic + 1) ** 2 / (18 * n) + 4 / 9 * n * statistic**4
        return min(1.0, 2 * math.exp(-rate))
    return float(np.clip(kstwo.sf(statistic, n), 0.0, 1.0))


def ks_statistic(reference: Floats, current: Floats) -> float:
    """Largest distance of the two empirical distribution functions; both samples in ascending order.

    The smaller sample is looked up in the larger one: O(m log n). The supremum lies at a point of either
    sample or just before it, and between two points of one sample the other's function is monotone, so the
    points of the smaller sample suffice when both sides of each are looked at.
    """
    small, large = (current, reference) if len(current) <= len(reference) else (reference, current)
    # The last of equal values counts to it, the first of them before it: a value twice needs no second look.
    is_last = np.append(small[1:] != small[:-1], True)
    last = np.flatnonzero(is_last)
    points = small[last]
    small_to = (last + 1) / len(small)
    small_before = np.concatenate([[0.0], small_to[:-1]])
    upto = np.searchsorted(large, points, side="right")
    before = upto.copy()
    # Where the large sample does not hold the point, as many values are before it as up to it.
    held = large[np.maximum(upto - 1, 0)] == points
    before[held] = np.searchsorted(large, points[held], side="left")
    after_distance = np.abs(upto / len(large) - small_to)
    before_distance = np.abs(before / len(large) - small_before)
    return float(max(after_distance.max(), before_distance.max()))

"""Two-sample Kolmogorov-Smirnov test; pure.

    D = max over x of |F_reference(x) - F_current(x)|
    p = P(D_n >= D) of the one-sample statistic at n = round(n m / (n + m)), two-sided

The same convention at every size (scipy switches at 10,000 rows, which makes a visible step); it is scipy's
`method="asymp"`. Source: Hodges 1958; Simard and L'Ecuyer 2011 for the distribution (scipy.stats.kstwo).
From n D^2 = 2.2 on, p = 2 P(D+ >= D), the exact sum of Birnbaum and Tingey 1951, whose terms scipy adds one by one in
doubled precision, 80 ms at n = 90,000: as long as the sort of ten columns. Here few of them give it to the last digits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln
from scipy.stats import kstwo

from mlops.domain.errors import InsufficientData

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

#: So many neighbours of the smaller sample are looked at together, or passed over together.
_STRETCH = 64
#: A sample this small is looked at whole.
_WHOLE = 4096

#: Smaller samples have methods of their own, which scipy chooses among.
_SMALL = 140
#: From this n D^2 on the two one-sided tails do not overlap by a float's precision.
_SEPARATE = 2.2
#: The sum's terms are a smooth function that vanishes with all its derivatives at both ends, so that so many of
#: them, evenly spaced, give it to the last digits (trapezoidal rule).
_TERMS = 1024
#: log k! - its Stirling formula, exact where the series is not yet.
_FEW = np.arange(16.0)
_FEW_REMAINDERS = gammaln(_FEW + 1) - (_FEW + 0.5) * np.log(np.maximum(_FEW, 1)) + _FEW - 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True, kw_only=True)
class KsTest:
    """Statistic and p of one feature."""

    statistic: float
    p_value: float


def ks_test(reference: Floats, current: Floats) -> KsTest:
    """Exact D and its p for two samples in ascending order without nan; infinities are largest and smallest.

    reference : (n,) sorted      current : (m,) sorted
    Raises InsufficientData when a sample is empty. With ties the p is conservative.

    >>> found = ks_test(np.arange(10.0), np.arange(5.0, 15.0))
    >>> found.statistic, round(found.p_value, 3)  # below 5 lies half of the first sample and none of the second
    (0.5, 0.112)
    """
    n, m = len(reference), len(current)
    if n == 0 or m == 0:
        raise InsufficientData(f"a KS test needs values in both samples; found {n} and {m}")
    statistic = ks_statistic(reference, current)
    return KsTest(statistic=statistic, p_value=ks_p_values([statistic], [effective_size(n, m)])[0])


def effective_size(n: int, m: int) -> int:
    """Size of the one-sample statistic whose p-value is taken."""
    return round(n * m / (n + m))


def ks_p_values(statistics: Sequence[float], sizes: Sequence[int]) -> list[float]:
    """P of distances as large at their effective sizes."""
    # At size 0 it is one value against one: they always differ as much as they can; the distribution is undefined.
    found = dict.fromkeys(range(len(sizes)), 1.0)
    for size in {size for size in sizes if size}:
        places = [i for i, other in enumerate(sizes) if other == size]
        found |= zip(places, kolmogorov_tails([statistics[i] for i in places], size), strict=True)
    return list(found.values())


def ks_statistic(reference: Floats, current: Floats) -> float:
    """Largest distance of the two empirical distribution functions; both samples in ascending order."""
    return ks_statistics(reference[np.newaxis], current[np.newaxis])[0]


def ks_statistics(reference: Floats, current: Floats) -> list[float]:
    """Exact D of each feature. reference : (f, n)      current : (f, m)      each row ascending

    The smaller sample is looked up in the larger one: O(m log n). Where its function is above the other's, the
    supremum lies at one of its points; where it is below, just before one.
    """
    small, large = (current, reference) if current.shape[1] <= reference.shape[1] else (reference, current)
    if small.shape[1] > _WHOLE:
        return [_by_stretches(*pair) for pair in zip(small, large, strict=True)]
    found: list[float] = _distances(small, large, np.arange(small.shape[1])).tolist()
    return found


def _by_stretches(small: Floats, large: Floats) -> float:
    """Exact D of one feature with a long smaller sample.

    Every 64th point is looked up first: both functions only rise, which bounds the distance between two of them, and
    most stretches cannot hold the supremum.
    """
    chosen = np.append(np.arange(0, len(small) - 1, _STRETCH), len(small) - 1)
    small, large = small[np.newaxis], large[np.newaxis]
    n_small, n_large = small.shape[1], large.shape[1]
    least = float(_distances(small, large, chosen)[0])
    first, last = chosen[:-1], chosen[1:]
    upto, before = (counts[0] for counts in _counts(small[:, chosen], large))
    above = (last + 1) / n_small - upto[:-1] / n_large
    below = before[1:] / n_large - first / n_small
    open_stretches = np.append(np.maximum(above, below) > least, False)
    inside = np.flatnonzero(np.repeat(open_stretches, _STRETCH)[:n_small])
    return max(least, float(_distances(small, large, inside)[0])) if len(inside) else least


def _distances(small: Floats, large: Floats, chosen: Counts) -> Floats:
    """(f,) largest distance at, or just before, the chosen points of the smaller sample.

    Of equal values the last has the function's value at them, the first that before: the others' are nearer.
    """
    upto, before = _counts(small[:, chosen], large)
    above = (chosen + 1) / small.shape[1] - upto / large.shape[1]
    below = before / large.shape[1] - chosen / small.shape[1]
    return np.asarray(np.maximum(above.max(axis=1), below.max(axis=1)))


def _counts(points: Floats, large: Floats) -> tuple[Counts, Counts]:
    """(f, p) how many values are at or below each point, and how many are below it."""
    upto = np.empty(points.shape, dtype=np.int64)
    for row, values, out in zip(points, large, upto, strict=True):
        out[:] = values.searchsorted(row, side="right")
    # Where the large sample does not hold the point, as many values are before it as up to it.
    occurs = np.take_along_axis(large, np.maximum(upto - 1, 0), axis=1) == points
    if not occurs.any():
        return upto, upto
    before = upto.copy()
    for i in np.flatnonzero(occurs.any(axis=1)):
        before[i, occurs[i]] = large[i].searchsorted(points[i, occurs[i]], side="left")
    return upto, before


def kolmogorov_tail(statistic: float, n: int) -> float:
    """P(D_n >= statistic), two-sided: scipy's kstwo.sf to 1e-12. n >= 1."""
    return kolmogorov_tails([statistic], n)[0]


def kolmogorov_tails(statistics: Sequence[float], n: int) -> list[float]:
    """P(D_n >= statistic), two-sided, of each statistic at one size."""
    d = np.asarray(statistics)
    is_far = (n > _SMALL) & (d < 0.5) & (n * d * d >= _SEPARATE)
    tails = np.empty(len(d))
    tails[is_far] = np.minimum(2 * _one_sided_tails(d[is_far], n), 1.0)
    tails[~is_far] = np.clip(kstwo.sf(d[~is_far], n), 0.0, 1.0)
    return tails.tolist()


def _one_sided_tails(distances: Floats, n: int) -> Floats:
    """P(D+ >= d) of each d, by logarithms that do not cancel.

    d sum over j <= n (1 - d) of C(n, j) (d + j/n)^(j-1) (1 - d - j/n)^(n-j)
    """
    if not len(distances):
        return distances
    step = max(1, n // _TERMS)
    # The whole j up to the last with d + j/n < 1; the term of j = 0 is (1 - d)^n.
    j = np.arange(1.0, math.ceil(n * (1 - distances.min())), step)
    rest = n - j
    t, rest_share = j / n, rest / n
    d = distances[:, np.newaxis]
    # C(n, j) t^j (1-t)^(n-j) by Stirling, then the ratios (1 + d/t)^j and (1 - d/(1-t))^(n-j).
    with np.errstate(divide="ignore"):  # log 0 of a term that is 0
        logs = j * np.log1p(d / t) + rest * np.log1p(-np.minimum(d / rest_share, 1.0))
    logs += _remainder(np.array([float(n)])) - _remainder(j) - _remainder(rest)
    terms = np.exp(logs) / ((d + t) * np.sqrt(t * rest_share))
    # A larger distance has fewer terms.
    terms[j >= np.ceil(n * (1 - d))] = 0.0
    first = np.exp(n * np.log1p(-distances))
    return np.asarray(first + distances * step * terms.sum(axis=1) / math.sqrt(2 * math.pi * n))


def _remainder(k: Floats) -> Floats:
    """Remainder of Stirling's formula: log k! - ((k + 1/2) log k - k + log(2 pi) / 2).

    k : (c,) whole numbers above 0
    """
    inverse = 1.0 / (k * k)
    series = (1 / 12 - inverse * (1 / 360 - inverse * (1 / 1260 - inverse * (1 / 1680 - inverse / 1188)))) / k
    few = k < len(_FEW)
    if few.any():
        series[few] = _FEW_REMAINDERS[k[few].astype(np.int64)]
    return np.asarray(series)

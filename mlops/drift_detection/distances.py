"""How far two samples of one feature lie apart; pure.

    Wasserstein    W1 = integral over u of |Q_reference(u) - Q_current(u)|, in the reference's standard deviations
    Jensen-Shannon sqrt of the mean Kullback-Leibler divergence (base 2) of both shares from their mean: 0 to 1

Beside KS and PSI these say how far, not only how surely. Called for each feature by `detect`.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Integers = npt.NDArray[np.int64]

#: Values of a long smaller sample whose share of the integral is taken at once.
_STRETCH = 16
#: A smaller sample up to here is gone through value by value.
_WHOLE = 4096
#: Sums of levels further from zero than so many quartile distances lose digits.
_FAR = 8


def wasserstein(first: Floats, second: Floats) -> float:
    """Exact W1 of two samples in ascending order, finite, in their own unit; nan where one is empty, not finite
    where their sums are beyond the largest float.

    Where one quantile function is above the other over a whole stretch of u, the integral there is the difference
    of the stretch's sums; only stretches where they may cross are gone through step by step.
    """
    large, small = (first, second) if len(first) >= len(second) else (second, first)
    n, m = len(large), len(small)
    if not m:
        return float("nan")
    if not np.isfinite(max(large[-1], small[-1]) - min(large[0], small[0])):
        return float("inf")
    # Sums of large levels would cancel; from the middle of the larger sample they are small.
    centre = large[n // 2]
    if abs(centre) > _FAR * (large[n * 3 // 4] - large[n // 4]):
        large, small = large - centre, small - centre
    borders = np.append(np.arange(0, m, _STRETCH if m > _WHOLE else 1), m)
    # Stretches [low, high) of u, times n; a border lies within the value `whole` of the larger sample.
    u = borders * (n / m)
    u[-1] = n
    whole = np.minimum(u.astype(np.int64), n - 1)
    part = (u - whole) * large[whole]
    large_sums = np.add.reduceat(large, whole[:-1])
    # reduceat sums [whole, next whole), or one value where both are the same; the last has all that is left.
    large_sums[:-1][np.diff(whole[:-1]) == 0] = 0.0
    large_sums += np.append(part[1:-1], 0.0) - part[:-1]
    small_sums = np.add.reduceat(small, borders[:-1])
    lowest, highest = large[whole[:-1]], large[whole[1:]]
    crossing = (small[borders[:-1]] < highest) & (small[borders[1:] - 1] > lowest)
    apart = np.abs(small_sums / m - large_sums / n)
    total = float(np.sum(apart, where=~crossing))
    return total + _stepwise(large, small, borders, np.flatnonzero(crossing)) if crossing.any() else total


def _stepwise(large: Floats, small: Floats, borders: Integers, stretches: Integers) -> float:
    """The same over some stretches, whose values alone are summed up."""
    n, m = len(large), len(small)
    lengths = borders[stretches + 1] - borders[stretches]
    steps = _ranges(borders[stretches], lengths)
    first = np.minimum((borders[stretches] * (n / m)).astype(np.int64), n - 1)
    # Both ends of a stretch may lie within a value.
    last = np.minimum((borders[stretches + 1] * (n / m)).astype(np.int64) + 1, n)
    sizes = last - first
    x = large[_ranges(first, sizes)]
    sums = np.concatenate([[0.0], np.cumsum(x)])
    # What turns an index of the larger sample into one of x.
    offset = np.repeat(np.cumsum(sizes) - sizes - first, lengths)

    def integral(position: Floats) -> Floats:
        """Integral, times n, of the larger sample's quantile function up to `position`, from a fixed place."""
        whole = np.minimum(position.astype(np.int64), n - 1)
        return np.asarray(sums[whole + offset] + (position - whole) * x[np.minimum(whole + offset, len(x) - 1)])

    # Within a step of the smaller sample's quantile function the larger one's crosses it once.
    y = small[steps]
    low = np.asarray(steps * (n / m), dtype=np.float64)
    high = np.asarray(np.minimum((steps + 1) * (n / m), n), dtype=np.float64)
    crossing: Floats = np.clip(large.searchsorted(y, side="right").astype(np.float64), low, high)
    at_crossing = integral(crossing)
    below = y * (crossing - low) - (at_crossing - integral(low))
    above = integral(high) - at_crossing - y * (high - crossing)
    return float(max(np.sum(below + above) / n, 0.0))


def _ranges(starts: Integers, lengths: Integers) -> Integers:
    """start, start + 1, … of each start, one after another."""
    ends = np.cumsum(lengths)
    return np.asarray(np.arange(ends[-1]) + np.repeat(starts - (ends - lengths), lengths))


def jensen_shannon(reference: Counts, current: Counts) -> float:
    """Distance of two count vectors: 0 for equal shares, 1 where they share no bin; nan where one is empty."""
    n_reference, n_current = int(reference.sum()), int(current.sum())
    if not n_reference or not n_current:
        return float("nan")
    # A dozen bins: plain floats are many times faster than a dozen calls of numpy.
    divergence = 0.0
    for before, now in zip(reference.tolist(), current.tolist(), strict=True):
        r, c = before / n_reference, now / n_current
        mean = (r + c) / 2
        divergence += (r * math.log2(r / mean) if r else 0.0) + (c * math.log2(c / mean) if c else 0.0)
    return math.sqrt(max(divergence / 2, 0.0))

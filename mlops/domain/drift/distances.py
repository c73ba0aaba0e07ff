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
#: Steps that are gone through together: the rest of memory is no larger for a long sample.
_STEPS = 16_384


def wasserstein(first: Floats, second: Floats) -> float:
    """Exact W1 of two samples in ascending order, finite, in their own unit; nan where one is empty, not finite
    where their sums are beyond the largest float.
    """
    return wasserstein_rows(first[np.newaxis], second[np.newaxis])[0]


@np.errstate(over="ignore", invalid="ignore")
def wasserstein_rows(first: Floats, second: Floats) -> list[float]:
    """The same of each feature. first : (f, n)      second : (f, m)      each row ascending

    Where one quantile function is above the other over a whole stretch of u, the integral there is the difference
    of the stretch's sums; only stretches where they may cross are gone through step by step.
    """
    large, small = (first, second) if first.shape[1] >= second.shape[1] else (second, first)
    if not small.shape[1]:
        return [math.nan] * len(small)
    near = np.isfinite(np.maximum(large[:, -1], small[:, -1]) - np.minimum(large[:, 0], small[:, 0]))
    found = np.full(len(near), math.inf)
    if near.all():
        found = _whole_and_stepwise(large, small)
    elif near.any():
        found[near] = _whole_and_stepwise(large[near], small[near])
    apart: list[float] = found.tolist()
    return apart


def _whole_and_stepwise(large: Floats, small: Floats) -> Floats:
    """(f,) of rows whose range is a float."""
    n, m = large.shape[1], small.shape[1]
    # Sums of large levels would cancel; from the middle of the larger sample they are small.
    centre = large[:, n // 2]
    far = np.abs(centre) > _FAR * (large[:, n * 3 // 4] - large[:, n // 4])
    if far.any():
        centre = np.where(far, centre, 0.0)[:, np.newaxis]
        large, small = large - centre, small - centre
    borders = np.append(np.arange(0, m, _STRETCH if m > _WHOLE else 1), m)
    # Stretches [low, high) of u, times n; a border lies within the value `whole` of the larger sample.
    u = borders * (n / m)
    u[-1] = n
    whole = np.minimum(u.astype(np.int64), n - 1)
    at_borders = large[:, whole]
    part = (u - whole) * at_borders
    large_sums = np.add.reduceat(large, whole[:-1], axis=1)
    # reduceat sums [whole, next whole), or one value where both are the same; the last has all that is left.
    large_sums[:, :-1][:, np.diff(whole[:-1]) == 0] = 0.0
    large_sums[:, :-1] += part[:, 1:-1]
    large_sums -= part[:, :-1]
    small_sums = np.add.reduceat(small, borders[:-1], axis=1)
    crossing = (small[:, borders[:-1]] < at_borders[:, 1:]) & (small[:, borders[1:] - 1] > at_borders[:, :-1])
    apart = np.abs(small_sums / m - large_sums / n)
    total = np.asarray(np.sum(apart, axis=1, where=~crossing))
    rows, stretches = np.nonzero(crossing)
    lengths = borders[stretches + 1] - borders[stretches]
    rows, steps = np.repeat(rows, lengths), _ranges(borders[stretches], lengths)
    for start in range(0, len(steps), _STEPS):
        total += _stepwise(large, small, rows[start : start + _STEPS], steps[start : start + _STEPS])
    return total


def _stepwise(large: Floats, small: Floats, rows: Integers, steps: Integers) -> Floats:
    """(f,) the integral over some steps of the smaller sample's quantile function.

    Over a step it is one value y: the sum of |x - y| over the larger sample's values there, by the part of each that
    lies within the step.
    """
    n, m = large.shape[1], small.shape[1]
    low, high = steps * (n / m), np.minimum((steps + 1) * (n / m), n)
    first = np.minimum(low.astype(np.int64), n - 1)
    sizes = np.maximum(np.ceil(high).astype(np.int64), first + 1) - first
    step = np.repeat(np.arange(len(steps)), sizes)
    place = _ranges(first, sizes)
    within = np.minimum(place + 1, high[step]) - np.maximum(place, low[step])
    apart = np.abs(large[rows[step], place] - small[rows, steps][step])
    return np.asarray(np.bincount(rows[step], weights=apart * np.maximum(within, 0.0), minlength=len(large)) / n)


def _ranges(starts: Integers, lengths: Integers) -> Integers:
    """start, start + 1, … of each start, one after another."""
    ends = np.cumsum(lengths)
    return np.asarray(np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths))


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

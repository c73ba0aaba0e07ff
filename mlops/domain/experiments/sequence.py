"""The confidence sequence of a mean of paired daily differences, valid at every look together; pure.

For differences d_1, d_2, … with S_t their sum less t times a mean m, and V_t the sum of (d_i - m)^2,

    M_t(m) = sqrt(r / (V_t + r)) exp(S_t^2 / (2 (V_t + r)))

is the mixture over l ~ N(0, 1 / r) of exp(l S_t - l^2 V_t / 2). Each of these is a supermartingale where, given the
days before, d_t is distributed symmetrically about m (de la Peña 1999), whatever the tails and however the spread
changes from day to day. So M_t(m) >= 1 / alpha happens on any day with probability alpha at most (Ville), and the
means for which it has not happened are a confidence sequence. It may be looked at daily, stopped and extended.

What makes it valid is that the differences do not overlap: a day's mark is that day's alone. Labels that look 20 days
ahead have differences that repeat one another for 20 days, for which no such sequence holds. r is set before the first
difference is seen, from other days; a wrong one costs time alone.

Where marks still carry on from one day to the next, V_t is multiplied by (1 + c) / (1 - c), c their correlation with
the day before as far as it was seen by day t and is positive, less the bias of a short series, -(1 + 3 c) / t. M falls
as V grows, so that this can only lower it: what is proven without it is proven with it. That the level is kept where
marks do carry on is measured and not proven (`acis evaluate-experiments`: up to a correlation of 0.6).

What is not covered: differences that are skewed by losses too rare to have come yet, of which no sequence knows; and a
gain that comes and goes, of which the sequence says that it is there while it is. After it turned, the running interval
becomes empty (low > high): no one mean agrees with all days (`decision.sign_shown`).

Sources: de la Peña 1999, A general class of exponential inequalities for martingales and ratios; Robbins 1970,
Statistical methods related to the law of the iterated logarithm; Howard, Ramdas, McAuliffe & Sekhon 2021,
Time-uniform, nonparametric, nonasymptotic confidence sequences (for the choice of r); Marriott & Pope 1954, Bias in the
estimation of autocorrelations.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

_STEPS = 70
"""Of the bisection for an end of the interval: to the last bits."""
_LARGEST = 300.0
"""Power of e up to which an end is looked for."""
_MOST_CARRIED = 0.9
"""Correlation of a day with the day before; with more there is no telling two versions apart in a lifetime."""
_SAME = 1e-12
"""Share of the squares below which a spread is rounding."""


class Bounds(NamedTuple):
    """(t,) ends of the intervals of the mean, one for each look; infinite until there are enough days for one."""

    low: Vector
    high: Vector


def mixture_variance(*, spread: float, days: float, alpha: float) -> float:
    """Give the r whose sequence is narrowest after so many days of differences with this standard deviation.

    A wrong spread or number of days costs time, never the level.
    """
    log_term = 2 * math.log(1 / alpha)
    return max(spread**2 * days, 1e-300) / (log_term + math.log1p(log_term))


def alpha_of_repeat(alpha: float, n_earlier: int) -> float:
    """Give the alpha of an experiment of two versions that were compared so many times before.

    An experiment that is extended is one sequence and spends one alpha; one that is started anew has another chance to
    err. Each has half of the one before, so that all of them together decide between equals in 2 alpha at most, and
    promote the challenger, which is half of that by symmetry, in alpha.
    """
    return alpha / 2.0**n_earlier


def log_evidence(differences: Vector, *, r: float, mean: float = 0.0) -> Vector:
    """(…, t) log of M against this mean after each of the (…, t) daily differences."""
    d = np.asarray(differences, dtype=np.float64)
    centred = d - mean
    v = carried_over(d) * np.cumsum(centred**2, axis=-1) + r
    return np.asarray(np.cumsum(centred, axis=-1) ** 2 / (2 * v) - 0.5 * np.log(v / r))


def carried_over(differences: Vector) -> Vector:
    """(…, t) factor on the variance of a sum of days, at least 1, as known after each of the (…, t) days."""
    d = np.asarray(differences, dtype=np.float64)
    n = np.arange(1, d.shape[-1] + 1)
    mean = np.cumsum(d, axis=-1) / n
    products = np.zeros_like(d)
    products[..., 1:] = d[..., 1:] * d[..., :-1]
    squares, spread = np.cumsum(d**2, axis=-1), np.cumsum(d**2, axis=-1) - n * mean**2
    shared = np.cumsum(products, axis=-1) - n * mean**2
    varies = spread > _SAME * squares
    correlation = shared / np.where(varies, spread, 1.0)
    correlation = np.where(varies, np.clip(correlation + (1 + 3 * correlation) / n, 0.0, _MOST_CARRIED), 0.0)
    return np.asarray((1 + correlation) / (1 - correlation))


def confidence_sequence(differences: Vector, *, r: float, alpha: float) -> Bounds:
    """Give the interval of the mean at each look, running: an end that was excluded once stays so.

    differences : (t,) in the order of the days      r : `mixture_variance`      alpha : of an error on any day

    Far from the mean M falls again, beyond a distance that grows as exp(t / 2): means up there are left out.
    """
    d = np.asarray(differences, dtype=np.float64)
    n, factor = np.arange(1, len(d) + 1, dtype=np.float64), carried_over(d)
    mean = np.cumsum(d) / n
    at_mean = factor * np.maximum(np.cumsum(d**2) - n * mean**2, 0.0) + r
    c = 2 * math.log(1 / alpha)
    # With y = factor * n * (m - mean)^2 and v = at_mean + y, M is 1 / alpha where n / factor * y = v (log(v / r) + c).
    # The difference of the two sides is concave in y with its maximum at `top`; the first root is sought.
    days = n / factor
    top = r * np.exp(np.minimum(days - c - 1.0, _LARGEST)) - at_mean

    def excess(y: Vector) -> Vector:
        v = at_mean + y
        return np.asarray(days * y - v * (np.log(v / r) + c))

    is_bounded = (top > 0) & (excess(np.maximum(top, 0.0)) > 0)
    # In powers of e: the root lies anywhere between a part of `at_mean` and `top`.
    low, high = np.log(at_mean) - _LARGEST, np.log(np.where(is_bounded, top, 1.0))
    for _ in range(_STEPS):
        middle = (low + high) / 2
        beyond = excess(np.exp(middle)) > 0
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    half = np.where(is_bounded, np.sqrt(np.exp(high) / (factor * n)), np.inf)
    return Bounds(np.maximum.accumulate(mean - half), np.minimum.accumulate(mean + half))


def first_decision(differences: Vector, *, r: float, alpha: float) -> tuple[npt.NDArray[np.intp], Vector]:
    """Find the first day on which a mean of 0 is excluded, in each of (k, t) series.

    Returns (k,) the number of days, 0 where there is none, and (k,) the sign of the mean that was decided.
    """
    evidence = log_evidence(differences, r=r) >= math.log(1 / alpha)
    decided = evidence.any(axis=-1)
    at = np.where(decided, evidence.argmax(axis=-1), 0)
    total = np.take_along_axis(np.cumsum(differences, axis=-1), at[:, None], axis=-1)[:, 0]
    return np.where(decided, at + 1, 0), np.where(decided, np.sign(total), 0.0)

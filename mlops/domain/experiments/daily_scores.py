"""One number a day for two versions that answer side by side, which no other day shares a part of; pure.

    mark        what the challenger's positions of the day earned until the next, less what the champion's did. It is
                what a trader would have kept, and one noisy number however many names there are.
    increment   log score of the day's own part of the label. A version that gives a name the probability p that its
                return over h dates is positive says that the next day's return, in units of its spread, is normal
                with mean z = ppf(p) / sqrt(h): its log density at what came, less the other version's, in the mean
                over names. Returns and z are taken less their mean over the names, so that the market, in which names
                move together, adds no noise; what is compared is which names a version prefers.

The increment is proper for the mean of the standardised part: no version gains, in the mean, by an m other than that
mean. It is not strictly so for p, which says that mean by way of z: exactly only where the days of the horizon are
alike and independent, and names share no market. With a share c of their variance in common the best m is
z / sqrt(1 - c), so that a version gains a little by exaggerating as much. A part must be measured by each name's own
level: that of a label `target_volatility > volatility` is the absolute return over that trailing volatility. With the
bare absolute return the names that always move much decide, and a version that answers with the names mixed up beats
the one that it is a copy of (`acis evaluate-experiments`).

Labels that say nothing of a return have the second alone where their day's part is given, and no test where it is not.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

Vector = npt.NDArray[np.float64]

_EDGE = 1e-6
"""Probabilities are taken from here to one minus this."""
MIN_NAMES = 5
"""Names of a day with which the increment's spread can be told."""


def mark_difference(challenger: Vector, champion: Vector, next_return: Vector, *, threshold: float = 0.5) -> Vector:
    """Give the difference of two versions' marks of a day, or of each of several days.

    challenger, champion : (…, n) probabilities of the same names
    next_return : (…, n) simple returns, nan: not known
    Returns (…), nan where no return is known.
    """
    priced = np.isfinite(next_return)
    returns = np.where(priced, next_return, 0.0)
    earned = [_mark(priced & (probability >= threshold), returns) for probability in (challenger, champion)]
    return np.asarray(np.where(priced.any(axis=-1), earned[0] - earned[1], math.nan))


def _mark(held: npt.NDArray[np.bool_], returns: Vector) -> Vector:
    """Mean return of the positions, 0 without one."""
    return np.asarray((held * returns).sum(axis=-1) / np.maximum(held.sum(axis=-1), 1))


def increment_difference(challenger: Vector, champion: Vector, increment: Vector, *, horizon_dates: int) -> Vector:
    """Give the mean over names of the difference of two versions' log scores of a day's increment, nats.

    challenger, champion : (…, n) probabilities of the same names
    increment : (…, n) of the label in that day alone, for a return over several dates the next day's simple return;
    nan: not known
    Returns (…), nan where fewer than `MIN_NAMES` increments are known, or all are the same.
    """
    known = np.isfinite(increment)
    n = np.maximum(known.sum(axis=-1, keepdims=True), 1)

    def centred(values: Vector) -> Vector:
        values = np.where(known, values, 0.0)
        return np.where(known, values - values.sum(axis=-1, keepdims=True) / n, 0.0)

    came = centred(increment)
    spread = np.sqrt((came**2).sum(axis=-1, keepdims=True) / n)
    varies = spread > 0.0
    standard = came / np.where(varies, spread, 1.0)
    scores = []
    for probability in (challenger, champion):
        mean = centred(norm.ppf(np.clip(probability, _EDGE, 1 - _EDGE)) / math.sqrt(max(1, horizon_dates)))
        scores.append(mean * standard - mean**2 / 2)
    found = ((scores[0] - scores[1]).sum(axis=-1, keepdims=True) / n)[..., 0]
    return np.asarray(np.where((varies & (n >= MIN_NAMES))[..., 0], found, math.nan))

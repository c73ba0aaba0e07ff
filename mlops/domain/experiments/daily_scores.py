"""One number a day for two versions that answer side by side, which no other day shares a part of; pure.

    mark        what the challenger's positions of the day earned until the next, less what the champion's did. It is
                what a trader would have kept, and one noisy number however many names there are.
    increment   log score of the day's own part of the label. A version that gives a name the probability p that its
                return over h dates is positive says that the next day's return, in units of its spread, is normal
                with mean z = ppf(p) / sqrt(h): its log density at what came, less the other version's, in the mean
                over names. Returns and z are taken less their mean over the names, so that the market, in which names
                move together, adds no noise; what is compared is which names a version prefers. Proper: nobody gains
                in the mean by another probability than the one believed.

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


def mark_difference(challenger: Vector, champion: Vector, next_return: Vector, *, threshold: float = 0.5) -> float:
    """Give the difference of two versions' marks of a day.

    challenger, champion : (n,) probabilities of the same names      next_return : (n,) simple returns, nan: not known
    Returns nan where no return is known.
    """
    priced = np.isfinite(next_return)
    if not priced.any():
        return math.nan
    earned = [_mark(probability[priced] >= threshold, next_return[priced]) for probability in (challenger, champion)]
    return earned[0] - earned[1]


def _mark(held: npt.NDArray[np.bool_], returns: Vector) -> float:
    return float(returns[held].mean()) if held.any() else 0.0


def increment_difference(challenger: Vector, champion: Vector, increment: Vector, *, horizon_dates: int) -> float:
    """Give the mean over names of the difference of two versions' log scores of a day's increment, nats.

    challenger, champion : (n,) probabilities of the same names      increment : (n,) of the label in that day alone,
    for a return over several dates the next day's simple return; nan: not known
    Returns nan where fewer than `MIN_NAMES` increments are known, or all are the same.
    """
    known = np.isfinite(increment)
    if np.count_nonzero(known) < MIN_NAMES:
        return math.nan
    came = increment[known] - increment[known].mean()
    spread = float(np.sqrt(np.mean(came**2)))
    if spread <= 0.0:
        return math.nan
    said = [_daily_means(probability[known], horizon_dates) for probability in (challenger, champion)]
    scores = [mean * came / spread - mean**2 / 2 for mean in said]
    return float(np.mean(scores[0] - scores[1]))


def _daily_means(probability: Vector, horizon_dates: int) -> Vector:
    z = norm.ppf(np.clip(probability, _EDGE, 1 - _EDGE)) / math.sqrt(max(1, horizon_dates))
    return np.asarray(z - z.mean())

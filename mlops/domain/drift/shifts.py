"""How far the newest dates of a window lie from its reference, at every placement of both; pure.

    shift of a number   = W1(newest dates, reference) / spread + |difference of the shares of missing values|
    shift of a category = total variation, missing values a category of their own
    distance            = the largest over the newest 1, 2, 4, … dates

W1 is the Wasserstein distance over quantile cells, spread the geometric mean of the reference's standard deviation and
of that of all dates. Counts are whole numbers below 2**24, so that they and their differences are exact in single
precision, and shares have six digits. Features go through each step together, placements side by side in memory.
Called by `calibration` and `frozen_calibration`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from mlops.domain.drift.cells import CELLS
from mlops.domain.frame import Floats

Singles = npt.NDArray[np.float32]

#: The row of a number's counts that holds the missing values, after those up to each cell.
MISSING = CELLS
#: A reference that hardly moved must not make every later move infinite.
LEAST_SPREAD = 0.1


def suffixes(k: int) -> list[int]:
    """The newest 1, 2, 4, … dates of a window of k, and all of them."""
    return [*(2**i for i in range(k.bit_length()) if 2**i < k), k]


def number_distances(reference: Singles, newest: Iterable[Singles], total: Singles, middles: Floats) -> Singles:
    """(f, p) distances. Overwrites its counts with shares.

    reference : (f, CELLS + 1, p) rows up to and including each cell, the missing ones last
    newest : the same of the newest 1, 2, 4, … dates
    total : (f, CELLS + 1) of all dates      middles : (f, CELLS) ascending from 0 to 1
    """
    widths = np.diff(middles, append=middles[:, -1:])[:, np.newaxis].astype(np.float32)
    spread = _spread(reference, total, middles)
    missing = _to_shares(reference)
    largest = np.zeros_like(missing)
    for counts in newest:
        apart = np.abs(_to_shares(counts) - missing)
        cells = counts[:, :MISSING]
        cells -= reference[:, :MISSING]
        shift = (widths @ np.abs(cells, out=cells))[:, 0]
        shift /= spread
        apart += shift
        np.maximum(largest, apart, out=largest)
    return largest


def category_distances(reference: Singles, newest: Iterable[Singles]) -> Singles:
    """(p,) distances. reference : (c, p) rows of each category      newest : the same of the newest 1, 2, 4, … dates"""
    shares = _shares(reference)
    apart = [np.abs(_shares(counts) - shares).sum(axis=0) / 2 for counts in newest]
    return np.asarray(np.max(apart, axis=0))


def padded(middles: Floats) -> Floats:
    """(CELLS,) the middles of cells, those that are not there at the place of the last."""
    return np.append(middles, np.full(CELLS - len(middles), middles[-1]))


def _to_shares(counts: Singles) -> Singles:
    """Makes shares of the values that are there of (f, CELLS + 1, p) counts; gives the share of missing values."""
    present, absent = counts[:, MISSING - 1].copy(), counts[:, MISSING]
    counts[:, :MISSING] *= (1 / np.maximum(present, 1))[:, np.newaxis]
    return np.asarray(absent / np.maximum(present + absent, 1))


def _spread(reference: Singles, total: Singles, middles: Floats) -> Singles:
    """(f, p) geometric mean of each reference's standard deviation and that of all dates.

    1 where no date varied: a distance is then the share of values that left the only one.
    """
    overall = _deviation(total[:, :, np.newaxis], middles)
    spread = np.sqrt(np.maximum(_deviation(reference, middles), LEAST_SPREAD * overall) * overall)
    return np.where(overall > 0, spread, 1).astype(np.float32)


def _deviation(upto: Singles, middles: Floats) -> Floats:
    """(f, p) from counts up to each cell: the sum of n(c) m(c) is N m(last) - that of N(<= c) (m(c + 1) - m(c))."""
    powers = np.stack([middles, middles**2], axis=1)
    sums = np.diff(powers, axis=2) @ upto[:, : MISSING - 1]
    present = upto[:, MISSING - 1 : MISSING]
    means = np.where(present > 0, powers[:, :, -1:] - sums / np.maximum(present, 1), 0.0)
    return np.asarray(np.sqrt(np.maximum(means[:, 1] - means[:, 0] ** 2, 0.0)))


def _shares(counts: Singles) -> Singles:
    return np.asarray(counts / np.maximum(counts.sum(axis=0), 1))

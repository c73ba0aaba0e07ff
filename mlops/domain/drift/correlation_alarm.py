"""Have two features come to move together, or ceased to, while each looks as ever? Beside the verdict; pure.

    r       = correlation of two features' quantile cells over all rows of some dates, each date's mean taken off
    change  = | r of the newest 20 dates - r of the 60 before |
    size    = change over its root mean square at the other placements, and a quarter of the median pair's beside it
    p       = (1 + placements whose largest pair reached the check's largest) / (1 + placements)

A placement is the same two windows five dates earlier, ten, and so on: dates whole, all pairs together, so that p holds
for the largest of them (single-step maxT, Westfall and Young 1993). A placement's own scale leaves out those that share
dates of its newest window, as the check's does: measured in itself, no change would look large. Ranks within the date:
what all names have in common on a date is the market's, and 20 dates are too few to correlate it. Why so:
docs/decisions/0038. Called by `calibration`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlops.domain.drift.shifts import MISSING, Singles
from mlops.domain.frame import Floats

Integers = npt.NDArray[np.int64]

#: Dates that are added up together, and from one placement to the next.
_STEP = 5
#: Steps of the newest window and of the one before: 20 and 60 dates.
NEWEST, BEFORE = 4, 12
#: With fewer names a date, ranks within it say nothing.
_LEAST_NAMES = 3
#: Of the median pair's scale, added to each pair's own: no pair is so steady that a little is much.
_COMMON = 0.25


@dataclass(frozen=True, kw_only=True)
class CorrelationChange:
    """The pair of features whose correlation changed most. None: undefined, and then `missing` says why."""

    alpha: float
    p_value: float | None = None
    """For all pairs together"""
    size: float | None = None
    critical: float | None = None
    """The size above which p is at most alpha"""
    pair: tuple[str, str] | None = None
    before: float | None = None
    """The pair's correlation in the 60 dates before the newest 20"""
    now: float | None = None
    n_placements: int = 0
    missing: str | None = None

    @property
    def is_alarm(self) -> bool:
        """Whether p is at most alpha."""
        return self.p_value is not None and self.p_value <= self.alpha


def date_scores(cells: Integers, starts: Integers) -> Singles:
    """(f, rows) each cell less the mean of its date; 0 for a missing value. cells : (f, rows), date by date"""
    scores = cells.astype(np.float32)
    n = np.diff(starts, append=cells.shape[1])
    is_missing = cells == MISSING
    if not is_missing.any():
        means = np.add.reduceat(scores, starts, axis=1) / n
        return np.asarray(scores - np.repeat(means.astype(np.float32), n, axis=1))
    scores[is_missing] = 0
    present = n - np.add.reduceat(is_missing, starts, axis=1, dtype=np.int64)
    means = np.add.reduceat(scores, starts, axis=1) / np.maximum(present, 1)
    scores -= np.repeat(means.astype(np.float32), n, axis=1)
    scores[is_missing] = 0
    return scores


def correlation_change(names: Sequence[str], scores: Singles, starts: Integers, *, alpha: float) -> CorrelationChange:
    """The check's largest change among those of earlier placements. scores : (f, rows)      starts : (days,)"""
    n_steps = len(starts) // _STEP
    # Placements that share no date of the newest window with the check.
    n_placements = n_steps - NEWEST - BEFORE + 1 - NEWEST
    missing = _shortfall(len(names), scores.shape[1] / max(len(starts), 1), n_placements, alpha)
    if missing:
        return CorrelationChange(alpha=alpha, n_placements=max(n_placements, 0), missing=missing)
    bounds = np.append(starts, scores.shape[1])[len(starts) - n_steps * _STEP :: _STEP]
    products = np.empty((n_steps + 1, len(names), len(names)))
    products[0] = 0
    for i in range(n_steps):
        part = scores[:, bounds[i] : bounds[i + 1]]
        products[i + 1] = part @ part.T
    upto = np.cumsum(products, axis=0)
    ends = np.arange(NEWEST + BEFORE, n_steps + 1)
    now = _correlations(upto[ends] - upto[ends - NEWEST])
    before = _correlations(upto[ends - NEWEST] - upto[ends - NEWEST - BEFORE])
    sizes = _sizes(np.abs(now - before))
    largest = sizes.max(axis=1)
    own, earlier = float(largest[-1]), largest[:-NEWEST]
    most = int(sizes[-1].argmax())
    rows, columns = np.triu_indices(len(names), 1)
    allowed = math.floor(alpha * (1 + len(earlier)) + 1e-9) - 1
    return CorrelationChange(
        alpha=alpha,
        p_value=float(1 + np.sum(earlier >= own)) / (1 + len(earlier)),
        size=own,
        critical=float(np.sort(earlier)[::-1][allowed]),
        pair=(names[rows[most]], names[columns[most]]),
        before=float(before[-1, most]),
        now=float(now[-1, most]),
        n_placements=len(earlier),
    )


def _correlations(products: Floats) -> Floats:
    """(p, pairs) from sums of products; 0 where a feature does not vary. products : (p, f, f)"""
    deviations = np.sqrt(np.diagonal(products, axis1=1, axis2=2))
    rows, columns = np.triu_indices(products.shape[1], 1)
    scale = deviations[:, rows] * deviations[:, columns]
    return np.asarray(np.divide(products[:, rows, columns], scale, out=np.zeros_like(scale), where=scale > 0))


def _sizes(changes: Floats) -> Floats:
    """(p, pairs) in the root mean square of the placements that share no date of the newest window."""
    squares = np.concatenate([np.zeros((1, changes.shape[1])), np.cumsum(changes**2, axis=0)])
    place = np.arange(len(changes))
    first, after = np.maximum(place - NEWEST, 0), np.minimum(place + NEWEST + 1, len(changes))
    others = (len(changes) - (after - first))[:, np.newaxis]
    scale = np.maximum(squares[-1] - (squares[after] - squares[first]), 0) / others
    common = (_COMMON * float(np.median(np.sqrt(scale)))) ** 2
    return np.asarray(changes / np.sqrt(np.maximum(scale + common, 1e-12)))


def _shortfall(n_features: int, names: float, n_placements: int, alpha: float) -> str | None:
    if alpha <= 0:
        return "drift.correlation_alpha is 0"
    least = max(math.ceil(1 / alpha) - 1, 2 * NEWEST)
    if n_features < 2:
        return "there are no two numeric features"
    if names < _LEAST_NAMES:
        return f"a date has {names:.1f} rows; correlations within a date need {_LEAST_NAMES}"
    if n_placements < least:
        return f"the dates hold {max(n_placements, 0)} earlier placements; an alarm at {alpha:g} needs {least}"
    return None

"""Two alarms beside the verdict, which takes all features together: a broken feed, and a changed correlation; pure.

A broken feed is a jump of one feature that no earlier week had:

    m(t)      = mean of the feature's finite values on date t; of a text, the share of each category
    jump      = mean of m over the newest L dates - mean of m over the H dates before,  (L, H) = (1, 1), (1, 5), (5, 5)
    surprise  = | jump less what the other features' jumps say of it |
    size      = the surprise over what it stayed below on 95 % of the feature's own earlier dates, and over the root of
                how much larger than usual the panel's median is that day; the largest of the three
    p         = (1 + earlier weeks in which any feature's size reached this one) / (1 + earlier weeks)

When a market moves, returns, momentum and volatility move together, each as the others let expect; a broken feed moves
alone. What the others say is the linear regression on them, all at once: row f of the inverse of the jumps' correlation
matrix (with a ridge, so that doubled columns have one), over its diagonal.

A week is five dates in a row, so p holds for all features together and for a check on each of five dates: where the
past repeats itself, at most a share `alpha` of weeks has an alarm. It is the single-step maxT of Westfall and Young
(1993, Resampling-Based Multiple Testing, section 2.3) with the strategy's own past in place of resamples, dates whole
and features together. A feature that has an alarm is left out of what the others are compared with. A jump is seen in
the week in which it comes: what lasts becomes the new level, which the verdict and PSI compare with the reference.
Missing values have findings of their own. Why so: docs/decisions/0037.

A changed correlation is a pair of features that came to move together, or ceased to, while each looks as ever:

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mlops.domain.drift.placements import MISSING, Singles
from mlops.domain.frame import Floats

Integers = npt.NDArray[np.int64]

#: Newest dates, and dates before them: a series that wanders jumps from one day to the next, one that is new each day
#: between two weeks.
SPANS = ((1, 1), (1, 5), (5, 5))
#: Dates in a week.
WEEK = 5
#: Added to the diagonal of the jumps' correlation matrix: its inverse is there for columns that are the same, too.
_RIDGE = 0.02
_LARGEST = 1e150
#: In a panel of fewer features the median is a feature's own.
_LEAST_PANEL = 5
#: A jump is measured in what it is below on this share of a feature's own dates.
_USUAL = 0.95
#: Dates that are added up together, and from one placement to the next.
_STEP = 5
#: Steps of the newest window and of the one before: 20 and 60 dates.
NEWEST, BEFORE = 4, 12
#: With fewer names a date, ranks within it say nothing.
_LEAST_NAMES = 3
#: Of the median pair's scale, added to each pair's own: no pair is so steady that a little is much.
_COMMON = 0.25


@dataclass(frozen=True, kw_only=True)
class FeatureJumps:
    """Jumps of each feature at the check, ranked among all features' jumps of earlier weeks."""

    alpha: float
    """Largest share of weeks without a broken feed that have an alarm."""
    sizes: Mapping[str, float] = field(default_factory=dict)
    """Jump over what is usual for the feature; infinite where it never moved before"""
    p_values: Mapping[str, float] = field(default_factory=dict)
    """P-value for all features and five daily checks together"""
    critical: float | None = None
    """The size above which p is at most alpha"""
    n_weeks: int = 0
    """Earlier ones, each beginning a date after the one before"""
    missing: str | None = None
    """Why no jump was looked for, in words"""

    @property
    def alarms(self) -> tuple[str, ...]:
        """Features whose feed has probably broken, the largest jump first."""
        return tuple(sorted((name for name, p in self.p_values.items() if p <= self.alpha), key=self._by_size))

    def _by_size(self, name: str) -> tuple[float, str]:
        return -self.sizes[name], name


def date_means(values: Floats, starts: Integers) -> Floats:
    """(f, days) mean of each date's finite values; a date without any has that of the date before.

    values : (f, rows) date by date      starts : (days,) first row of each date
    """
    finite = np.isfinite(values)
    with np.errstate(over="ignore", invalid="ignore"):
        if finite.all():
            counted = np.diff(starts, append=values.shape[1])
            return np.asarray(np.add.reduceat(values, starts, axis=1) / counted)
        total = np.add.reduceat(np.where(finite, values, 0.0), starts, axis=1)
    n = np.add.reduceat(finite, starts, axis=1, dtype=np.int64)
    means = total / np.maximum(n, 1)
    last = np.maximum.accumulate(np.where(n > 0, np.arange(len(starts)), -1), axis=1)
    first = np.argmax(n > 0, axis=1)[:, np.newaxis]
    return np.asarray(np.take_along_axis(means, np.where(last < 0, first, last), axis=1))


def jumps(series: Floats) -> Floats:
    """(spans, …, days - 9) jumps at each date with enough dates before it; none of fewer than 10. series : (…, days)"""
    with np.errstate(over="ignore", invalid="ignore"):
        added = np.cumsum(series - series[..., :1], axis=-1)
    added = np.concatenate([np.zeros((*series.shape[:-1], 1)), added], axis=-1)
    n, first = series.shape[-1], max(newest + before for newest, before in SPANS)
    if n < first:
        return np.empty((len(SPANS), *series.shape[:-1], 0))

    def mean(after: int, length: int) -> Floats:
        """Mean over `length` dates, the last of them `after` dates before each one."""
        end = slice(first - after, n + 1 - after)
        start = slice(first - after - length, n + 1 - after - length)
        return np.asarray((added[..., end] - added[..., start]) / length)

    with np.errstate(over="ignore", invalid="ignore"):
        found = [mean(0, newest) - mean(newest, before) for newest, before in SPANS]
    # Squares of what is kept are finite.
    return np.clip(np.nan_to_num(np.stack(found), nan=0.0), -_LARGEST, _LARGEST)


def rank_jumps(found: Mapping[str, Floats], *, alpha: float) -> FeatureJumps:
    """Rank the check's jumps, which come last, among those of earlier weeks. found : (spans, dates) of each feature"""
    if not found:
        return FeatureJumps(alpha=alpha, missing="no feature is in the history and in both windows")
    if alpha <= 0:
        return FeatureJumps(alpha=alpha, missing="drift.feature_alpha is 0")
    table = np.stack(list(found.values()))
    # The newest week is not part of its own past.
    n_weeks = max(0, table.shape[-1] - 2 * WEEK + 1)
    if n_weeks < _least_weeks(alpha):
        words = f"the dates hold {n_weeks} earlier weeks; an alarm at {alpha:g} needs {_least_weeks(alpha)}"
        return FeatureJumps(alpha=alpha, n_weeks=n_weeks, missing=words)
    sizes = _sizes(table)
    weekly = np.sort(np.max([sizes.max(axis=0)[i : i + n_weeks] for i in range(WEEK)], axis=0))
    left, own, ranked = list(found), sizes[:, -1], {}
    while left:
        p_values = (1 + n_weeks - np.searchsorted(weekly, own, side="left")) / (1 + n_weeks)
        most = int(np.argmax(own))
        if p_values[most] > alpha:
            break
        ranked[left.pop(most)] = float(own[most]), float(p_values[most])
        table = np.delete(table, most, axis=0)
        own = _sizes(table)[:, -1] if left else own
    ranked |= {name: (float(size), float(p)) for name, size, p in zip(left, own, p_values, strict=False)}
    allowed = math.floor(alpha * (1 + n_weeks) + 1e-9) - 1
    return FeatureJumps(
        alpha=alpha,
        sizes={name: ranked[name][0] for name in found},
        p_values={name: ranked[name][1] for name in found},
        critical=float(weekly[::-1][allowed]),
        n_weeks=n_weeks,
    )


def _sizes(found: Floats) -> Floats:
    """(f, dates) the largest of the spans, in what is usual. found : (f, spans, dates) signed jumps"""
    return np.asarray(np.max([_sizes_of(found[:, i]) for i in range(len(SPANS))], axis=0))


def _sizes_of(found: Floats) -> Floats:
    """(f, dates) sizes of the jumps over one span. found : (f, dates)"""
    spread = np.sqrt(np.mean(found[:, :-WEEK] ** 2, axis=1, keepdims=True))
    with np.errstate(over="ignore"):
        jumped = np.clip(found / np.where(spread > 0, spread, 1.0), -_LARGEST, _LARGEST)
    past = jumped[:, :-WEEK]
    together = np.linalg.inv(past @ past.T / past.shape[1] + _RIDGE * np.eye(len(jumped)))
    surprise = np.abs(together @ jumped) / np.diag(together)[:, np.newaxis]
    past = surprise[:, :-WEEK]
    place = min(math.ceil(_USUAL * past.shape[1]), past.shape[1] - 1)
    usual = np.partition(past, place, axis=1)[:, place]
    # What moves on fewer days than one in twenty is measured in its largest move.
    usual = np.where(usual > 0, usual, past.max(axis=1))[:, np.newaxis]
    with np.errstate(divide="ignore", invalid="ignore"):
        sizes = np.where(surprise > 0, surprise / usual, 0.0)
    return sizes if len(sizes) < _LEAST_PANEL else sizes / np.sqrt(_turbulence(sizes))


def _turbulence(sizes: Floats) -> Floats:
    """(dates,) the median of the features over what it usually is, at least 1."""
    medians = np.median(sizes, axis=0)
    usual = float(np.median(medians))
    finite = np.where(np.isfinite(medians), medians, usual)
    return np.maximum(finite / usual, 1.0) if usual > 0 else np.ones(len(medians))


def _least_weeks(alpha: float) -> int:
    """Return the number of weeks below which no rank reaches alpha."""
    return max(math.ceil(1 / alpha) - 1, 1)


@dataclass(frozen=True, kw_only=True)
class CorrelationChange:
    """The pair of features whose correlation changed most. None: undefined, and then `missing` says why."""

    alpha: float
    p_value: float | None = None
    """P-value for all pairs together"""
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
    """Rank the check's largest change among those of earlier placements. scores : (f, rows)      starts : (days,)"""
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
    sizes = _change_sizes(np.abs(now - before))
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


def _change_sizes(changes: Floats) -> Floats:
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

"""How unusual a check's drift is in the strategy's own past; pure.

Rows of one day are not independent, and neither are neighbouring days, so a p over pooled rows means nothing.
Here the unit is the date, and the null distribution is the past itself: the same statistic for every earlier
place of the same two windows.

    … history …………………………………………………………………………… | reference (r dates) | current (k dates) |   the check
    [ its r dates ][ k dates ]                                                              placement 1
      [ its r dates ][ k dates ]                                                            placement 2 …

    distance of a feature = max over the newest 1, 2, 4, … k dates of W1(those dates, reference) / spread
    statistic             = mean distance over the features, alike or weighted
    p                     = (1 + placements at or above the check's) / (1 + placements)

W1 is the Wasserstein distance, spread the geometric mean of the reference's standard deviation and of that of
all dates; missing values and categories count by total variation; shares have six digits (single precision).
Dates stay whole and all features move together, so neither dependence between rows nor between features enters p;
that between neighbouring dates costs resolution, which `n_blocks` states. Why this statistic and not another:
docs/decisions/0009.
Called by `detect`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops.drift_detection.cells import cell_of, quantile_cells
from mlops.drift_detection.weights import Weights, weighted_mean
from mlops.features.frame import FeatureFrame, Floats, Texts

Dates = npt.NDArray[np.datetime64]
Integers = npt.NDArray[np.int64]

#: Rows of one date beyond this add little: what they have in common does not average out.
ROWS_PER_DATE = 48
#: A reference that hardly moved must not make every later move infinite.
LEAST_SPREAD = 0.1
#: Fewer non-overlapping windows than this say nothing about one in twenty.
LEAST_BLOCKS = 5
#: A history begins on a trading day: up to a week after the calendar day from which it was asked for.
_WEEK = 7


@dataclass(frozen=True, kw_only=True)
class Placements:
    """The statistic at every earlier place of the two windows."""

    last_dates: Dates
    """(p,) newest date of each placement's current window, ascending"""
    statistics: Floats
    """(p,)"""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Where a check stands among its placements. None: undefined, and then `missing` says what is missing."""

    statistic: float | None
    """Mean over features, weighted where the policy says so, of their distance from the reference, in spreads."""
    p_value: float | None
    critical: float | None
    """The statistic from which on p is at most alpha. A shift of every feature by so many spreads reaches it,
    so it is also the smallest shift that is seen for sure."""
    alpha: float
    n_dates: int
    """Of the history."""
    n_placements: int
    n_blocks: int
    """Placements that share no date of their current windows: how many independent looks p rests on."""
    first_date: date | None
    """Oldest date of the history."""
    distances: dict[str, float]
    """Each feature's distance at the check"""
    placements: Placements | None
    missing: str | None
    """What a verdict lacks, in words."""

    @property
    def is_extreme(self) -> bool:
        """Whether p is at most alpha."""
        return self.p_value is not None and self.p_value <= self.alpha


def calibrate(
    history: FeatureFrame | None,
    reference: FeatureFrame,
    current: FeatureFrame,
    *,
    alpha: float = 0.05,
    min_days: int = 365,
    reference_start: date,
    weights: Weights | None = None,
) -> Calibration:
    """Rank the check among the placements in `history`, the rows before the reference window.

    Every frame needs its dates; features that one of them lacks play no part. `reference_start` is the day
    from which on rows belong to the reference window: the history must reach `min_days` further back.
    `weights`: of the features in the statistic, at the check and at every placement; None: alike.
    """
    if history is None or history.n_rows == 0:
        return insufficient(
            alpha, f"there are no rows before {reference_start}: load {min_days} days of history, or use rule raw"
        )
    if history.dates is None or reference.dates is None or current.dates is None:
        return insufficient(alpha, "the rows carry no dates: read the column `date` with the features")
    frames = (history, reference, current)
    days_of_frame = [_distinct(dates_of(frame)) for frame in frames]
    days = np.concatenate(days_of_frame)
    k, r = len(days_of_frame[2]), len(days_of_frame[1])
    n_history = len(days) - k - r
    first = days[0].astype(object)
    n_placements = max(0, n_history - r - k + 1)
    n_blocks = n_placements // k
    covered = (reference_start - first).days
    shortfall = _shortfall(covered, min_days, n_placements, n_blocks, alpha=alpha, k=k, r=r)
    if shortfall:
        return insufficient(alpha, shortfall, n_dates=n_history, n_placements=n_placements, first=first)
    # Windows by the index of the date after their last; the check's own comes last.
    ends = np.append(np.arange(r + k, n_history + 1), len(days))
    references = ((ends - k - r, ends - k),)
    return rank(
        frames, days=days, ends=ends, k=k, references=references, alpha=alpha, n_history=n_history, weights=weights
    )


def rank(
    frames: Sequence[FeatureFrame],
    *,
    days: Dates,
    ends: Integers,
    k: int,
    references: tuple[tuple[Integers, Integers], ...],
    alpha: float,
    n_history: int,
    weights: Weights | None,
) -> Calibration:
    """Where the last placement, which is the check, stands among the others.

    frames : rows with dates, all of them in `days`, ascending       ends : (placements,) index of the date after each
    placement's newest      references : the first date and the one after the last of each placement's reference,
    once for each of its parts
    """
    rows = [rows_kept(dates_of(frame)) for frame in frames]
    day_of_row = np.searchsorted(
        days, np.concatenate([dates_of(f)[chosen] for f, chosen in zip(frames, rows, strict=True)])
    )
    windows = Windows(day_of_row=day_of_row, n_days=len(days), ends=ends, k=k, references=references)
    names = [name for name in frames[0].numbers if all(name in frame.numbers for frame in frames)]
    texts = [name for name in frames[0].categories if all(name in frame.categories for frame in frames)]

    def number(name: str) -> Floats:
        values = [_chosen(frame.numbers[name], kept) for frame, kept in zip(frames, rows, strict=True)]
        return number_distances(np.concatenate(values), windows)

    def category(name: str) -> Floats:
        values = [frame.categories[name][chosen] for frame, chosen in zip(frames, rows, strict=True)]
        return category_distances(np.concatenate(values), windows)

    # One after another: so many short calls, on several threads, wait for each other longer than they work.
    distances = {name: number(name) for name in names} | {name: category(name) for name in texts}
    return ranked(
        distances,
        last_dates=days[ends[:-1] - 1],
        k=k,
        alpha=alpha,
        n_dates=n_history,
        first=days[0].astype(object),
        weights=weights,
    )


def ranked(
    distances: Mapping[str, Floats],
    *,
    last_dates: Dates,
    k: int,
    alpha: float,
    n_dates: int,
    first: date,
    weights: Weights | None,
) -> Calibration:
    """The calibration of each feature's distances. distances : (placements + 1,) each, the check's own last."""
    if not distances:
        return insufficient(alpha, "no feature is in the history and in both windows", n_dates=n_dates, first=first)
    statistics = weighted_mean(distances, weights)
    earlier, observed = statistics[:-1], float(statistics[-1])
    return Calibration(
        statistic=observed,
        p_value=float(1 + np.sum(earlier >= observed)) / (1 + len(earlier)),
        critical=_critical(earlier, alpha),
        alpha=alpha,
        n_dates=n_dates,
        n_placements=len(earlier),
        n_blocks=len(earlier) // k,
        first_date=first,
        distances={name: float(values[-1]) for name, values in distances.items()},
        placements=Placements(last_dates=last_dates, statistics=earlier),
        missing=None,
    )


def own_distances(history: FeatureFrame, reference: FeatureFrame, current: FeatureFrame) -> dict[str, float]:
    """Each number's distance at the check alone, as `calibrate` finds it: no placement is looked at."""
    frames = (history, reference, current)
    rows = [rows_kept(dates_of(frame)) for frame in frames]
    newest, day = np.unique(dates_of(current)[rows[2]], return_inverse=True)
    k = len(newest)
    # History and reference count as a date each: the check's own windows need no finer ones.
    before = np.repeat([0, 1], [len(rows[0]), len(rows[1])])
    windows = Windows(
        day_of_row=np.concatenate([before, 2 + day]),
        n_days=2 + k,
        ends=np.array([2 + k]),
        k=k,
        references=((np.array([1]), np.array([2])),),
    )
    found = {}
    for name in current.numbers:
        if name in history.numbers and name in reference.numbers:
            values = [frame.numbers[name][chosen] for frame, chosen in zip(frames, rows, strict=True)]
            found[name] = float(number_distances(np.concatenate(values), windows)[0])
    return found


def reranked(calibration: Calibration, distances: Mapping[str, float], weights: Weights | None = None) -> Calibration:
    """The same check among the same placements, the named features being so far from the reference."""
    if calibration.placements is None:
        return calibration
    own = {**calibration.distances, **distances}
    statistic = float(weighted_mean({name: np.array([value]) for name, value in own.items()}, weights)[0])
    earlier = calibration.placements.statistics
    p_value = float(1 + np.sum(earlier >= statistic)) / (1 + len(earlier))
    return replace(calibration, statistic=statistic, p_value=p_value, distances=own)


@dataclass(frozen=True, kw_only=True)
class Windows:
    """All placements of the two windows, and which date each row is of."""

    day_of_row: Integers
    n_days: int
    ends: Integers
    """(placements,) index of the date after the newest"""
    k: int
    references: tuple[tuple[Integers, Integers], ...]
    """First date and the one after the last of each placement's reference, once for each of its parts"""

    def count(self, cells: Integers, n_cells: int) -> Floats:
        """(days + 1, cells) rows of each cell up to and including each date; row 0 is before the first."""
        flat = np.bincount(self.day_of_row * n_cells + cells, minlength=self.n_days * n_cells)
        # Whole numbers below 2^24 are exact in single precision, and so are their differences.
        counts = np.zeros((self.n_days + 1, n_cells), dtype=_counting(len(cells)))
        counts[1:] = flat.reshape(self.n_days, n_cells)
        return np.asarray(np.cumsum(counts, axis=0, out=counts))

    def reference(self, counts: Floats) -> Floats:
        """(placements, cells) of the reference windows."""
        parts = [self._between(counts, first, after) for first, after in self.references]
        return parts[0] if len(parts) == 1 else np.asarray(np.sum(parts, axis=0))

    def newest(self, counts: Floats, n_dates: int) -> Floats:
        """(placements, cells) of the current windows' newest dates."""
        return self._between(counts, self.ends - n_dates, self.ends)

    @staticmethod
    def _between(counts: Floats, first: Integers, after: Integers) -> Floats:
        """The check's own place is the last; where the earlier ones follow day by day, no row is looked up."""
        earlier = len(after) - 1
        if not (_is_run(first[:-1]) and _is_run(after[:-1])):
            rows = counts.take(after, axis=0)
            rows -= counts.take(first, axis=0)
            return np.asarray(rows)
        rows = np.empty((len(after), counts.shape[1]), dtype=counts.dtype)
        if earlier:
            np.subtract(counts[after[0] : after[0] + earlier], counts[first[0] : first[0] + earlier], out=rows[:-1])
        np.subtract(counts[after[-1]], counts[first[-1]], out=rows[-1])
        return rows


def _counting(n: int) -> type[np.floating[Any]]:
    """A type in which counts up to n are exact; the narrower one halves the time."""
    return np.float32 if n < 2**24 else np.float64


def suffixes(k: int) -> list[int]:
    """The newest 1, 2, 4, … dates of a window of k, and all of them."""
    return [*(2**i for i in range(k.bit_length()) if 2**i < k), k]


def number_distances(values: Floats, windows: Windows) -> Floats:
    """(placements,) distance of a numeric feature; infinities count as the outermost cells."""
    is_missing = np.isnan(values)
    edges, middles = quantile_cells(values[~is_missing] if is_missing.any() else values)
    n_cells = len(middles)
    cells = cell_of(values, edges)
    cells[is_missing] = n_cells
    counts = windows.count(cells, n_cells + 1)
    spread = _spread(counts[:, :-1], middles, windows)
    # Cumulative over the cells too, once for all windows: a window is then a difference of two rows.
    upto, missing = _added_up(counts[:, :-1]), counts[:, -1:]
    reference_upto, reference_missing = _shares(windows.reference(upto), windows.reference(missing))
    # Nothing lies beyond the last cell.
    widths = np.append(np.diff(middles), 0.0).astype(counts.dtype)
    largest = np.zeros(len(windows.ends))
    for n_dates in suffixes(windows.k):
        newest_upto, newest_missing = _shares(windows.newest(upto, n_dates), windows.newest(missing, n_dates))
        newest_upto -= reference_upto
        shift = np.abs(newest_upto, out=newest_upto) @ widths
        scaled = np.divide(shift, spread, out=np.zeros(len(shift)), where=spread > 0)
        largest = np.maximum(largest, scaled + np.abs(newest_missing - reference_missing))
    return largest


def _is_run(indices: Integers) -> bool:
    """Each one is the next day's."""
    return not len(indices) or bool((np.diff(indices) == 1).all())


def _added_up(counts: Floats) -> Floats:
    """(days, cells) counts up to and including each cell. As a product: a sum along short rows takes twice as long."""
    n_cells = counts.shape[1]
    return np.asarray(counts @ np.triu(np.ones((n_cells, n_cells), dtype=counts.dtype)))


def _chosen(values: Floats, rows: Integers) -> Floats:
    """Those rows; all of them are no copy."""
    return values if len(rows) == len(values) and _is_run(rows) else values[rows]


def category_distances(values: Texts, windows: Windows) -> Floats:
    """(placements,) total variation distance of a categorical feature, missing values a category of their own."""
    _, cells = np.unique(np.array(["\0" if value is None else f"={value}" for value in values]), return_inverse=True)
    counts = windows.count(cells.astype(np.int64), int(cells.max()) + 1)
    reference = windows.reference(counts)
    reference /= reference.sum(axis=1, keepdims=True)
    largest = np.zeros(len(windows.ends))
    for n_dates in suffixes(windows.k):
        newest = windows.newest(counts, n_dates)
        newest /= newest.sum(axis=1, keepdims=True)
        largest = np.maximum(largest, np.abs(newest - reference).sum(axis=1) / 2)
    return largest


def _shares(upto: Floats, missing: Floats) -> tuple[Floats, Floats]:
    """Cumulative shares of the cells among the values that are there, in place, and the share of missing ones.

    upto : (windows, cells) cumulative counts      missing : (windows, 1)
    """
    n = upto[:, -1:].copy()
    upto /= np.maximum(n, 1)
    return upto, (missing / np.maximum(n + missing, 1))[:, 0]


def _spread(counts: Floats, middles: Floats, windows: Windows) -> Floats:
    """(placements,) geometric mean of the reference's standard deviation and that of all dates."""
    powers = counts @ np.column_stack([np.ones(len(middles)), middles, middles**2])
    overall = _deviation(powers[-1:])
    return np.asarray(np.sqrt(np.maximum(_deviation(windows.reference(powers)), LEAST_SPREAD * overall) * overall))


def _deviation(powers: Floats) -> Floats:
    """(windows,) standard deviations from each window's count, sum and sum of squares."""
    n = np.maximum(powers[:, 0], 1)
    return np.asarray(np.sqrt(np.maximum(powers[:, 2] / n - (powers[:, 1] / n) ** 2, 0.0)))


def rows_kept(dates: Dates, limit: int = ROWS_PER_DATE) -> Integers:
    """Indices of at most `limit` rows of each date, evenly spaced; what is kept is kept again."""
    if not len(dates):
        return np.empty(0, dtype=np.int64)
    order = np.arange(len(dates)) if _is_ascending(dates) else np.argsort(dates, kind="stable")
    starts = _first_rows(dates[order])
    sizes = np.diff(starts, append=len(dates))
    if sizes.max() <= limit:
        return np.asarray(order)
    taken = np.minimum(sizes, limit)
    within = np.arange(int(taken.sum())) - np.repeat(np.cumsum(taken) - taken, taken)
    return np.asarray(order[np.repeat(starts, taken) + within * np.repeat(sizes, taken) // np.repeat(taken, taken)])


def _distinct(dates: Dates) -> Dates:
    """Each date once, ascending. Rows mostly come in order of their dates, and a million need no sort then."""
    return dates[_first_rows(dates)] if _is_ascending(dates) else np.unique(dates)


def _is_ascending(dates: Dates) -> bool:
    days = dates.view(np.int64)
    return bool((days[1:] >= days[:-1]).all())


def _first_rows(ascending: Dates) -> Integers:
    """Index of each date's first row."""
    days = ascending.view(np.int64)
    return np.flatnonzero(np.append(len(days) > 0, days[1:] != days[:-1])[: len(days)])


def _shortfall(
    covered: int, min_days: int, n_placements: int, n_blocks: int, *, alpha: float, k: int, r: int
) -> str | None:
    if not covered_enough(covered, min_days):
        return f"the history reaches {covered} days before the reference window; a calibrated verdict needs {min_days}"
    if not are_enough(n_placements, n_blocks, alpha=alpha):
        return (
            f"the history holds {n_placements} places for {r} + {k} dates, {n_blocks} without a common date; "
            f"a calibrated verdict needs {least_placements(alpha)} and {LEAST_BLOCKS}: raise calibration_days, "
            f"or shorten current_days"
        )
    return None


def covered_enough(days: int, min_days: int) -> bool:
    """Whether a history of so many calendar days is as long as was asked for, its first days without trading aside."""
    return days >= min_days - _WEEK


def least_placements(alpha: float) -> int:
    """Placements below which no rank reaches alpha."""
    return max(math.ceil(1 / alpha) - 1, 1)


def are_enough(n_placements: int, n_blocks: int, *, alpha: float) -> bool:
    """Whether a rank among them says something about one check in 1 / alpha."""
    return n_placements >= least_placements(alpha) and n_blocks >= LEAST_BLOCKS


def insufficient(
    alpha: float, missing: str, *, n_dates: int = 0, n_placements: int = 0, first: date | None = None
) -> Calibration:
    """No rank, and in words what it lacks."""
    return Calibration(
        statistic=None, p_value=None, critical=None, alpha=alpha, n_dates=n_dates, n_placements=n_placements,
        n_blocks=0, first_date=first, distances={}, placements=None, missing=missing,
    )  # fmt: skip


def _critical(earlier: Floats, alpha: float) -> float:
    """The largest value of the placements that is too common: above it, p is at most alpha."""
    allowed = math.floor(alpha * (1 + len(earlier)) + 1e-9) - 1
    return float(np.sort(earlier)[::-1][allowed])


def dates_of(frame: FeatureFrame) -> Dates:
    """(n,) the rows' dates; empty where they were read without."""
    return np.asarray(frame.dates if frame.dates is not None else (), dtype="datetime64[D]")

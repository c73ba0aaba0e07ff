"""Calibration of a check's drift by the strategy's own past; pure.

Rows of one day are not independent, and neither are neighbouring days, so a p over pooled rows means nothing.
Here the unit is the date, and the null distribution is the past itself: the same statistic for every earlier
place of the same two windows (`placements`).

    distance of a feature = how far its newest dates lie from the reference, in spreads (`placements`)
    statistic             = mean distance over the features, alike or weighted
    p                     = (1 + placements at or above the check's) / (1 + placements)

Dates stay whole and all features move together, so neither dependence between rows nor between features enters p;
that between neighbouring dates costs resolution, which `n_blocks` states. Why this statistic and not another:
docs/decisions/0009.
Features are shared out over all cores: numpy's sorts and sums let go of the interpreter's lock. Called by `detect`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from typing import TypeVar

import numpy as np

from mlops.domain.drift.alarms import (
    CorrelationChange,
    FeatureJumps,
    correlation_change,
    date_means,
    date_scores,
    jumps,
    rank_jumps,
)
from mlops.domain.drift.placements import (
    Dates,
    Integers,
    Placed,
    Singles,
    category_distances,
    dates_of,
    distinct,
    kept_of,
    number_cells,
    number_distances,
)
from mlops.domain.drift.weights import Weights, weighted_mean
from mlops.domain.frame import FeatureFrame, Floats

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Features that are counted together: 4 x 65 cells x 600 dates in single precision stay in a core's cache.
_AT_ONCE = 4
_PROFILE = "the champion's profile does not hold the newest dates before a check"
#: Fewer non-overlapping windows than this say nothing about one in twenty.
LEAST_BLOCKS = 5
#: A history begins on a trading day: up to a week after the calendar day from which it was asked for.
_WEEK = 7
#: More threads than this wait for memory, not for a core.
_MOST_THREADS = 8


@dataclass(frozen=True, kw_only=True)
class Placements:
    """Values of the statistic at every earlier placement of the two windows."""

    last_dates: Dates
    """(p,) newest date of each placement's current window, ascending"""
    statistics: Floats
    """(p,)"""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Rank of a check among its placements. None: undefined, and then `missing` says what is missing."""

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
    """Reason why there is no rank."""
    jumps: FeatureJumps = field(default_factory=partial(FeatureJumps, alpha=0.0, missing="nothing was looked at"))
    """Whether single features' feeds have broken: no part of the verdict."""
    correlations: CorrelationChange = field(
        default_factory=partial(CorrelationChange, alpha=0.0, missing="nothing was looked at")
    )
    """Whether two features' correlation has changed: no part of the verdict."""

    @property
    def smallest_p_value(self) -> float | None:
        """The p-value of a shift that no placement reaches."""
        return None if self.p_value is None else 1 / (1 + self.n_placements)

    @property
    def is_extreme(self) -> bool:
        """Whether p is at most alpha."""
        return self.p_value is not None and self.p_value <= self.alpha


def calibrate(  # noqa: PLR0913 -- what a check is, each by keyword
    history: FeatureFrame | None,
    reference: FeatureFrame,
    current: FeatureFrame,
    *,
    alpha: float = 0.05,
    feature_alpha: float = 0.015,
    correlation_alpha: float = 0.035,
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
    days_of_frame = [distinct(dates_of(frame)) for frame in frames]
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
        frames,
        days=days,
        ends=ends,
        k=k,
        references=references,
        alpha=alpha,
        feature_alpha=feature_alpha,
        correlation_alpha=correlation_alpha,
        n_history=n_history,
        weights=weights,
    )


def rank(  # noqa: PLR0913 -- what a placement is, each by keyword
    frames: Sequence[FeatureFrame],
    *,
    days: Dates,
    ends: Integers,
    k: int,
    references: tuple[tuple[Integers, Integers], ...],
    alpha: float,
    feature_alpha: float,
    correlation_alpha: float,
    n_history: int,
    weights: Weights | None,
) -> Calibration:
    """Rank the last placement, which is the check, among the others.

    frames : rows with dates, all of them in `days`, ascending       ends : (placements,) index of the date after each
    placement's newest      references : the first date and the one after the last of each placement's reference,
    once for each of its parts
    """
    rows = [kept_of(frame) for frame in frames]
    day_of_row = np.searchsorted(
        days, np.concatenate([dates_of(frame)[kept] for frame, kept in zip(frames, rows, strict=True)])
    )
    placed = Placed(day_of_row=day_of_row, n_days=len(days), ends=ends, k=k, references=references)
    names = [name for name in frames[0].numbers if all(name in frame.numbers for frame in frames)]
    texts = [name for name in frames[0].categories if all(name in frame.categories for frame in frames)]
    starts = np.searchsorted(day_of_row, np.arange(len(days)))

    def numbers(some: Sequence[str]) -> tuple[Floats, Floats, Singles]:
        values = _values(some, frames, rows, len(day_of_row))
        moved = jumps(date_means(values, starts)).swapaxes(0, 1)
        cells, middles = number_cells(values)
        scores = date_scores(cells, starts)
        return _number_distances(cells, middles, placed), moved, scores

    blocks = each(numbers, shared_out(names, at_most=_AT_ONCE))
    distances = dict(zip(names, (row for block, _, _ in blocks for row in block), strict=True))
    moved = dict(zip(names, (row for _, block, _ in blocks for row in block), strict=True))
    scores = np.concatenate([block for _, _, block in blocks]) if blocks else np.empty((0, len(day_of_row)), np.float32)
    for name in texts:
        distances[name], moved[name] = _category_distances(name, frames, rows, placed)
    calibration = ranked(
        distances,
        last_dates=days[ends[:-1] - 1],
        k=k,
        alpha=alpha,
        n_dates=n_history,
        first=days[0].astype(object),
        weights=weights,
    )
    return replace(
        calibration,
        jumps=rank_jumps(moved, alpha=feature_alpha),
        correlations=correlation_change(names, scores, starts, alpha=correlation_alpha),
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
    """Rank the check by each feature's distances. distances : (placements + 1,) each, the check's own last."""
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
        jumps=FeatureJumps(alpha=alpha, missing=_PROFILE),
        correlations=CorrelationChange(alpha=alpha, missing=_PROFILE),
    )


def own_distances(history: FeatureFrame, reference: FeatureFrame, current: FeatureFrame) -> dict[str, float]:
    """Distance of each number at the check alone, as `calibrate` finds it, without its placements."""
    frames = (history, reference, current)
    rows = [kept_of(frame) for frame in frames]
    newest, day = np.unique(dates_of(current)[rows[2]], return_inverse=True)
    k = len(newest)
    # History and reference count as a date each: the check's own windows need no finer ones.
    before = np.repeat([0, 1], [len(dates_of(frame)[kept]) for frame, kept in zip(frames[:2], rows[:2], strict=True)])
    placed = Placed(
        day_of_row=np.concatenate([before, 2 + day]),
        n_days=2 + k,
        ends=np.array([2 + k]),
        k=k,
        references=((np.array([1]), np.array([2])),),
    )
    names = [name for name in current.numbers if name in history.numbers and name in reference.numbers]
    distances = _number_distances(*number_cells(_values(names, frames, rows, len(placed.day_of_row))), placed)
    return {name: float(own) for name, (own,) in zip(names, distances, strict=True)}


def reranked(calibration: Calibration, distances: Mapping[str, float], weights: Weights | None = None) -> Calibration:
    """Rank the check again among the same placements with other distances of the named features."""
    if calibration.placements is None:
        return calibration
    own = {**calibration.distances, **distances}
    statistic = float(weighted_mean({name: np.array([value]) for name, value in own.items()}, weights)[0])
    earlier = calibration.placements.statistics
    p_value = float(1 + np.sum(earlier >= statistic)) / (1 + len(earlier))
    return replace(calibration, statistic=statistic, p_value=p_value, distances=own)


def _values(
    names: Sequence[str], frames: Sequence[FeatureFrame], rows: Sequence[Integers | slice], n_rows: int
) -> Floats:
    """(names, rows) of all frames, date by date."""
    values = np.empty((len(names), n_rows))
    for row, name in zip(values, names, strict=True):
        np.concatenate([frame.numbers[name][kept] for frame, kept in zip(frames, rows, strict=True)], out=row)
    return values


def _number_distances(cells: Integers, middles: Floats, placed: Placed) -> Floats:
    """(f, placements). cells : (f, rows), which it overwrites"""
    counts = placed.number_counts(cells)
    found = number_distances(placed.reference(counts), placed.newest(counts), counts[:, :, -1], middles)
    return found.astype(np.float64)


def _category_distances(
    name: str, frames: Sequence[FeatureFrame], rows: Sequence[Integers | slice], placed: Placed
) -> tuple[Floats, Floats]:
    """(placements,) distances, and (spans, dates) jumps."""
    texts = np.concatenate([frame.categories[name][kept] for frame, kept in zip(frames, rows, strict=True)])
    names, cells = np.unique(np.array(["\0" if text is None else f"={text}" for text in texts]), return_inverse=True)
    counts = placed.category_counts(cells.astype(np.int64), len(names))
    by_date = np.diff(counts.astype(np.float64), axis=1)
    moved = np.abs(jumps(by_date / by_date.sum(axis=0))).sum(axis=1) / 2
    return category_distances(placed.reference(counts), placed.newest(counts)).astype(np.float64), moved


def _shortfall(
    covered: int, min_days: int, n_placements: int, n_blocks: int, *, alpha: float, k: int, r: int
) -> str | None:
    if not covered_enough(covered, min_days):
        return f"the history reaches {covered} days before the reference window; a calibrated verdict needs {min_days}"
    if not are_enough(n_placements, n_blocks, alpha=alpha):
        return (
            f"the history holds {n_placements} places for {r} + {k} dates, {n_blocks} without a common date; "
            f"a calibrated verdict needs {least_placements(alpha)} and {LEAST_BLOCKS}: load a longer history and raise "
            f"calibration_days, or shorten the current window by current_days or min_current_rows"
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
    """Return a calibration without a rank, with what it lacks in words."""
    return Calibration(
        statistic=None, p_value=None, critical=None, alpha=alpha, n_dates=n_dates, n_placements=n_placements,
        n_blocks=0, first_date=first, distances={}, placements=None, missing=missing,
        jumps=FeatureJumps(alpha=alpha, missing=missing), correlations=CorrelationChange(alpha=alpha, missing=missing),
    )  # fmt: skip


def _critical(earlier: Floats, alpha: float) -> float:
    """The largest value of the placements that is too common: above it, p is at most alpha."""
    allowed = math.floor(alpha * (1 + len(earlier)) + 1e-9) - 1
    return float(np.sort(earlier)[::-1][allowed])


def each(work: Callable[[Item], Result], items: Sequence[Item], *, threads: int | None = None) -> list[Result]:
    """Call `work` on each item in parallel and return the results in the items' order. The first error is raised."""
    n = min(threads or usable_cores(), len(items), _MOST_THREADS)
    if n <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(max_workers=n, thread_name_prefix="drift") as pool:
        return list(pool.map(work, items))


def shared_out(items: Sequence[Item], *, at_most: int) -> list[Sequence[Item]]:
    """Split the items into batches of about one size, as many for each core."""
    if not items:
        return []
    n_batches = -(-len(items) // at_most)
    threads = min(usable_cores(), _MOST_THREADS)
    size = -(-len(items) // (-(-n_batches // threads) * threads))
    return [items[start : start + size] for start in range(0, len(items), size)]


def usable_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

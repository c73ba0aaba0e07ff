"""Checks against the same season of earlier years, and how unusual a distance from it is; pure.

    | season, 3 years ago |   …   | season, 2 years ago |   …   | season, 1 year ago |   …   | current |

A year's part is `reference_days` long and has in its middle the current window, moved back by that many years; so
the parts together have `season_years` times as many days. A placement at an earlier date gets its parts by the same
rule from its own newest date. Placements end `reference_days` before the current window begins, as those of the
trailing reference do, so that a break is not compared with itself. Called by the drift stage and `drift_evaluation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import numpy as np

from mlops.domain.drift.calibration import (
    LEAST_BLOCKS,
    Calibration,
    are_enough,
    covered_enough,
    insufficient,
    least_placements,
    rank,
)
from mlops.domain.drift.detect import detect_drift
from mlops.domain.drift.placements import Dates, Integers, dates_of
from mlops.domain.drift.report import DriftReport, ReferenceUsed
from mlops.domain.drift.weights import Weights
from mlops.domain.frame import FeatureFrame
from mlops.domain.policies import DataPolicy, DriftPolicy
from mlops.domain.ports import Window


def years_before(day: date, years: int) -> date:
    """Return the day so many years earlier; 28 February for a 29th that the year does not have."""
    try:
        return day.replace(year=day.year - years)
    except ValueError:
        return day.replace(year=day.year - years, day=28)


def season_windows(as_of: date, data: DataPolicy) -> tuple[Window, ...]:
    """Return the reference's parts for a current window that ends on `as_of`, oldest first."""
    after = timedelta(days=(data.reference_days - data.current_days) // 2)
    ends = [years_before(as_of, year) + after for year in range(data.season_years, 0, -1)]
    return tuple(Window(start=end - timedelta(days=data.reference_days), end=end) for end in ends)


def season_history(as_of: date, data: DataPolicy, drift: DriftPolicy) -> Window:
    """Return the window of all dates that the parts, and the placements with theirs, need before the current one."""
    border = as_of - timedelta(days=data.current_days)
    first = border - timedelta(days=data.reference_days + drift.calibration_days)
    return Window(start=min(season_windows(first, data)[0].start, season_windows(as_of, data)[0].start), end=border)


def calibrate_season(
    history: FeatureFrame,
    current: FeatureFrame,
    *,
    as_of: date,
    data: DataPolicy,
    drift: DriftPolicy,
    weights: Weights | None = None,
) -> Calibration:
    """Rank the check among the placements in `history`, all rows before the current window that are needed."""
    alpha = drift.alpha
    if history.n_rows == 0:
        return insufficient(alpha, f"there are no rows before {as_of - timedelta(days=data.current_days)}")
    if history.dates is None or current.dates is None:
        return insufficient(alpha, "the rows carry no dates: read the column `date` with the features")
    before, now = np.unique(dates_of(history)), np.unique(dates_of(current))
    days, k = np.concatenate([before, now]), len(now)
    first = days[0].astype(object)
    wanted = season_windows(as_of, data)
    absent = [part for part in wanted if not _is_covered(days, part)]
    if absent:
        missing = (
            f"the seasons of {data.season_years} earlier years are asked for, from {wanted[0].start} on, and the "
            f"history begins on {first}: load earlier features, lower season_years, or use the trailing reference"
        )
        return insufficient(alpha, missing, n_dates=len(before), first=first)
    border = as_of - timedelta(days=data.current_days + data.reference_days)
    opens = border - timedelta(days=drift.calibration_days)
    ends, placed = _placements(days, k, data, Window(start=opens, end=border))
    n_blocks = len(ends) // k
    covered = (border - days[ends[0] - k].astype(object)).days if len(ends) else 0
    if not covered_enough(covered, drift.min_calibration_days) or not are_enough(len(ends), n_blocks, alpha=alpha):
        missing = (
            f"the history since {first} holds {len(ends)} places over {covered} days that have the seasons of "
            f"{data.season_years} years before them, {n_blocks} without a common date; a calibrated verdict needs "
            f"{drift.min_calibration_days} days, {least_placements(alpha)} and {LEAST_BLOCKS}: load earlier features, "
            f"lower season_years, or use the trailing reference"
        )
        return insufficient(alpha, missing, n_dates=len(before), n_placements=len(ends), first=first)
    own = [_between(days, part) for part in wanted]
    references = tuple(
        (np.append(starts, start), np.append(stops, stop))
        for (starts, stops), (start, stop) in zip(placed, own, strict=True)
    )
    return rank(
        (history, current),
        days=days,
        ends=np.append(ends, len(days)),
        k=k,
        references=references,
        alpha=alpha,
        feature_alpha=drift.feature_alpha,
        correlation_alpha=drift.correlation_alpha,
        n_history=len(before),
        weights=weights,
    )


def _placements(
    days: Dates, k: int, data: DataPolicy, within: Window
) -> tuple[Integers, list[tuple[Integers, Integers]]]:
    """Index after the newest date of each placement, and for each year where its part begins and ends."""
    first, after = _between(days, within)
    ends = np.arange(first + k, after + 1)
    parts = [season_windows(days[end - 1].astype(object), data) for end in ends]
    whole = [i for i, found in enumerate(parts) if all(_is_covered(days, part) for part in found)]
    chosen = [[_between(days, parts[i][year]) for i in whole] for year in range(data.season_years)]
    return ends[whole], [_columns(pairs) for pairs in chosen]


def _columns(pairs: Sequence[tuple[int, int]]) -> tuple[Integers, Integers]:
    found = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _between(days: Dates, window: Window) -> tuple[int, int]:
    """Index of the window's first date, and of the one after its last."""
    first, after = np.searchsorted(days, np.array([window.start, window.end], dtype="datetime64[D]"), side="right")
    return int(first), int(after)


def _is_covered(days: Dates, window: Window) -> bool:
    """Whether the window has dates, and the history begins no more than a week after it."""
    first, after = _between(days, window)
    return after > first and covered_enough(
        (window.end - days[0].astype(object)).days, (window.end - window.start).days
    )


def detect_seasonal_drift(  # noqa: PLR0913 -- what a report states of its check, each by keyword
    history: FeatureFrame,
    reference: FeatureFrame,
    current: FeatureFrame,
    drift: DriftPolicy,
    data: DataPolicy,
    *,
    strategy: str,
    as_of: date,
    timestamp: datetime,
    current_window: Window,
    weights: Weights | None = None,
) -> DriftReport:
    """The report. `history`: all rows before the current window, `reference`: those of them in the seasons' parts.

    Raises EmptyWindow when there are no rows of any season, UnusableFeatures.
    """
    parts = season_windows(as_of, data)
    calibration = calibrate_season(history, current, as_of=as_of, data=data, drift=drift, weights=weights)
    return detect_drift(
        reference,
        current,
        drift,
        strategy=strategy,
        as_of=as_of,
        reference_window=Window(start=parts[0].start, end=parts[-1].end),
        current_window=current_window,
        timestamp=timestamp,
        min_current_rows=data.min_current_rows,
        calibration=calibration,
        used=ReferenceUsed(choice="season", used="season", windows=parts),
        weights=weights,
    )

"""The rows of a check: history, reference window and current window, read from the feature source.

Called by the drift stage and by `drift_detector`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import structlog

from mlops.domain.columns import mark_row_numbers
from mlops.domain.drift.data_quality import DataFinding
from mlops.domain.drift.placements import ROWS_PER_DATE, rows_kept
from mlops.domain.drift.references.seasons import season_history
from mlops.domain.errors import EmptyWindow
from mlops.domain.frame import ColumnRole, column_roles, select_features
from mlops.domain.panel import counted_dates, date_facts
from mlops.domain.policies import TARGET_PREFIX
from mlops.domain.ports import Column, FeatureSource, Window
from mlops.domain.sampling import SamplingPlan, plan_sampling
from mlops.domain.windows import calibration_window, drift_windows, longest_current_days, resolve_as_of, stretched

if TYPE_CHECKING:
    from mlops.domain.policies import Strategy

log = structlog.get_logger(__name__)

#: A history of no more rows is read with the windows; 45 features of it are 180 MB.
ONE_READ_ROWS = 500_000
#: A longer one is read so many calendar days at a time.
_PIECE_DAYS = 30
#: Before a current window that is read alone: its dates are compared with those of so many calendar days.
_USUAL_DAYS = 90


@dataclass(frozen=True, kw_only=True)
class WindowsRead:
    """Both windows' rows."""

    as_of: date
    reference_window: Window
    current_window: Window
    history: pa.Table
    """Rows before the reference window, for the calibrated rule; none where the policy wants none"""
    reference: pa.Table
    """None where a profile stands for them; of several parts, rows of `history` too"""
    is_in_history: bool
    current: pa.Table
    features: tuple[str, ...]
    columns: tuple[ColumnRole, ...]
    """What each column of the view is used for"""
    targets: tuple[str, ...]
    """Numeric columns that look ahead; null where the future is not known yet"""
    sampling: SamplingPlan
    """Of which windows only a sample was read"""
    thinned: bool
    """Rows were left out, so that dates have unlike shares of theirs"""
    findings: tuple[DataFinding, ...]
    """About the dates"""


def with_enough_rows(source: FeatureSource, strategy: Strategy, *, as_of: date) -> Strategy:
    """The strategy with a current window that is stretched until it has rows for a verdict, where it can be.

    Raises SourceUnavailable.
    """
    data = strategy.data
    _, current = drift_windows(as_of, data)
    # Half of the rows are on dates that count, whatever is left out: most panels need no other look.
    if source.count(strategy.name, current) >= 2 * data.min_current_rows:
        return strategy
    before = timedelta(days=longest_current_days(data) + data.reference_days)
    counted = counted_dates(
        source, strategy.name, Window(start=as_of - before, end=as_of), min_share=data.min_date_share
    )
    return replace(strategy, data=stretched(as_of, data, counted.panel.rows))


def read_windows(
    source: FeatureSource,
    strategy: Strategy,
    *,
    as_of: date | None,
    today: date,
    frozen: Window | None = None,
    seasons: tuple[Window, ...] = (),
) -> WindowsRead:
    """Read a strategy's history, reference and current rows.

    `frozen`: a profile stands for this reference window, so current rows alone are read. `seasons`: the reference's
    parts, in place of the window before the current one. Rows of dates that do not count are left out of all of them.

    In one query where all are few, and where a long history is sampled at the source; a history between that is
    not comes in pieces that are thinned on arrival.
    Raises EmptyWindow, MissingColumn, SourceUnavailable.
    """
    decided = resolve_as_of(as_of, strategy, source, today=today)
    view = mark_row_numbers(source, strategy.name, source.columns(), strategy.data, as_of=decided)
    features, targets = columns_read(view, strategy)
    reference_window, current_window = drift_windows(decided, strategy.data)
    history_window = calibration_window(reference_window, strategy.drift.calibration_days)
    earliest = season_history(decided, strategy.data, strategy.drift).start if seasons else history_window.start
    # A profile stands for the rest: then enough dates to know what is usual.
    known = current_window.start - timedelta(days=_USUAL_DAYS) if frozen is not None else earliest
    counted = counted_dates(
        source, strategy.name, Window(start=known, end=decided), min_share=strategy.data.min_date_share
    )
    facts = date_facts(counted, as_of=decided, today=today)
    columns = ["ticker", "date", *features, *targets]
    if frozen is not None:
        reference_window = frozen
        rows = _current_alone(counted, strategy.name, columns, current_window)
    elif seasons:
        reference_window = Window(start=seasons[0].start, end=seasons[-1].end)
        rows = _read_seasons(counted, strategy, columns, decided, seasons, current_window)
    else:
        rows = read_rows(
            counted,
            strategy.name,
            columns,
            history=history_window,
            reference=reference_window,
            current=current_window,
            limit=strategy.data.max_reference_rows,
        )
    history, reference, current = rows.history, rows.reference, rows.current
    for name, window, table in (("reference", reference_window, reference), ("current", current_window, current)):
        if table.num_rows == 0 and not (name == "reference" and frozen):
            newest = source.latest_date(strategy.name)
            raise EmptyWindow(
                f"strategy {strategy.name!r} has no rows in its {name} window, after {window.start} "
                f"up to {window.end}; "
                f"its newest row is of {newest or 'no date'}: load its features, or give another --as-of"
            )
    return WindowsRead(
        as_of=decided,
        reference_window=reference_window,
        current_window=current_window,
        history=history,
        reference=reference,
        is_in_history=bool(seasons),
        current=current,
        features=features,
        columns=column_roles(view, strategy.data),
        targets=targets,
        sampling=rows.plan,
        thinned=rows.thinned,
        findings=tuple(DataFinding(code=fact.code, column=None, message=fact.words, is_drift=False) for fact in facts),
    )


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Three windows' rows."""

    history: pa.Table
    reference: pa.Table
    current: pa.Table
    plan: SamplingPlan
    thinned: bool


def _current_alone(source: FeatureSource, strategy: str, columns: list[str], current: Window) -> Rows:
    rows = source.read(strategy, current, columns)
    none = rows.slice(0, 0)
    plan = SamplingPlan(reference=None, history=None)
    return Rows(history=none, reference=none, current=rows, plan=plan, thinned=False)


def _read_seasons(
    source: FeatureSource,
    strategy: Strategy,
    columns: list[str],
    as_of: date,
    seasons: tuple[Window, ...],
    current: Window,
) -> Rows:
    """History: all dates that the placements need. Of many rows it is thinned, and so is a part beyond its share of
    `max_reference_rows`.
    """
    history = season_history(as_of, strategy.data, strategy.drift)
    plan = SamplingPlan(reference=None, history=None)
    if source.count(strategy.name, history) <= ONE_READ_ROWS:
        rows = source.read(strategy.name, Window(start=history.start, end=current.end), columns)
        before = _between(rows, history)
        parts = [_between(before, part) for part in seasons]
        now = _between(rows, current)
        return Rows(history=before, reference=pa.concat_tables(parts), current=now, plan=plan, thinned=False)
    most = strategy.data.max_reference_rows
    per_date = most // (len(seasons) * strategy.data.reference_days) if most else sys.maxsize
    return Rows(
        history=read_thinned(source, strategy.name, history, columns),
        reference=pa.concat_tables(
            [read_thinned(source, strategy.name, part, columns, rows_per_date=per_date) for part in seasons]
        ),
        current=source.read(strategy.name, current, columns),
        plan=plan,
        thinned=True,
    )


def read_rows(
    source: FeatureSource,
    strategy: str,
    columns: list[str],
    *,
    history: Window,
    reference: Window,
    current: Window,
    limit: int | None,
) -> Rows:
    """Rows of three windows, oldest first. Of more than `limit` reference rows a sample; a long history thinned."""
    by_date = source.rows_by_date(strategy, Window(start=history.start, end=reference.end))
    plan = plan_sampling(
        by_date,
        reference=reference,
        history=history,
        limit=limit,
        rows_per_date=ROWS_PER_DATE,
    )
    found = _read_planned(source, strategy, columns, plan, by_date, (history, reference, current))
    if plan.sample is None:
        return found
    short = plan.short_dates(dates_of(pa.concat_tables([found.history, found.reference])), rows_per_date=ROWS_PER_DATE)
    if not short:
        return found
    log.warning(
        "drift.not_sampled",
        strategy=strategy,
        dates_short=len(short),
        first=short[0].isoformat(),
        why="tickers repeat on a date, and a sample keeps or leaves all rows of a ticker and date together",
        action="one row per ticker and date in the view; all rows are read meanwhile",
    )
    return _read_planned(
        source,
        strategy,
        columns,
        SamplingPlan(reference=None, history=None),
        by_date,
        (history, reference, current),
    )


def _read_planned(
    source: FeatureSource,
    strategy: str,
    columns: list[str],
    plan: SamplingPlan,
    by_date: Mapping[date, int],
    windows: tuple[Window, Window, Window],
) -> Rows:
    history, reference, current = windows
    n_history = sum(n for day, n in by_date.items() if day <= history.end)
    at_once = plan.history is not None or n_history <= ONE_READ_ROWS
    start = history.start if at_once else reference.start
    rows = source.read(strategy, Window(start=start, end=current.end), columns, sample=plan.sample)
    return Rows(
        history=_between(rows, history) if at_once else read_thinned(source, strategy, history, columns),
        reference=_between(rows, reference),
        current=_between(rows, current),
        plan=plan,
        thinned=plan.sample is not None or not at_once,
    )


def columns_read(view: Sequence[Column], strategy: Strategy) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Features and targets of a check, in the view's order. Raises MissingColumn, UnusableFeatures."""
    targets = [column.name for column in view if column.name.startswith(TARGET_PREFIX) and column.kind == "number"]
    return select_features(view, strategy.data), tuple(targets)


def read_thinned(
    source: FeatureSource, strategy: str, window: Window, columns: list[str], *, rows_per_date: int = ROWS_PER_DATE
) -> pa.Table:
    """Read at most so many rows of each date, by default those that a calibration keeps.

    Read piece by piece, so that no more than one is in memory.
    """
    pieces = []
    start = window.start
    while start < window.end:
        end = min(start + timedelta(days=_PIECE_DAYS), window.end)
        rows = source.read(strategy, Window(start=start, end=end), columns)
        kept = rows_kept(dates_of(rows), rows_per_date, tickers=rows.column("ticker"))
        pieces.append(rows.take(kept))
        start = end
    return pa.concat_tables(pieces) if pieces else source.read(strategy, window, columns)


def dates_of(rows: pa.Table) -> npt.NDArray[np.datetime64]:
    """(n,) datetime64[D] of the column `date`."""
    return np.asarray(rows.column("date").to_numpy(zero_copy_only=False), dtype="datetime64[D]")


def _between(rows: pa.Table, window: Window) -> pa.Table:
    """The window's rows of a table that is ordered by date; no copy."""
    first, after = np.searchsorted(
        dates_of(rows), np.array([window.start, window.end], dtype="datetime64[D]"), side="right"
    )
    return rows.slice(int(first), int(after - first))

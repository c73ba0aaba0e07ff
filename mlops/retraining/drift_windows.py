"""The rows of a check: history, reference window and current window, read from the feature source.

Called by the drift stage and by `drift_detector`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlops.drift_detection.calibration import rows_kept
from mlops.errors import EmptyWindow
from mlops.features.frame import select_features
from mlops.features.windows import calibration_window, drift_windows
from mlops.ports import FeatureSource, Window
from mlops.retraining.as_of import resolve_as_of
from mlops.strategies import TARGET_PREFIX

if TYPE_CHECKING:
    from mlops.strategies import Strategy

#: A history of no more rows is read with the windows; 45 features of it are 180 MB.
ONE_READ_ROWS = 500_000
#: A longer one is read so many calendar days at a time.
PIECE_DAYS = 30


@dataclass(frozen=True, kw_only=True)
class WindowsRead:
    """Both windows' rows."""

    as_of: date
    reference_window: Window
    current_window: Window
    history: pa.Table
    """Rows before the reference window, for the calibrated rule; none where the policy wants none"""
    reference: pa.Table
    current: pa.Table
    features: tuple[str, ...]
    targets: tuple[str, ...]
    """Numeric columns that look ahead; null where the future is not known yet"""


def read_windows(source: FeatureSource, strategy: Strategy, *, as_of: date | None, today: date) -> WindowsRead:
    """Read a strategy's history, reference and current rows.

    In one query where all are few; else the history comes in pieces that are thinned on arrival.
    Raises EmptyWindow, MissingColumn, SourceUnavailable.
    """
    view = source.columns()
    features = select_features(view, strategy.data)
    decided = resolve_as_of(as_of, strategy, source, today=today)
    reference_window, current_window = drift_windows(decided, strategy.data)
    history_window = calibration_window(reference_window, strategy.drift.calibration_days)
    targets = tuple(column.name for column in view if column.name.startswith(TARGET_PREFIX) and column.kind == "number")
    columns = ["ticker", "date", *features, *targets]
    is_small = source.count(strategy.name, history_window) <= ONE_READ_ROWS
    start = history_window.start if is_small else reference_window.start
    rows = source.read(strategy.name, Window(start=start, end=current_window.end), columns)
    reference, current = _between(rows, reference_window), _between(rows, current_window)
    history = (
        _between(rows, history_window) if is_small else _thinned_history(source, strategy.name, history_window, columns)
    )
    for name, window, table in (("reference", reference_window, reference), ("current", current_window, current)):
        if table.num_rows == 0:
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
        current=current,
        features=features,
        targets=targets,
    )


def _thinned_history(source: FeatureSource, strategy: str, window: Window, columns: list[str]) -> pa.Table:
    """The rows that a calibration keeps of each date, read piece by piece, so that no more than one is in memory."""
    pieces = []
    start = window.start
    while start < window.end:
        end = min(start + timedelta(days=PIECE_DAYS), window.end)
        rows = source.read(strategy, Window(start=start, end=end), columns)
        pieces.append(rows.take(rows_kept(dates_of(rows))))
        start = end
    return pa.concat_tables(pieces)


def dates_of(rows: pa.Table) -> npt.NDArray[np.datetime64]:
    """(n,) datetime64[D] of the column `date`."""
    return np.asarray(rows.column("date").to_numpy(zero_copy_only=False), dtype="datetime64[D]")


def _between(rows: pa.Table, window: Window) -> pa.Table:
    """The window's rows of a table that is ordered by date; no copy."""
    first, after = np.searchsorted(
        dates_of(rows), np.array([window.start, window.end], dtype="datetime64[D]"), side="right"
    )
    return rows.slice(int(first), int(after - first))

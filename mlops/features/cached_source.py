"""A feature source of which one strategy's rows over a range are in memory.

For many checks of neighbouring dates, which read nearly the same rows. Called by `lab.backfill`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from mlops.domain.ports import Column, DateFaults, FeatureSource, Window

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops.domain.sampling import RowSample


class HeldFeatures:
    """`mlops.domain.ports.FeatureSource`: held rows for what lies in the range, the source itself for anything else."""

    def __init__(self, source: FeatureSource, strategy: str, window: Window, columns: Sequence[str]) -> None:
        self._source = source
        self._strategy = strategy
        self._window = window
        self._view = source.columns()
        self._rows = source.read(strategy, window, list(dict.fromkeys(["ticker", "date", *columns])))
        self._days = np.asarray(self._rows.column("date").to_numpy(zero_copy_only=False), dtype="datetime64[D]")

    def columns(self) -> tuple[Column, ...]:
        """The view's, as they were when the rows were read."""
        return self._view

    def latest_date(self, strategy: str | None = None, *, until: date | None = None) -> date | None:
        """The source's."""
        return self._source.latest_date(strategy, until=until)

    def dates(self, strategy: str, window: Window) -> list[date]:
        """Distinct dates with rows, ascending."""
        if not self._holds(strategy, window):
            return self._source.dates(strategy, window)
        first, after = self._between(window)
        return [day.astype(object) for day in np.unique(self._days[first:after])]

    def count(self, strategy: str, window: Window) -> int:
        """Rows in the window."""
        if not self._holds(strategy, window):
            return self._source.count(strategy, window)
        first, after = self._between(window)
        return after - first

    def rows_by_date(self, strategy: str, window: Window) -> dict[date, int]:
        """How many rows each date of the window has, ascending."""
        if not self._holds(strategy, window):
            return self._source.rows_by_date(strategy, window)
        first, after = self._between(window)
        days, counts = np.unique(self._days[first:after], return_counts=True)
        return {day.astype(object): int(n) for day, n in zip(days, counts, strict=True)}

    def date_faults(self, strategy: str, window: Window) -> DateFaults:
        """The source's."""
        return self._source.date_faults(strategy, window)

    @contextmanager
    def snapshot(self) -> Iterator[FeatureSource]:
        """The held rows are of one state anyway."""
        yield self

    def read(
        self, strategy: str, window: Window, columns: Sequence[str], *, sample: RowSample | None = None
    ) -> pa.Table:
        """Rows of the window; of the held ones no copy."""
        is_held = self._holds(strategy, window) and set(columns) <= set(self._rows.column_names)
        if sample is not None or not is_held:
            return self._source.read(strategy, window, columns, sample=sample)
        first, after = self._between(window)
        return self._rows.slice(first, after - first).select(list(columns))

    def read_batches(self, strategy: str, window: Window, columns: Sequence[str]) -> Generator[pa.RecordBatch]:
        """The source's: who reads in batches wants no more of them in memory."""
        return self._source.read_batches(strategy, window, columns)

    def _holds(self, strategy: str, window: Window) -> bool:
        return strategy == self._strategy and self._window.start <= window.start and window.end <= self._window.end

    def _between(self, window: Window) -> tuple[int, int]:
        borders = np.array([window.start, window.end], dtype="datetime64[D]")
        first, after = np.searchsorted(self._days, borders, side="right")
        return int(first), max(int(first), int(after))

"""A feature source of one's own: a CSV file.

    export ACIS_FEATURE_SOURCE=examples.feature_source:open_features
    export FEATURES_CSV=/data/features.csv

The function named is called with the keywords `relation` and `time_zone` (ACIS_FEATURE_RELATION and
ACIS_FEATURE_TIME_ZONE) and returns a `mlops.domain.ports.FeatureSource`; where its data lie is its own affair. Run the
project's contract tests on yours, as tests/contracts/features does with this one.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from mlops.domain.errors import ConfigurationError, MissingColumn, SourceUnavailable
from mlops.domain.ports import Column, DateFaults, FeatureSource, Window

if TYPE_CHECKING:
    from mlops.domain.sampling import RowSample

KEYS = {"ticker": pa.string(), "date": pa.date32(), "strategy": pa.string()}
"""Columns that every view has, with the types they are read as: a ticker `0700` or `TRUE` is text."""


def open_features(*, relation: str, time_zone: str) -> FeatureSource:  # noqa: ARG001 -- a file has no relation, plain dates no zone
    """The file that FEATURES_CSV names. Raises ConfigurationError."""
    path = os.environ.get("FEATURES_CSV")
    if not path:
        message = "FEATURES_CSV names no file; set it to the CSV file with the features"
        raise ConfigurationError(message)
    return CsvFeatures(Path(path))


class CsvFeatures:
    """`mlops.domain.ports.FeatureSource` over a CSV file, which is read whole, and again when it was written anew."""

    def __init__(self, path: Path, kept: pa.Table | None = None) -> None:
        """kept: the rows to answer from, whatever becomes of the file."""
        self._path, self._kept = path, kept

    def columns(self) -> tuple[Column, ...]:
        """All columns, in the file's order. Raises SourceUnavailable, MissingColumn."""
        return tuple(Column(name=field.name, kind=_kind(field.type)) for field in self._rows().schema)

    def latest_date(self, strategy: str | None = None, *, until: date | None = None) -> date | None:
        """Newest date with rows of the strategy, or of any."""
        rows = self._rows() if strategy is None else self._of(strategy)
        days = rows.column("date")
        newest: date | None = pc.max(days if until is None else days.filter(pc.less_equal(days, until))).as_py()
        return newest

    def dates(self, strategy: str, window: Window) -> list[date]:
        """Distinct dates, ascending."""
        return list(self.rows_by_date(strategy, window))

    def count(self, strategy: str, window: Window) -> int:
        """Rows in the window."""
        return int(self._within(strategy, window).num_rows)

    def rows_by_date(self, strategy: str, window: Window) -> dict[date, int]:
        """How many rows each date has."""
        counted = self._within(strategy, window).group_by("date").aggregate([([], "count_all")]).sort_by("date")
        return dict(zip(counted.column("date").to_pylist(), counted.column("count_all").to_pylist(), strict=True))

    def date_faults(self, strategy: str, window: Window) -> DateFaults:  # noqa: ARG002 -- an undated row is in no window
        """Rows without a date; a file of plain dates has no other fault."""
        n_undated = self._of(strategy).column("date").null_count
        return DateFaults(n_undated=n_undated, undated="null" if n_undated else "")

    @contextmanager
    def snapshot(self) -> Iterator[FeatureSource]:
        """A source that answers from the rows of now, even where the file is written meanwhile."""
        yield CsvFeatures(self._path, self._rows())

    def read(
        self, strategy: str, window: Window, columns: Sequence[str], *, sample: RowSample | None = None
    ) -> pa.Table:
        """Rows of the window by date and ticker; numbers as float64. Raises SourceUnavailable, MissingColumn."""
        rows = self._within(strategy, window).sort_by([("date", "ascending"), ("ticker", "ascending")])
        missing = [name for name in columns if name not in rows.column_names]
        if missing:
            raise MissingColumn(f"{self._path} lacks {', '.join(missing)}; found {', '.join(rows.column_names)}")
        if sample is not None:
            keys = zip(rows.column("ticker").to_pylist(), rows.column("date").to_pylist(), strict=True)
            rows = rows.filter(pa.array([sample.keeps(ticker, day) for ticker, day in keys], pa.bool_()))
        types = {"number": pa.float64(), "date": pa.date32()}
        return pa.table({name: rows.column(name).cast(types.get(_kind(rows.schema.field(name).type), pa.string()))
                         for name in columns})  # fmt: skip

    def read_batches(self, strategy: str, window: Window, columns: Sequence[str]) -> Generator[pa.RecordBatch]:
        """The rows of `read` in batches."""
        yield from self.read(strategy, window, columns).to_batches(max_chunksize=10_000)

    def _of(self, strategy: str) -> pa.Table:
        rows = self._rows()
        return rows.filter(pc.equal(rows.column("strategy"), strategy))

    def _within(self, strategy: str, window: Window) -> pa.Table:
        """`start` excluded, `end` included."""
        rows = self._of(strategy)
        days = rows.column("date")
        return rows.filter(pc.and_(pc.greater(days, window.start), pc.less_equal(days, window.end)))

    def _rows(self) -> pa.Table:
        if self._kept is not None:
            return self._kept
        try:
            return _read(self._path, self._path.stat().st_mtime_ns)
        except (OSError, pa.ArrowInvalid) as exc:  # the file is just being written, or its disk is away: tried again
            message = f"{self._path} cannot be read: {exc}"
            raise SourceUnavailable(message) from exc


@lru_cache(maxsize=2)
def _read(path: Path, _modified_ns: int) -> pa.Table:
    # An empty field is a missing value; NaN, NA and null in a ticker are names.
    options = csv.ConvertOptions(column_types=KEYS, null_values=[""], strings_can_be_null=True)
    rows = csv.read_csv(path, convert_options=options)
    missing = [name for name in KEYS if name not in rows.column_names]
    if missing:
        raise MissingColumn(f"{path} lacks {', '.join(missing)}; found {', '.join(rows.column_names)}")
    return rows


def _kind(arrow: pa.DataType) -> str:
    """`number`, `date`, `category` or `other`, as `Column.kind` has them."""
    if pa.types.is_integer(arrow) or pa.types.is_floating(arrow) or pa.types.is_boolean(arrow):
        return "number"
    if pa.types.is_date(arrow):
        return "date"
    return "category" if pa.types.is_string(arrow) else "other"

"""Feature sources for tests: one in memory, and the same rows in Parquet, CSV and PostgreSQL."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import adbc_driver_postgresql.dbapi as adbc
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv
from sqlalchemy import create_engine, text

from mlops.domain.columns import checked_columns, kind_of, read_schema
from mlops.domain.errors import MissingColumn
from mlops.domain.ports import Column, DateFaults, FeatureSource, Window
from mlops.domain.sampling import RowSample
from mlops.features.postgres import libpq_uri

RELATION = "ml_training_features"


class InMemoryFeatures:
    """`mlops.domain.ports.FeatureSource` over an Arrow table: the fake that the contract battery also runs on."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def columns(self) -> tuple[Column, ...]:
        return checked_columns(read_schema(self._table.schema), "the table")

    def latest_date(self, strategy: str | None = None, *, until: date | None = None) -> date | None:
        rows = self._table if strategy is None else self._of(strategy)
        if until is not None:
            rows = rows.filter(pc.less_equal(rows.column("date"), until))
        newest: date | None = pc.max(rows.column("date")).as_py()
        return newest

    def dates(self, strategy: str, window: Window) -> list[date]:
        return sorted(set(self._within(strategy, window).column("date").to_pylist()))

    def count(self, strategy: str, window: Window) -> int:
        return int(self._within(strategy, window).num_rows)

    def rows_by_date(self, strategy: str, window: Window) -> dict[date, int]:
        days = self._within(strategy, window).column("date").to_pylist()
        return {day: days.count(day) for day in sorted(set(days))}

    def date_faults(self, strategy: str, window: Window) -> DateFaults:
        n_undated = self._of(strategy).column("date").null_count
        return DateFaults(n_undated=n_undated, undated="null" if n_undated else "")

    @contextmanager
    def snapshot(self) -> Iterator[FeatureSource]:
        yield self

    def read(
        self, strategy: str, window: Window, columns: Sequence[str], *, sample: RowSample | None = None
    ) -> pa.Table:
        missing = [name for name in columns if name not in self._table.column_names]
        if missing:
            raise MissingColumn(f"the table lacks {', '.join(missing)}")
        rows = self._within(strategy, window).sort_by([("date", "ascending"), ("ticker", "ascending")])
        if sample is not None:
            keys = zip(rows.column("ticker").to_pylist(), rows.column("date").to_pylist(), strict=True)
            rows = rows.filter(pa.array([sample.keeps(ticker, day) for ticker, day in keys], pa.bool_()))
        return pa.table({name: _as_read(rows.column(name)) for name in columns})

    def read_batches(self, strategy: str, window: Window, columns: Sequence[str]) -> Generator[pa.RecordBatch]:
        yield from self.read(strategy, window, columns).to_batches(max_chunksize=100)

    def _of(self, strategy: str) -> pa.Table:
        return self._table.filter(pc.equal(self._table.column("strategy"), strategy))

    def _within(self, strategy: str, window: Window) -> pa.Table:
        rows = self._of(strategy)
        days = rows.column("date")
        return rows.filter(pc.and_(pc.greater(days, window.start), pc.less_equal(days, window.end)))


def parquet_file(table: pa.Table, path: Path) -> str:
    """Path of a Parquet file that holds the rows."""
    pq.write_table(table, path)
    return str(path)


def csv_file(table: pa.Table, path: Path) -> Path:
    """Path of a CSV file that holds the rows."""
    csv.write_csv(table, path)
    return path


def postgres_table(table: pa.Table, url: str, *, relation: str = RELATION) -> str:
    """Put the rows into a new table; the URL again."""
    with adbc.connect(libpq_uri(url)) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest(relation, table, mode="create")
        connection.commit()
    return url


@contextmanager
def features_locked(url: str) -> Iterator[None]:
    """Whoever reads the features of a PostgreSQL database meanwhile, waits."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg2://"))
    try:
        with engine.begin() as connection:
            connection.execute(text(f"LOCK TABLE {RELATION} IN ACCESS EXCLUSIVE MODE"))
            yield
    finally:
        engine.dispose()


def _as_read(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = kind_of(column.type)
    return column.cast({"number": pa.float64(), "date": pa.date32()}.get(kind, pa.string()))

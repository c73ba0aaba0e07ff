"""The feature view in SQLite, for small use: dates are ISO text, numbers come as float64."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mlops.errors import ConfigurationError, MissingColumn, SourceUnavailable, UnusableFeatures
from mlops.features.columns import checked_columns, missing_relation, quoted, quoted_relation
from mlops.ports import Column, Window
from mlops.strategies import KEY_COLUMNS

if TYPE_CHECKING:
    from mlops.features.sampling import RowSample

#: Rows of a batch; a row of Python numbers takes ten times its size in Arrow.
_BATCH_ROWS = 5_000


class SqliteFeatures:
    """`mlops.ports.FeatureSource` over a table of a SQLite file."""

    def __init__(self, url: str, *, relation: str) -> None:
        self._path = Path(url.partition(":///")[2])
        self._relation = relation
        self._quoted = quoted_relation(relation)

    def columns(self) -> tuple[Column, ...]:
        """All columns, by their declared types. Raises SourceUnavailable, MissingColumn."""
        rows = self._rows(f"SELECT name, type FROM pragma_table_info('{self._relation.replace(chr(39), '')}')", ())  # noqa: S608 -- pragma takes no parameter for a quoted name
        if not rows:
            raise missing_relation(self._relation)
        columns = [Column(name=name, kind=_kind(name, kind)) for name, kind in rows]
        return checked_columns(columns, self._relation)

    def latest_date(self, strategy: str | None = None) -> date | None:
        """Newest date of the strategy, or of any."""
        self.columns()
        where, values = ("WHERE strategy = ?", (strategy,)) if strategy is not None else ("", ())
        newest = self._rows(f"SELECT max(date) FROM {self._quoted} {where}", values)[0][0]  # noqa: S608
        return _day(newest) if newest else None

    def dates(self, strategy: str, window: Window) -> list[date]:
        """Distinct dates with rows, ascending."""
        sql = f"SELECT DISTINCT date FROM {self._quoted} WHERE strategy = ? AND date > ? AND date <= ? ORDER BY date"  # noqa: S608
        return [_day(row[0]) for row in self._rows(sql, _values(strategy, window))]

    def count(self, strategy: str, window: Window) -> int:
        """Rows in the window."""
        sql = f"SELECT count(*) FROM {self._quoted} WHERE strategy = ? AND date > ? AND date <= ?"  # noqa: S608
        return int(self._rows(sql, _values(strategy, window))[0][0])

    def rows_by_date(self, strategy: str, window: Window) -> dict[date, int]:
        """Rows of each date, ascending."""
        sql = (
            f"SELECT substr(date, 1, 10) AS day, count(*) FROM {self._quoted} "  # noqa: S608
            f"WHERE strategy = ? AND date > ? AND date <= ? GROUP BY day ORDER BY day"
        )
        return {_day(day): int(n) for day, n in self._rows(sql, _values(strategy, window))}

    def read(
        self, strategy: str, window: Window, columns: Sequence[str], *, sample: RowSample | None = None
    ) -> pa.Table:
        """Rows of the window, ordered by date and ticker; numbers as float64."""
        kinds = self._kinds(columns)
        batches = list(self._batches(strategy, window, kinds, sample))
        return pa.Table.from_batches(batches) if batches else pa.table(_arrays([], kinds))

    def read_batches(self, strategy: str, window: Window, columns: Sequence[str]) -> Generator[pa.RecordBatch]:
        """The same rows, some thousands at a time."""
        return self._batches(strategy, window, self._kinds(columns))

    def _kinds(self, columns: Sequence[str]) -> dict[str, str]:
        kinds = {column.name: column.kind for column in self.columns()}
        missing = [name for name in columns if name not in kinds]
        if missing:
            raise MissingColumn(f"{self._relation} lacks {', '.join(missing)}; found {', '.join(kinds)}")
        return {name: kinds[name] for name in columns}

    def _batches(
        self, strategy: str, window: Window, kinds: dict[str, str], sample: RowSample | None = None
    ) -> Generator[pa.RecordBatch]:
        selected = ", ".join(quoted(name) for name in kinds)
        kept = " AND acis_keeps(ticker, date)" if sample is not None else ""
        sql = (
            f"SELECT {selected} FROM {self._quoted} WHERE strategy = ? AND date > ? AND date <= ?{kept} "  # noqa: S608
            f"ORDER BY date, ticker"
        )
        with self._cursor(sql, _values(strategy, window), sample) as cursor:
            while rows := cursor.fetchmany(_BATCH_ROWS):
                yield pa.record_batch(_arrays(rows, kinds))

    def _rows(self, sql: str, values: Sequence[Any]) -> list[Any]:
        with self._cursor(sql, values) as cursor:
            return cursor.fetchall()

    @contextmanager
    def _cursor(self, sql: str, values: Sequence[Any], sample: RowSample | None = None) -> Iterator[sqlite3.Cursor]:
        if not self._path.exists():
            raise SourceUnavailable(f"the feature database {self._path} does not exist")
        try:
            with closing(sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
                if sample is not None:
                    connection.create_function("acis_keeps", 2, _kept_by(sample), deterministic=True)
                yield connection.execute(sql, tuple(values))
        except sqlite3.OperationalError as exc:
            if "no such table" in str(exc):
                raise missing_relation(self._relation) from exc
            raise SourceUnavailable(f"the feature database {self._path} does not answer: {exc}") from exc
        except sqlite3.DatabaseError as exc:
            raise ConfigurationError(f"the feature database {self._path} refuses the query: {exc}") from exc


def _kind(name: str, declared: str) -> str:
    """By SQLite's own rules of affinity, so that any declaration it takes has a kind."""
    if name == "date":
        return "date"
    declared = declared.upper()
    # Arithmetic in a view leaves a column without a declared type: it is a number unless it is a key.
    if not declared:
        return "category" if name in KEY_COLUMNS else "number"
    if any(word in declared for word in ("CHAR", "CLOB", "TEXT")):
        return "category"
    if any(word in declared for word in ("DATE", "TIME")):
        return "date"
    return "other" if "BLOB" in declared or "JSON" in declared else "number"


def _values(strategy: str, window: Window) -> tuple[str, str, str]:
    # A date with a time of day is later than the bare date, so the end takes the whole day.
    return strategy, f"{window.start.isoformat()}~", f"{window.end.isoformat()}~"


def _kept_by(sample: RowSample) -> Callable[[object, object], bool]:
    def keeps(ticker: object, day: object) -> bool:
        return sample.keeps(None if ticker is None else str(ticker), _day(str(day)))

    return keeps


def _day(text: str) -> date:
    return date.fromisoformat(str(text)[:10])


def _arrays(rows: list[Any], kinds: dict[str, str]) -> dict[str, pa.Array]:
    return {name: _array(name, [row[index] for row in rows], kind) for index, (name, kind) in enumerate(kinds.items())}


def _array(name: str, values: list[Any], kind: str) -> pa.Array:
    try:
        if kind == "number":
            return pa.array([None if value is None else float(value) for value in values], pa.float64())
        if kind == "date":
            return pa.array([None if value is None else _day(value) for value in values], pa.date32())
    except (TypeError, ValueError) as exc:
        raise UnusableFeatures(f"column {name} holds something that is no {kind}: {exc}") from exc
    return pa.array([None if value is None else str(value) for value in values], pa.string())

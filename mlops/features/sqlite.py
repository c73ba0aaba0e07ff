"""The feature view in SQLite, for small use: dates are ISO text, numbers come as float64.

A text that is no ISO date has no day and is in no window; a time of day may follow the date, and an offset from UTC,
which is reckoned into the declared time zone.
"""

from __future__ import annotations

import copy
import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from mlops.domain.columns import checked_columns, missing_relation, quoted, quoted_relation
from mlops.domain.errors import ConfigurationError, MissingColumn, SourceUnavailable, UnusableFeatures
from mlops.domain.policies import KEY_COLUMNS
from mlops.domain.ports import Column, DateFaults, FeatureSource, Window

if TYPE_CHECKING:
    from mlops.domain.sampling import RowSample

#: Rows of a batch; a row of Python numbers takes ten times its size in Arrow.
_BATCH_ROWS = 5_000
#: The day of a row as ISO text, null where it has none. What SQLite itself gives back unchanged is one.
_DAY = (
    "CASE WHEN date(date, '+0 days') = date THEN date "
    "WHEN date GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]?*' THEN acis_day(date) END"
)
# The first two are for an index: no zone moves a timestamp by more than a day.
_IN_WINDOW = f"date > ? AND date < ? AND {_DAY} > ? AND {_DAY} <= ?"
_ORDERED = f"ORDER BY {_DAY}, CAST(ticker AS TEXT) COLLATE BINARY NULLS LAST"


class SqliteFeatures:
    """`mlops.domain.ports.FeatureSource` over a table of a SQLite file."""

    def __init__(self, url: str, *, relation: str, time_zone: str = "UTC") -> None:
        """time_zone : in which a timestamp with an offset has its day"""
        self._path = Path(url.partition(":///")[2])
        self._relation = relation
        self._quoted = quoted_relation(relation)
        self._zone = ZoneInfo(time_zone)
        self._open: sqlite3.Connection | None = None

    def columns(self) -> tuple[Column, ...]:
        """All columns, by their declared types. Raises SourceUnavailable, MissingColumn."""
        rows = self._rows(f"SELECT name, type FROM pragma_table_info('{self._relation.replace(chr(39), '')}')", ())  # noqa: S608 -- pragma takes no parameter for a quoted name
        if not rows:
            raise missing_relation(self._relation)
        columns = [Column(name=name, kind=_kind(name, kind)) for name, kind in rows]
        return checked_columns(columns, self._relation)

    def latest_date(self, strategy: str | None = None, *, until: date | None = None) -> date | None:
        """Newest date of the strategy, or of any. Raises UnusableFeatures where no date is an ISO one."""
        self.columns()
        conditions = {"strategy = ?": strategy, f"{_DAY} <= ?": until.isoformat() if until else None}
        asked = {condition: value for condition, value in conditions.items() if value is not None}
        where = f"WHERE {' AND '.join(asked)}" if asked else ""
        sql = f"SELECT max({_DAY}) FROM {self._quoted} {where}"  # noqa: S608
        newest = self._rows(sql, list(asked.values()))[0][0]
        if newest is None and until is None:
            self._refuse_unreadable(strategy)
        return _day(newest) if newest else None

    def dates(self, strategy: str, window: Window) -> list[date]:
        """Distinct dates with rows, ascending."""
        return list(self.rows_by_date(strategy, window))

    def count(self, strategy: str, window: Window) -> int:
        """Rows in the window."""
        sql = f"SELECT count(*) FROM {self._quoted} WHERE strategy = ? AND {_IN_WINDOW}"  # noqa: S608
        return int(self._rows(sql, _values(strategy, window))[0][0])

    def rows_by_date(self, strategy: str, window: Window) -> dict[date, int]:
        """Rows of each date, ascending."""
        sql = (
            f"SELECT {_DAY} AS day, count(*) FROM {self._quoted} "  # noqa: S608
            f"WHERE strategy = ? AND {_IN_WINDOW} GROUP BY day ORDER BY day"
        )
        return {_day(day): int(n) for day, n in self._rows(sql, _values(strategy, window))}

    def date_faults(self, strategy: str, window: Window) -> DateFaults:
        """Texts that are no ISO date; times of day other than midnight."""
        n_undated, undated = self._rows(
            f"SELECT count(*), coalesce(min(date), 'null') FROM {self._quoted} "  # noqa: S608
            f"WHERE strategy = ? AND {_DAY} IS NULL",
            [strategy],
        )[0]
        n_not_midnight, not_midnight = self._rows(
            f"SELECT count(*), min(date) FROM {self._quoted} "  # noqa: S608
            f"WHERE strategy = ? AND {_IN_WINDOW} AND length(date) > 10 AND NOT acis_is_midnight(date)",
            _values(strategy, window),
        )[0]
        return DateFaults(
            n_undated=n_undated,
            undated=str(undated) if n_undated else "",
            n_not_midnight=n_not_midnight,
            not_midnight=str(not_midnight or ""),
        )

    @contextmanager
    def snapshot(self) -> Iterator[FeatureSource]:
        """The source within one transaction, which a writer waits for unless the file is in WAL mode."""
        if self._open is not None:
            yield self
            return
        with self._connected() as connection:
            connection.execute("BEGIN")
            one = copy.copy(self)
            vars(one).update(_open=connection)
            yield one

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
        selected = ", ".join(_DAY if name == "date" else quoted(name) for name in kinds)
        kept = f" AND acis_keeps(ticker, {_DAY})" if sample is not None else ""
        sql = (
            f"SELECT {selected} FROM {self._quoted} WHERE strategy = ? AND {_IN_WINDOW}{kept} "  # noqa: S608
            f"{_ORDERED}"
        )
        with self._cursor(sql, _values(strategy, window), sample) as cursor:
            while rows := cursor.fetchmany(_BATCH_ROWS):
                yield pa.record_batch(_arrays(rows, kinds))

    def _rows(self, sql: str, values: Sequence[Any]) -> list[Any]:
        with self._cursor(sql, values) as cursor:
            return cursor.fetchall()

    @contextmanager
    def _cursor(self, sql: str, values: Sequence[Any], sample: RowSample | None = None) -> Iterator[sqlite3.Cursor]:
        with self._connected() as connection:
            if sample is not None:
                connection.create_function("acis_keeps", 2, _kept_by(sample), deterministic=True)
            yield connection.execute(sql, tuple(values))

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        if self._open is None and not self._path.exists():
            raise SourceUnavailable(f"the feature database {self._path} does not exist")
        try:
            if self._open is not None:
                yield self._open
                return
            uri = f"{self._path.resolve().as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
                connection.create_function("acis_day", 1, self._day_of, deterministic=True)
                connection.create_function("acis_is_midnight", 1, self._is_midnight, deterministic=True)
                yield connection
        except sqlite3.OperationalError as exc:
            if "no such table" in str(exc):
                raise missing_relation(self._relation) from exc
            raise SourceUnavailable(f"the feature database {self._path} does not answer: {exc}") from exc
        except sqlite3.DatabaseError as exc:
            raise ConfigurationError(f"the feature database {self._path} refuses the query: {exc}") from exc

    def _refuse_unreadable(self, strategy: str | None) -> None:
        where, values = ("WHERE strategy = ?", [strategy]) if strategy is not None else ("", [])
        sql = f"SELECT min(date) FROM {self._quoted} {where}"  # noqa: S608
        found = self._rows(sql, values)[0][0]
        if found is not None:
            raise UnusableFeatures(
                f"column date of {self._relation} holds something that is no date: {found!r}; write dates as "
                f"2024-03-01, or cast them in the view"
            )

    def _day_of(self, text: object) -> str | None:
        moment = self._moment(text)
        return moment.date().isoformat() if moment is not None else None

    def _is_midnight(self, text: object) -> bool:
        moment = self._moment(text)
        return moment is None or moment.time() == time.min

    def _moment(self, text: object) -> datetime | None:
        """In the declared zone; None for a text that is no ISO date and time."""
        try:
            moment = datetime.fromisoformat(str(text).strip())
        except ValueError:
            return None
        return moment.astimezone(self._zone) if moment.tzinfo is not None else moment


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


def _values(strategy: str, window: Window) -> tuple[str, str, str, str, str]:
    start, end = window.start.isoformat(), window.end.isoformat()
    earliest = (window.start - min(timedelta(days=1), window.start - date.min)).isoformat()
    # A tilde comes after whatever follows a date.
    latest = (window.end + min(timedelta(days=1), date.max - window.end)).isoformat()
    return strategy, earliest, f"{latest}~", start, end


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

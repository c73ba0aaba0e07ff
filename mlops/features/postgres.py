"""The feature view in PostgreSQL, read as Arrow through ADBC.

A bound parameter takes ADBC off the binary COPY protocol (3.4 times slower at 300,000 x 45). So the values
are bound to settings of the transaction first, and the query reads those: a strategy name stays data.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import date, timedelta
from urllib.parse import urlsplit

import adbc_driver_postgresql.dbapi as adbc
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from adbc_driver_manager import Error, OperationalError

from mlops.domain.columns import checked_columns, missing_relation, quoted, quoted_relation, read_schema
from mlops.domain.errors import AcisError, ConfigurationError, MissingColumn, SourceUnavailable
from mlops.domain.ports import Column, DateFaults, FeatureSource, Window
from mlops.domain.sampling import PRIME, RowSample
from mlops.sqlstates import may_pass

_STRATEGY = "current_setting('acis.strategy')"
#: Infinite, or of a year that Python's dates do not have: PostgreSQL's go from 4713 BC to 5874897.
_NO_DAY = "date < '0001-01-01' OR date >= '10000-01-01'"
# From the day after the start to before the day after the end: the same for a date and for a timestamp.
_IN_WINDOW = "date >= current_setting('acis.first')::date AND date < current_setting('acis.after')::date"
#: Types that PostgreSQL does not cast to float8 at once.
_CASTS = {"boolean": "::int", "money": "::numeric"}
_IDENTIFIERS = {"oid", "xid", "cid", "tid", "regclass", "xid8"}
# Of two collations that the database may have, only this one is the order of code points everywhere.
_ORDERED = ' ORDER BY date::date, ticker::text COLLATE "C"'
_UNDEFINED_TABLE, _UNDEFINED_COLUMN = "42P01", "42703"
#: A server that drops packets is as good as down after this; ADBC itself would wait for minutes.
_CONNECT_TIMEOUT_S = 5


def libpq_uri(url: str) -> str:
    """The URL as PostgreSQL's own library takes it: without SQLAlchemy's `+driver`, and with a time-out."""
    uri = "postgresql://" + url.partition("://")[2]
    if "connect_timeout=" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}connect_timeout={_CONNECT_TIMEOUT_S}"


class PostgresFeatures:
    """`mlops.domain.ports.FeatureSource` over a table or view.

    Keeps one connection (45 ms to open), of its own in each process; threads take turns. Nothing stays open
    in a transaction between two calls.
    """

    def __init__(self, url: str, *, relation: str, time_zone: str = "UTC") -> None:
        """time_zone : in which a timestamp with a zone has its day, whatever the database's own setting is"""
        self._url = libpq_uri(url)
        self._relation = relation
        self._time_zone = time_zone
        self._quoted = quoted_relation(relation)
        self._lock = threading.RLock()
        self._connection: adbc.Connection | None = None
        self._process = 0
        self._in_snapshot = False

    def columns(self) -> tuple[Column, ...]:
        """All columns, in the view's order. Raises SourceUnavailable, MissingColumn."""
        return checked_columns([column for column, _ in self._described()], self._relation)

    def latest_date(self, strategy: str | None = None, *, until: date | None = None) -> date | None:
        """Newest date of the strategy, or of any, that a calendar of four-digit years has."""
        where = [f"NOT ({_NO_DAY})"]
        if strategy is not None:
            where.append(f"strategy = {_STRATEGY}")
        if until is not None:
            where.append("date < current_setting('acis.after')::date")
        sql = f"SELECT max(date)::date AS newest FROM {self._quoted} WHERE {' AND '.join(where)}"  # noqa: S608
        after = (until + timedelta(days=1)).isoformat() if until is not None else ""
        values = {"strategy": strategy or "", "after": after}
        newest: date | None = self._query(sql, values).column("newest")[0].as_py()
        return newest

    def dates(self, strategy: str, window: Window) -> list[date]:
        """Distinct dates with rows, ascending."""
        sql = (
            f"SELECT DISTINCT date::date AS day FROM {self._quoted} "  # noqa: S608
            f"WHERE strategy = {_STRATEGY} AND {_IN_WINDOW} ORDER BY day"
        )
        days: list[date] = self._query(sql, _values(strategy, window)).column("day").to_pylist()
        return days

    def count(self, strategy: str, window: Window) -> int:
        """Rows in the window."""
        sql = f"SELECT count(*) AS n FROM {self._quoted} WHERE strategy = {_STRATEGY} AND {_IN_WINDOW}"  # noqa: S608
        return int(self._query(sql, _values(strategy, window)).column("n")[0].as_py())

    def rows_by_date(self, strategy: str, window: Window) -> dict[date, int]:
        """Rows of each date, ascending."""
        sql = (
            f"SELECT date::date AS day, count(*) AS n FROM {self._quoted} "  # noqa: S608
            f"WHERE strategy = {_STRATEGY} AND {_IN_WINDOW} GROUP BY date::date ORDER BY day"
        )
        table = self._query(sql, _values(strategy, window))
        return dict(zip(table.column("day").to_pylist(), table.column("n").to_pylist(), strict=True))

    def date_faults(self, strategy: str, window: Window) -> DateFaults:
        """Rows of the strategy without a day; of timestamps those of the window that are not at midnight."""
        values = _values(strategy, window)
        sql = f"SELECT count(*) AS n, min(date::text) AS example FROM {self._quoted} WHERE strategy = {_STRATEGY}"  # noqa: S608
        undated = self._query(f"{sql} AND (date IS NULL OR {_NO_DAY})", values)
        n_undated, example = (undated.column(name)[0].as_py() for name in ("n", "example"))
        relation = self._query(f"SELECT date FROM {self._quoted} LIMIT 0", {})  # noqa: S608
        n_not_midnight, moment = 0, None
        if pa.types.is_timestamp(relation.schema.field("date").type):
            daytimes = self._query(f"{sql} AND {_IN_WINDOW} AND date::time <> '00:00'", values)
            n_not_midnight, moment = (daytimes.column(name)[0].as_py() for name in ("n", "example"))
        return DateFaults(
            n_undated=n_undated,
            undated=(example or "null") if n_undated else "",
            n_not_midnight=n_not_midnight,
            not_midnight=moment or "",
        )

    @contextmanager
    def snapshot(self) -> Iterator[FeatureSource]:
        """The source within one read-only transaction of repeatable reads; other threads wait for its end."""
        with self._lock:
            if self._in_snapshot:
                yield self
                return
            self._begin()
            try:
                yield self
            finally:
                self._in_snapshot = False
                if self._connection is not None:
                    try:
                        self._connection.rollback()
                    except Error:
                        self._forget()

    def read(
        self, strategy: str, window: Window, columns: Sequence[str], *, sample: RowSample | None = None
    ) -> pa.Table:
        """Rows of the window, ordered by date and ticker; numbers as float64."""
        kept = f" AND {_is_kept(sample, window)}" if sample is not None else ""
        values = _values(strategy, window)
        if {"ticker", "date"} <= set(columns):
            return by_date_and_ticker(self._query(self._selection(columns, kept), values))
        return self._query(self._selection(columns, kept) + _ORDERED, values)

    def read_batches(self, strategy: str, window: Window, columns: Sequence[str]) -> Generator[pa.RecordBatch]:
        """The same rows as they come over the wire, in batches of 16 MB."""
        sql, values = self._selection(columns) + _ORDERED, _values(strategy, window)
        with self._lock:
            try:
                with self._asked(sql, values) as cursor:
                    # A batch that is not taken any more ends the query with its cursor.
                    yield from cursor.fetch_record_batch()
            except Error as exc:
                self._forget()
                raise self._translated(exc) from exc
            except pa.ArrowException as exc:  # what the driver says within a stream
                self._forget()
                message = f"the feature database does not answer: {str(exc).splitlines()[0]}"
                raise SourceUnavailable(message) from exc

    def _described(self) -> list[tuple[Column, str]]:
        """Each column with PostgreSQL's own type, of a domain the type below it: Arrow shows oid as an integer."""
        table = self._query(f"SELECT * FROM {self._quoted} LIMIT 0", {})  # noqa: S608 -- the relation is quoted
        sql = (
            "SELECT attname::text AS name, format_type(coalesce(nullif(typbasetype, 0), atttypid), NULL) AS type "
            "FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid "
            "WHERE attrelid = to_regclass(current_setting('acis.relation')) AND attnum > 0 AND NOT attisdropped"
        )
        found = self._query(sql, {"relation": self._quoted})
        types = dict(zip(found.column("name").to_pylist(), found.column("type").to_pylist(), strict=True))
        return [_typed(column, types.get(column.name, "")) for column in read_schema(table.schema)]

    def _selection(self, columns: Sequence[str], kept: str = "") -> str:
        found = {column.name: (column, postgres_type) for column, postgres_type in self._described()}
        checked_columns([column for column, _ in found.values()], self._relation)
        missing = [name for name in columns if name not in found]
        if missing:
            raise MissingColumn(f"{self._relation} lacks {', '.join(missing)}; found {', '.join(found)}")
        selected = ", ".join(_selected(*found[name]) for name in columns)
        return f"SELECT {selected} FROM {self._quoted} WHERE strategy = {_STRATEGY} AND {_IN_WINDOW}{kept}"  # noqa: S608

    def _query(self, sql: str, values: Mapping[str, str]) -> pa.Table:
        with self._lock:
            kept = self._has_connection()
            try:
                return self._answer(sql, values)
            except Error as exc:
                self._forget()
                error = self._translated(exc)
                # A kept connection may be of a server that has restarted since; a read can be asked again. Another
                # connection would see another state than the one of a snapshot.
                if kept and not self._in_snapshot and isinstance(error, SourceUnavailable):
                    return self._query(sql, values)
                raise error from exc

    def _begin(self) -> None:
        kept = self._has_connection()
        try:
            with self._open().cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            self._in_snapshot = True
        except Error as exc:
            self._forget()
            error = self._translated(exc)
            if not kept or not isinstance(error, SourceUnavailable):
                raise error from exc
            self._begin()

    def _has_connection(self) -> bool:
        """There is a connection of this process."""
        return self._connection is not None and self._process == os.getpid()

    def _answer(self, sql: str, values: Mapping[str, str]) -> pa.Table:
        with self._asked(sql, values) as cursor:
            return cursor.fetch_arrow_table()

    @contextmanager
    def _asked(self, sql: str, values: Mapping[str, str]) -> Iterator[adbc.Cursor]:
        """A cursor that has executed the query; its transaction ends with the block."""
        connection = self._open()
        with connection.cursor() as cursor:
            if values:
                named = {"TimeZone": self._time_zone, **{f"acis.{name}": value for name, value in values.items()}}
                settings = (f"set_config('{name}', ${place}, true)" for place, name in enumerate(named, 1))
                cursor.execute(f"SELECT {', '.join(settings)}", tuple(named.values()))
                cursor.fetch_arrow_table()
            cursor.execute(sql)
            yield cursor
        if not self._in_snapshot:
            connection.rollback()

    def _open(self) -> adbc.Connection:
        if self._in_snapshot and not self._has_connection():
            message = "the connection to the feature database was lost while one state of the features was being read"
            raise SourceUnavailable(message)
        if self._connection is None or self._process != os.getpid():
            if self._connection is not None:
                # Inherited by a fork: closing it would say goodbye in the parent's name.
                _inherited.append(self._connection)
            self._connection = adbc.connect(self._url)
            self._process = os.getpid()
            weakref.finalize(self, _close, self._connection, self._process)
        return self._connection

    def _forget(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            _close(connection, self._process)

    def _translated(self, exc: Error) -> AcisError:
        state = getattr(exc, "sqlstate", None)
        password = urlsplit(self._url).password
        # A URI that is not understood comes back in the message, the password with it.
        first_line = str(exc).replace(password, "***").splitlines()[0] if password else str(exc).splitlines()[0]
        if state == _UNDEFINED_TABLE:
            return missing_relation(self._relation)
        if state == _UNDEFINED_COLUMN:
            return MissingColumn(f"{self._relation} lacks a column: {first_line}")
        # Without a state it did not come from the server.
        if isinstance(exc, OperationalError) or not state or may_pass(state):
            return SourceUnavailable(f"the feature database does not answer: {first_line}")
        return ConfigurationError(f"the feature database refuses the query: {first_line}")


#: Connections of a parent process, kept from being collected.
_inherited: list[adbc.Connection] = []


def _close(connection: adbc.Connection, process: int) -> None:
    if process == os.getpid():
        with suppress(Error):
            connection.close()


def _values(strategy: str, window: Window) -> dict[str, str]:
    day = timedelta(days=1)
    return {
        "strategy": strategy,
        "first": (window.start + day).isoformat(),
        "after": (window.end + day).isoformat(),
    }


def _is_kept(sample: RowSample, window: Window) -> str:
    """The sample's rule in SQL, see `features.sampling`; marks and limits of the dates are constants of the query."""
    first = (window.start + timedelta(days=1)).isoformat()
    marks, limits = (",".join(str(number) for number in numbers) for numbers in sample.by_day(window))
    digest = "encode(substring(sha256(convert_to(coalesce(ticker::text, ''), 'UTF8')) from 1 for 4), 'hex')"
    of_ticker = f"(1 + ('x' || {digest})::bit(32)::bigint % {PRIME - 1})"
    place = f"[date::date - '{first}'::date + 1]"
    return f"{of_ticker} * ('{{{marks}}}'::bigint[]){place} % {PRIME} < ('{{{limits}}}'::bigint[]){place}"


def _typed(column: Column, postgres_type: str) -> tuple[Column, str]:
    if postgres_type in _CASTS:
        column = replace(column, kind="number")
    elif postgres_type in _IDENTIFIERS:
        column = replace(column, kind="other", left_out=f"an identifier of PostgreSQL ({postgres_type})")
    return column, postgres_type


def _selected(column: Column, postgres_type: str) -> str:
    name = quoted(column.name)
    if column.kind == "number":
        return f"{name}{_CASTS.get(postgres_type, '')}::float8 AS {name}"
    if column.kind == "date":
        return f"{name}::date AS {name}"
    return f"{name}::text AS {name}"


def by_date_and_ticker(table: pa.Table) -> pa.Table:
    """The rows by `date`, then `ticker` (in the order of code points), missing ones last; equal ones as they came.

    A store that sorts a million wide rows takes longer to do so than to send them, and rows that were loaded day by day
    come in that order anyway.
    """
    keys = _keys(table)
    if np.all(keys[1:] >= keys[:-1]):
        return table
    return table.take(pa.array(np.argsort(keys, kind="stable")))


def _keys(table: pa.Table) -> npt.NDArray[np.int64]:
    """(n,) a number for each row's date and ticker, ascending with them."""
    coded = table.column("ticker").combine_chunks().dictionary_encode(null_encoding="mask")
    tickers = coded.dictionary.to_pylist()
    rank = np.empty(len(tickers) + 1, dtype=np.int64)
    rank[sorted(range(len(tickers)), key=tickers.__getitem__)] = np.arange(len(tickers))
    rank[-1] = len(tickers)
    places = coded.indices.fill_null(len(tickers)).to_numpy(zero_copy_only=False)
    days = table.column("date").cast("int32").combine_chunks()
    n_days = np.iinfo(np.int32).max  # no day of a calendar
    numbers = days.fill_null(n_days).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.asarray(numbers * len(rank) + rank[places], dtype=np.int64)

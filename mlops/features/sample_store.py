"""Where the sample is loaded: a table in PostgreSQL or SQLite, with its version beside it.

Each store is one transaction from `open_store` to the end of its block, and one loader works at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Protocol

import adbc_driver_postgresql.dbapi as adbc
import pyarrow as pa
from adbc_driver_manager import Error, OperationalError

from mlops.domain.columns import kind_of, quoted, quoted_relation
from mlops.domain.errors import ConfigurationError, SourceUnavailable
from mlops.features.postgres import libpq_uri
from mlops.sqlstates import may_pass

_KEY = "(strategy, date, ticker)"


class SampleStore(Protocol):
    """One table and its version."""

    def version(self) -> str | None:
        """What `replace` noted, or None."""
        ...

    def exists(self) -> bool:
        """There is a table or view of that name."""
        ...

    def replace(self, rows: pa.Table, version: str) -> None:
        """Make the table hold the rows and nothing else."""
        ...


@contextmanager
def open_store(url: str, relation: str) -> Iterator[SampleStore]:
    """Open, and commit at the end. Raises SourceUnavailable, ConfigurationError."""
    scheme = url.partition("://")[0].partition("+")[0]
    if scheme == "sqlite":
        try:
            with closing(sqlite3.connect(url.partition(":///")[2], timeout=60)) as database, database:
                database.execute("BEGIN IMMEDIATE")
                yield SqliteStore(database, relation)
        except sqlite3.OperationalError as exc:
            raise SourceUnavailable(f"the feature database does not answer: {exc}") from exc
        return
    if scheme not in ("postgresql", "postgres"):
        raise ConfigurationError(f"the sample cannot be loaded into {scheme}://…; give postgresql:// or sqlite:///")
    try:
        with adbc.connect(libpq_uri(url)) as connection:
            with connection.cursor() as cursor:
                # Freed with the transaction.
                cursor.execute("SELECT pg_advisory_xact_lock(hashtext('acis sample'))")
                cursor.fetch_arrow_table()
                yield PostgresStore(cursor, relation)
            connection.commit()
    except OperationalError as exc:
        raise SourceUnavailable(f"the feature database does not answer: {str(exc).splitlines()[0]}") from exc
    except Error as exc:
        if may_pass(exc.sqlstate):
            raise SourceUnavailable(f"the feature database does not answer: {str(exc).splitlines()[0]}") from exc
        raise ConfigurationError(f"the feature database refuses the sample: {str(exc).splitlines()[0]}") from exc


class PostgresStore:
    """Loads by binary COPY (395,000 rows of 26 columns in 1.5 s); the version is the table's comment."""

    def __init__(self, cursor: adbc.Cursor, relation: str) -> None:
        self._cursor = cursor
        self._relation = relation

    def version(self) -> str | None:
        """The table's comment."""
        return self._value("SELECT obj_description(to_regclass($1), 'pg_class')")

    def exists(self) -> bool:
        """There is a table or view of that name."""
        return self._value("SELECT to_regclass($1)::text") is not None

    def replace(self, rows: pa.Table, version: str) -> None:
        """Drop, create, fill, index."""
        name = quoted_relation(self._relation)
        self._cursor.execute(f"DROP TABLE IF EXISTS {name}")
        self._cursor.adbc_ingest(self._relation, rows, mode="create")
        self._cursor.execute(f"ALTER TABLE {name} ADD PRIMARY KEY {_KEY}")
        # A comment takes no parameter; the version is a constant of this package.
        self._cursor.execute(f"COMMENT ON TABLE {name} IS '{version}'")
        self._cursor.execute(f"ANALYZE {name}")

    def _value(self, sql: str) -> str | None:
        self._cursor.execute(sql, (quoted_relation(self._relation),))
        value: str | None = self._cursor.fetch_arrow_table().column(0)[0].as_py()
        return value


class SqliteStore:
    """For a quick look; the version is the comment of a small table beside it."""

    def __init__(self, database: sqlite3.Connection, relation: str) -> None:
        self._database = database
        self._relation = relation
        self._version = quoted_relation(f"{relation}_version")

    def version(self) -> str | None:
        """What the small table says."""
        self._database.execute(f"CREATE TABLE IF NOT EXISTS {self._version} (version TEXT NOT NULL)")
        row = self._database.execute(f"SELECT version FROM {self._version}").fetchone()  # noqa: S608 -- quoted
        return None if row is None else str(row[0])

    def exists(self) -> bool:
        """There is a table or view of that name."""
        found = self._database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (self._relation,)).fetchone()
        return found is not None

    def replace(self, rows: pa.Table, version: str) -> None:
        """Drop, create, fill, note the version."""
        name = quoted_relation(self._relation)
        types = {"number": "REAL", "category": "TEXT NOT NULL", "date": "DATE NOT NULL"}
        columns = ", ".join(f"{quoted(field.name)} {types[kind_of(field.type)]}" for field in rows.schema)
        self._database.execute(f"DROP TABLE IF EXISTS {name}")
        self._database.execute(f"CREATE TABLE {name} ({columns}, PRIMARY KEY {_KEY}) WITHOUT ROWID")
        days = rows.column("date").cast(pa.string())
        rows = rows.set_column(rows.column_names.index("date"), "date", days)
        places = ", ".join("?" * rows.num_columns)
        for batch in rows.to_batches(max_chunksize=50_000):
            values = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            self._database.executemany(f"INSERT INTO {name} VALUES ({places})", values)  # noqa: S608 -- quoted
        self._database.execute(f"DELETE FROM {self._version}")  # noqa: S608 -- quoted
        self._database.execute(f"INSERT INTO {self._version} VALUES (?)", (version,))  # noqa: S608 -- quoted

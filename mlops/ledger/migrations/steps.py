"""What a revision is made of: steps that code of the version before survives, and that can be repeated.

A revision is no transaction: each step commits by itself, so that no table is locked for longer than a
moment, and one that a kill cut off is begun again from its first step. So a step finds what it has done already.
Indexes are built beside writers (CONCURRENTLY); one whose build was cut off is dropped and built again. Rows are
changed in batches. What needs a table for itself waits a second for it, steps back, and tries again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import exc
from sqlalchemy.schema import CreateIndex, SchemaItem

from mlops.domain.errors import ConfigurationError

if TYPE_CHECKING:
    from mlops.ledger.schema import Migration

_LOCK_WITHIN_S = 1.0
"""A lock on a table is waited for so long: everybody else who wants the table waits behind it meanwhile."""
BATCH = 5000
"""Rows of one UPDATE: some hundred milliseconds, in which a renewal waits for its row at most."""

_IS_PARTITIONED = "SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass(:name)"
#: Partitions of a table that have no part in an index of it.
_WITHOUT_INDEX = """
SELECT c.relname FROM pg_inherits AS t JOIN pg_class AS c ON c.oid = t.inhrelid
WHERE t.inhparent = to_regclass(:table) AND NOT EXISTS (
  SELECT FROM pg_inherits AS i JOIN pg_index AS x ON x.indexrelid = i.inhrelid
  WHERE i.inhparent = to_regclass(:index) AND x.indrelid = c.oid)
ORDER BY c.relname"""

#: SQLSTATE: lock not available, deadlock.
_COME_AGAIN = {"55P03", "40P01"}


def create_table(name: str, *parts: SchemaItem, partition_by: str | None = None) -> None:
    """A table with columns and constraints; nothing where it is there. `partition_by`: as `RANGE (as_of)`."""
    migration, connection = _migration(), op.get_bind()
    if sa.inspect(connection).has_table(name):
        return
    _locking(f"table {name}", lambda: op.create_table(name, *parts, postgresql_partition_by=partition_by))
    migration.new_tables.add(name)


def add_column(table: str, column: sa.Column[Any]) -> None:
    """A column that may be NULL, or has a constant default: no row is written. Nothing where it is there."""
    # Asked for first: to add it where it is would wait for the table all the same.
    there = {one["name"] for one in sa.inspect(op.get_bind()).get_columns(table)}
    if column.name not in there:
        _locking(f"column {table}.{column.name}", lambda: op.add_column(table, column))


def create_index(
    name: str, table: str, columns: Sequence[str], *, unique: bool = False, where: str | None = None
) -> None:
    """An index, built beside writers; nothing where it is there and whole. `where`: of a partial one."""
    build_index(_migration(), op.get_bind(), _index(name, table, columns, unique=unique, where=where), table=table)


def replace_index(
    name: str, table: str, columns: Sequence[str], *, unique: bool = False, where: str | None = None
) -> None:
    """Another index under the same name: built beside the old one, which holds until then."""
    connection = op.get_bind()
    coming = f"{name}_new"
    create_index(coming, table, columns, unique=unique, where=where)
    # Two statements sent as one are one transaction: at no moment is there no index.
    swap = f"DROP INDEX IF EXISTS {name}; ALTER INDEX {coming} RENAME TO {name}"
    _locking(f"index {name}", lambda: connection.exec_driver_sql(swap))


def update_rows(table: str, *, key: str, setting: str, where: str, source: str = "") -> None:
    """UPDATE in batches along a column with a unique index. `where`: true of rows that are still to be changed.

    `source`: further tables, with their conditions in `where`; the table's own columns are `r.…`.
    """
    connection, migration = op.get_bind(), _migration()
    rows = sa.table(table, sa.column(key))
    froms = f" FROM {source}" if source else ""
    changing = f"UPDATE {table} AS r SET {setting}{froms} WHERE ({where})"  # noqa: S608 -- a revision's own words
    n_seen, after = 0, None
    while True:
        batch = sa.select(rows.c[key]).order_by(rows.c[key]).limit(BATCH)
        batch = batch if after is None else batch.where(rows.c[key] > after)
        found = batch.subquery()
        last, n_rows = connection.execute(sa.select(sa.func.max(found.c[key]), sa.func.count(found.c[key]))).one()
        if n_rows == 0:
            return
        _locking(f"rows of {table}", partial(_change, connection, changing, key, after, last), is_said=False)
        n_seen, after = n_seen + n_rows, last
        migration.say(f"{table}: {n_seen:,} rows looked at", key=f"rows of {table}")


def _change(connection: sa.Connection, changing: str, key: str, after: object, last: object) -> None:
    if after is None:
        connection.execute(sa.text(f"{changing} AND r.{key} <= :last"), {"last": last})
    else:
        connection.execute(
            sa.text(f"{changing} AND r.{key} <= :last AND r.{key} > :after"), {"last": last, "after": after}
        )


def build_index(migration: Migration, connection: sa.Connection, index: sa.Index, *, table: str) -> None:
    """Build the index where it is missing or a build of it was cut off."""
    if _is_valid(connection, str(index.name)):
        return
    if table in migration.new_tables:  # nobody knows it yet
        connection.execute(CreateIndex(index))
        return
    if connection.scalar(sa.text(_IS_PARTITIONED), {"name": table}):
        _build_on_partitions(migration, connection, index, table=table)
        return
    index.dialect_options["postgresql"]["concurrently"] = True
    what = f"index {index.name} on {table}"

    def build() -> None:
        if _is_valid(connection, str(index.name)) is False:
            connection.exec_driver_sql(f"DROP INDEX CONCURRENTLY {index.name}")
        try:
            connection.execute(CreateIndex(index))
        except exc.IntegrityError as error:
            connection.exec_driver_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {index.name}")
            words = " ".join(str(error.orig).split())
            raise ConfigurationError(
                f"{what} cannot be built: {words}; remove what is doubled and run it again"
            ) from error

    # It waits for transactions that are older than itself, and nobody waits for it.
    retried(migration, connection, what, build, lock_within_s=migration.patience_s)


def _build_on_partitions(migration: Migration, connection: sa.Connection, index: sa.Index, *, table: str) -> None:
    """The index of a partitioned table, which cannot be built beside writers itself: each partition's can.

    That of the table is made for the table alone, and is valid once those of all partitions are attached to it.
    """
    name, what = str(index.name), f"index {index.name} on {table}"
    if _is_valid(connection, name) is None:
        alone = str(CreateIndex(index).compile(connection)).replace(f" ON {table} ", f" ON ONLY {table} ")
        retried(migration, connection, what, lambda: connection.exec_driver_sql(alone), lock_within_s=_LOCK_WITHIN_S)
    columns = [column.name for column in index.columns]
    for partition in connection.scalars(sa.text(_WITHOUT_INDEX), {"table": table, "index": name}).all():
        own = f"{name}_{partition.removeprefix(table).strip('_')}"
        part = _index(own, partition, columns, unique=index.unique, where=None)
        build_index(migration, connection, part, table=partition)
        attach = f"ALTER INDEX {name} ATTACH PARTITION {own}"
        retried(migration, connection, what, partial(connection.exec_driver_sql, attach), lock_within_s=_LOCK_WITHIN_S)


def _index(name: str, table: str, columns: Sequence[str], *, unique: bool, where: str | None) -> sa.Index:
    stub = sa.Table(table, sa.MetaData(), *(sa.Column(column, sa.Text) for column in columns))
    partial = None if where is None else sa.text(where)
    return sa.Index(name, *stub.c, unique=unique, postgresql_where=partial)


def _is_valid(connection: sa.Connection, index: str) -> bool | None:
    """None: there is no such index."""
    query = "SELECT indisvalid AND indisready FROM pg_index WHERE indexrelid = to_regclass(:name)"
    valid: bool | None = connection.scalar(sa.text(query), {"name": index})
    return valid


def _migration() -> Migration:
    config = op.get_context().config
    assert config is not None  # noqa: S101 -- `schema.migrate` runs revisions, and always with one
    migration: Migration = config.attributes["migration"]
    return migration


def _locking(what: str, work: Callable[[], object], *, is_said: bool = True) -> None:
    retried(_migration(), op.get_bind(), what, work, lock_within_s=_LOCK_WITHIN_S, is_said=is_said)


def retried(
    migration: Migration,
    connection: sa.Connection,
    what: str,
    work: Callable[[], object],
    *,
    lock_within_s: float,
    is_said: bool = True,
) -> None:
    """Do the work once nobody holds what it needs; raises LedgerUnavailable, with who does, after the patience."""
    connection.exec_driver_sql(f"SET lock_timeout = '{max(1, round(lock_within_s * 1000))}ms'")
    began = time.monotonic()
    while True:
        try:
            work()
        except exc.OperationalError as error:
            if getattr(error.orig, "pgcode", None) not in _COME_AGAIN:
                raise
            migration.wait(what, waited_s=time.monotonic() - began)
        else:
            if is_said:
                migration.say(f"{what}: done in {time.monotonic() - began:.1f} s")
            return

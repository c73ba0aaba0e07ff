"""The schema's migrations, run from the program: `acis migrate`, `make run`, the tests; read by `acis doctor`."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, func, select, text
from sqlalchemy.exc import ProgrammingError

from mlops.domain.errors import AcisError, ConfigurationError, LedgerUnavailable
from mlops.ledger.engine import Database
from mlops.ledger.grants import first_lacking, put_in_force
from mlops.ledger.tables import metadata

log = structlog.get_logger(__name__)

VERSION_TABLE = "mlops_alembic_version"
"""Not Alembic's default: MLflow keeps its own migrations in `alembic_version`, maybe of the same database."""

REVISIONS = (Path(__file__).parent / "migrations" / "versions",)
"""Folders with the migrations, which follow one another."""

PATIENCE_S = 600.0
"""One step waits so long for a lock that others hold."""

_MIGRATION_LOCK = 0x61636974  # one process migrates, the others wait and find it done
_LOOK_EVERY_S = 1.0
_SAY_EVERY_S = 10.0
_REFUSED = "42501"  # SQLSTATE: a right is lacking
#: Between two tries for a lock: whoever waited behind us has its turn.
_STEP_BACK_S = 2.0

_HOLDERS = """SELECT a.pid, a.usename, a.application_name, a.state, a.backend_type, a.xact_start, a.query_start,
  clock_timestamp() AS now, left(regexp_replace(a.query, '\\s+', ' ', 'g'), 80) AS query
FROM pg_stat_activity AS a WHERE a.pid = ANY({pids}) ORDER BY a.xact_start"""
_BLOCKING = _HOLDERS.format(pids="pg_blocking_pids(:pid)")
_MIGRATING = _HOLDERS.format(
    pids="ARRAY(SELECT l.pid FROM pg_locks AS l WHERE l.locktype = 'advisory' AND l.granted"
    " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND l.classid = 0 AND l.objid = :lock)"
)
_BUILDING = """SELECT phase, lockers_done, lockers_total, blocks_done, blocks_total, tuples_done, tuples_total,
  index_relid::regclass::text AS being_built FROM pg_stat_progress_create_index WHERE pid = :pid"""


@dataclass(frozen=True, kw_only=True)
class SchemaState:
    """Where the database's schema is."""

    current: str | None
    """Newest migration that was run; None: no tables yet."""
    head: str
    """Newest migration that this program has."""

    @property
    def is_current(self) -> bool:
        """The program and the database agree."""
        return self.current == self.head


def migrate(
    url: str, *, say: Callable[[str], None] | None = None, patience_s: float = PATIENCE_S, to: str = "head"
) -> SchemaState:
    """Bring the schema to this program's newest; safe to call from several processes, beside workers, and again.

    What a killed call left is finished by the next one; indexes that are missing or were left half built are built.
    The users of the roles, where the server has them, may do what `mlops.ledger.grants` says.
    `say`: told what is done and waited for. `patience_s`: how long for a lock that others hold.
    Raises LedgerUnavailable, also where the patience is at its end, and ConfigurationError.
    """
    database = Database(url)
    try:
        with database.unhurried() as connection:
            migration = Migration(database, say=say, patience_s=patience_s)
            with migration.alone(connection):
                _refuse_unknown(connection)
                command.upgrade(_config(connection, migration), to)
                if to == "head":
                    _build_what_is_missing(migration, connection)
                    put_in_force(connection)
            return _state(connection)
    finally:
        database.close()


def schema_state(url: str) -> SchemaState:
    """Current and newest migration. Raises LedgerUnavailable, ConfigurationError."""
    database = Database(url)
    try:
        with database.reading() as connection:
            return _state(connection)
    finally:
        database.close()


def await_migration(
    url: str,
    *,
    say: Callable[[str], None] | None = None,
    patience_s: float = PATIENCE_S,
    pause: Callable[[float], None] = time.sleep,
) -> SchemaState:
    """Wait until another process has brought the schema to this program's newest, or to a newer one; changes nothing.

    The rights of the URL's user, which come last in a migration, are waited for, too, and a ledger that is away.
    `pause`: waits so many seconds. Raises LedgerUnavailable at the end of the patience, ConfigurationError.
    """
    end = time.monotonic() + patience_s
    while True:
        try:
            state, missing = _not_yet(url)
            if not missing:
                return state
            words = missing
        except LedgerUnavailable as exc:
            words = str(exc)
        if time.monotonic() >= end:
            raise LedgerUnavailable(words)
        if say is not None:
            say(words)
        pause(_STEP_BACK_S)


def _not_yet(url: str) -> tuple[SchemaState, str]:
    """The schema's state, and what it is to be waited for; empty: nothing."""
    database = Database(url)
    try:
        with database.reading() as connection:
            state = _state(connection)
            if state.current is None or state.current < state.head:
                return (
                    state,
                    f"the ledger is at revision {state.current}; waits for {state.head}, which `acis migrate` makes",
                )
            # A newer version may give less than this one had.
            lacking = first_lacking(connection) if state.is_current else ""
            return state, f"the ledger's user waits for {lacking}, which `acis migrate` gives" if lacking else ""
    except ProgrammingError as exc:
        if getattr(exc.orig, "pgcode", None) != _REFUSED:
            raise
        raise LedgerUnavailable("the ledger's user may read nothing yet; `acis migrate` lets it") from exc
    finally:
        database.close()


class Migration:
    """One process's turn at the schema: what it says, and how it waits for others."""

    def __init__(self, database: Database, *, say: Callable[[str], None] | None, patience_s: float) -> None:
        self.patience_s = patience_s
        self.new_tables: set[str] = set()
        """Made by this process: no program of the version before reads or writes them."""
        self._database = database
        self._say = say
        self._said_at: dict[str, float] = {}
        self._watch: _LockWatch | None = None

    def say(self, words: str, *, key: str | None = None) -> None:
        """Tell a person; of what has a key, at most every ten seconds."""
        now = time.monotonic()
        if key is not None and now - self._said_at.get(key, now - _SAY_EVERY_S) < _SAY_EVERY_S:
            return
        if key is not None:
            self._said_at[key] = now
        if self._say is not None:
            self._say(words)

    def wait(self, what: str, *, waited_s: float) -> None:
        """Step back from a lock that others hold. Raises LedgerUnavailable at the end of the patience."""
        held = self._watch.seen if self._watch is not None and self._watch.seen else "somebody who has gone meanwhile"
        if waited_s >= self.patience_s:
            raise LedgerUnavailable(
                f"{what} could not be done within {self.patience_s:.0f} s: the lock is held by {held}; let that come "
                "to its end, or end it with SELECT pg_terminate_backend(PID), then run `acis migrate` again: what was "
                "done so far stays done"
            )
        self.say(f"{what}: waits for {held}; tried again", key=f"{what} {held}")
        time.sleep(_STEP_BACK_S)

    @contextmanager
    def alone(self, connection: Connection) -> Iterator[None]:
        """While nobody else migrates this database; waits for one that does, and finds its work done."""
        began = time.monotonic()
        # Asked for again and again: a statement that waits here would hold up an index that the other one builds.
        while not connection.scalar(select(func.pg_try_advisory_lock(_MIGRATION_LOCK))):
            others = connection.execute(text(_MIGRATING), {"lock": _MIGRATION_LOCK}).all()
            held = " and ".join(_in_words(row) for row in others) or "another `acis migrate`"
            if time.monotonic() - began >= self.patience_s:
                raise LedgerUnavailable(f"another process migrates the ledger, for {self.patience_s:.0f} s now: {held}")
            self.say(f"waits for another migration: {held}", key="another")
            time.sleep(_LOOK_EVERY_S)
        pid = int(connection.scalar(select(func.pg_backend_pid())) or 0)
        with _LockWatch(self._database, pid, self.say) as self._watch:
            yield


class _LockWatch:
    """Looks, on a connection of its own, at whom the migration waits for and how far an index is."""

    def __init__(self, database: Database, pid: int, say: Callable[..., None]) -> None:
        self._database, self._pid, self._say = database, pid, say
        self.seen = ""
        """Whom the last wait was for."""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lock-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        # Twice within the time that a lock is waited for.
        while not self._closing.wait(_LOOK_EVERY_S / 2):
            try:
                self._look()
            except AcisError as exc:  # the migration itself will say so
                log.info("ledger.migration_not_watched", error=str(exc))

    def _look(self) -> None:
        with self._database.reading() as connection:
            blocking = connection.execute(text(_BLOCKING), {"pid": self._pid}).all()
            building = connection.execute(text(_BUILDING), {"pid": self._pid}).one_or_none()
        if blocking:
            self.seen = " and ".join(_in_words(row) for row in blocking)
        if building is not None:
            waits = f", for {self.seen}" if blocking else ""
            done = _share(building.blocks_done, building.blocks_total) or _share(
                building.tuples_done, building.tuples_total
            )
            name = building.being_built if building.being_built != "-" else "that is about to be built"
            self._say(f"index {name}: {building.phase}{done}{waits}", key=f"index {name}")


def _share(done: int | None, total: int | None) -> str:
    return f", {100 * (done or 0) / total:.0f} %" if total else ""


def _in_words(row: Any) -> str:  # noqa: ANN401 -- a row of _HOLDERS
    """`pid 71 (user acis, application psql, idle in transaction since 14:02:11, 312 s, query of …: SELECT …)`."""
    told = [f"user {row.usename}" if row.usename else str(row.backend_type)]
    if row.application_name:
        told.append(f"application {row.application_name}")
    if row.xact_start is not None:
        for_s = (row.now - row.xact_start).total_seconds()
        told.append(f"{row.state} since {row.xact_start:%H:%M:%S} UTC, for {for_s:.0f} s")
    if row.query_start is not None and row.query:
        told.append(f"query of {row.query_start:%H:%M:%S}: {row.query}")
    return f"pid {row.pid} ({', '.join(told)})"


def _build_what_is_missing(migration: Migration, connection: Connection) -> None:
    """Of the program's indexes: a restore may have left some out, and a kill some half built."""
    from mlops.ledger.migrations.steps import build_index  # noqa: PLC0415 -- Alembic's steps import this module

    copies = MetaData()
    for table in metadata.sorted_tables:
        for index in table.to_metadata(copies).indexes:
            build_index(migration, connection, index, table=table.name)


def _state(connection: Connection) -> SchemaState:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    head = ScriptDirectory.from_config(_config(connection)).get_current_head()
    return SchemaState(current=context.get_current_revision(), head=head or "")


def _refuse_unknown(connection: Connection) -> None:
    script, current = ScriptDirectory.from_config(_config(connection)), _state(connection).current
    if current is None or current in {one.revision for one in script.walk_revisions()}:
        return
    first, head = script.get_base() or "", script.get_current_head()
    if current < first:
        raise ConfigurationError(
            f"the ledger is at revision {current}, which an unreleased version made; this one upgrades from {first} on:"
            f" run `acis migrate` of the last commit that has revision {current} first, or let DATABASE_URL name a new"
            " database (`acis backup` of that commit keeps what is in this one)"
        )
    raise ConfigurationError(
        f"the ledger is at revision {current}, and this version knows none after {head}; use the version that made it"
    )


def _config(connection: Connection, migration: Migration | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("version_locations", os.pathsep.join(map(str, REVISIONS)))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    config.attributes["migration"] = migration
    return config


# ---- The whole schema against what this program expects: a restore that lost an index or a constraint is found
#
# The tables that are expected are made as temporary ones and taken back, and both are described by the server itself,
# so that neither its version nor its way of writing an expression plays a part.

Part = Literal["table", "column", "constraint", "index"]

_DESCRIBED = """
WITH t AS (
  SELECT c.oid, c.relname FROM pg_class AS c
  WHERE c.relnamespace = :namespace AND c.relkind IN ('r', 'p') AND c.relname = ANY(:names))
SELECT 'table' AS part, t.relname AS table, t.relname AS name, '' AS definition FROM t
UNION ALL
SELECT 'column', t.relname, a.attname, concat_ws(' ', format_type(a.atttypid, a.atttypmod),
    CASE WHEN a.attnotnull THEN 'NOT NULL' END, 'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid))
  FROM t JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef AS d ON d.adrelid = t.oid AND d.adnum = a.attnum
UNION ALL
SELECT 'constraint', t.relname, k.conname,
    pg_get_constraintdef(k.oid) || CASE WHEN i.indisvalid = false THEN ' (its index is not valid)' ELSE '' END
  FROM t JOIN pg_constraint AS k ON k.conrelid = t.oid AND k.contype <> 'n'
  LEFT JOIN pg_index AS i ON i.indexrelid = k.conindid
UNION ALL
SELECT 'index', t.relname, c.relname,
    pg_get_indexdef(i.indexrelid) || CASE WHEN i.indisvalid AND i.indisready THEN '' ELSE ' (its build was cut off)' END
  FROM t JOIN pg_index AS i ON i.indrelid = t.oid JOIN pg_class AS c ON c.oid = i.indexrelid
  WHERE NOT EXISTS (SELECT 1 FROM pg_constraint AS k WHERE k.conindid = i.indexrelid AND k.conrelid = t.oid)
"""
#: Of the schema of a table, in a definition: the temporary ones have another.
_QUALIFIED = re.compile(r"\b(?:pg_temp(?:_\d+)?|\w+)\.(?=mlops_)")
_BARE = re.compile(r"::(?:text|character varying)(?:\[\])?|[()]")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Something of the schema that is missing, or is not what this program expects."""

    part: Part
    name: str
    found: str
    """In words."""
    mend: str


def schema_differences(database: Database) -> list[Difference]:
    """Tables, columns with their types, constraints and indexes; empty where all is as expected.

    What is there beside them is nobody's business here. Raises LedgerUnavailable.
    """
    with database.transaction() as connection:
        namespace = connection.scalar(
            text("SELECT relnamespace FROM pg_class WHERE oid = to_regclass(:name)"), {"name": VERSION_TABLE}
        )
        found = _described(connection, namespace)
        with connection.begin_nested() as trial:
            metadata.create_all(connection.execution_options(schema_translate_map={None: "pg_temp"}), checkfirst=False)
            expected = _described(connection, connection.scalar(text("SELECT pg_my_temp_schema()")))
            trial.rollback()
    tables = {table for part, table, _ in found if part == "table"}
    return [
        _difference(part, table, name, definition, found.get((part, table, name)))
        for (part, table, name), definition in sorted(expected.items())
        if not _is_same(definition, found.get((part, table, name))) and (part == "table" or table in tables)
    ]


def _is_same(expected: str, found: str | None) -> bool:
    """But for casts to text and brackets: a condition that went through `pg_dump` has them in other places."""
    return found is not None and _BARE.sub("", expected) == _BARE.sub("", found)


def _described(connection: Connection, namespace: int | None) -> dict[tuple[Part, str, str], str]:
    values = {"namespace": namespace, "names": list(metadata.tables)}
    rows = connection.execute(text(_DESCRIBED), values)
    return {(row.part, row.table, row.name): _QUALIFIED.sub("", row.definition) for row in rows}


def _difference(part: Part, table: str, name: str, expected: str, found: str | None) -> Difference:
    place = name if part == "table" else f"{table}.{name}" if part == "column" else f"{name} of {table}"
    words = "is missing" if found is None else f"is not as expected: {found}"
    wanted = f"; expected: {expected}" if expected else ""
    return Difference(
        part=part, name=name, found=f"{part} {place} {words}{wanted}", mend=_mend(part, table, name, found, expected)
    )


def _mend(part: Part, table: str, name: str, found: str | None, expected: str) -> str:
    if part == "index":
        is_other = found is not None and "cut off" not in found
        return f"DROP INDEX CONCURRENTLY {name}, then `acis migrate`" if is_other else "acis migrate"
    if part == "constraint":
        drop = "" if found is None else f"DROP CONSTRAINT {name}, "
        return f"ALTER TABLE {table} {drop}ADD CONSTRAINT {name} {expected}"
    return "restore a whole backup with `acis restore`, or ask whoever changed the table to take that back"


# ---- What the ledger's server would keep through a crash or a failover; `acis doctor` asks

#: Settings of PostgreSQL whose "off" loses committed transactions, or the whole cluster, in a crash.
_DURABLE = ("fsync", "full_page_writes", "synchronous_commit")


@dataclass(frozen=True, kw_only=True)
class Durability:
    """Of a PostgreSQL server."""

    switched_off: tuple[str, ...]  # of _DURABLE
    synchronous: tuple[str, ...]  # standbys, by application_name
    asynchronous: tuple[str, ...]
    hidden: tuple[str, ...]  # of which this user may not see how they follow


def durability(database: Database) -> Durability:
    """What the server of the ledger keeps."""
    with database.reading() as connection:
        off = tuple(name for name in _DURABLE if connection.scalar(text(f"SHOW {name}")) == "off")
        standbys = connection.execute(text("SELECT application_name, sync_state FROM pg_stat_replication")).all()
    names: dict[str, list[str]] = {"synchronous": [], "asynchronous": [], "hidden": []}
    for row in standbys:
        follows = {None: "hidden", "async": "asynchronous"}.get(row.sync_state, "synchronous")
        names[follows].append(row.application_name or "without a name")
    return Durability(switched_off=off, **{follows: tuple(found) for follows, found in names.items()})

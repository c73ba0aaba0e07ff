"""The connection to the ledger's database, and the border at which its errors become ours."""

from __future__ import annotations

import hashlib
import re
import select as select_module
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import psycopg2
from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, func, make_url, select
from sqlalchemy.engine import ExceptionContext, ExecutionContext

from mlops.domain.errors import ConfigurationError, DataError, LedgerUnavailable
from mlops.failpoints import reach
from mlops.ledger.columns import dump_json
from mlops.sqlstates import READ_ONLY, may_pass
from mlops.volumes import says_full

# ---- Statements that PostgreSQL parses and plans once in a connection's life; psycopg2 has no such thing of its own
#
# A statement with the option `PREPARED` goes out as PREPARE the first time and as EXECUTE each time. Of a claim,
# parsing and planning are four fifths. PostgreSQL plans anew by itself when a table's indexes or statistics change.
# For statements that are built once and find their rows by a key: a plan for any value cannot use an index over some
# of a column's values.

PREPARED = {"acis_prepared": True}
"""For `execution_options`."""

_NOT_AS_LEFT = {"26000", "42P05", "0A000"}
"""SQLSTATE of a connection that is not as this process left it: a statement is not prepared, is prepared already (an
interruption fell between PREPARE and its note), or was prepared for columns of another type (a migration)."""

_PARAMETER = re.compile(r"%%|%\((\w+)\)s")


def _prepare_marked(engine: Engine) -> None:
    """Let the engine, whose driver is psycopg2, heed the option."""
    event.listen(engine, "before_cursor_execute", _as_prepared, retval=True)
    event.listen(engine, "handle_error", _end_a_connection_that_is_not_as_left)


def _as_prepared(
    connection: Connection,
    cursor: Any,  # noqa: ANN401 -- psycopg2's own cursor
    statement: str,
    parameters: Any,  # noqa: ANN401 -- the event's signature
    context: ExecutionContext,
    executemany: bool,  # noqa: FBT001 -- the event's signature
) -> tuple[str, Any]:
    if executemany or not context.execution_options.get("acis_prepared"):
        return statement, parameters
    preparing, executing = _texts(statement)
    known = connection.info.setdefault("acis_prepared", set())  # goes with the connection, as the statement does
    if executing not in known:
        cursor.execute(preparing)
        known.add(executing)
    return executing, parameters


def _end_a_connection_that_is_not_as_left(context: ExceptionContext) -> None:
    if getattr(context.original_exception, "pgcode", None) in _NOT_AS_LEFT:
        context.is_disconnect = True  # whoever asks next gets a new one
        context.invalidate_pool_on_disconnect = False


@lru_cache(maxsize=256)
def _texts(statement: str) -> tuple[str, str]:
    """PREPARE and EXECUTE of a statement. Another text has another name, whichever process prepared it."""
    places: dict[str, int] = {}

    def place(match: re.Match[str]) -> str:
        return f"${places.setdefault(match[1], len(places) + 1)}" if match[1] else "%"

    text = _PARAMETER.sub(place, statement)
    name = f"acis_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    given = f"({', '.join(f'%({one})s' for one in places)})" if places else ""
    return f"PREPARE {name} AS {text}", f"EXECUTE {name}{given}"


CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 15
"""A renewal must know within 15 s that it failed: the child stops writing 45 s after the last one."""

_MISSING = {"42P01", "42703", "42883"}  # SQLSTATE: undefined table, column, function
_NO_VALUE = {"22001", "22003", "22007", "22008", "22021", "22P02", "22P05"}
"""SQLSTATE: too long, out of range, no date, a date out of range, no UTF-8, no text of the type, a NUL in JSON."""
_RECONCILE_LOCK = 0x61636973  # "acis" as a number; advisory locks of a database share one number space


def copy_in(connection: Connection, statement: str, source: Any) -> None:  # noqa: ANN401 -- whatever has `read`
    """COPY … FROM STDIN of a file, in the connection's transaction. Raises SQLAlchemy's errors, as its own do."""
    raw = connection.connection
    try:
        cursor: Any = raw.cursor()  # psycopg2's own
        cursor.copy_expert(statement, source)
    except psycopg2.Error as error:
        if raw.dbapi_connection is not None and raw.dbapi_connection.closed:
            connection.invalidate(error)
        kind = exc.OperationalError if isinstance(error, psycopg2.OperationalError) else exc.DBAPIError
        raise kind(statement, None, error) from error


class Database:
    """Transactions on the ledger's database; every error that leaves one is of `mlops.domain.errors`.

    Opens no connection before the first transaction, so that it may be made before a fork.
    """

    def __init__(self, url: str) -> None:
        self.url = parse_url(url)
        self._engine = _engine(self.url)
        # The same connections. They commit by themselves unless told otherwise: nearly all that is asked is one
        # statement, and to switch there and back costs as much as a fifth of it.
        self._transacting = self._engine.execution_options(isolation_level="READ COMMITTED")

    @contextmanager
    def transaction(self, name: str = "database") -> Iterator[Connection]:
        """One transaction that may write: committed at the end, rolled back on any error. `name`: of its failpoints."""
        with self._border(), self._transacting.begin() as connection:
            yield connection
            reach(f"{name}.before_commit")
        reach(f"{name}.committed")

    @contextmanager
    def statement(self, name: str) -> Iterator[Connection]:
        """For one statement that writes: a transaction of its own, without two round trips for its borders."""
        reach(f"{name}.before_commit")
        with self._border(), self._engine.connect() as connection:
            yield connection
        reach(f"{name}.committed")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """For statements that only read, each of what was committed then."""
        with self._border(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def unhurried(self) -> Iterator[Connection]:
        """For statements that change the schema: none has a time limit, and each commits by itself.

        The connection is closed afterwards, and with it go its locks and settings.
        """
        with self._border(), self._engine.connect() as connection:
            connection.detach()
            connection.exec_driver_sql("SET statement_timeout = 0")
            yield connection

    @contextmanager
    def try_lock(self) -> Iterator[bool]:
        """The one reconciler's lock: False where another process has it; freed when this one dies."""
        with self._border(), self._engine.connect() as connection:
            held = bool(connection.scalar(select(func.pg_try_advisory_lock(_RECONCILE_LOCK))))
            try:
                yield held
            finally:
                if held and not connection.invalidated:
                    connection.execute(select(func.pg_advisory_unlock(_RECONCILE_LOCK)))

    def close(self) -> None:
        """Drop all connections; the next transaction opens new ones."""
        self._engine.dispose()

    @contextmanager
    def _border(self) -> Iterator[None]:
        try:
            yield
        except (exc.DBAPIError, exc.TimeoutError) as error:
            translated = self._translated(error)
            if translated is None:
                raise
            raise translated from error
        except ValueError as error:
            if "NUL" not in str(error):  # psycopg2's own words
                raise
            raise DataError("a value holds a NUL character, which no text may have; take it out") from error

    def _translated(self, error: exc.SQLAlchemyError) -> Exception | None:
        where = self.url.render_as_string(hide_password=True)
        words = _first_line(error)
        state = getattr(getattr(error, "orig", None), "pgcode", None)
        if state in _MISSING:
            return ConfigurationError(
                f"the ledger at {where} lacks its tables ({words}); make them with `acis migrate` or `make run`"
            )
        if state in _NOT_AS_LEFT:
            return LedgerUnavailable(
                f"a connection to the ledger at {where} was not as it was left, and was given up: {words}; where this "
                "comes again and again, DATABASE_URL names a pooler that hands its connections out by transaction: "
                "name PostgreSQL itself, or a pool by session"
            )
        if state == READ_ONLY:
            return LedgerUnavailable(
                f"the ledger at {where} takes no writes now: {words}; it is a standby, or "
                "default_transaction_read_only is on; where that does not pass, let DATABASE_URL name the primary"
            )
        if says_full(error):
            return LedgerUnavailable(f"the ledger at {where} has no room to write: {words}; free space on its volume")
        is_operational = isinstance(error, exc.OperationalError | exc.InterfaceError | exc.TimeoutError)
        if is_operational or may_pass(state) or (isinstance(error, exc.DBAPIError) and error.connection_invalidated):
            return LedgerUnavailable(
                f"the ledger at {where} does not answer: {words}; check DATABASE_URL and the server"
            )
        return DataError(f"the ledger cannot hold a value that was given: {words}") if state in _NO_VALUE else None


def parse_url(url: str) -> URL:
    """The database's URL. Raises ConfigurationError for anything but PostgreSQL."""
    try:
        parsed = make_url(url.replace("postgres://", "postgresql://", 1) if url.startswith("postgres://") else url)
    except exc.ArgumentError as error:
        raise ConfigurationError("DATABASE_URL is not a URL; write postgresql://USER:PASSWORD@HOST/DATABASE") from error
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg2")
    raise ConfigurationError(
        f"the ledger cannot live in {parsed.render_as_string(hide_password=True)}: DATABASE_URL takes postgresql://… "
        "alone; `make run` starts a PostgreSQL of its own, and ACIS_FEATURE_SOURCE may name a Parquet file of features"
    )


def _engine(url: URL) -> Engine:
    given = url.query.get("options", "")
    own = f"-c statement_timeout={STATEMENT_TIMEOUT_S}s -c idle_in_transaction_session_timeout=60s -c timezone=UTC"
    engine = create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        pool_size=4,  # the stage, its renewal and a reader at once
        pool_timeout=STATEMENT_TIMEOUT_S,
        hide_parameters=True,  # a message must not quote a policy or a result
        json_serializer=dump_json,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": "acis-ledger",
            "options": f"{given if isinstance(given, str) else ' '.join(given)} {own}".strip(),
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": STATEMENT_TIMEOUT_S * 1000,  # a half-open connection ends by then
        },
    )
    event.listen(engine, "checkout", _ping_what_was_closed)
    event.listen(engine, "handle_error", _leave_a_server_that_takes_no_writes)
    _prepare_marked(engine)
    return engine


def _leave_a_server_that_takes_no_writes(context: ExceptionContext) -> None:
    """After a failover the kept connections lead to the old primary for ever; new ones look the name up again."""
    if getattr(context.original_exception, "pgcode", None) == READ_ONLY:
        context.is_disconnect = True


def _ping_what_was_closed(connection: Any, _record: object, _proxy: object) -> None:  # noqa: ANN401 -- psycopg2's own connection
    """A server that restarted is noticed before the transaction, not in it.

    Where an idle connection has something to read, the server has ended it, as a rule. To ask the server each time
    (`pool_pre_ping`) cost a fifth of a claim.
    """
    poll = select_module.poll()
    poll.register(connection.fileno(), select_module.POLLIN | select_module.POLLHUP | select_module.POLLERR)
    if not poll.poll(0):
        return
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        connection.rollback()
    except psycopg2.Error as error:
        raise exc.DisconnectionError from error


def _first_line(error: exc.SQLAlchemyError) -> str:
    return (str(getattr(error, "orig", None) or error).strip().splitlines() or ["no reason given"])[0]


# ---- What every part of the ledger holds

SILENT_SHARE = 1 / 3
"""What a worker held that was started anew since is taken when it was not renewed for this share of a lease: 20 s of
60 s, two renewals."""


class Repository:
    """A part of `SqlLedger`: a few methods about one subject, on the shared database."""

    def __init__(self, database: Database, *, lease_s: float = 60.0) -> None:
        self.database = database
        self.lease_s = lease_s
        """Seconds without a renewal after which a stage may be taken by another worker."""

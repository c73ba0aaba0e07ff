"""Statements that PostgreSQL parses and plans once in a connection's life; psycopg2 has no such thing of its own.

A statement with the option `PREPARED` goes out as PREPARE the first time and as EXECUTE each time. Of a claim, parsing
and planning are four fifths. PostgreSQL plans anew by itself when a table's indexes or statistics change. For
statements that are built once and find their rows by a key: a plan for any value cannot use an index over some of a
column's values.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext, ExecutionContext

PREPARED = {"acis_prepared": True}
"""For `execution_options`."""

NOT_AS_LEFT = {"26000", "42P05", "0A000"}
"""SQLSTATE of a connection that is not as this process left it: a statement is not prepared, is prepared already (an
interruption fell between PREPARE and its note), or was prepared for columns of another type (a migration)."""

_PARAMETER = re.compile(r"%%|%\((\w+)\)s")


def prepare_marked(engine: Engine) -> None:
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
    if getattr(context.original_exception, "pgcode", None) in NOT_AS_LEFT:
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

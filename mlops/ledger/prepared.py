"""Statements that PostgreSQL parses and plans once in a connection's life; psycopg2 has no such thing of its own.

A statement with the option `PREPARED` goes out as PREPARE the first time and as EXECUTE each time. Of a claim, parsing
and planning are four fifths. PostgreSQL plans anew by itself when a table or its statistics change. For statements
that are built once and find their rows by a key: a plan for any value cannot use an index over some of a column's
values.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import count
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExecutionContext

PREPARED = {"acis_prepared": True}
"""For `execution_options`; without meaning on SQLite."""

_PARAMETER = re.compile(r"%\((\w+)\)s")
_numbers = count(1)


def prepare_marked(engine: Engine) -> None:
    """Let the engine, whose driver is psycopg2, heed the option."""
    event.listen(engine, "before_cursor_execute", _as_prepared, retval=True)


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


@lru_cache(maxsize=256)
def _texts(statement: str) -> tuple[str, str]:
    """PREPARE and EXECUTE of a statement; the name is of this process, and a connection is of one process."""
    places: dict[str, int] = {}

    def place(match: re.Match[str]) -> str:
        return f"${places.setdefault(match[1], len(places) + 1)}"

    text = _PARAMETER.sub(place, statement).replace("%%", "%")
    name = f"acis_{next(_numbers)}"
    return f"PREPARE {name} AS {text}", f"EXECUTE {name}({', '.join(f'%({one})s' for one in places)})"

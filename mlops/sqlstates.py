"""Which of PostgreSQL's errors a later try may not meet; asked by every adapter that speaks to a PostgreSQL.

The driver's own classes do not tell: psycopg2 calls "out of memory" an operational error, and "read only" an internal
one.
"""

from __future__ import annotations

import re

from psycopg2 import errorcodes

READ_ONLY = "25006"
"""The server takes no writes: it is a standby, was the primary until a failover, or was switched to read-only."""

_PASSING_CLASSES = frozenset({
    "08",  # connection
    "40",  # rolled back: deadlock, serialization failure, conflict with recovery
    "53",  # resources: too many connections, disk full, out of memory
    "55",  # an object is in use, locked, or not ready yet
    "57",  # an operator: shutdown, crash of another backend, starting up, a cancelled statement
    "58",  # input and output of the server's system
    "72",  # snapshot too old
    "XX",  # the server's own internal error
})  # fmt: skip
#: Read-only; ended because the session was idle in a transaction; ended because the transaction took too long.
_PASSING_STATES = frozenset({READ_ONLY, "25P03", "25P04"})


#: Of SQLAlchemy, of its drivers, and of a server that takes no writes, which not each driver has a class for.
_PASSING_WORDS = (
    "QueuePool limit of size",
    "InterfaceError)",
    "until invalid transaction is rolled back",
    "in a read-only transaction",
)


def may_pass(state: str | None) -> bool:
    """Whether an error with this SQLSTATE is one of the server's condition and not of the statement."""
    return state is not None and (state in _PASSING_STATES or state[:2] in _PASSING_CLASSES)


def told_may_pass(words: object) -> bool:
    """The same of an error that arrives as text alone, in SQLAlchemy's words: MLflow passes it on as a bad request.

    psycopg2 names its classes after PostgreSQL's conditions; a pool without a free connection, a connection that was
    closed, and a transaction that has to be rolled back have no SQLSTATE.
    """
    told = str(words)
    named = re.search(r"psycopg2\.errors\.(\w+)", told)
    if named is not None:
        condition = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", named[1]).strip("_").upper()
        return may_pass(getattr(errorcodes, condition, None))
    return any(one in told for one in _PASSING_WORDS)

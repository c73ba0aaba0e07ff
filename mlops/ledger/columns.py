"""Column types, JSON and the clock, the same on PostgreSQL and SQLite.

The clock is the database's: `clock_timestamp()` on PostgreSQL; on SQLite, which lives on one host, functions
that `mlops.ledger.engine` registers on each connection.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TypeAlias, cast

from sqlalchemy import (
    JSON,
    ColumnElement,
    Dialect,
    Row,
    String,
    TypeDecorator,
    and_,
    case,
    literal,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from mlops.domain.records import AHEAD_S

AnyRow: TypeAlias = Row[*tuple[Any, ...]]
"""A row whose columns its query names."""


class Timestamp(TypeDecorator[datetime]):
    """An aware datetime in UTC; on SQLite a text of fixed width, so that comparing text compares time."""

    impl = String(32)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """`timestamptz` on PostgreSQL."""
        return dialect.type_descriptor(TIMESTAMP(timezone=True) if dialect.name == "postgresql" else String(32))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:  # noqa: ANN401 -- the base class's signature
        """Refuses naive datetimes."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time in the ledger needs a time zone; got {value!r}")
        return value if dialect.name == "postgresql" else timestamp_text(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ANN401, ARG002 -- the base class's signature
        """In UTC, whatever the session's time zone."""
        if value is None:
            return None
        found = datetime.fromisoformat(value) if isinstance(value, str) else cast("datetime", value)
        return found if found.tzinfo is UTC else found.astimezone(UTC)  # a page reads thousands


def timestamp_text(value: datetime) -> str:
    """The text form of a time on SQLite: microseconds always written, always UTC."""
    return value.astimezone(UTC).isoformat(timespec="microseconds")


Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
"""JSONB on PostgreSQL; None is NULL."""


def dump_json(value: Any) -> str:  # noqa: ANN401 -- any JSON value
    """JSON as PostgreSQL takes it: nan and infinities become null, NUL characters U+FFFD."""
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_storable(value), allow_nan=False)
    return json.dumps(_storable(value), allow_nan=False) if "\\u0000" in text else text


def _storable(value: Any) -> Any:  # noqa: ANN401 -- any JSON value
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.replace("\x00", "\ufffd") if isinstance(value, str) else value


class _Now(FunctionElement[datetime]):
    type = Timestamp()
    inherit_cache = True
    name = "acis_now"


class _After(FunctionElement[datetime]):
    type = Timestamp()
    inherit_cache = True
    name = "acis_after"


def now() -> ColumnElement[datetime]:
    """The database's clock, at the moment of evaluation and not of the transaction's start."""
    return _Now()


def after(seconds: float | ColumnElement[float]) -> ColumnElement[datetime]:
    """So many seconds from the database's now; negative: before it."""
    return _After(literal(float(seconds)) if isinstance(seconds, int | float) else seconds)


def within(column: ColumnElement[Any], seconds: float) -> ColumnElement[bool]:
    """A time of the last so many seconds; one that a clock gave which was ahead then is of no such time.

    Each bound is a query of its own: an index is not searched for a clock that may tick between two rows.
    """
    return and_(column > select(after(-seconds)).scalar_subquery(), column <= select(after(AHEAD_S)).scalar_subquery())


def older_than(place: tuple[datetime, str], at: ColumnElement[Any], name: ColumnElement[Any]) -> ColumnElement[bool]:
    """What comes after a place of a list whose newest stand first; place : time and id of its last line."""
    return tuple_(at, name) < tuple_(literal(place[0], Timestamp()), literal(place[1]))


def among(column: ColumnElement[Any], names: Iterable[str]) -> ColumnElement[bool]:
    """`column IN (…)` of our own names, as constants: parameters of IN are written into the text at each execution."""
    return column.in_([literal_column(f"'{name}'", String) for name in names])


def earlier(
    one: ColumnElement[datetime] | ColumnElement[datetime | None], other: ColumnElement[Any]
) -> ColumnElement[Any]:
    """The earlier of two times."""
    return case((one <= other, one), else_=other)


@compiles(_Now)
def _now_sqlite(element: _Now, compiler: SQLCompiler, **_options: Any) -> str:  # noqa: ANN401, ARG001 -- SQLAlchemy's signature
    return "acis_now()"


@compiles(_Now, "postgresql")
def _now_postgresql(element: _Now, compiler: SQLCompiler, **_options: Any) -> str:  # noqa: ANN401, ARG001 -- SQLAlchemy's signature
    return "clock_timestamp()"


@compiles(_After)
def _after_sqlite(element: _After, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 -- SQLAlchemy's signature
    return f"acis_after({compiler.process(element.clauses, **options)})"


@compiles(_After, "postgresql")
def _after_postgresql(element: _After, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 -- SQLAlchemy's signature
    seconds = compiler.process(element.clauses, **options)
    return f"(clock_timestamp() + make_interval(secs => {seconds}))"

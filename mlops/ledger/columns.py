"""Column types, JSON, and the database's clock, which is the ledger's only one."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from sqlalchemy import (
    CTE,
    JSON,
    Column,
    ColumnElement,
    Dialect,
    Interval,
    Row,
    String,
    TypeDecorator,
    and_,
    case,
    cast,
    func,
    literal,
    literal_column,
    select,
    tuple_,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from mlops.domain.records import AHEAD_S

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Line = TypeVar("Line", bound="DataclassInstance")

_SECOND = literal_column("interval '1 second'", Interval)

AnyRow: TypeAlias = Row[*tuple[Any, ...]]
"""A row whose columns its query names."""


class Timestamp(TypeDecorator[datetime]):
    """An aware datetime in UTC."""

    impl = TIMESTAMP(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 -- the base class's signature
        """Refuses naive datetimes."""
        if value is not None and value.tzinfo is None:
            raise ValueError(f"a time in the ledger needs a time zone; got {value!r}")
        return value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 -- the base class's signature
        """In UTC, whatever the session's time zone."""
        return value if value is None or value.tzinfo is UTC else value.astimezone(UTC)  # a page reads thousands


Json = JSONB(none_as_null=True)
"""JSONB; None is NULL."""


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


def columns_of(
    line: type[Any], *tables: ReadOnlyColumnCollection[str, Column[Any]], **others: ColumnElement[Any]
) -> list[ColumnElement[Any]]:
    """What a row needs to be `mapped`: each field's column in the first table that has it, or `others` by field."""
    names = [field.name for field in fields(line)]
    return [
        others[name].label(name) if name in others else next(table[name] for table in tables if name in table)
        for name in names
    ]


def mapped(line: type[Line], row: AnyRow, **instead: Any) -> Line:  # noqa: ANN401 -- values of the line's own types
    """A row as a line: each field from the column of its name, or what `instead` has for it."""
    found = row._mapping  # noqa: SLF001 -- its name
    return line(**{one.name: instead[one.name] if one.name in instead else found[one.name] for one in fields(line)})


def now() -> ColumnElement[datetime]:
    """The database's clock, at the moment of evaluation and not of the transaction's start."""
    return func.clock_timestamp(type_=Timestamp())


def after(seconds: float | ColumnElement[float]) -> ColumnElement[datetime]:
    """So many seconds from the database's now; negative: before it."""
    of_seconds = literal(float(seconds)) if isinstance(seconds, int | float) else seconds
    return type_coerce(now() + of_seconds * _SECOND, Timestamp())


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


# ---- Names as rows of a query, so that each is looked up in an index by itself


def as_rows(names: Sequence[str]) -> CTE:
    """A table `asked` with a column `strategy`.

    As one value: hundreds of them as VALUES took the time of the whole query, to write its text.
    """
    rows = func.json_array_elements_text(cast(list(names), JSON)).column_valued("strategy")
    return select(rows.cast(String).label("strategy")).cte("asked")


def pairs_as_rows(pairs: Sequence[tuple[str, str]], *columns: str) -> CTE:
    """The same of pairs, with these two columns; not for no pairs at all."""
    values = [list(pair) for pair in pairs]
    element = func.json_array_elements(cast(values, JSON), type_=JSON).column_valued("element")
    return select(*[element[place].as_string().label(name) for place, name in enumerate(columns)]).cte("pairs")

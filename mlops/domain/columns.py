"""What the feature view's columns are, whatever it is stored in; pure."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from mlops.domain.errors import MissingColumn
from mlops.domain.policies import KEY_COLUMNS
from mlops.domain.ports import Column

_NUMBERS = (pa.types.is_floating, pa.types.is_integer, pa.types.is_decimal, pa.types.is_boolean)
_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)


def quoted(name: str) -> str:
    """A SQL identifier: a column's name, whatever stands in it."""
    return '"' + name.replace('"', '""') + '"'


def quoted_relation(relation: str) -> str:
    """A table or view as a SQL identifier; a dot separates schema and relation."""
    return ".".join(quoted(part) for part in relation.split("."))


def read_schema(schema: pa.Schema) -> tuple[Column, ...]:
    """Columns of an Arrow schema."""
    return tuple(Column(name=field.name, kind=kind_of(field.type)) for field in schema)


def kind_of(arrow: pa.DataType) -> str:
    """`number`, `category`, `date` or `other`."""
    if any(is_of(arrow) for is_of in _NUMBERS):
        return "number"
    if pa.types.is_date(arrow) or pa.types.is_timestamp(arrow):
        return "date"
    if pa.types.is_dictionary(arrow):
        return kind_of(arrow.value_type)
    if any(is_of(arrow) for is_of in _TEXTS):
        return "category"
    # ADBC gives PostgreSQL's numeric as an opaque string.
    return "number" if not pa.types.is_nested(arrow) and "type_name=numeric" in str(arrow) else "other"


def checked_columns(columns: Sequence[Column], relation: str) -> tuple[Column, ...]:
    """The columns, when the three keys are among them. Raises MissingColumn."""
    names = [column.name for column in columns]
    missing = [name for name in KEY_COLUMNS if name not in names]
    if missing:
        raise MissingColumn(
            f"{relation} lacks {', '.join(missing)}; found {', '.join(names)}. The feature view needs "
            f"ticker, date, strategy, numeric features, and target_return; see README, Your own data"
        )
    kind = next(column.kind for column in columns if column.name == "date")
    if kind != "date":
        raise MissingColumn(
            f"column date of {relation} is no date but a {kind}; cast it in the view: date::date AS date"
        )
    return tuple(columns)


def missing_relation(relation: str) -> MissingColumn:
    """The error for a view that does not exist."""
    return MissingColumn(
        f"there is no table or view {relation!r}; make one with ticker, date, strategy, features and target_return, "
        f"or set ACIS_FEATURE_RELATION; see README, Your own data"
    )

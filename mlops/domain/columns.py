"""What the feature view's columns are, whatever it is stored in; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlops.domain.errors import MissingColumn
from mlops.domain.policies import KEY_COLUMNS
from mlops.domain.ports import Column, FeatureSource, Window

if TYPE_CHECKING:
    from mlops.domain.policies import DataPolicy

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


# ---- Columns of numbers that only count rows: an id, a row number, a load counter. They are no features
#
# Such a column never repeats and only rises, so its current window lies outside its reference whatever the market does,
# and a model would learn the order in which rows were loaded. Called by the stages before they choose their features.

#: Newest dates that are looked at, and the calendar days that hold them.
_DATES, _DAYS = 20, 45
#: With fewer rows or dates a count of something may look like a row number.
_LEAST_ROWS, _LEAST_DATES = 40, 5
_REASON = "a row number: its values are whole, never repeat and only rise"


def mark_row_numbers(
    source: FeatureSource, strategy: str, columns: Sequence[Column], policy: DataPolicy, *, as_of: date
) -> tuple[Column, ...]:
    """The columns, those that only count rows with the reason why they are no features.

    Reads the newest date's numbers, less those that the store knows to have fractions, and twenty dates of the columns
    that could be such. One that the policy's `include` names is left alone. Raises SourceUnavailable, MissingColumn.
    """
    known = {*policy.include, *policy.exclude, "ticker", "date"}
    numbers = [
        one.name
        for one in columns
        if one.kind == "number" and one.left_out is None and not one.has_fractions and one.name not in known
    ]
    newest = source.latest_date(strategy, until=as_of)
    if policy.include or newest is None or not numbers:
        return tuple(columns)
    day = source.read(strategy, Window(start=newest - timedelta(days=1), end=newest), numbers)
    possible = [name for name in numbers if _is_whole_and_distinct(_values(day, name))]
    if not possible:
        return tuple(columns)
    window = Window(start=newest - timedelta(days=_DAYS), end=newest)
    first = source.dates(strategy, window)[-_DATES:][0]
    rows = source.read(strategy, Window(start=first - timedelta(days=1), end=newest), ["ticker", "date", *possible])
    found = row_numbers(rows, possible)
    return tuple(replace(one, left_out=_REASON) if one.name in found else one for one in columns)


def row_numbers(rows: pa.Table, names: Sequence[str]) -> set[str]:
    """Which of the columns only count rows. rows : by date and ticker, with both

    Whole numbers of which none repeats, and which rise from each date to the next or from date to date of each ticker.
    """
    days = rows.column("date").to_numpy().astype("datetime64[D]")
    starts = np.flatnonzero(np.diff(days, prepend=days[:1] - 1))
    if len(days) < _LEAST_ROWS or len(starts) < _LEAST_DATES:
        return set()
    tickers = np.asarray(pc.fill_null(rows.column("ticker"), "").combine_chunks().dictionary_encode().indices)
    by_ticker = np.argsort(tickers, kind="stable")
    same_ticker = np.diff(tickers[by_ticker]) == 0
    return {name for name in names if _only_rises(_values(rows, name), starts, by_ticker, same_ticker)}


def _only_rises(
    values: npt.NDArray[np.float64],
    starts: npt.NDArray[np.intp],
    by_ticker: npt.NDArray[np.intp],
    same_ticker: npt.NDArray[np.bool_],
) -> bool:
    if not _is_whole_and_distinct(values):
        return False
    least, most = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    if bool((least[1:] > most[:-1]).all()):
        return True
    steps = np.diff(values[by_ticker])[same_ticker]
    return 2 * len(steps) >= len(values) and bool((steps > 0).all())


def _is_whole_and_distinct(values: npt.NDArray[np.float64]) -> bool:
    return bool(np.isfinite(values).all()) and bool((values == np.floor(values)).all()) and _is_distinct(values)


def _is_distinct(values: npt.NDArray[np.float64]) -> bool:
    return len(np.unique(values)) == len(values)


def _values(rows: pa.Table, name: str) -> npt.NDArray[np.float64]:
    return np.asarray(rows.column(name).to_numpy(zero_copy_only=False), dtype=np.float64)

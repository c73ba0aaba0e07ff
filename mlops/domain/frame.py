"""Which columns are features, and a window of them as numbers; pure.

Called by the stages. A frame keeps every row: what is wrong with it is a finding, never a silent drop.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from mlops.domain.errors import MissingColumn, UnusableFeatures
from mlops.domain.policies import KEY_COLUMNS, TARGET_PREFIX, DataPolicy
from mlops.domain.ports import Column, Window

if TYPE_CHECKING:
    import pyarrow as pa

Floats = npt.NDArray[np.float64]
Texts = npt.NDArray[np.object_]

_PANDAS_INDEX = re.compile(r"__index_level_\d+__|Unnamed: \d+")


@dataclass(frozen=True, kw_only=True)
class FeatureFrame:
    """A window's features, column by column."""

    n_rows: int
    numbers: Mapping[str, Floats]
    """(n,) float64 each, contiguous; null is nan"""
    categories: dict[str, Texts]
    """(n,) object each: text, or None for null"""
    n_duplicate_rows: int = 0
    """Rows whose ticker and date stand in an earlier row too"""
    newest_date: date | None = None
    """Of the rows; None where the table has no dates"""
    dates: npt.NDArray[np.datetime64] | None = None
    """(n,) datetime64[D], where the rows were read with their dates"""
    tickers: pa.ChunkedArray | None = None
    """(n,) of text, where the rows were read with them; with the dates they say which rows a sample takes"""

    @property
    def n_names(self) -> int | None:
        """Different tickers; None where the rows were read without."""
        return None if self.tickers is None else len(self.tickers.unique())

    def between(self, window: Window) -> FeatureFrame:
        """The window's rows; views, no copies. Needs the rows' dates, ascending."""
        days = self.dates if self.dates is not None else np.empty(0, dtype="datetime64[D]")
        first, after = np.searchsorted(days, np.array([window.start, window.end], dtype="datetime64[D]"), side="right")
        return FeatureFrame(
            n_rows=int(after - first),
            numbers={name: values[first:after] for name, values in self.numbers.items()},
            categories={name: values[first:after] for name, values in self.categories.items()},
            newest_date=days[after - 1].astype(object) if after > first else None,
            dates=days[first:after],
            tickers=None if self.tickers is None else self.tickers[first:after],
        )

    def held(self) -> FeatureFrame:
        """The same rows with every number in memory, for who looks at each of them often."""
        return replace(self, numbers=dict(self.numbers))

    def with_numbers(self, numbers: Mapping[str, Floats]) -> FeatureFrame:
        """The same rows, the named features with other values."""
        return replace(self, numbers={**self.numbers, **numbers})


class _ArrowNumbers(Mapping[str, Floats]):
    """Numeric columns of a table, each made contiguous when it is asked for and not kept.

    A check looks at a column or two at a time: copies of all would double the memory of a million rows, and
    touching fresh memory costs more than the statistics do.
    """

    def __init__(self, table: pa.Table, names: Sequence[str]) -> None:
        self._table = table
        self._names = dict.fromkeys(names)

    def __getitem__(self, name: str) -> Floats:
        """(n,) float64, contiguous; nan for null."""
        if name not in self._names:
            raise KeyError(name)
        values = self._table.column(name).to_numpy(zero_copy_only=False)
        return np.ascontiguousarray(np.asarray(values, dtype=np.float64))

    def __iter__(self) -> Iterator[str]:
        """Names, in the table's order of asking."""
        return iter(self._names)

    def __len__(self) -> int:
        """How many columns."""
        return len(self._names)


Role = Literal["feature", "target", "key", "left out"]


@dataclass(frozen=True, kw_only=True)
class ColumnRole:
    """What a column of the feature view is used for."""

    name: str
    role: Role
    reason: str | None = None
    """Why it is left out"""
    is_chosen: bool = True
    """The role follows from the view's contract or the policy's own words; else a person may want to know of it"""


def column_roles(columns: Sequence[Column], policy: DataPolicy) -> tuple[ColumnRole, ...]:
    """Every column of the view once, in its order.

    A feature is every number that is no key, no target and nothing that the store calls otherwise, less
    `policy.exclude`; or exactly the columns of `policy.include`, texts too.
    """
    return tuple(_role(column, policy) for column in columns)


def select_features(columns: Sequence[Column], policy: DataPolicy) -> tuple[str, ...]:
    """Names of the feature columns: in the view's order, or in that of `policy.include`.

    Raises MissingColumn, UnusableFeatures when none is left.
    """
    kinds = {column.name: column.kind for column in columns}
    missing = [name for name in policy.include if name not in kinds]
    if missing:
        raise MissingColumn(
            f"the feature view lacks {', '.join(missing)}, which the strategies file names; found {', '.join(kinds)}"
        )
    forbidden = [name for name in policy.include if name in KEY_COLUMNS or name.startswith(TARGET_PREFIX)]
    if forbidden:
        raise UnusableFeatures(f"{', '.join(forbidden)} cannot be a feature: a key, or it looks into the future")
    unusable = [f"{name} ({kinds[name]})" for name in policy.include if kinds[name] not in ("number", "category")]
    if unusable:
        raise UnusableFeatures(f"{', '.join(unusable)} cannot be a feature; make a number or a text of it in the view")
    features = [column.name for column in column_roles(columns, policy) if column.role == "feature"]
    left = tuple(name for name in dict.fromkeys((*policy.include, *features)) if name in features)
    if not left:
        raise UnusableFeatures(f"the feature view has no numeric feature column; found {', '.join(kinds)}")
    return left


def left_out(roles: Iterable[ColumnRole]) -> str | None:
    """The columns that are left out although nobody asked for it, in words; None where there are none."""
    found = [
        f"{column.name} ({column.reason})" for column in roles if column.role == "left out" and not column.is_chosen
    ]
    return f"left out: {', '.join(found)}" if found else None


def _role(column: Column, policy: DataPolicy) -> ColumnRole:
    name = column.name
    if name in KEY_COLUMNS:
        return ColumnRole(name=name, role="key")
    if name.startswith(TARGET_PREFIX):
        return ColumnRole(name=name, role="target")
    if name in policy.exclude:
        return ColumnRole(name=name, role="left out", reason="the policy's data.exclude names it")
    if policy.include:
        if name in policy.include:
            return ColumnRole(name=name, role="feature")
        return ColumnRole(name=name, role="left out", reason="the policy's data.include does not name it")
    reason = _why_left_out(column)
    return ColumnRole(name=name, role="left out" if reason else "feature", reason=reason, is_chosen=reason is None)


def _why_left_out(column: Column) -> str | None:
    if column.left_out is not None:
        return column.left_out
    if _PANDAS_INDEX.fullmatch(column.name):
        return "the row number that pandas wrote"
    match column.kind:
        case "number":
            return None
        case "category":
            return "text; a check compares it where data.include names it"
        case "date":
            return "a date"
        case _:
            return "neither number nor text"


def feature_frame(table: pa.Table, features: Sequence[str]) -> FeatureFrame:
    """The named columns of a table whose rows are ordered by date and ticker. Raises MissingColumn."""
    missing = [name for name in features if name not in table.column_names]
    if missing:
        raise MissingColumn(f"the rows lack {', '.join(missing)}; found {', '.join(table.column_names)}")
    texts = [name for name in features if _is_text(table.column(name))]
    return FeatureFrame(
        n_rows=table.num_rows,
        numbers=_ArrowNumbers(table, [name for name in features if name not in texts]),
        categories={name: np.asarray(table.column(name).to_pylist(), dtype=object) for name in texts},
        n_duplicate_rows=_duplicates(table),
        newest_date=_newest_date(table),
        dates=_dates(table),
        tickers=table.column("ticker") if "ticker" in table.column_names else None,
    )


def _newest_date(table: pa.Table) -> date | None:
    if "date" not in table.column_names or table.num_rows == 0:
        return None
    days = table.column("date").drop_null().to_numpy()
    newest: date | None = days.max().astype("datetime64[D]").item() if len(days) else None
    return newest


def _dates(table: pa.Table) -> npt.NDArray[np.datetime64] | None:
    if "date" not in table.column_names:
        return None
    return np.asarray(table.column("date").to_numpy(zero_copy_only=False), dtype="datetime64[D]")


def _is_text(column: pa.ChunkedArray) -> bool:
    return str(column.type) in ("string", "large_string", "string_view") or str(column.type).startswith("dictionary")


def _duplicates(table: pa.Table) -> int:
    """Rows whose ticker and date are those of the row before."""
    if not {"ticker", "date"} <= set(table.column_names) or table.num_rows < 2:
        return 0
    import pyarrow.compute as pc  # noqa: PLC0415 -- a frame of arrays needs no Arrow

    return int(pc.sum(repeated_keys(table)).as_py() or 0)


def repeated_keys(rows: pa.Table) -> pa.ChunkedArray:
    """(n - 1,) whether each row but the first has the ticker and date, null ones too, of the row before."""
    import pyarrow.compute as pc  # noqa: PLC0415 -- a frame of arrays needs no Arrow

    return pc.and_(*(equal_values(rows.column(name)[1:], rows.column(name)[:-1]) for name in ("ticker", "date")))


def equal_values(some: pa.ChunkedArray, others: pa.ChunkedArray) -> pa.ChunkedArray:
    """(n,) whether both have the same value there, or both none: null or nan."""
    import pyarrow.compute as pc  # noqa: PLC0415 -- a frame of arrays needs no Arrow

    lacks = [pc.is_null(values, nan_is_null=True) for values in (some, others)]
    return pc.or_(pc.fill_null(pc.equal(some, others), False), pc.and_(*lacks))

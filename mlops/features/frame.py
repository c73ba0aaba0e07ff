"""Which columns are features, and a window of them as numbers; pure.

Called by the stages. A frame keeps every row: what is wrong with it is a finding, never a silent drop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlops.errors import MissingColumn, UnusableFeatures
from mlops.ports import Column
from mlops.strategies import KEY_COLUMNS, TARGET_PREFIX, DataPolicy

if TYPE_CHECKING:
    import pyarrow as pa

Floats = npt.NDArray[np.float64]
Texts = npt.NDArray[np.object_]


@dataclass(frozen=True, kw_only=True)
class FeatureFrame:
    """A window's features, column by column."""

    n_rows: int
    numbers: dict[str, Floats]
    """(n,) float64 each, contiguous; null is nan"""
    categories: dict[str, Texts]
    """(n,) object each: text, or None for null"""
    n_duplicate_rows: int = 0
    """Rows whose ticker and date stand in an earlier row too"""
    newest_date: date | None = None
    """Of the rows; None where the table has no dates"""
    dates: npt.NDArray[np.datetime64] | None = None
    """(n,) datetime64[D], where the rows were read with their dates"""


def select_features(columns: Sequence[Column], policy: DataPolicy) -> tuple[str, ...]:
    """Names of the feature columns, in the view's order.

    Every numeric column that is no key and no target, or exactly those of `policy.include`, categories too.
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
    chosen = tuple(dict.fromkeys(policy.include)) or tuple(
        name
        for name, kind in kinds.items()
        if kind == "number" and name not in KEY_COLUMNS and not name.startswith(TARGET_PREFIX)
    )
    left = tuple(name for name in chosen if name not in policy.exclude)
    if not left:
        raise UnusableFeatures(f"the feature view has no numeric feature column; found {', '.join(kinds)}")
    return left


def feature_frame(table: pa.Table, features: Sequence[str]) -> FeatureFrame:
    """The named columns of a table. Raises MissingColumn."""
    missing = [name for name in features if name not in table.column_names]
    if missing:
        raise MissingColumn(f"the rows lack {', '.join(missing)}; found {', '.join(table.column_names)}")
    numbers: dict[str, Floats] = {}
    categories: dict[str, Texts] = {}
    for name in features:
        column = table.column(name)
        if _is_text(column):
            categories[name] = np.asarray(column.to_pylist(), dtype=object)
        else:
            values = column.to_numpy(zero_copy_only=False)
            numbers[name] = np.ascontiguousarray(np.asarray(values, dtype=np.float64))
    return FeatureFrame(
        n_rows=table.num_rows,
        numbers=numbers,
        categories=categories,
        n_duplicate_rows=_duplicates(table),
        newest_date=_newest_date(table),
        dates=_dates(table),
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
    if not {"ticker", "date"} <= set(table.column_names) or table.num_rows == 0:
        return 0
    distinct = table.select(["ticker", "date"]).group_by(["ticker", "date"]).aggregate([]).num_rows
    return int(table.num_rows - distinct)

"""A strategy's rows with labels, as they were known on a date.

Read by the train stage, and again by promotion to score both models on the same held-out dates.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from mlops.errors import EmptyWindow, MissingColumn, UnusableFeatures
from mlops.features.frame import ColumnRole, column_roles, select_features
from mlops.features.labels import parse_label
from mlops.features.windows import training_window
from mlops.training.matrix import FeatureMatrix
from mlops.training.splits import known_labels

if TYPE_CHECKING:
    from datetime import date

    import numpy.typing as npt

    from mlops.features.labels import Label
    from mlops.ports import FeatureSource
    from mlops.strategies import Strategy

_NO_LABELS, _NO_DATES, _NO_RETURNS = np.empty(0, dtype=np.int8), np.empty(0, dtype="datetime64[D]"), np.empty(0)


@dataclass(frozen=True, kw_only=True)
class LabelledRows:
    """A strategy's rows with labels, as of a date."""

    x: FeatureMatrix
    """(n, f) float32, infinities and nulls are nan; `x[mask]` is an array of those rows"""
    y: npt.NDArray[np.int8]
    """(n,); 0 where `known` is False"""
    known: npt.NDArray[np.bool_]
    """(n,) the label was known on the as-of date"""
    dates: npt.NDArray[np.datetime64]
    """(n,) datetime64[D], ascending"""
    target_return: npt.NDArray[np.float64] | None
    features: tuple[str, ...]
    columns: tuple[ColumnRole, ...] = ()
    """What each column of the view is used for"""
    label_target: npt.NDArray[np.float64] | None = None
    """(n,) the label's own column, nan where not known; None where it is a feature, which is found otherwise"""


def read_labelled(
    source: FeatureSource, strategy: Strategy, *, as_of: date, features: tuple[str, ...] | None = None
) -> LabelledRows:
    """Rows of the training window. Raises EmptyWindow, MissingColumn, UnusableFeatures, SourceUnavailable."""
    label = parse_label(strategy.training.label)
    columns = source.columns()
    names = {column.name for column in columns}
    chosen = features or select_features(columns, strategy.data)
    missing = sorted({*label.columns, *chosen} - names)
    if missing:
        message = f"the feature view lacks {', '.join(missing)}; it is needed by {strategy.training.label!r} or a model"
        raise MissingColumn(message)
    texts = [
        f"{column.name} ({column.kind})" for column in columns if column.name in chosen and column.kind != "number"
    ]
    if texts:
        message = (
            f"{', '.join(texts)} cannot be trained on; make a number of it in the view, or leave it out of data.include"
        )
        raise UnusableFeatures(message)
    window = training_window(as_of, strategy.training)
    extra = sorted({*label.columns, *({"target_return"} & names)} - set(chosen))
    columns_read = ["ticker", "date", *chosen, *extra]
    with closing(source.read_batches(strategy.name, window, columns_read)) as batches:
        rows = _gathered(batches, label, chosen, has_return="target_return" in names)
    if not len(rows.x):
        message = (
            f"strategy {strategy.name!r} has no rows after {window.start} up to {window.end}; "
            f"load its features, or give another --as-of"
        )
        raise EmptyWindow(message)
    in_time = known_labels(rows.dates, rows.dates, as_of=as_of, horizon_dates=strategy.training.horizon_dates)
    return replace(rows, known=rows.known & in_time, columns=column_roles(columns, strategy.data))


def _gathered(
    batches: Iterable[pa.RecordBatch], label: Label, features: tuple[str, ...], *, has_return: bool
) -> LabelledRows:
    """All rows of the batches; `known` says where the label has a value."""
    x = FeatureMatrix(len(features))
    labels, known, dates, returns = [_NO_LABELS], [_NO_LABELS.astype(bool)], [_NO_DATES], [_NO_RETURNS]
    targets = [_NO_RETURNS]
    for batch in batches:
        table = pa.Table.from_batches([batch])
        x.append(_matrix(table, features))
        y, has_value = label.evaluate(table)
        labels.append(y)
        known.append(has_value)
        dates.append(table.column("date").to_numpy().astype("datetime64[D]"))
        if label.column not in features:
            targets.append(_copied(table, label.column))
        if has_return:
            returns.append(_copied(table, "target_return"))
    return LabelledRows(
        x=x,
        y=np.concatenate(labels),
        known=np.concatenate(known),
        dates=np.concatenate(dates),
        target_return=np.concatenate(returns) if has_return else None,
        features=features,
        label_target=np.concatenate(targets) if label.column not in features else None,
    )


def _matrix(table: pa.Table, features: tuple[str, ...]) -> npt.NDArray[np.float32]:
    x = np.empty((table.num_rows, len(features)), dtype=np.float32)
    for index, name in enumerate(features):
        x[:, index] = _column(table, name)
    return x


def _column(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    return np.asarray(table.column(name).to_numpy(zero_copy_only=False), dtype=np.float64)


def _copied(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    """A view of one column would keep the whole batch."""
    return _column(table, name).copy()

"""A strategy's rows with labels, as they were known on a date.

Read by the train stage, and again by promotion to score both models on the same held-out dates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlops.errors import EmptyWindow, MissingColumn, UnusableFeatures
from mlops.features.frame import select_features
from mlops.features.labels import parse_label
from mlops.features.windows import training_window
from mlops.training.splits import known_labels

if TYPE_CHECKING:
    from datetime import date

    import numpy.typing as npt
    import pyarrow as pa

    from mlops.ports import FeatureSource
    from mlops.strategies import Strategy


@dataclass(frozen=True, kw_only=True)
class LabelledRows:
    """A strategy's rows with labels, as of a date."""

    x: npt.NDArray[np.float32]
    """(n, f); infinities and nulls are nan"""
    y: npt.NDArray[np.int8]
    """(n,); 0 where `known` is False"""
    known: npt.NDArray[np.bool_]
    """(n,) the label was known on the as-of date"""
    dates: npt.NDArray[np.datetime64]
    """(n,) datetime64[D], ascending"""
    target_return: npt.NDArray[np.float64] | None
    features: tuple[str, ...]


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
    table = source.read(strategy.name, window, ["ticker", "date", *chosen, *extra])
    if table.num_rows == 0:
        message = (
            f"strategy {strategy.name!r} has no rows after {window.start} up to {window.end}; "
            f"load its features, or give another --as-of"
        )
        raise EmptyWindow(message)
    y, has_value = label.evaluate(table)
    dates = table.column("date").to_numpy().astype("datetime64[D]")
    in_time = known_labels(dates, dates, as_of=as_of, horizon_dates=strategy.training.horizon_dates)
    return LabelledRows(
        x=_matrix(table, chosen),
        y=np.asarray(y, dtype=np.int8),
        known=np.asarray(has_value, dtype=bool) & in_time,
        dates=dates,
        target_return=_column(table, "target_return") if "target_return" in table.column_names else None,
        features=tuple(chosen),
    )


def _matrix(table: pa.Table, features: tuple[str, ...]) -> npt.NDArray[np.float32]:
    x = np.empty((table.num_rows, len(features)), dtype=np.float32)
    for index, name in enumerate(features):
        x[:, index] = _column(table, name)
    x[~np.isfinite(x)] = np.nan
    return x


def _column(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    return np.asarray(table.column(name).to_numpy(zero_copy_only=False), dtype=np.float64)

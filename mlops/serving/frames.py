"""Rows of a caller as the model reads them: columns by name, each a number, prepared as in training; pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.domain.errors import InvalidRows
from mlops.domain.live.rows import prepare_rows
from mlops.domain.policies import KEY_COLUMNS, TARGET_PREFIX

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from mlops.domain.live.rows import Floats

_NUMBERS = "fiub"
#: What pandas finds in a column of objects that are numbers, some of them missing.
_NUMERIC_OBJECTS = {"floating", "integer", "mixed-integer-float", "decimal", "boolean", "empty"}
_SHOWN = 10
"""So many columns of a kind are named in an error."""


class RowReader:
    """Reads frames and rows for one model."""

    def __init__(self, features: Sequence[str], *, model: str, beside: Collection[str] = ()) -> None:
        """features: in the model's order. model: how errors call it. beside: columns that may be there, and are not
        read.
        """
        self.features = tuple(features)
        self._model = model
        self._known = frozenset(features)
        self._beside = frozenset((*KEY_COLUMNS, *beside))
        self._n = len(self.features)
        one = itemgetter(self.features[0])
        self._values: Callable[[Mapping[str, Any]], tuple[Any, ...]] = (
            itemgetter(*self.features) if self._n > 1 else lambda row: (one(row),)
        )
        # The last frame's columns and where the features are in them: callers send the same layout again and again.
        self._layout: tuple[pd.Index, list[int] | None] | None = None

    def values(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        """Values of one row in the model's order. Raises InvalidRows."""
        try:
            values = self._values(row)
        except KeyError:
            raise self._misfit(row.keys()) from None
        if len(row) != self._n:
            self._refuse_unknown(row.keys())
        return values

    def rows(self, frame: Any) -> Floats:  # noqa: ANN401 -- pandas, Arrow or numpy
        """(n, f) rows of `prepare_rows`, of a pandas frame, an Arrow table or a numpy array. Raises InvalidRows."""
        if isinstance(frame, np.ndarray):
            return self._of_array(frame)
        if hasattr(frame, "iloc") and hasattr(frame, "columns"):
            return self._of_pandas(frame)
        if hasattr(frame, "__arrow_c_stream__") or hasattr(frame, "__arrow_c_array__"):
            return self._of_arrow(frame)
        message = (
            f"rows for {self._model} come as a pandas frame, an Arrow table or a numpy array, found "
            f"{type(frame).__name__}; one row by name goes to predict_one"
        )
        raise InvalidRows(message)

    # -- numpy

    def _of_array(self, array: np.ndarray[Any, Any]) -> Floats:
        if array.ndim != 2 or array.shape[1] != self._n:
            message = (
                f"an array for {self._model} has shape (rows, {self._n}), one column for each feature in the model's "
                f"order, found {array.shape}; give a frame to have columns matched by name"
            )
            raise InvalidRows(message)
        if array.dtype.kind not in _NUMBERS:
            message = f"an array for {self._model} holds numbers, found dtype {array.dtype}"
            raise InvalidRows(message)
        return prepare_rows(array)

    # -- pandas

    def _of_pandas(self, frame: pd.DataFrame) -> Floats:
        layout = self._layout
        if layout is None or (layout[0] is not frame.columns and not layout[0].equals(frame.columns)):
            layout = self._layout = frame.columns, self._places([str(name) for name in frame.columns])
        places = layout[1]
        chosen = frame if places is None else frame.iloc[:, places]
        values = chosen.to_numpy()
        return prepare_rows(values) if values.dtype.kind in _NUMBERS else self._column_by_column(chosen)

    def _column_by_column(self, frame: pd.DataFrame) -> Floats:
        from pandas.api import types  # noqa: PLC0415 -- the caller has loaded it

        found = np.empty(frame.shape, dtype=np.float64)
        mistyped = []
        for place, name in enumerate(self.features):
            column = frame.iloc[:, place]
            is_objects = types.is_object_dtype(column.dtype)
            inferred = types.infer_dtype(column, skipna=True) if is_objects else ""
            is_number = types.is_numeric_dtype(column.dtype) and not types.is_complex_dtype(column.dtype)
            if is_number or inferred in _NUMERIC_OBJECTS:
                found[:, place] = column.to_numpy(dtype=np.float64, na_value=np.nan)
            else:
                mistyped.append(f"{name} ({inferred or column.dtype})")
        if mistyped:
            raise self._mistyped(mistyped)
        return prepare_rows(found)

    # -- Arrow

    def _of_arrow(self, frame: Any) -> Floats:  # noqa: ANN401 -- whatever exports itself to Arrow
        import pyarrow as pa  # noqa: PLC0415 -- where somebody gives it

        table = frame if isinstance(frame, pa.Table) else pa.table(frame)
        places = self._places(table.column_names) or range(self._n)
        found = np.empty((table.num_rows, self._n), dtype=np.float64)
        mistyped = []
        for place, (name, source) in enumerate(zip(self.features, places, strict=True)):
            column = table.column(source)
            if not _is_number(column.type):
                mistyped.append(f"{name} ({column.type})")
                continue
            if pa.types.is_boolean(column.type):
                column = column.cast(pa.uint8())
            found[:, place] = column.cast(pa.float64(), safe=False).to_numpy()
        if mistyped:
            raise self._mistyped(mistyped)
        return prepare_rows(found)

    # -- names

    def _places(self, names: Sequence[str]) -> list[int] | None:
        """Where each feature is; None: they are all, in order. Raises InvalidRows."""
        if tuple(names) == self.features:
            return None
        place = {name: i for i, name in enumerate(names)}
        if not self._known <= place.keys():
            raise self._misfit(names)
        self._refuse_unknown(names)
        if len(place) < len(names):
            twice = sorted({name for name in names if list(names).count(name) > 1})
            raise self._refused(f"{_named(twice, 'column')} there more than once")
        return [place[name] for name in self.features]

    def _refuse_unknown(self, names: Iterable[str]) -> None:
        if self._unknown(names):
            raise self._misfit(names)

    def _unknown(self, names: Iterable[str]) -> list[str]:
        """Names that are no features; keys and targets, which a feature view has beside them, may be there."""
        return [
            name
            for name in names
            if name not in self._known and name not in self._beside and not str(name).startswith(TARGET_PREFIX)
        ]

    def _misfit(self, names: Iterable[str]) -> InvalidRows:
        given = list(names)
        missing = [name for name in self.features if name not in set(given)]
        unknown = self._unknown(given)
        parts = [
            f"{_named(missing, 'column')} missing" if missing else "",
            f"{_named(unknown, 'column')} not among its features" if unknown else "",
        ]
        return self._refused("; ".join(part for part in parts if part))

    def _mistyped(self, found: list[str]) -> InvalidRows:
        return self._refused(f"{_named(found, 'column')} no number")

    def _refused(self, why: str) -> InvalidRows:
        return InvalidRows(f"the rows do not fit {self._model}, which reads {self._n} columns by name: {why}")


def _is_number(kind: pa.DataType) -> bool:
    from pyarrow import types  # noqa: PLC0415 -- where somebody gives it

    checks = (types.is_floating, types.is_integer, types.is_boolean, types.is_decimal, types.is_null)
    return any(check(kind) for check in checks)


def _named(names: Sequence[object], noun: str) -> str:
    """`columns a, b and 3 more are`."""
    shown = ", ".join(str(name) for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{noun} {shown} is" if len(names) == 1 else f"{noun}s {shown}{more} are"

"""What computes a probability: XGBoost itself, and onnxruntime where the rows are few.

XGBoost spends over 100 µs on a call however few rows it has. onnxruntime computes the same sum of the same trees in
a few. Each thread takes a slot of its own, with memory that is filled anew for each row and never allocated.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mlops.domain.errors import InvalidRows
from mlops.domain.live.rows import prepare_rows
from mlops.serving.trees import INPUT, OUTPUT

if TYPE_CHECKING:
    import onnxruntime as ort
    import xgboost as xgb

    from mlops.domain.live.rows import Floats
    from mlops.serving.model import Engine, Probabilities

FEW_ROWS = 100
"""Up to so many rows onnxruntime on one thread is faster (docs/serving.md)."""
_MAX_EXPONENT = 88.7
"""XGBoost's own bound, beyond which exp would not be a float32."""


class RowSlot:
    """Memory for one row, used by one caller at a time."""

    def __init__(self, n_features: int) -> None:
        self.row: Floats = np.zeros((1, n_features), dtype=np.float32)
        """(1, f) as the model reads it"""
        self.has_missing = False
        """Whether a value that `fill` put in is missing"""
        self.ask: Callable[[], float] = lambda: math.nan
        """Probability of what is in `row`"""
        self._bytes = self.row.data.cast("B")
        self._pack = struct.Struct(f"={n_features}f").pack_into

    def fill(self, values: Sequence[float], features: Sequence[str]) -> None:
        """Put in one row's values, prepared. Raises InvalidRows for what is no number."""
        try:
            self._pack(self._bytes, 0, *values)
            # Not finite where any value is not; nan is as it should be, infinities become nan.
            self.has_missing = not math.isfinite(sum(values))
            if self.has_missing:
                self.row[np.isinf(self.row)] = np.nan
        except (struct.error, TypeError, OverflowError):
            self.put(prepare_rows([[_number(value, name) for value, name in zip(values, features, strict=True)]]))

    def put(self, row: Floats) -> None:
        """Put in one row, (1, f) and prepared."""
        self.row[:] = row
        self.has_missing = bool(np.isnan(self.row).any())


def _number(value: Any, feature: str) -> float:  # noqa: ANN401 -- what a caller gave
    if value is None or type(value).__name__ in {"NAType", "NaTType"}:
        return math.nan
    if isinstance(value, int | float | np.number | np.bool_ | Decimal) and not isinstance(value, np.complexfloating):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    message = f"{feature} is {value!r} ({type(value).__name__}), and a number is asked for"
    raise InvalidRows(message)


class Predictor(Protocol):
    """Gives probabilities of prepared rows; safe to use from several threads."""

    @property
    def engine(self) -> Engine:
        """What answers for few rows."""
        ...

    def probabilities(self, rows: Floats) -> Probabilities:
        """(n,) of the positive class for (n, f) rows of `prepare_rows`."""
        ...

    def take(self) -> RowSlot:
        """Lend a slot to this caller alone; whoever takes one gives it back."""
        ...

    def give(self, slot: RowSlot) -> None:
        """Take a slot back."""
        ...


def ask_one(predictor: Predictor, row: Floats, *, clock: Callable[[], int], again: bool) -> tuple[float, int]:
    """Probability of one (1, f) prepared row, and the ns that it took: by which versions are compared.

    again : the second of two tries is timed, as the first is three times slower where another model was asked before
    """
    slot = predictor.take()
    try:
        slot.put(row)
        if again:
            slot.ask()
        began = clock()
        return slot.ask(), clock() - began
    finally:
        predictor.give(slot)


class _Slots:
    """Slots that nobody uses now; as many are made as callers ask at once. Its operations are atomic."""

    def __init__(self, make: Callable[[], RowSlot]) -> None:
        self._make = make
        self._free: deque[RowSlot] = deque()
        self.give = self._free.append

    def take(self) -> RowSlot:
        """Return a free slot, else a new one."""
        try:
            return self._free.pop()
        except IndexError:
            return self._make()


class XgboostPredictor:
    """XGBoost's own prediction."""

    engine: Engine = "xgboost"

    def __init__(self, booster: xgb.Booster) -> None:
        self._booster = booster
        slots = _Slots(self._slot)
        self.take, self.give = slots.take, slots.give

    def probabilities(self, rows: Floats) -> Probabilities:
        """(n,) of the positive class for (n, f) rows of `prepare_rows`."""
        if not len(rows):
            return np.empty(0, dtype=np.float32)
        found: Probabilities = self._booster.inplace_predict(rows, missing=np.nan, validate_features=False)
        return found

    def _slot(self) -> RowSlot:
        slot = RowSlot(self._booster.num_features())
        slot.ask = lambda: float(self.probabilities(slot.row)[0])
        return slot


class OnnxPredictor:
    """onnxruntime on the caller's own thread for few rows, XGBoost for more."""

    engine: Engine = "onnx"

    def __init__(self, graph: bytes, many: XgboostPredictor, *, n_features: int) -> None:
        import onnxruntime as ort  # noqa: PLC0415 -- loaded when a model is

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session: ort.InferenceSession = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._many = many
        self._n_features = n_features
        slots = _Slots(self._slot)
        self.take, self.give = slots.take, slots.give

    def probabilities(self, rows: Floats) -> Probabilities:
        """(n,) of the positive class for (n, f) rows of `prepare_rows`."""
        if not 0 < len(rows) <= FEW_ROWS:
            return self._many.probabilities(rows)
        return self.few(rows)

    def few(self, rows: Floats) -> Probabilities:
        """Compute them with onnxruntime however many there are."""
        margin = self._session.run([OUTPUT], {INPUT: rows})[0][:, 0]
        odds = np.exp(np.minimum(-margin.astype(np.float64), _MAX_EXPONENT)).astype(np.float32)
        found: Probabilities = np.float32(1) / (odds + np.float32(1))
        return found

    def _slot(self) -> RowSlot:
        slot = RowSlot(self._n_features)
        margin = np.zeros((1, 1), dtype=np.float32)
        binding = self._session.io_binding()
        binding.bind_input(INPUT, "cpu", 0, np.float32, slot.row.shape, slot.row.ctypes.data)
        binding.bind_output(OUTPUT, "cpu", 0, np.float32, margin.shape, margin.ctypes.data)
        run, read, exp = self._session.run_with_iobinding, margin.item, math.exp
        rounded = array("f", [0.0])  # what is put in comes out as a float32

        def ask() -> float:
            run(binding)
            margin = -read()
            rounded[0] = exp(min(_MAX_EXPONENT, margin))
            rounded[0] += 1.0
            rounded[0] = 1.0 / rounded[0]
            return rounded[0]

        slot.ask = ask
        return slot

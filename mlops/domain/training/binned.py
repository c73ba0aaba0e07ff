"""The training rows as XGBoost's binned matrix, made block by block.

Called by the trainer. XGBoost goes over the rows five times (shape, sketch, bins); they are read anew each time,
so that nothing but a block stands beside its own copy. One array and the same rows in blocks give the same bins
as long as the sketch holds every distinct value; beyond that the cuts may differ within the sketch's error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from mlops.domain.errors import SingleClass, UnusableFeatures
from mlops.domain.training.feature_names import encoded_names
from mlops.domain.training.matrix import Rows, row_blocks

if TYPE_CHECKING:
    from mlops.domain.ports import TrainingControl, TrainingData

Floats = npt.NDArray[np.float32]


def binned(
    data: TrainingData, control: TrainingControl, *, max_bin: int, n_jobs: int
) -> tuple[xgb.QuantileDMatrix, list[tuple[xgb.QuantileDMatrix, str]]]:
    """The matrix to fit, and those to evaluate after each round. Infinities count as missing.

    Raises what `control.check` raises, which is asked at each block.
    """

    def make(x: Rows, y: npt.NDArray[np.int8], ref: xgb.QuantileDMatrix | None = None) -> xgb.QuantileDMatrix:
        options: dict[str, Any] = {"nthread": n_jobs, "max_bin": max_bin, "ref": ref}
        names = encoded_names(data.features)
        if isinstance(x, np.ndarray):
            return xgb.QuantileDMatrix(_finite_or_missing(x), label=y, feature_names=names, **options)
        return xgb.QuantileDMatrix(_Blocks(x, y, names, control.check), **options)

    matrix, validation = make(data.x, data.y), data.validation
    if validation is None:
        return matrix, []
    held = make(validation.x, validation.y, matrix)
    held.set_weight(np.where(validation.y == 1, np.float32(validation.positive_weight), np.float32(1)))
    return matrix, [(held, "validation")]


def refuse_unlearnable(data: TrainingData) -> None:
    """Raises SingleClass, UnusableFeatures."""
    positive = int(np.sum(data.y == 1))
    if positive in (0, len(data.y)):
        message = (
            f"all {len(data.y)} training labels are {int(positive > 0)}; check the label's rule, "
            f"or train on a longer window"
        )
        raise SingleClass(message)
    if not _varies(data.x):
        message = (
            f"none of the {len(data.features)} features varies over {len(data.y)} training rows; check the feature view"
        )
        raise UnusableFeatures(message)


class _Blocks(xgb.DataIter):  # type: ignore[misc]  # the library's base is untyped
    """Gives XGBoost one block at a time, as often as it asks."""

    def __init__(self, x: Rows, y: npt.NDArray[np.int8], features: list[str], check: Callable[[], None]) -> None:
        self._x, self._y, self._features, self._check = x, y, features, check
        self._blocks: Iterator[Floats] = iter(())
        self._place = 0
        super().__init__()

    def reset(self) -> None:
        """Begin again."""
        self._blocks = row_blocks(self._x)
        self._place = 0

    def next(self, input_data: Callable[..., Any]) -> bool:
        """Hand over the next block; False after the last."""
        self._check()
        block = next(self._blocks, None)
        if block is None:
            return False
        label = self._y[self._place : self._place + len(block)]
        self._place += len(block)
        input_data(data=_finite_or_missing(block), label=label, feature_names=self._features)
        return True


def _finite_or_missing(x: Floats) -> Floats:
    """XGBoost refuses infinities; the drift report has named them already."""
    infinite = np.isinf(x)
    return np.where(infinite, np.float32(np.nan), x) if infinite.any() else x


def _varies(x: Rows) -> bool:
    """Any feature has two different numbers; fmin and fmax skip missing values."""
    low: Floats | None = None
    high: Floats | None = None
    for block in row_blocks(x):
        if not block.shape[1]:
            return False
        finite = _finite_or_missing(block)
        least, most = np.fmin.reduce(finite), np.fmax.reduce(finite)
        low = least if low is None else np.fmin(low, least)
        high = most if high is None else np.fmax(high, most)
        # A column of nothing but missing values gives nan, and nan < nan is False.
        if np.any(low < high):
            return True
    return False

"""What a trainer is given, asks and tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import xgboost as xgb

    from mlops.domain.training.matrix import Rows


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """A matrix with its labels."""

    x: Rows
    """(n, f) float32: an array, or rows that are too many for one; `np.asarray(x)` is an array of either."""
    y: npt.NDArray[np.int8]
    """(n,) of 0 and 1"""
    dates: npt.NDArray[np.datetime64]
    """(n,) datetime64[D], ascending"""
    features: tuple[str, ...]
    """f names"""
    validation: Validation | None = None
    """Rows to stop early on; None: every round is boosted."""
    base: bytes | None = None
    """A model in XGBoost's UBJSON whose trees stay and are continued; None: begin without any. Given only to a
    trainer whose `can_continue` is True; `n_estimators` then counts the base's rounds too."""


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Later rows than those that are fitted, none of whose labels reaches back into them."""

    x: Rows
    y: npt.NDArray[np.int8]
    patience_rounds: int
    """Stop after so many rounds without a better log loss here; the model ends with the best round."""
    positive_weight: float = 1.0
    """What a positive row weighs in that log loss, a negative one 1; as in the fit."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a training is."""

    done: int
    total: int
    unit: str = "rounds"
    left_s: float | None = None


class TrainingControl(Protocol):
    """What a trainer asks and tells while it runs; called once per boosting round, so it is cheap."""

    def report(self, progress: Progress) -> None:
        """Tell how far the training is."""
        ...

    def check(self) -> None:
        """Raise StageCancelled, LeaseLost, or Drained when the training must stop now."""
        ...

    def save_checkpoint(self, name: str, payload: bytes) -> None:
        """Keep `payload` so that a later grant of this stage can resume from it."""
        ...

    def load_checkpoint(self) -> tuple[str, bytes] | None:
        """Name and payload of the newest checkpoint whose data and parameters agree, or None."""
        ...


class Trainer(Protocol):
    """Fits one binary classifier. A strategy may name its own; it must return an XGBClassifier.

    A model without names of features is given those of `TrainingData.features`. A trainer that honours
    `TrainingData.base` says so with an attribute `can_continue = True`.
    """

    def fit(
        self,
        data: TrainingData,
        *,
        params: Mapping[str, float | int | str | bool],
        seed: int,
        device: str,
        n_jobs: int,
        segment_rounds: int,
        control: TrainingControl,
    ) -> xgb.XGBClassifier:
        """Fit on all rows of `data`. `device` is `cpu` or `cuda`."""
        ...

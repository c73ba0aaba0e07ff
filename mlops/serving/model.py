"""A model in use and what it answers: the values that the router, its callers and the prediction log share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from mlops.serving.frames import RowReader

if TYPE_CHECKING:
    from mlops.serving.engines import Predictor

Engine = Literal["onnx", "xgboost"]
Probabilities = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class EngineCheck:
    """How the fast engine was compared with XGBoost when the model was loaded."""

    reason: str
    """In words: what was found, or why XGBoost answers"""
    n_rows: int = 0
    """That both computed; 0: nothing was compared"""
    largest_difference: float = 0.0
    """Of two probabilities of one row"""
    n_flipped: int = 0
    """Rows on different sides of 0.5"""


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A version that answers."""

    strategy: str
    version: str
    sha256: str
    """Of the model file's bytes"""
    seq: int
    """Of the champion in the ledger when it was placed; grows with each change"""
    features: tuple[str, ...]
    """The columns that it reads, in its order"""
    predictor: Predictor = field(repr=False, compare=False)
    check: EngineCheck = EngineCheck(reason="XGBoost answers: no other engine was asked for")
    variant: str = "champion"
    beside: frozenset[str] = frozenset()
    """Columns of other versions, which callers' rows may have as well"""

    @cached_property
    def reader(self) -> RowReader:
        """Reads callers' rows for it."""
        return RowReader(self.features, model=f"{self.strategy} version {self.version}", beside=self.beside)

    @property
    def engine(self) -> Engine:
        """What answers for few rows."""
        return self.predictor.engine


class Prediction(NamedTuple):
    """One row's answer."""

    probability: float
    """Of the positive class"""
    version: str
    sha256: str
    variant: str = "champion"


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """A frame's answers: of the champion, and of the challenger of a running experiment for the keys that are its."""

    probability: Probabilities
    """(n,) of the positive class, in the frame's order; a row of nothing but missing values has one too"""
    model: ServedModel
    """That gave all answers; where two versions did, the champion"""
    challenger: ServedModel | None = None
    """That gave the others; None: one version gave all"""
    by_challenger: npt.NDArray[np.bool_] | None = None
    """(n,) which those are"""

    @property
    def version(self) -> str:
        """Number of `model`'s version; `versions` has each row's."""
        return self.model.version

    @property
    def sha256(self) -> str:
        """Digest of `model`'s file."""
        return self.model.sha256

    @property
    def versions(self) -> list[str]:
        """(n,) number of the version that gave each answer."""
        return [model.version for model in self._models()]

    @property
    def variants(self) -> list[str]:
        """(n,) `champion` or `challenger`, of each answer."""
        return [model.variant for model in self._models()]

    def _models(self) -> list[ServedModel]:
        if self.challenger is None or self.by_challenger is None:
            return [self.model] * len(self.probability)
        two = self.model, self.challenger
        return [two[place] for place in self.by_challenger.tolist()]

    def __len__(self) -> int:
        return len(self.probability)


class Recorder(Protocol):
    """Takes in what was answered; cheap, since the caller waits."""

    def record(
        self,
        model: ServedModel,
        tickers: Sequence[str],
        dates: Sequence[date],
        probability: Probabilities,
        digests: Sequence[bytes],
    ) -> None:
        """Note n answers: tickers, dates of the features, probabilities and digests of the rows, n of each."""
        ...

    def flush(self) -> None:
        """Return when everything that was recorded before survives a kill of this process."""
        ...

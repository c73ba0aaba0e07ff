"""What computes a probability: XGBoost itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import xgboost as xgb

    from mlops.domain.live.rows import Floats
    from mlops.serving.model import Engine, Probabilities


class Predictor(Protocol):
    """Gives probabilities of prepared rows; safe to use from several threads."""

    @property
    def engine(self) -> Engine:
        """What answers for few rows."""
        ...

    def probabilities(self, rows: Floats) -> Probabilities:
        """(n,) of the positive class for (n, f) rows of `prepare_rows`."""
        ...


class XgboostPredictor:
    """XGBoost's own prediction."""

    engine: Engine = "xgboost"

    def __init__(self, booster: xgb.Booster) -> None:
        self._booster = booster

    def probabilities(self, rows: Floats) -> Probabilities:
        """(n,) of the positive class for (n, f) rows of `prepare_rows`."""
        if not len(rows):
            return np.empty(0, dtype=np.float32)
        found: Probabilities = self._booster.inplace_predict(rows, missing=np.nan, validate_features=False)
        return found

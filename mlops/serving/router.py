"""The champion of a strategy in a backend's own process.

router = ModelRouter("growth")
answers = router.predict(frame, tickers=frame["ticker"], as_of=day)
answer = router.predict_one(row, ticker="AAPL", as_of=day)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Self

from mlops.serving.model import Prediction, Predictions, Recorder, ServedModel

if TYPE_CHECKING:
    from config.settings import Settings


class ModelRouter:
    """Answers with the champion of a strategy, and follows it; safe to use from several threads."""

    def __init__(self, strategy: str, *, settings: Settings | None = None, recorder: Recorder | None = None) -> None:
        """settings: None for those of the environment. recorder: takes in each answer that has ticker and date."""
        self.strategy = strategy

    @property
    def model(self) -> ServedModel:
        """The version that answers now. Raises ModelNotFound: no champion."""
        raise NotImplementedError

    def predict(
        self, frame: Any, *, tickers: Sequence[str] | None = None, as_of: date | Sequence[date] | None = None
    ) -> Predictions:
        """Probabilities for a pandas frame, an Arrow table or a numpy array."""
        raise NotImplementedError

    def predict_one(
        self, row: Mapping[str, float], *, ticker: str | None = None, as_of: date | None = None
    ) -> Prediction:
        """Probability for one row, by feature name."""
        raise NotImplementedError

    def close(self) -> None:
        """End the following of the champion."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

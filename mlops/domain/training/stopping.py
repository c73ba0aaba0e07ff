"""When boosting stops early, in a way that a resumed training repeats: the state travels in the model.

Called by the trainer. XGBoost's own callback begins to count anew with every segment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

import xgboost as xgb

if TYPE_CHECKING:
    from mlops.domain.ports import Validation

STOPPING_METRIC = "logloss"
"""Of the validation rows; lower is better. AUC would not see a model that grows overconfident."""
_ROUND, _SCORE = "best_iteration", "best_score"


class EarlyStopping:
    """The best round so far, and whether there has been none better for `patience_rounds`."""

    def __init__(self, patience_rounds: int | None, *, best_round: int = 0, best_score: float = float("inf")) -> None:
        """patience_rounds: None never stops. best_round: counted from 1; 0 before the first."""
        self._patience = patience_rounds
        self.best_round = best_round
        self.best_score = best_score
        self.is_reached = False

    @classmethod
    def of(cls, validation: Validation | None, model: bytearray | None) -> Self:
        """For these validation rows, taken up where a checkpoint's model left it."""
        if validation is None:
            return cls(None)
        if model is None:
            return cls(validation.patience_rounds)
        kept = xgb.Booster(model_file=model).attributes()
        return cls(validation.patience_rounds, best_round=int(kept[_ROUND]) + 1, best_score=float(kept[_SCORE]))

    def look(self, done: int, evals_log: Mapping[str, Mapping[str, Sequence[float]]]) -> bool:
        """Take in the round that was just boosted; True where it is time to stop."""
        if self._patience is None:
            return False
        score = evals_log["validation"][STOPPING_METRIC][-1]
        if score < self.best_score:
            self.best_round, self.best_score = done, score
        self.is_reached = done - self.best_round >= self._patience
        return self.is_reached

    def note(self, booster: xgb.Booster) -> None:
        """Write the state into the model, in the names that XGBoost itself uses; nothing where it never stops."""
        if self._patience is not None:
            booster.set_attr(**{_ROUND: str(self.best_round - 1), _SCORE: repr(self.best_score)})

    def best_part(self, model: bytearray | None) -> bytearray | None:
        """The model up to its best round; all of it where it never stops."""
        if self._patience is None or model is None:
            return model
        best = xgb.Booster(model_file=model)[: self.best_round]
        self.note(best)
        kept: bytearray = best.save_raw("ubj")
        return kept

"""The champion's part in a check: weights of the features, and its predictions beside them.

Called by the drift stage with the champion as `champion_model` found it. What it cannot add is a finding in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import structlog

from mlops.domain.drift.data_quality import DataFinding
from mlops.domain.drift.report import prediction_json
from mlops.domain.drift.weights import importance_weights
from mlops.stages.champion_model import NOT_ASKED, compare_predictions

if TYPE_CHECKING:
    from mlops.domain.frame import FeatureFrame
    from mlops.domain.policies import Strategy
    from mlops.stages.champion_model import AskedChampion
    from mlops.stages.drift_windows import WindowsRead

log = structlog.get_logger(__name__)


def settled_weights(
    asked: AskedChampion, strategy: Strategy, features: Sequence[str]
) -> tuple[dict[str, float] | None, list[DataFinding]]:
    """Weights of the features: None for equal ones, with the reason where the policy wants the importance."""
    if strategy.drift.weights == "equal":
        return None, []
    why_not = asked.why_not or "there is no champion"
    if asked.model is not None:
        weights = importance_weights(asked.model.importance(), features)
        if weights is not None:
            return weights, []
        why_not = f"champion {asked.model.version} draws on none of the check's features"
    log.warning("drift.weights_equal", strategy=strategy.name, error=why_not)
    message = f"all features count alike, although the policy weights them by importance: {why_not}"
    return None, [DataFinding(code="equal_weights", column=None, message=message, is_drift=False)]


def compared_predictions(
    asked: AskedChampion, read: WindowsRead, reference: FeatureFrame, current: FeatureFrame, strategy: Strategy
) -> tuple[dict[str, Any] | None, list[DataFinding]]:
    """The report's `predictions`: None where there is no champion or the policy wants none, or with the reason."""
    why_not = asked.why_not
    if strategy.drift.predictions and asked.model is not None:
        try:
            predictions = compare_predictions(asked.model, reference, current, strategy.drift)
        except NOT_ASKED as exc:
            why_not = f"champion {asked.model.version} cannot be asked: {exc}"
        else:
            return prediction_json(predictions, read.reference_window, read.current_window), []
    if not strategy.drift.predictions or why_not is None:
        return None, []
    log.warning("drift.predictions_not_compared", strategy=strategy.name, error=why_not)
    message = f"the predictions are not compared: {why_not}"
    return None, [DataFinding(code="predictions_not_compared", column=None, message=message, is_drift=False)]

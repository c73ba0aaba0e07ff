"""The one way in which a version is scored on rows: by the train stage, in folds, and beside a champion.

Two versions are comparable only where the same functions scored them, a strategy's own among them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.domain.errors import UnusableModelFile
from mlops.domain.training.metrics import Evaluation, evaluate_classifier, evaluate_custom
from mlops.domain.training.trading import evaluate_trading

if TYPE_CHECKING:
    import numpy.typing as npt

    from mlops.domain.policies import Strategy, TrainingPolicy
    from mlops.stages.labelled_rows import LabelledRows


def score_rows(
    strategy: Strategy,
    rows: LabelledRows,
    on: npt.NDArray[np.bool_],
    probability: npt.NDArray[np.floating[Any]],
    *,
    train_positive_share: float,
) -> Evaluation:
    """Metrics of the classification, of its trades where the label speaks of them, and the strategy's own.

    on : (n,) rows of `rows` that are judged      probability : (number of those,) of class 1, in their order
    train_positive_share : share of label 1 among the rows that the version was trained on
    """
    policy = strategy.training
    returns = None if rows.target_return is None else rows.target_return[on]
    classified = evaluate_classifier(
        rows.y[on],
        probability,
        train_positive_share=train_positive_share,
        positive_weight=_positive_weight(policy, train_positive_share),
    )
    traded = evaluate_trading(
        rows.dates[on], probability, returns, label=policy.label, horizon_dates=policy.horizon_dates
    )
    own = evaluate_custom(policy.metrics, dates=rows.dates[on], y=rows.y[on], probability=probability, returns=returns)
    return classified.merged(traded).merged(own)


def _positive_weight(policy: TrainingPolicy, train_positive_share: float) -> float:
    """Weight of a positive row in the training: the probabilities refer to a sample weighted so."""
    if policy.class_weight == "balanced" and 0.0 < train_positive_share < 1.0:
        return (1.0 - train_positive_share) / train_positive_share
    return float(policy.params.get("scale_pos_weight", 1.0))


def positive_probability(model: Any, x: Any) -> npt.NDArray[np.float64]:  # noqa: ANN401 -- a classifier, and rows as it takes them
    """(n,) probability of class 1 that a classifier gives each row.

    Raises UnusableModelFile where that is none: not of two classes, not finite, below 0 or above 1.
    """
    both = np.asarray(model.predict_proba(x), dtype=np.float64)
    if both.ndim != 2 or both.shape[1] != 2:
        message = f"it gives probabilities of shape {both.shape}, not of two classes; train again"
        raise UnusableModelFile(message)
    probability = both[:, 1]
    n_without = int(np.count_nonzero(~np.isfinite(probability)))
    if n_without:
        message = f"it gives no probability for {n_without} of {len(probability)} rows; train again"
        raise UnusableModelFile(message)
    if probability.size and not 0.0 <= float(probability.min()) <= float(probability.max()) <= 1.0:
        message = (
            f"it gives values from {probability.min():.4g} to {probability.max():.4g}, which are no probabilities; "
            f"train again with an objective that gives one (binary:logistic)"
        )
        raise UnusableModelFile(message)
    return probability

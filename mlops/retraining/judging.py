"""The one way in which a version is scored on rows: by the train stage, in folds, and beside a champion.

Two versions are comparable only where the same functions scored them, a strategy's own among them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlops.training.custom_metrics import evaluate_custom
from mlops.training.metrics import Evaluation, evaluate_classifier
from mlops.training.trading import evaluate_trading

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mlops.retraining.labelled_rows import LabelledRows
    from mlops.strategies import Strategy


def judge(
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
    classified = evaluate_classifier(rows.y[on], probability, train_positive_share=train_positive_share)
    traded = evaluate_trading(
        rows.dates[on], probability, returns, label=policy.label, horizon_dates=policy.horizon_dates
    )
    own = evaluate_custom(policy.metrics, dates=rows.dates[on], y=rows.y[on], probability=probability, returns=returns)
    return classified.merged(traded).merged(own)

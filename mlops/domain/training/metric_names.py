"""Names of metrics: the system's own, and the form in which a strategy names its functions; pure.

Called when a strategies file is read, so it imports nothing heavy.
"""

from __future__ import annotations

import re

_BUILT_IN = frozenset(
    {
        "accuracy",
        "accuracy_skill",
        "brier",
        "brier_skill",
        "f1_score",
        "false_negatives",
        "false_positives",
        "holdout_majority_accuracy",
        "lift_over_majority",
        "log_loss",
        "log_loss_skill",
        "majority_accuracy",
        "max_drawdown",
        "max_drawdown_high",
        "max_drawdown_low",
        "model_size_bytes",
        "n_holdout",
        "n_holdout_negative",
        "n_holdout_positive",
        "n_periods",
        "n_trades",
        "n_train_negative",
        "n_train_positive",
        "positive_share",
        "precision",
        "prediction_range",
        "recall",
        "roc_auc",
        "sharpe_ratio",
        "sharpe_ratio_high",
        "sharpe_ratio_low",
        "true_negatives",
        "true_positives",
        "win_rate",
        "win_rate_high",
        "win_rate_low",
    }
)
"""What the system measures of held-out rows itself."""
COUNTS = frozenset(
    name for name in _BUILT_IN if name.startswith("n_") or name.endswith(("_positives", "_negatives", "_bytes"))
)
"""Those that are whole numbers."""
FOLD_PREFIX, RANDOM_SPLIT_PREFIX = "fold_", "random_split_"
"""Of what it measures in walk-forward folds, and with the documented random split."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def form_fault(name: str, function: str) -> str:
    """Describe what is wrong with an entry of `training.metrics`; empty where nothing is."""
    if not _NAME.fullmatch(name):
        return f"training.metrics: {name!r} is no metric name; use lower-case letters, digits, underscores"
    if name in _BUILT_IN or name.startswith((FOLD_PREFIX, RANDOM_SPLIT_PREFIX)):
        return f"training.metrics: {name!r} is a metric of the system's own; choose another name"
    if not _FUNCTION.fullmatch(function):
        return f"training.metrics: {name} = {function!r} names no function; write package.module:function"
    return ""

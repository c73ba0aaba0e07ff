"""Is a model's score the luck of one period? The same training on walk-forward folds, fold by fold.

Pure; called by the train stage where the policy or the caller asks for folds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops.domain.errors import DataError
from mlops.domain.training.fold_table import FoldScore
from mlops.domain.training.folds import Fold
from mlops.domain.training.metric_names import FOLD_PREFIX
from mlops.domain.training.metrics import evaluate_classifier, majority_class_share

SUMMARISED = ("accuracy", "majority_accuracy", "roc_auc", "log_loss")
"""Metrics whose mean and spread over the folds are logged."""


def score_folds(
    folds: Iterable[Fold],
    y: npt.NDArray[np.integer[Any]],
    predict: Callable[[Fold], npt.NDArray[np.floating[Any]]],
) -> tuple[FoldScore, ...]:
    """Train and judge on each. `predict` gives the probabilities of the fold's test rows; its DataError is a note."""
    return tuple(_score(fold, y, predict) for fold in folds)


def summarise(scores: Sequence[FoldScore]) -> dict[str, float]:
    """`fold_count` of the scored folds, and `fold_METRIC_mean` and `_std` (n - 1; not of a single fold)."""
    found = {f"{FOLD_PREFIX}count": float(sum(score.accuracy is not None for score in scores))} if scores else {}
    for name in SUMMARISED:
        values = [value for score in scores if (value := getattr(score, name)) is not None]
        if values:
            found[f"{FOLD_PREFIX}{name}_mean"] = float(np.mean(values))
        if len(values) > 1:
            found[f"{FOLD_PREFIX}{name}_std"] = float(np.std(values, ddof=1))
    return found


def _score(
    fold: Fold, y: npt.NDArray[np.integer[Any]], predict: Callable[[Fold], npt.NDArray[np.floating[Any]]]
) -> FoldScore:
    line: dict[str, Any] = {
        "fold": fold.number,
        "train_start": fold.first_train.isoformat(),
        "train_end": fold.last_train.isoformat(),
        "test_start": fold.first_test.isoformat(),
        "test_end": fold.last_test.isoformat(),
        "n_train": int(fold.train.sum()),
        "n_test": int(fold.test.sum()),
    }
    try:
        probability = predict(fold)
    except DataError as exc:
        return FoldScore(**line, note=str(exc))
    found = evaluate_classifier(
        y[fold.test], probability, train_positive_share=majority_class_share(y[fold.train])
    ).metrics
    return FoldScore(
        **line,
        accuracy=found["accuracy"],
        majority_accuracy=found["holdout_majority_accuracy"],
        roc_auc=found.get("roc_auc"),
        log_loss=found["log_loss"],
    )

"""Metrics of a classifier on dates it never saw, beside the scores of no skill at all.

Pure; called by the train stage and by promotion. A metric that is undefined for the sample is left out
with a note, never reported as 0 or 0.5.

A strategy's own metrics are functions `(dates, y, p, returns) -> float` that its `training.metrics` names. They are
imported on use, not when the strategies file is read: a worker that only checks drift needs no such package. A
metric that cannot be computed is left out with a note and never stops a training; a gate on it then fails as
"not measured".
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from mlops.domain.errors import ConfigurationError

Floats = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]

THRESHOLD = 0.5
"""A row is called positive from this probability on, as XGBClassifier.predict does."""
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "max_drawdown", "max_drawdown_low", "max_drawdown_high"})


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Metrics by their documented names, and why any of them is missing."""

    metrics: dict[str, float]
    notes: tuple[str, ...] = field(default=())

    def merged(self, other: Evaluation) -> Evaluation:
        """Return the metrics of both; `other` wins where both have one."""
        return Evaluation(metrics=self.metrics | other.metrics, notes=self.notes + other.notes)


def evaluate_classifier(
    y: Labels, probability: Floats, *, train_positive_share: float, positive_weight: float = 1.0
) -> Evaluation:
    """Compute the classification metrics of a held-out sample.

    y : (n,) of 0 and 1      probability : (n,) of class 1      train_positive_share : share of 1 in TRAINING
    positive_weight : of a row with label 1, where the training weighed the classes; for the skill scores alone

    majority_accuracy: always predicting the class that was more frequent in training.
    holdout_majority_accuracy: the same with hindsight, the class more frequent in the sample.
    lift_over_majority: accuracy minus the larger of the two. Over the first alone, a coin would show a
    lift of 0.1 whenever the base rate turned from 0.6 to 0.4.
    accuracy_skill, log_loss_skill, brier_skill: 1 - loss / the loss of a constant that knows the sample's base rate (of
    its majority class, for accuracy); 0: no better than that, 1: perfect (Murphy 1973).
    prediction_range: largest minus smallest probability; 0: it says the same of every row.
    """
    positive = np.asarray(y) == 1
    p = np.asarray(probability, dtype=np.float64)
    called = p >= THRESHOLD
    accuracy = float(np.mean(called == positive))
    share = float(positive.mean())
    majority = share if train_positive_share >= THRESHOLD else 1.0 - share
    hindsight = max(share, 1.0 - share)
    metrics = {
        "accuracy": accuracy,
        "log_loss": log_loss(positive, p),
        "brier": float(np.mean((p - positive) ** 2)),
        "majority_accuracy": majority,
        "holdout_majority_accuracy": hindsight,
        "lift_over_majority": accuracy - hindsight,  # hindsight is never below the other
        "positive_share": share,
        "n_holdout": float(len(p)),
        "n_holdout_positive": float(positive.sum()),
        "n_holdout_negative": float((~positive).sum()),
        "true_positives": float((called & positive).sum()),
        "false_positives": float((called & ~positive).sum()),
        "true_negatives": float((~called & ~positive).sum()),
        "false_negatives": float((~called & positive).sum()),
    }
    true_positive, called_n, positive_n = float((called & positive).sum()), float(called.sum()), float(positive.sum())
    notes = [
        _ratio(metrics, "precision", true_positive, called_n, "no row was called positive"),
        _ratio(metrics, "recall", true_positive, positive_n, "the held-out dates hold no positive row"),
        _ratio(metrics, "f1_score", 2 * true_positive, called_n + positive_n, "no row is or was called positive"),
    ]
    area = roc_auc(positive, p)
    if area is None:
        notes.append(f"roc_auc is undefined: all {len(p)} held-out labels are {int(share)}")
    else:
        metrics["roc_auc"] = area
    metrics["prediction_range"] = float(np.ptp(p))
    metrics |= _skill_scores(positive, p, positive_weight=positive_weight)
    return Evaluation(metrics=metrics, notes=tuple(note for note in notes if note))


def roc_auc(positive: npt.NDArray[np.bool_], p: Floats) -> float | None:
    """Chance that a positive row scores above a negative one, ties half; None with one class only.

    Mann-Whitney U over the product of the class sizes.

    >>> roc_auc(np.array([True, True, False, False]), np.array([0.9, 0.4, 0.4, 0.1]))  # of 4 pairs 3 and a tie
    0.875
    """
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return None
    u = float(rankdata(p)[positive].sum()) - n_positive * (n_positive + 1) / 2
    return u / (n_positive * n_negative)


def log_loss(positive: npt.NDArray[np.bool_], p: Floats) -> float:
    """Mean negative log likelihood in nats; probabilities are clipped to what a float64 can hold."""
    eps = float(np.finfo(np.float64).eps)
    clipped = np.clip(np.asarray(p, dtype=np.float64), eps, 1 - eps)
    return float(-np.mean(np.where(positive, np.log(clipped), np.log1p(-clipped))))


def _skill_scores(positive: npt.NDArray[np.bool_], p: Floats, *, positive_weight: float = 1.0) -> dict[str, float]:
    """accuracy_skill, log_loss_skill and brier_skill; none where one class alone is there."""
    weight = np.where(positive, positive_weight, 1.0)
    share = float(np.average(positive, weights=weight))
    if not 0.0 < share < 1.0:
        return {}
    eps = float(np.finfo(np.float64).eps)
    clipped = np.clip(np.asarray(p, dtype=np.float64), eps, 1 - eps)
    losses = {
        "accuracy": ((p >= THRESHOLD) != positive, min(share, 1.0 - share)),
        "log_loss": (-np.where(positive, np.log(clipped), np.log1p(-clipped)), constant_log_loss(share)),
        "brier": ((clipped - positive) ** 2, share * (1.0 - share)),
    }
    return {
        f"{name}_skill": 1.0 - float(np.average(loss, weights=weight)) / constant
        for name, (loss, constant) in losses.items()
    }


def constant_log_loss(share: float) -> float:
    """Log loss of saying the base rate of every row: the entropy of the labels, in nats."""
    return -(share * math.log(share) + (1.0 - share) * math.log(1.0 - share))


def majority_class_share(y: Labels) -> float:
    """Share of 1 among training labels, as `evaluate_classifier` wants it."""
    return float(np.mean(np.asarray(y) == 1))


def _ratio(metrics: dict[str, float], name: str, part: float, whole: float, why: str) -> str:
    """Set the metric where it is defined, else say why not."""
    if whole:
        metrics[name] = part / whole
        return ""
    return f"{name} is undefined: {why}"


Metric = Callable[..., float]


def _load_metric(name: str, function: str) -> Metric:
    """Import the function. Raises ConfigurationError."""
    module_name, _, attribute = function.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except Exception as exc:  # a module may raise anything while it is imported
        message = f"metric {name}: {function} cannot be imported ({type(exc).__name__}: {exc}); install it, or mend it"
        raise ConfigurationError(message) from exc
    if not callable(found):
        message = f"metric {name}: {function} is no function but {type(found).__name__}; name a callable"
        raise ConfigurationError(message)
    return found  # type: ignore[no-any-return]  # checked to be callable


def evaluate_custom(
    metrics: Mapping[str, str],
    *,
    dates: npt.NDArray[np.datetime64],
    y: npt.NDArray[np.integer],
    probability: npt.NDArray[np.floating],
    returns: npt.NDArray[np.floating] | None,
) -> Evaluation:
    """Evaluate each metric on these rows, or note why it is left out.

    metrics : name → `package.module:function`      returns : (n,) target_return, all nan where there is none
    The functions get copies, so none can change what the others see.
    """
    values: dict[str, float] = {}
    notes: list[str] = []
    for name, function in metrics.items():
        given = (dates, y, probability, np.full(len(y), np.nan) if returns is None else returns)
        try:
            value = _number(_load_metric(name, function)(*(np.array(part) for part in given)))
        except ConfigurationError as exc:
            notes.append(f"{name} is left out: {exc}")
        except Exception as exc:  # noqa: BLE001 -- a strategy's own code may raise anything; the training goes on
            notes.append(f"{name} is left out: {function} raised {type(exc).__name__}: {exc}")
        else:
            if value is None:
                notes.append(f"{name} is left out: {function} gave no finite number for {len(y)} rows")
            else:
                values[name] = value
    return Evaluation(metrics=values, notes=tuple(notes))


def _number(value: Any) -> float | None:  # noqa: ANN401 -- whatever a strategy's function returns
    number = float(value)
    return number if math.isfinite(number) else None

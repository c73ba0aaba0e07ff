"""The documented recipe, a random 80/20 split, beside the honest one: how much of its score is memory.

Pure; called where a leak check is asked for. The recipe trains on rows that lie before the held-out dates, as
somebody would have who used it on that day, so its model can be scored on what came next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops.domain.errors import SingleClass
from mlops.domain.training.metric_names import RANDOM_SPLIT_PREFIX
from mlops.domain.training.metrics import evaluate_classifier, majority_class_share

Mask = npt.NDArray[np.bool_]

TEST_SHARE = 0.2
"""The documented share of rows that the recipe judges on."""
NAIVE_GATE = 0.70
"""The documented gate, which the recipe's accuracy is held against."""


@dataclass(frozen=True, kw_only=True)
class RandomSplit:
    """Three scores with the same parameters. AUC is None where only one class was judged."""

    accuracy: float
    """Of the recipe's model on its own random fifth."""
    roc_auc: float | None
    later_accuracy: float
    """Of the same model on the honest held-out dates, which came after all it was trained on."""
    later_roc_auc: float | None
    honest_accuracy: float
    """Of the version, trained on all of those rows, on the same dates."""
    honest_roc_auc: float | None
    majority_accuracy: float
    """Of always naming the class that is more frequent on the held-out dates."""

    @property
    def gap(self) -> float:
        """What the random split promises of accuracy and the held-out dates do not keep."""
        return self.accuracy - self.honest_accuracy

    def words(self, *, bound: float) -> str:
        """The gap in a sentence."""
        held = f"{self.later_accuracy:.3f} is left on the dates that came next"
        beside = f"where always naming the more frequent class scores {self.majority_accuracy:.3f}"
        if self.gap >= bound:
            return (
                f"The random split promises an accuracy of {self.accuracy:.3f}, of which {held}, {beside}: "
                f"{self.gap:+.3f} over the honest split is memory of neighbouring dates, not skill."
            )
        return (
            f"The random split promises an accuracy of {self.accuracy:.3f}, of which {held}, {beside}: "
            f"{self.gap:+.3f} over the honest split, below the {bound:.2f} that is called a leak."
        )

    def metrics(self) -> dict[str, float]:
        """For the training's run, beside the honest ones."""
        found = {
            "accuracy": self.accuracy,
            "roc_auc": self.roc_auc,
            "later_accuracy": self.later_accuracy,
            "later_roc_auc": self.later_roc_auc,
            "gap": self.gap,
        }
        return {f"{RANDOM_SPLIT_PREFIX}{name}": value for name, value in found.items() if value is not None}


def random_masks(y: npt.NDArray[np.integer[Any]], usable: Mask, *, seed: int) -> tuple[Mask, Mask]:
    """Training and test rows of the recipe among the usable ones, with the same share of each class.

    Raises SingleClass where a class has fewer than two rows.
    """
    from sklearn.model_selection import train_test_split  # noqa: PLC0415 -- takes a second, and is seldom needed

    places = np.flatnonzero(usable)
    try:
        train, test = train_test_split(places, test_size=TEST_SHARE, random_state=seed, stratify=y[places])
    except ValueError as exc:
        message = f"{len(places)} rows cannot be split at random with both classes in both parts: {exc}"
        raise SingleClass(message) from exc
    masks = np.zeros((2, len(y)), dtype=bool)
    masks[0, train] = masks[1, test] = True
    return masks[0], masks[1]


def measure_random_split(
    y: npt.NDArray[np.integer[Any]],
    *,
    before: Mask,
    holdout: Mask,
    honest: Mapping[str, float],
    seed: int,
    train: Callable[[Mask], Callable[[Mask], npt.NDArray[np.floating[Any]]]],
) -> RandomSplit:
    """Train the recipe once on rows of `before`, and score it twice.

    train : rows → a function that gives the probabilities of other rows      honest : metrics of the version
    """
    train_rows, test_rows = random_masks(y, before, seed=seed)
    predict = train(train_rows)
    share = majority_class_share(y[train_rows])
    own = evaluate_classifier(y[test_rows], predict(test_rows), train_positive_share=share).metrics
    later = evaluate_classifier(y[holdout], predict(holdout), train_positive_share=share).metrics
    return RandomSplit(
        accuracy=own["accuracy"],
        roc_auc=own.get("roc_auc"),
        later_accuracy=later["accuracy"],
        later_roc_auc=later.get("roc_auc"),
        honest_accuracy=honest["accuracy"],
        honest_roc_auc=honest.get("roc_auc"),
        majority_accuracy=later["holdout_majority_accuracy"],
    )

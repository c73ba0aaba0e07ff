"""The documented random split beside the honest one, on a panel that leaks and on one that does not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mlops.domain.errors import SingleClass
from mlops.domain.training.leakage import RandomSplit, measure_random_split, random_masks

N = 1000
BEFORE, HOLDOUT = np.arange(N) < 800, np.arange(N) >= 850


def masks() -> tuple[np.ndarray, np.ndarray]:
    y = (np.arange(N) % 4 == 0).astype(np.int8)
    return random_masks(y, BEFORE, seed=42)


def test_a_fifth_of_the_usable_rows_is_drawn_with_the_same_share_of_each_class() -> None:
    train, test = masks()
    y = np.arange(N) % 4 == 0
    assert (train.sum(), test.sum()) == (640, 160)
    assert not (train & test).any()
    assert not ((train | test) & ~BEFORE).any()
    assert y[test].mean() == y[train].mean() == 0.25


def test_the_same_seed_draws_the_same_rows() -> None:
    assert (masks()[1] == masks()[1]).all()


def test_one_class_cannot_be_split() -> None:
    y = np.zeros(N, np.int8)
    y[3] = 1
    with pytest.raises(SingleClass, match="800 rows cannot be split at random"):
        random_masks(y, BEFORE, seed=42)


def nearest(labels: np.ndarray) -> Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """A model that remembers: each row gets the label of the nearest row that it was trained on."""

    def train(on: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        known = np.flatnonzero(on)

        def predict(wanted: np.ndarray) -> np.ndarray:
            places = np.flatnonzero(wanted)
            closest = known[np.abs(places[:, None] - known[None, :]).argmin(axis=1)]
            return labels[closest].astype(np.float64)

        return predict

    return train


def test_memory_of_neighbours_looks_like_skill_to_the_random_split_alone() -> None:
    y = (np.random.default_rng(1).integers(0, 2, size=N // 20).repeat(20)).astype(np.int8)  # labels of 20 rows overlap
    found = measure_random_split(
        y, before=BEFORE, holdout=HOLDOUT, honest={"accuracy": 0.5, "roc_auc": 0.5}, seed=42, train=nearest(y)
    )
    assert found.accuracy > 0.9
    assert abs(found.later_accuracy - 0.5) <= 0.35  # 150 rows are 8 labels
    assert found.gap == pytest.approx(found.accuracy - 0.5)
    assert found.metrics()["random_split_gap"] == found.gap


def split(accuracy: float) -> RandomSplit:
    return RandomSplit(
        accuracy=accuracy, roc_auc=None, later_accuracy=0.498, later_roc_auc=None, honest_accuracy=0.497,
        honest_roc_auc=None, majority_accuracy=0.574,
    )  # fmt: skip


def test_the_sentence_says_what_is_left() -> None:
    assert split(0.818).words(bound=0.15) == (
        "The random split promises an accuracy of 0.818, of which 0.498 is left on the dates that came next, where "
        "always naming the more frequent class scores 0.574: +0.321 over the honest split is memory of neighbouring "
        "dates, not skill."
    )
    assert "below the 0.15 that is called a leak" in split(0.60).words(bound=0.15)


def test_an_area_that_is_undefined_is_not_logged() -> None:
    assert "random_split_roc_auc" not in split(0.8).metrics()

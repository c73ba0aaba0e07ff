"""Signs of leakage in a training: a feature that knows the label, a column that is the target, a score too good.

Called by the train stage on the rows that the version was trained and evaluated on. Each finding blocks a
promotion until the policy accepts it by name (`mlops.domain.promotion.findings`); the bounds are policy, with reasons.

The documented recipe, a random 80/20 split, is measured beside the honest one: how much of its score is memory. It
trains on rows that lie before the held-out dates, as somebody would have who used it on that day, so its model can be
scored on what came next.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from mlops.domain.errors import SingleClass
from mlops.domain.promotion.findings import RANDOM_SPLIT_GAP, SINGLE_FEATURE, TARGET_LIKE, TOO_GOOD, Finding
from mlops.domain.sampling import smallest_marks
from mlops.domain.training.matrix import Rows, row_blocks
from mlops.domain.training.metric_names import RANDOM_SPLIT_PREFIX
from mlops.domain.training.metrics import evaluate_classifier, majority_class_share

if TYPE_CHECKING:
    from mlops.domain.policies import FindingsPolicy

Mask = npt.NDArray[np.bool_]

_TEST_SHARE = 0.2
"""The documented share of rows that the recipe tests on."""
NAIVE_GATE = 0.70
"""The documented gate, which the recipe's accuracy is held against."""
MAX_ROWS = 10_000
"""Rows looked at: an AUC of 0.95 of so many has a standard error of 0.002."""
LEAST_ROWS = 1_000
"""Of each class, and with a value of each feature, where there are so many: an AUC's standard error is 0.007."""
_MIN_CLASS = 20
"""With fewer rows of either class one feature among dozens separates them by chance; nothing is said then."""
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NO_WORD = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, kw_only=True)
class RandomSplit:
    """Three scores with the same parameters. AUC is None where only one class was scored."""

    accuracy: float
    """Accuracy of the recipe's model on its own random fifth."""
    roc_auc: float | None
    later_accuracy: float
    """Accuracy of that model on the honest held-out dates, which came after all it was trained on."""
    later_roc_auc: float | None
    honest_accuracy: float
    """Accuracy of the version, trained on all of those rows, on the same dates."""
    honest_roc_auc: float | None
    majority_accuracy: float
    """Accuracy of always naming the class that is more frequent on the held-out dates."""

    @property
    def gap(self) -> float:
        """Accuracy that the random split promises and the held-out dates do not confirm."""
        return self.accuracy - self.honest_accuracy

    def words(self, *, bound: float) -> str:
        """Describe the gap in a sentence."""
        left = f"{self.later_accuracy:.3f} is left on the dates that came next"
        beside = f"where always naming the more frequent class scores {self.majority_accuracy:.3f}"
        if self.gap >= bound:
            return (
                f"The random split promises an accuracy of {self.accuracy:.3f}, of which {left}, {beside}: "
                f"{self.gap:+.3f} over the honest split is memory of neighbouring dates, not skill."
            )
        return (
            f"The random split promises an accuracy of {self.accuracy:.3f}, of which {left}, {beside}: "
            f"{self.gap:+.3f} over the honest split, below the {bound:.2f} that is called a leak."
        )

    def metrics(self) -> dict[str, float]:
        """Return the metrics for the training's run, beside the honest ones."""
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
        train, test = train_test_split(places, test_size=_TEST_SHARE, random_state=seed, stratify=y[places])
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


def suspicious_features(
    x: npt.NDArray[np.floating[Any]],
    y: npt.NDArray[np.integer[Any]],
    targets: Mapping[str, npt.NDArray[np.floating[Any]]],
    *,
    features: Sequence[str],
    policy: FindingsPolicy,
) -> tuple[Finding, ...]:
    """Findings on features that alone predict the label, or that are called or move like a target.

    x : (n, f), nan for missing      y : (n,) of 0 and 1
    targets : (n,) each, columns that look into the future, nan where not known
    """
    positive = np.asarray(y) == 1
    ahead = {name: _ranks(values) for name, values in targets.items()}
    found: list[Finding] = []
    for place, name in enumerate(features):
        ranks = _ranks(x[:, place])
        found += _of_name(name, policy)
        found += _of_label(name, ranks, positive, policy)
        found += _of_targets(name, ranks, ahead, policy)
    return _one_per_code(found)


def rows_to_look_at(
    x: Rows, y: npt.NDArray[np.integer[Any]], marks: npt.NDArray[np.integer[Any]], *, on: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """(n,) MAX_ROWS of the rows `on`, those with the smallest marks, so that no order of rows or names decides.

    With them LEAST_ROWS of each class and of those in which a feature has a value, as far as there are so many: a leak
    in few names is looked at too.
    """
    places = np.flatnonzero(on)
    if len(places) <= MAX_ROWS:
        return on
    kept = np.zeros_like(on)
    kept[places[smallest_marks(marks[places], MAX_ROWS)]] = True
    for label in (0, 1):
        _top_up(kept, np.flatnonzero(on & (y == label)), marks)
    present = np.zeros(x.shape[1], dtype=np.int64)
    for block, of_block in _with_mask(x, kept):
        present += np.isfinite(block[of_block]).sum(axis=0)
    sparse = np.flatnonzero(present < LEAST_ROWS)
    if len(sparse):
        there = np.concatenate([np.isfinite(block[:, sparse]) for block in row_blocks(x)])
        for column in there.T:
            _top_up(kept, np.flatnonzero(on & column), marks)
    return kept


def _top_up(kept: npt.NDArray[np.bool_], places: npt.NDArray[np.intp], marks: npt.NDArray[np.integer[Any]]) -> None:
    if np.count_nonzero(kept[places]) < LEAST_ROWS:
        kept[places[smallest_marks(marks[places], LEAST_ROWS)]] = True


def _with_mask(x: Rows, mask: npt.NDArray[np.bool_]) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]]:
    place = 0
    for block in row_blocks(x):
        yield block, mask[place : place + len(block)]
        place += len(block)


def suspicious_scores(metrics: Mapping[str, float], policy: FindingsPolicy) -> tuple[Finding, ...]:
    """Findings on held-out scores that no honest model of prices has, as far as is known.

    A high accuracy is no finding where the majority class alone has it: it must also avoid at least half of the
    errors of always naming that class.
    """
    found = []
    accuracy, lift = metrics.get("accuracy"), metrics.get("lift_over_majority", 0.0)
    if accuracy is not None and accuracy >= policy.accuracy and lift >= (1 - accuracy):
        words = f"the accuracy on the held-out dates, {accuracy:.3f}, is at or above {policy.accuracy:.2f}"
        found.append(Finding(code=f"{TOO_GOOD}:accuracy", words=f"{words}: look for a leak"))
    area = metrics.get("roc_auc")
    if area is not None and area >= policy.roc_auc:
        words = f"the ROC AUC on the held-out dates, {area:.3f}, is at or above {policy.roc_auc:.2f}"
        found.append(Finding(code=f"{TOO_GOOD}:roc_auc", words=f"{words}: look for a leak"))
    return tuple(found)


def suspicious_gap(split: RandomSplit, policy: FindingsPolicy) -> tuple[Finding, ...]:
    """Finding on a random split whose accuracy is far above an honest one that shows no skill at all.

    A gap alone is none: overlapping labels give every strategy one, also where the held-out dates are predicted
    better than by their majority class.
    """
    if split.gap < policy.random_split_gap or split.honest_accuracy > split.majority_accuracy:
        return ()
    words = (
        f"a random split shows an accuracy of {split.accuracy:.3f}, the held-out dates {split.honest_accuracy:.3f} "
        f"where their majority class has {split.majority_accuracy:.3f}: rows of neighbouring dates know each other's "
        f"labels"
    )
    return (Finding(code=RANDOM_SPLIT_GAP, words=words),)


def single_feature_auc(
    values: npt.NDArray[np.floating[Any]], positive: npt.NDArray[np.bool_]
) -> tuple[float | None, float | None]:
    """AUC of one feature for the label, and of its being missing; each 0.5 to 1, either direction.

    None with fewer than MIN_CLASS rows of a class (of those with a value; of all rows for the second). Area under
    the ROC curve by ranks, ties half.
    """
    return _areas(_ranks(values), positive)


def _ranks(values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """(n,) ranks among the finite values, ties their mean; nan where there is none."""
    there = np.isfinite(values)
    if there.all():
        return np.asarray(rankdata(values), dtype=np.float64)
    ranks = np.full(len(values), np.nan)
    ranks[there] = rankdata(values[there])
    return ranks


def _areas(ranks: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> tuple[float | None, float | None]:
    there = np.isfinite(ranks)
    missing = None if there.all() or not there.any() else _area(rankdata(~there), positive)
    return _area(ranks[there], positive[there]), missing


def _area(ranks: npt.NDArray[np.floating[Any]], positive: npt.NDArray[np.bool_]) -> float | None:
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if min(n_positive, n_negative) < _MIN_CLASS:
        return None
    u = float(ranks[positive].sum()) - n_positive * (n_positive + 1) / 2
    area = u / (n_positive * n_negative)
    return max(area, 1 - area)


def _of_name(name: str, policy: FindingsPolicy) -> Iterator[Finding]:
    words = f"_{_NO_WORD.sub('_', _CAMEL.sub('_', name).lower()).strip('_')}_"
    alike = next((like for like in policy.target_like_names if f"_{like}_" in words), None)
    if alike is not None:
        yield Finding(code=f"{TARGET_LIKE}:{name}", words=f"feature {name} is called like a target ({alike!r})")


def _of_label(
    name: str, ranks: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_], policy: FindingsPolicy
) -> Iterator[Finding]:
    by_value, by_absence = _areas(ranks, positive)
    bound = policy.single_feature_auc
    if by_value is not None and by_value >= bound:
        words = f"feature {name} alone predicts the label with a ROC AUC of {by_value:.3f} (bound {bound:.2f})"
        yield Finding(code=f"{SINGLE_FEATURE}:{name}", words=words)
    elif by_absence is not None and by_absence >= bound:
        words = f"whether feature {name} is missing predicts the label with a ROC AUC of {by_absence:.3f}"
        yield Finding(code=f"{SINGLE_FEATURE}:{name}", words=f"{words} (bound {bound:.2f})")


def _of_targets(
    name: str, ranks: npt.NDArray[np.float64], targets: Mapping[str, npt.NDArray[np.float64]], policy: FindingsPolicy
) -> Iterator[Finding]:
    for target, ahead in targets.items():
        both = np.isfinite(ranks) & np.isfinite(ahead)
        if both.sum() < 2 * _MIN_CLASS:
            continue
        correlation = _correlation(ranks[both], ahead[both])
        if abs(correlation) >= policy.target_correlation:
            words = f"feature {name} moves like {target}: rank correlation {correlation:+.3f}"
            yield Finding(code=f"{TARGET_LIKE}:{name}", words=f"{words} (bound {policy.target_correlation:.2f})")


def _correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Pearson's correlation; of ranks it is Spearman's rho. 0 where one of them does not vary."""
    first, second = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / spread if spread else 0.0


def _one_per_code(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple({found.code: found for found in reversed(findings)}.values())[::-1]

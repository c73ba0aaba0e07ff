"""Checks of a version beside its held-out metrics: folds, the random split and findings, as metrics and tags.

Pure. The train stage makes it, the tags keep it, so a retried stage and a promotion by name read it back. Folds show
whether a score is the luck of one period: the same training on walk-forward folds, fold by fold.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlops.domain.errors import DataError
from mlops.domain.promotion.findings import FINDINGS_TAG, Finding, read, written
from mlops.domain.training.fold_table import FoldScore, folds_csv
from mlops.domain.training.leakage import RandomSplit
from mlops.domain.training.metric_names import FOLD_PREFIX
from mlops.domain.training.metrics import evaluate_classifier, majority_class_share
from mlops.domain.training.splits import Fold

if TYPE_CHECKING:
    from pathlib import Path

FOLDS_TAG, SPLIT_TAG, GAP_TAG, NOTES_TAG = "folds", "random_split", "random_split_gap", "scrutiny_notes"
_MAX_NOTE = 300
"""Characters of a note that the tag keeps."""
_SUMMARISED = ("accuracy", "majority_accuracy", "roc_auc", "log_loss")
"""Metrics whose mean and spread over the folds are logged."""


@dataclass(frozen=True, kw_only=True)
class TrainingChecks:
    """Checks that were made of a version; empty parts were not requested."""

    folds: tuple[FoldScore, ...] = ()
    random_split: RandomSplit | None = None
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    """Why something that was asked for is not here."""

    def metrics(self) -> dict[str, float]:
        """Return the metrics that are logged beside the held-out ones."""
        return summarise(self.folds) | (self.random_split.metrics() if self.random_split else {})

    def tags(self) -> dict[str, str]:
        """Return the tags of the run and of the version."""
        tags = {FINDINGS_TAG: written(self.findings)}
        if self.folds:
            tags[FOLDS_TAG] = json.dumps([_compact(asdict(score)) for score in self.folds])
        if self.random_split is not None:
            tags[SPLIT_TAG] = json.dumps(_compact(asdict(self.random_split)))
            tags[GAP_TAG] = f"{self.random_split.gap:+.3f}"
        if self.notes:
            tags[NOTES_TAG] = json.dumps([note[:_MAX_NOTE] for note in self.notes])
        return tags

    def files(self, folder: Path) -> dict[str, Path]:
        """Write the stability table into `folder`; artifact path → file."""
        if not self.folds:
            return {}
        path = folder / "folds.csv"
        path.write_text(folds_csv(self.folds), encoding="utf-8")
        return {path.name: path}


def read_checks(tags: Mapping[str, str]) -> TrainingChecks:
    """Read the checks from a version's tags; unreadable parts are empty (findings: see `findings.read`)."""
    folds, split = _json(tags, FOLDS_TAG), _json(tags, SPLIT_TAG)
    try:
        return TrainingChecks(
            folds=tuple(FoldScore(**score) for score in folds or ()),
            random_split=RandomSplit(**split) if split else None,
            findings=read(tags),
            notes=tuple(map(str, _json(tags, NOTES_TAG) or ())),
        )
    except TypeError:  # written by another version of this system
        return TrainingChecks(findings=read(tags))


def as_result(checks: TrainingChecks) -> dict[str, Any]:
    """Return the part of the train stage's result on checks: JSON, without what was not requested."""
    split = checks.random_split
    return {
        "findings": [asdict(found) for found in checks.findings],
        **({"notes": list(checks.notes)} if checks.notes else {}),
        **({"folds": [asdict(score) for score in checks.folds]} if checks.folds else {}),
        **({"random_split": asdict(split) | {"gap": split.gap}} if split else {}),
    }


def _json(tags: Mapping[str, str], name: str) -> Any:  # noqa: ANN401 -- JSON is any
    try:
        return json.loads(tags.get(name, "null"))
    except ValueError:
        return None


def _compact(values: Mapping[str, Any]) -> dict[str, Any]:
    """Round the values, and leave out what is empty: tags are short."""
    rounded = {name: round(value, 6) if isinstance(value, float) else value for name, value in values.items()}
    return {name: value for name, value in rounded.items() if value != ""}


def score_folds(
    folds: Iterable[Fold],
    y: npt.NDArray[np.integer[Any]],
    predict: Callable[[Fold], npt.NDArray[np.floating[Any]]],
) -> tuple[FoldScore, ...]:
    """Train and score each fold. `predict` gives the probabilities of its test rows; its DataError is a note."""
    return tuple(_score(fold, y, predict) for fold in folds)


def summarise(scores: Sequence[FoldScore]) -> dict[str, float]:
    """`fold_count` of the scored folds, and `fold_METRIC_mean` and `_std` (n - 1; not of a single fold)."""
    found = {f"{FOLD_PREFIX}count": float(sum(score.accuracy is not None for score in scores))} if scores else {}
    for name in _SUMMARISED:
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

"""The stability table: one line per walk-forward fold, as values, as CSV, and for a person.

Pure, and imports nothing heavy: the console reads it back from a run's result.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True, kw_only=True)
class FoldScore:
    """A fold's line of the stability table. A metric is None where it is undefined for the fold."""

    fold: int
    train_start: str
    train_end: str
    test_start: str
    test_end: str
    n_train: int
    n_test: int
    accuracy: float | None = None
    majority_accuracy: float | None = None
    """Accuracy of always naming the class that is more frequent among the tested rows."""
    roc_auc: float | None = None
    log_loss: float | None = None
    note: str = ""
    """Why it has no score."""


def folds_csv(scores: Sequence[FoldScore]) -> str:
    """The table as CSV, which MLflow shows as one."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(FoldScore)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(score) for score in scores)
    return text.getvalue()


def fold_rows(scores: Iterable[FoldScore]) -> list[tuple[str, ...]]:
    """The table for a person: heading first."""
    heading = ("fold", "trained on", "judged on", "rows", "accuracy", "majority", "AUC", "log loss")
    return [heading, *(_row(score) for score in scores)]


def _row(score: FoldScore) -> tuple[str, ...]:
    measured = (score.accuracy, score.majority_accuracy, score.roc_auc, score.log_loss)
    return (
        str(score.fold),
        f"{score.train_start} to {score.train_end}",
        f"{score.test_start} to {score.test_end}",
        f"{score.n_train:,} / {score.n_test:,}",
        *("-" if value is None else f"{value:.3f}" for value in measured),
    )

"""Leak check: the score of the documented random split against the dates after the training.

Reads and trains, and writes nothing. Called by `acis leak-check` and `acis evaluate-training`; a training with
`leak_check` measures the same beside its version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from mlops.domain.errors import InsufficientData
from mlops.domain.promotion.findings import RANDOM_SPLIT_GAP, Finding, held_back
from mlops.domain.promotion.policy import Decision, decide
from mlops.domain.training.leakage import NAIVE_GATE, RandomSplit
from mlops.domain.training.metrics import majority_class_share
from mlops.domain.training.splits import split_by_date
from mlops.domain.windows import resolve_as_of
from mlops.stages.fitting import SideControl, fit
from mlops.stages.labelled_rows import read_labelled
from mlops.stages.leakage_checks import check_training
from mlops.stages.scoring import positive_probability, score_rows

if TYPE_CHECKING:
    from config.settings import Settings
    from mlops.domain.policies import Strategy
    from mlops.domain.ports import FeatureSource, TrainingControl

TRAININGS = 2
"""Of one check: the honest one, and the recipe's."""


@dataclass(frozen=True, kw_only=True)
class LeakCheck:
    """Both splits of one strategy as of one date."""

    strategy: str
    label: str
    as_of: date
    train_start: date
    train_end: date
    holdout_start: date
    holdout_end: date
    n_train: int
    n_holdout: int
    random_split: RandomSplit
    gap: float
    """Accuracy of the random split over the honest one."""
    metrics: Mapping[str, float]
    """Of the honest split."""
    naive_promotes: bool
    """The random split's accuracy reaches the documented gate."""
    decision: str
    """What the policy decides about the honest split's version where there is no champion."""
    reasons: tuple[str, ...]
    findings: tuple[Finding, ...]
    is_leak: bool
    """The gap reaches the policy's bound."""
    words: str
    """What the gap means."""


def check_leak(
    source: FeatureSource,
    strategy: Strategy,
    *,
    as_of: date | None,
    today: date,
    settings: Settings,
    control: TrainingControl,
) -> LeakCheck:
    """Train twice with the strategy's parameters. Raises EmptyWindow, MissingColumn, InsufficientData, SingleClass."""
    as_of = resolve_as_of(as_of, strategy, source, today=today)
    policy = strategy.training
    rows = read_labelled(source, strategy, as_of=as_of)
    split = split_by_date(
        rows.dates,
        rows.known,
        horizon_dates=policy.horizon_dates,
        holdout_dates=policy.holdout_dates,
        embargo_dates=policy.embargo_dates,
    )
    first = SideControl(control, number=0, total=TRAININGS, unit="rounds")
    model = fit(policy, rows, split, settings=settings, control=first).model
    evaluation = score_rows(
        strategy,
        rows,
        split.holdout,
        positive_probability(model, rows.x[split.holdout]),
        train_positive_share=majority_class_share(rows.y[split.train]),
    )
    asked = replace(strategy, training=replace(policy, leak_check=True, folds=0))
    second = SideControl(control, number=1, total=TRAININGS, unit="rounds")
    checks = check_training(asked, rows, split, evaluation, as_of=as_of, settings=settings, control=second)
    if checks.random_split is None:
        raise InsufficientData("; ".join(checks.notes))
    decision = _decision(strategy, evaluation.metrics, checks.findings)
    return LeakCheck(
        strategy=strategy.name,
        label=policy.label,
        as_of=as_of,
        train_start=split.first_train,
        train_end=split.last_train,
        holdout_start=split.first_holdout,
        holdout_end=split.last_holdout,
        n_train=int(split.train.sum()),
        n_holdout=int(split.holdout.sum()),
        random_split=checks.random_split,
        gap=checks.random_split.gap,
        metrics=evaluation.metrics,
        naive_promotes=checks.random_split.accuracy >= NAIVE_GATE,
        decision=decision.decision,
        reasons=decision.reasons,
        findings=checks.findings,
        is_leak=checks.random_split.gap >= strategy.findings.random_split_gap,
        words=checks.random_split.words(bound=strategy.findings.random_split_gap),
    )


def _decision(strategy: Strategy, metrics: Mapping[str, float], findings: tuple[Finding, ...]) -> Decision:
    """As a training by this policy would be decided: it knows the gap only where it measures it."""
    known = [found for found in findings if found.code != RANDOM_SPLIT_GAP or strategy.training.leak_check]
    decision = decide(strategy.promotion, metrics=metrics, incumbent=None)
    return held_back(decision, known, strategy.promotion.accepted_findings)


# ---- Leak checks of one strategy and label over several as-of dates, as one line of a table; pure

HEADINGS = (
    "strategy",
    "dates",
    "random split",
    "AUC",
    "same model later",
    "AUC",
    "honest split",
    "AUC",
    "majority",
    "naive promotes",
    "promoted",
)


@dataclass(frozen=True, kw_only=True)
class LeakSummary:
    """Means over the as-of dates; AUC over those on which it is defined, None where it never is."""

    strategy: str
    label: str
    n_dates: int
    random_accuracy: float
    random_roc_auc: float | None
    later_accuracy: float
    """Of the random split's model on the dates that came next."""
    later_roc_auc: float | None
    honest_accuracy: float
    honest_roc_auc: float | None
    lowest_honest_roc_auc: float | None
    majority_accuracy: float
    n_naive_promotes: int
    """Dates on which the random split's accuracy reaches the documented gate."""
    n_promoted: int
    """Dates on which the strategy's policy would promote the honest split's version."""

    def row(self) -> tuple[str, ...]:
        """Return the row of a table under HEADINGS."""
        areas = (self.random_roc_auc, self.later_roc_auc, self.honest_roc_auc)
        shown = ["-" if area is None else f"{area:.3f}" for area in areas]
        return (
            self.strategy,
            str(self.n_dates),
            f"{self.random_accuracy:.3f}",
            shown[0],
            f"{self.later_accuracy:.3f}",
            shown[1],
            f"{self.honest_accuracy:.3f}",
            shown[2],
            f"{self.majority_accuracy:.3f}",
            f"{self.n_naive_promotes} of {self.n_dates}",
            f"{self.n_promoted} of {self.n_dates}",
        )


def summarise_checks(checks: Sequence[LeakCheck]) -> LeakSummary:
    """Summarise the checks of one strategy and one label; at least one check."""
    splits = [check.random_split for check in checks]
    honest = [split.honest_roc_auc for split in splits]
    return LeakSummary(
        strategy=checks[0].strategy,
        label=checks[0].label,
        n_dates=len(checks),
        random_accuracy=float(np.mean([split.accuracy for split in splits])),
        random_roc_auc=_mean(split.roc_auc for split in splits),
        later_accuracy=float(np.mean([split.later_accuracy for split in splits])),
        later_roc_auc=_mean(split.later_roc_auc for split in splits),
        honest_accuracy=float(np.mean([split.honest_accuracy for split in splits])),
        honest_roc_auc=_mean(honest),
        lowest_honest_roc_auc=min((area for area in honest if area is not None), default=None),
        majority_accuracy=float(np.mean([split.majority_accuracy for split in splits])),
        n_naive_promotes=sum(check.naive_promotes for check in checks),
        n_promoted=sum(check.decision == "promote" for check in checks),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None

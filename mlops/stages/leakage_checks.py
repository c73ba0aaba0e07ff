"""Looks at a training beside its held-out metrics: walk-forward folds, the random split, what is too good to be true.

Called by the train stage when the model is fitted and judged; folds and the random split cost trainings and run
only where they were asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.domain.errors import DataError
from mlops.domain.labels import parse_label
from mlops.domain.training.checks import TrainingChecks, score_folds
from mlops.domain.training.fitness import ended_features, ended_names, old_labels, thin_holdout, unfit_dates
from mlops.domain.training.fold_table import FoldScore
from mlops.domain.training.leakage import (
    RandomSplit,
    measure_random_split,
    rows_to_look_at,
    suspicious_features,
    suspicious_gap,
    suspicious_scores,
)
from mlops.domain.training.splits import Fold, walk_forward
from mlops.stages.fitting import SideControl, fit
from mlops.stages.scoring import positive_probability

if TYPE_CHECKING:
    from datetime import date

    import numpy.typing as npt

    from config.settings import Settings
    from mlops.domain.policies import Strategy
    from mlops.domain.ports import TrainingControl
    from mlops.domain.training.metrics import Evaluation
    from mlops.domain.training.splits import Split
    from mlops.stages.labelled_rows import LabelledRows


def check_training(
    strategy: Strategy,
    rows: LabelledRows,
    split: Split,
    evaluation: Evaluation,
    *,
    as_of: date,
    settings: Settings,
    control: TrainingControl,
) -> TrainingChecks:
    """Everything that the policy asks for; what these rows do not allow is a note."""
    own = tuple(f"{name} is left out" for name in strategy.training.metrics)
    notes = [note for note in evaluation.notes if note.startswith(own)]
    folds: tuple[FoldScore, ...] = ()
    random_split: RandomSplit | None = None
    if strategy.training.folds:
        try:
            folds = stability(strategy, rows, split, settings=settings, control=control)
        except DataError as exc:
            notes.append(f"no stability table: {exc}")
    if strategy.training.leak_check:
        try:
            random_split = _random_beside(strategy, rows, split, evaluation, settings=settings, control=control)
        except DataError as exc:
            notes.append(f"the random split was not measured: {exc}")
    looked_at = rows_to_look_at(rows.x, rows.y, rows.marks, on=split.train | split.holdout)
    findings = (
        *(suspicious_gap(random_split, strategy.findings) if random_split else ()),
        *suspicious_scores(evaluation.metrics, strategy.findings),
        *suspicious_features(
            rows.x[looked_at],
            rows.y[looked_at],
            {name: values[looked_at] for name, values in _targets(strategy, rows).items()},
            features=rows.features,
            policy=strategy.findings,
        ),
        *unfit_dates(rows.panel, strategy.data, as_of=as_of),
        *old_labels(
            rows.dates,
            split,
            rows.panel,
            strategy.data,
            as_of=as_of,
            horizon_dates=strategy.training.horizon_dates,
        ),
        *ended_names(split, rows.panel, strategy.data),
        *ended_features(rows.x, rows.dates, split, strategy.data, features=rows.features),
        *thin_holdout(int(np.count_nonzero(split.holdout)), strategy.data),
    )
    return TrainingChecks(folds=folds, random_split=random_split, findings=findings, notes=tuple(notes))


def stability(
    strategy: Strategy, rows: LabelledRows, split: Split, *, settings: Settings, control: TrainingControl
) -> tuple[FoldScore, ...]:
    """One score per fold, all before the held-out dates. Raises InsufficientData."""
    policy = strategy.training
    folds = walk_forward(
        rows.dates,
        split.train,
        n_folds=policy.folds,
        horizon_dates=policy.horizon_dates,
        embargo_dates=policy.embargo_dates,
        window=policy.fold_window,
    )

    def predict(fold: Fold) -> npt.NDArray[np.floating[Any]]:
        control.check()
        beside = SideControl(control, number=fold.number - 1, total=len(folds), unit="rounds of folds")
        fitted = fit(policy, rows, fold.as_split(), settings=settings, control=beside)
        return positive_probability(fitted.model, rows.x[fold.test])

    return score_folds(folds, rows.y, predict)


def _random_beside(
    strategy: Strategy,
    rows: LabelledRows,
    split: Split,
    evaluation: Evaluation,
    *,
    settings: Settings,
    control: TrainingControl,
) -> RandomSplit:
    """The documented recipe on the rows before the held-out dates, beside the version's own metrics."""

    def train(on: npt.NDArray[np.bool_]) -> Callable[[npt.NDArray[np.bool_]], npt.NDArray[np.floating[Any]]]:
        control.check()
        beside = SideControl(control, number=0, total=1, unit="rounds of the random split")
        fitted = fit(strategy.training, rows, replace(split, train=on), settings=settings, control=beside)
        return lambda wanted: positive_probability(fitted.model, rows.x[wanted])

    return measure_random_split(
        rows.y,
        before=split.train,
        holdout=split.holdout,
        honest=evaluation.metrics,
        seed=strategy.training.seed,
        train=train,
    )


def _targets(strategy: Strategy, rows: LabelledRows) -> dict[str, npt.NDArray[np.float64]]:
    """Columns that look into the future."""
    found = {"target_return": rows.target_return, parse_label(strategy.training.label).column: rows.label_target}
    return {name: values for name, values in found.items() if values is not None}

"""The search for parameters before a training: trials on walk-forward folds of the training rows.

Called by the train stage where `--tune N` was asked for. The held-out dates are in no fold; the winner is then
trained and judged like any other version, and its trials count as looks in the promotion test.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from mlops.domain.errors import ConfigurationError, InsufficientData
from mlops.domain.ports import TRIALS_TAG, Progress
from mlops.domain.training.metrics import LOWER_IS_BETTER, majority_class_share
from mlops.domain.training.parameters import dimensions, search_faults
from mlops.domain.training.splits import Fold, walk_forward
from mlops.stages.fitting import QuietControl, fit
from mlops.stages.scoring import positive_probability, score_rows

if TYPE_CHECKING:
    from config.settings import Settings
    from mlops.domain.policies import Strategy, TrainingPolicy
    from mlops.domain.ports import TrainingControl, TrialRecord
    from mlops.domain.training.splits import Split
    from mlops.ledger.studies import Study
    from mlops.stages.labelled_rows import LabelledRows

log = structlog.get_logger(__name__)

_TUNING_TAG = "tuning"
#: A search metric under the name by which it is measured.
_MEASURED = {"sharpe": "sharpe_ratio"}


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """Result of a search."""

    params: Mapping[str, Any]
    """Of the best trial: the values that were searched."""
    trials: tuple[TrialRecord, ...]
    best: int
    """Number of the best trial; 1 is the policy's own parameters."""
    metric: str
    value: float
    """Of the best trial: the mean over the folds."""
    own_value: float | None
    """Of the first trial, the policy's own parameters."""
    n_folds: int

    def applied(self, policy: TrainingPolicy) -> TrainingPolicy:
        """The policy with the best parameters."""
        return replace(policy, params={**policy.params, **self.params})

    def tags(self) -> dict[str, str]:
        """Return the tags of the run and of the version."""
        said = {name: value for name, value in asdict(self).items() if name != "trials"}
        n_pruned = sum(trial.value is None for trial in self.trials)
        return {
            TRIALS_TAG: str(len(self.trials)),
            _TUNING_TAG: json.dumps({**said, "n_trials": len(self.trials), "n_pruned": n_pruned}),
        }


def tuning_result(tags: Mapping[str, str]) -> dict[str, Any]:
    """Part of the stage's result on the search, from a version's tags; nothing where there was none."""
    return {"tuning": json.loads(tags[_TUNING_TAG])} if _TUNING_TAG in tags else {}


def tune(
    strategy: Strategy,
    rows: LabelledRows,
    split: Split,
    study: Study,
    *,
    n_trials: int,
    settings: Settings,
    control: TrainingControl,
) -> Tuned:
    """Finish `n_trials` trials, those of an earlier attempt among them, and name the best.

    Raises ConfigurationError, InsufficientData (no fold can be made), LedgerUnavailable, what the trainer raises,
    and what stops the training, which is asked before every fold.
    """
    policy = strategy.training
    space = dimensions(policy.search)
    refuse_search(policy)
    folds = _folds(policy, rows, split)
    search = _Search(strategy, rows, folds, settings=settings, control=control)
    own = {one.name: policy.params[one.name] for one in space if one.holds(policy.params.get(one.name))}
    began, n_before = time.monotonic(), len(study.finished)
    for done in range(n_before, n_trials):
        spent_s = time.monotonic() - began
        left_s = spent_s / (done - n_before) * (n_trials - done) if done > n_before else None
        control.report(Progress(done=done, total=n_trials, unit="trials", left_s=left_s))
        study.run_next(space, search.value, first=own)
        log.info("train.trial_finished", trial=done + 1, of=n_trials)
    control.report(Progress(done=n_trials, total=n_trials, unit="trials", left_s=0.0))
    return _tuned(study.finished, policy.search_metric, n_folds=len(folds))


def refuse_search(policy: TrainingPolicy) -> None:
    """Raises ConfigurationError for a space that is empty, or names what the trainer does not take."""
    if not policy.search:
        message = "training.search names no parameter; give it one to tune, or train without --tune"
        raise ConfigurationError(message)
    fault = next(search_faults(policy.trainer, policy.search), None)
    if fault:
        raise ConfigurationError(fault)


class _Search:
    """Evaluates parameters on the folds."""

    def __init__(
        self,
        strategy: Strategy,
        rows: LabelledRows,
        folds: tuple[Fold, ...],
        *,
        settings: Settings,
        control: TrainingControl,
    ) -> None:
        self._strategy, self._rows, self._folds = strategy, rows, folds
        self._settings, self._control = settings, control

    def value(self, params: Mapping[str, Any], told: Callable[[int, float], None]) -> float:
        """Mean of the metric over the folds; `told` after each."""
        policy = replace(self._strategy.training, params={**self._strategy.training.params, **params})
        found: list[float] = []
        for step, fold in enumerate(self._folds):
            self._control.check()
            found.append(self._on(fold, policy))
            self._control.check()  # nothing is written for a run that is no longer ours
            if step < len(self._folds) - 1:
                told(step, float(np.mean(found)))
        return float(np.mean(found))

    def _on(self, fold: Fold, policy: TrainingPolicy) -> float:
        rows = self._rows
        fitted = fit(policy, rows, fold.as_split(), settings=self._settings, control=QuietControl(self._control))
        evaluation = score_rows(
            replace(self._strategy, training=replace(policy, metrics={})),
            rows,
            fold.test,
            positive_probability(fitted.model, rows.x[fold.test]),
            train_positive_share=majority_class_share(rows.y[fold.train]),
        )
        value = evaluation.metrics.get(_MEASURED.get(policy.search_metric, policy.search_metric))
        if value is None or not math.isfinite(value):
            message = (
                f"training.search_metric {policy.search_metric!r} is undefined on fold {fold.number} "
                f"({fold.first_test} to {fold.last_test}); {'; '.join(evaluation.notes) or 'choose another metric'}"
            )
            raise InsufficientData(message)
        return value


def _folds(policy: TrainingPolicy, rows: LabelledRows, split: Split) -> tuple[Fold, ...]:
    folds = walk_forward(
        rows.dates,
        split.train,
        n_folds=policy.search_folds,
        horizon_dates=policy.horizon_dates,
        embargo_dates=policy.embargo_dates,
        window=policy.fold_window,
    )
    usable = tuple(fold for fold in folds if all(_has_both(rows.y[on]) for on in (fold.train, fold.test)))
    if not usable:
        message = f"none of {len(folds)} folds has both labels to train on and to judge; tune on a longer window"
        raise InsufficientData(message)
    return usable


def _has_both(y: Any) -> bool:  # noqa: ANN401 -- an array
    return bool(len(y)) and 0 < int(np.sum(y == 1)) < len(y)


def _tuned(trials: tuple[TrialRecord, ...], metric: str, *, n_folds: int) -> Tuned:
    sign = 1.0 if metric in LOWER_IS_BETTER else -1.0
    complete = [(sign * trial.value, trial.number, trial) for trial in trials if trial.value is not None]
    _, _, best = min(complete, key=lambda found: found[:2])
    return Tuned(
        params=best.params,
        trials=trials,
        best=best.number,
        metric=metric,
        value=float(best.value or 0.0),
        own_value=trials[0].value,
        n_folds=n_folds,
    )

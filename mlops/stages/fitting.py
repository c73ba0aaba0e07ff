"""The fit of a train stage: on the device that is there, with what the plan says. Called by the train stage."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import structlog
import xgboost as xgb

from mlops.domain.errors import (
    ConfigurationError,
)
from mlops.domain.training.feature_names import encoded_names, feature_names
from mlops.domain.training.fingerprint import canonical_json, data_fingerprint
from mlops.domain.training.plan import FitPlan, fit_plan
from mlops.domain.training.trainer import CPU, CUDA, load_trainer, usable_device

if TYPE_CHECKING:
    from config.settings import Settings
    from mlops.domain.policies import TrainingPolicy
    from mlops.domain.ports import Progress, TrainingControl, TrainingData
    from mlops.domain.training.splits import Split
    from mlops.stages.labelled_rows import LabelledRows

# ---- A training's checkpoints, bound to what it is fitted on: one of other rows or parameters is never continued
#
# The binding is a part of the checkpoint's name, so the store and the ledger need not know of it.


def training_fingerprint(data: TrainingData, settings: Mapping[str, Any]) -> str:
    """SHA-256 in hex of all that the bytes of a model on the CPU depend on: rows, parameters, XGBoost's version.

    settings : trainer, parameters, seed, rounds of a segment. Reads the whole matrix: 0.2 s for 1,000,000 x 45.
    """
    validation = data.validation
    described = {
        "settings": settings,
        "xgboost": xgb.__version__,
        "rows": data_fingerprint(data.x, data.y, data.dates, features=data.features),
        "base": None if data.base is None else hashlib.sha256(data.base).hexdigest(),
        "validation": None
        if validation is None
        else {
            # No statistic of the rows is taken by date, so any date will do.
            "rows": data_fingerprint(validation.x, validation.y, data.dates[:0], features=data.features),
            "patience_rounds": validation.patience_rounds,
            "positive_weight": validation.positive_weight,
        },
    }
    return hashlib.sha256(canonical_json(described).encode()).hexdigest()


class BoundControl:
    """The `TrainingControl` of the stage's own training: its checkpoints carry the training's fingerprint."""

    def __init__(self, main: TrainingControl, data: TrainingData, settings: Mapping[str, Any]) -> None:
        self._main, self._data, self._settings = main, data, settings
        self.resumed_from: str | None = None
        """The trainer's name of the checkpoint that it was given; None where it began anew."""

    @cached_property
    def _fingerprint(self) -> str:
        return training_fingerprint(self._data, self._settings)

    def report(self, progress: Progress) -> None:
        """Tell how far the training is."""
        self._main.report(progress)

    def check(self) -> None:
        """Raise what stops the training."""
        self._main.check()

    def save_checkpoint(self, name: str, payload: bytes) -> None:
        """Keep it under the fingerprint."""
        self._main.save_checkpoint(f"{name}@{self._fingerprint}", payload)

    def load_checkpoint(self) -> tuple[str, bytes] | None:
        """The newest one, where its fingerprint is this training's."""
        found = self._main.load_checkpoint()
        if found is None:
            return None
        name, _, fingerprint = found[0].partition("@")
        if fingerprint != self._fingerprint:
            log.info("checkpoint.of_another_training", checkpoint=name, next="the rows, parameters or XGBoost changed")
            return None
        self.resumed_from = name
        log.info("checkpoint.resumed", checkpoint=name)
        return name, found[1]


# ---- The `TrainingControl` of a training beside the main one: a fold, the random split, a command's own


class SideControl:
    """One training of several: it stops with the main one, and keeps no checkpoint, which would be taken for that
    one's.
    """

    def __init__(self, main: TrainingControl, *, number: int, total: int, unit: str) -> None:
        """number: from 0, of `total` trainings of the same length."""
        self._main, self._number, self._total, self._unit = main, number, total, unit

    def report(self, progress: Progress) -> None:
        """Progress of all together."""
        done = self._number * progress.total + progress.done
        self._main.report(
            replace(progress, done=done, total=self._total * progress.total, unit=self._unit, left_s=None)
        )

    def check(self) -> None:
        """Raise what stops the main training."""
        self._main.check()

    def save_checkpoint(self, name: str, payload: bytes) -> None:
        """Do nothing: no checkpoint is kept."""

    def load_checkpoint(self) -> None:
        """Return None: there is nothing to resume from."""


log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A classifier and how it was fitted."""

    model: Any
    """An XGBClassifier."""
    plan: FitPlan
    device: str
    fit_s: float
    warnings: tuple[str, ...] = ()
    """What a person should know of the fit: a GPU that was not there."""
    resumed_from: str | None = None
    """The checkpoint of an earlier attempt that it went on from, e.g. `rounds-50`."""

    @property
    def best_iteration(self) -> int | None:
        """Rounds before the best one, as XGBoost counts them; None without early stopping."""
        if self.plan.data.validation is None:
            return None
        found: str | None = self.model.get_booster().attr("best_iteration")
        return None if found is None else int(found)


def fit(
    policy: TrainingPolicy,
    rows: LabelledRows,
    split: Split,
    *,
    settings: Settings,
    control: TrainingControl,
    base: bytes | None = None,
    resumes: bool = False,
) -> Fitted:
    """`base`: a model to continue. `resumes`: the control's checkpoints are of this fit, and not of one beside it.

    Raises what the trainer and the plan raise, and ConfigurationError where a strategy's own trainer returns no
    XGBClassifier of these features; a GPU that is not there is a warning, not an error.
    """
    plan = fit_plan(policy, split, x=rows.x, y=rows.y, dates=rows.dates, features=rows.features)
    if base is not None:
        plan = replace(plan, data=replace(plan.data, base=base))
    began = time.monotonic()
    chosen = usable_device(CUDA if os.environ.get("WORKER_ROLE") == "train.gpu" else CPU)
    if chosen.warning:
        log.warning(
            "train.no_gpu", error=chosen.warning, action="check the driver, or stop the worker of queue train.gpu"
        )
    determined = {
        "trainer": policy.trainer,
        "params": dict(plan.params),
        "seed": policy.seed,
        "segment_rounds": policy.segment_rounds,
    }
    bound = BoundControl(control, plan.data, determined) if resumes else None
    model = load_trainer(policy.trainer).fit(
        plan.data,
        params=plan.params,
        seed=policy.seed,
        device=chosen.device,
        n_jobs=settings.train_n_jobs or max(1, (os.cpu_count() or 1) // settings.train_concurrency),
        segment_rounds=policy.segment_rounds,
        control=bound or control,
    )
    return Fitted(
        model=_checked(model, policy.trainer, plan.data.features),
        plan=plan,
        device=chosen.device,
        fit_s=time.monotonic() - began,
        warnings=(chosen.warning,) if chosen.warning else (),
        resumed_from=bound.resumed_from if bound else None,
    )


def _checked(model: Any, trainer: str, features: tuple[str, ...]) -> xgb.XGBClassifier:  # noqa: ANN401 -- of a strategy's own trainer
    """The trainer's model, which says the names of its features. Raises ConfigurationError."""
    if not isinstance(model, xgb.XGBClassifier):
        message = f"trainer {trainer} returned a {type(model).__name__}; it must return a fitted XGBClassifier"
        raise ConfigurationError(message)
    booster = model.get_booster()
    if booster.feature_names is None:  # fitted on a plain array
        booster.feature_names = encoded_names(features)
    elif feature_names(booster) != features:
        message = f"trainer {trainer} returned a model of other features than it was given, or of another order"
        raise ConfigurationError(message)
    return model

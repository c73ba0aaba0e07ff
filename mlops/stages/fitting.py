"""The fit of a train stage: on the device that is there, with what the plan says. Called by the train stage."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
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
from mlops.registry.model_file import classifier_of

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
    def fingerprint(self) -> str:
        """What `training_fingerprint` gives of this training."""
        return training_fingerprint(self._data, self._settings)

    def report(self, progress: Progress) -> None:
        """Tell how far the training is."""
        self._main.report(progress)

    def check(self) -> None:
        """Raise what stops the training."""
        self._main.check()

    def save_checkpoint(self, name: str, payload: bytes) -> None:
        """Keep it under the fingerprint."""
        self._main.save_checkpoint(f"{name}@{self.fingerprint}", payload)

    def load_checkpoint(self) -> tuple[str, bytes] | None:
        """The newest one, where its fingerprint is this training's."""
        found = self._main.load_checkpoint()
        if found is None:
            return None
        name, _, fingerprint = found[0].partition("@")
        if fingerprint != self.fingerprint:
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


class QuietControl:
    """A training of many that is not shown by itself: it stops with the main one, and keeps no checkpoint."""

    def __init__(self, main: TrainingControl) -> None:
        self._main = main

    def report(self, progress: Progress) -> None:
        """Do nothing: rounds are not shown."""

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
    params: Mapping[str, float | int | str | bool]
    """The policy's, with what class weight and monotone constraints add"""
    n_validation: int
    """Rows that early stopping looked at; 0 without it"""
    best_iteration: int | None
    """Rounds before the best one, as XGBoost counts them; None without early stopping."""
    device: str
    fit_s: float
    warnings: tuple[str, ...] = ()
    """What a person should know of the fit: a GPU that was not there."""
    resumed_from: str | None = None
    """The checkpoint of an earlier attempt that it went on from, e.g. `rounds-50`."""


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
    plan, determined = _determined(policy, rows, split, base)
    bound = BoundControl(control, plan.data, determined) if resumes else None
    fitted = _fitted(policy, plan, settings=settings, control=bound or control)
    return replace(fitted, resumed_from=bound.resumed_from if bound else None)


def _determined(
    policy: TrainingPolicy, rows: LabelledRows, split: Split, base: bytes | None
) -> tuple[FitPlan, dict[str, Any]]:
    """The plan of a fit, and the settings that determine its bytes beside the rows."""
    plan = fit_plan(policy, split, x=rows.x, y=rows.y, dates=rows.dates, features=rows.features)
    if base is not None:
        plan = replace(plan, data=replace(plan.data, base=base))
    return plan, {
        "trainer": policy.trainer,
        "params": dict(plan.params),
        "seed": policy.seed,
        "segment_rounds": policy.segment_rounds,
    }


def _fitted(policy: TrainingPolicy, plan: FitPlan, *, settings: Settings, control: TrainingControl) -> Fitted:
    began = time.monotonic()
    chosen = usable_device(CUDA if os.environ.get("WORKER_ROLE") == "train.gpu" else CPU)
    if chosen.warning:
        log.warning(
            "train.no_gpu", error=chosen.warning, action="check the driver, or stop the worker of queue train.gpu"
        )
    model = load_trainer(policy.trainer).fit(
        plan.data,
        params=plan.params,
        seed=policy.seed,
        device=chosen.device,
        n_jobs=_n_jobs(settings),
        segment_rounds=policy.segment_rounds,
        control=control,
    )
    return _described(
        _checked(model, policy.trainer, plan.data.features),
        plan,
        device=chosen.device,
        fit_s=time.monotonic() - began,
        warnings=(chosen.warning,) if chosen.warning else (),
    )


def _described(
    model: xgb.XGBClassifier, plan: FitPlan, *, device: str, fit_s: float, warnings: tuple[str, ...] = ()
) -> Fitted:
    best = model.get_booster().attr("best_iteration") if plan.data.validation is not None else None
    return Fitted(
        model=model,
        params=plan.params,
        n_validation=plan.n_validation,
        best_iteration=None if best is None else int(best),
        device=device,
        fit_s=fit_s,
        warnings=warnings,
    )


def _n_jobs(settings: Settings) -> int:
    return settings.train_n_jobs or max(1, (os.cpu_count() or 1) // settings.train_concurrency)


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


# ---- A judged twin and its refit, as one training that stops and resumes
#
# A stage has one checkpoint. While the twin is fitted it is the trainer's own; from then on it holds the twin's model
# file too, under the fingerprints of both, so that a later attempt does not fit the twin again.

_REFIT, _TWIN_DONE = "refit.", "twin"
_LENGTH_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class TwinAndRefit:
    """The model that is scored, and the one that is registered in its place."""

    twin: Fitted
    twin_file: bytes
    """The twin's model file, UBJSON; the same bytes however often the training was interrupted"""
    refit: Fitted
    """`fit_s` of both together"""


def fit_twin_and_refit(
    policy: TrainingPolicy,
    rows: LabelledRows,
    split: Split,
    everything: Split,
    *,
    settings: Settings,
    control: TrainingControl,
    bases: tuple[bytes | None, bytes | None] = (None, None),
    on_twin: Callable[[Fitted], None] = lambda _: None,
) -> TwinAndRefit:
    """Fit on `split`, then with the same parameters, seed and rounds on `everything`.

    bases : the models that the one and the other continue      on_twin : called between the two fits
    Raises what `fit` raises.
    """
    plan, determined = _determined(policy, rows, split, bases[0])
    bound = _InTurn(control, plan.data, determined, part=0)
    began = time.monotonic()
    twin_file, resumed_from = bound.finished_twin(), None
    was_done = twin_file is not None
    if twin_file is None:
        fitted = _fitted(policy, plan, settings=settings, control=bound)
        twin_file, resumed_from = bytes(fitted.model.get_booster().save_raw("ubj")), bound.resumed_from
        twin = replace(fitted, model=_read(twin_file, settings))
    else:
        twin = _described(_read(twin_file, settings), plan, device=CPU, fit_s=0.0)
    on_twin(twin)
    of_twin = bound.fingerprint
    del plan, bound  # up to 32 MB of rows
    again = _same_rounds(policy, twin)
    plan, determined = _determined(again, rows, everything, bases[1])
    in_turn = _InTurn(control, plan.data, determined, part=1, twin=(of_twin, twin_file))
    if not was_done:  # else this would take the place of what the refit has
        in_turn.save_checkpoint(_TWIN_DONE, b"")
    refit = _fitted(again, plan, settings=settings, control=in_turn)
    if in_turn.resumed_from is not None:
        resumed_from = f"{in_turn.resumed_from} of the refit"
    return TwinAndRefit(
        twin=twin,
        twin_file=twin_file,
        refit=replace(refit, fit_s=time.monotonic() - began, resumed_from=resumed_from),
    )


def _read(model_file: bytes, settings: Settings) -> xgb.XGBClassifier:
    """The twin of its file, which this process made or the checkpoints' store verified."""
    made = hashlib.sha256(model_file).hexdigest()
    return classifier_of(model_file, name="of the twin", expected_sha256=made, n_jobs=_n_jobs(settings))


def _same_rounds(policy: TrainingPolicy, twin: Fitted) -> TrainingPolicy:
    """The policy of the refit: where early stopping chose the rounds, as many, on all rows."""
    if policy.early_stopping_rounds is None:
        return policy
    rounds = twin.model.get_booster().num_boosted_rounds()
    return replace(policy, early_stopping_rounds=None, params={**policy.params, "n_estimators": rounds})


class _InTurn(BoundControl):
    """The control of the twin (part 0), then of the refit (part 1); progress is that of both."""

    def __init__(
        self,
        main: TrainingControl,
        data: TrainingData,
        settings: Mapping[str, Any],
        *,
        part: int,
        twin: tuple[str, bytes] | None = None,
    ) -> None:
        """twin: its fingerprint and model file, for the refit."""
        super().__init__(main, data, settings)
        self._part, self._twin = part, twin

    def report(self, progress: Progress) -> None:
        """Tell how far both are; the refit is taken to have as many rounds as the twin."""
        left_s, left = progress.left_s, progress.total - progress.done
        if left_s is not None and self._part == 0 and left:
            left_s *= (left + progress.total) / left
        done = self._part * progress.total + progress.done
        super().report(replace(progress, done=done, total=2 * progress.total, left_s=left_s))

    def save_checkpoint(self, name: str, payload: bytes) -> None:
        """Keep the trainer's checkpoint; that of the refit with the twin's model file before it."""
        if self._twin is None:
            super().save_checkpoint(name, payload)
            return
        of_twin, twin_file = self._twin
        framed = len(twin_file).to_bytes(_LENGTH_BYTES, "big") + twin_file + payload
        self._main.save_checkpoint(f"{_REFIT}{name}@{of_twin}-{self.fingerprint}", framed)

    def load_checkpoint(self) -> tuple[str, bytes] | None:
        """The newest one, where it is of this part and of these rows."""
        found = self._main.load_checkpoint()
        if self._twin is None:
            return None if found is None or found[0].startswith(_REFIT) else super().load_checkpoint()
        of_twin, twin_file = self._twin
        if found is None or not found[0].endswith(f"@{of_twin}-{self.fingerprint}"):
            return None
        name = found[0].removeprefix(_REFIT).partition("@")[0]
        before, payload = _unframed(found[1])
        if name == _TWIN_DONE or before != twin_file:
            return None
        self.resumed_from = name
        log.info("checkpoint.resumed", checkpoint=f"{_REFIT}{name}")
        return name, payload

    def finished_twin(self) -> bytes | None:
        """The twin's model file, where an earlier attempt had come to the refit; asked of the twin's own control."""
        found = self._main.load_checkpoint()
        if found is None or not found[0].startswith(_REFIT) or f"@{self.fingerprint}-" not in found[0]:
            return None
        return _unframed(found[1])[0]


def _unframed(payload: bytes) -> tuple[bytes, bytes]:
    """The twin's model file and the trainer's payload. The store has verified the digest of both together."""
    end = _LENGTH_BYTES + int.from_bytes(payload[:_LENGTH_BYTES], "big")
    return payload[_LENGTH_BYTES:end], payload[end:]

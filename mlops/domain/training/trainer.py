"""Fits an XGBoost classifier in segments, so that a training can stop at a border and be resumed.

Called by the train stage. XGBoost's own resume gives another model than an uninterrupted training, since
subsampling starts from the seed again; here every segment starts from a reloaded booster with a seed of
its own, interrupted or not, so both give the same bytes.
"""

from __future__ import annotations

import hashlib
import importlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import xgboost as xgb

from mlops.domain.errors import ConfigurationError
from mlops.domain.ports import Progress
from mlops.domain.training.binned import binned, refuse_unlearnable
from mlops.domain.training.feature_names import feature_names
from mlops.domain.training.parameters import fault_of
from mlops.domain.training.stopping import STOPPING_METRIC, EarlyStopping

if TYPE_CHECKING:
    from mlops.domain.ports import Trainer, TrainingControl, TrainingData

DEFAULT_ROUNDS = 100
"""Boosting rounds where the parameters do not say `n_estimators`; the documented value."""
_FIXED: dict[str, Any] = {"objective": "binary:logistic", "tree_method": "hist"}
_CONSTRAINTS = "monotone_constraints"
_DIGEST_BYTES = 32


class XGBoostTrainer:
    """The default trainer: XGBClassifier, histogram method, CPU or CUDA."""

    can_continue = True

    def fit(
        self,
        data: TrainingData,
        *,
        params: Mapping[str, float | int | str | bool],
        seed: int,
        device: str,
        n_jobs: int,
        segment_rounds: int,
        control: TrainingControl,
    ) -> xgb.XGBClassifier:
        """Fit on all rows; infinities count as missing. The classifier predicts on the CPU.

        Raises SingleClass, UnusableFeatures, ConfigurationError, and what `control.check` raises.
        """
        check_params(params)
        settings: dict[str, Any] = dict(params)
        total = int(settings.pop("n_estimators", DEFAULT_ROUNDS))
        refuse_unlearnable(data)
        learner = _FIXED | settings | {"device": device, "nthread": n_jobs}
        if data.validation is not None:
            learner["eval_metric"] = STOPPING_METRIC
        matrix, evals = binned(data, control, max_bin=settings.get("max_bin", 256), n_jobs=n_jobs)
        first, base = _begun(data.base, total)
        done, model = _resumed(control, data.features, total, segment_rounds, first=first) or (first, base)
        stopping = EarlyStopping.of(data.validation, model if done > first else None)
        rounds = _Rounds(control, total=total, done=done, stopping=stopping)
        while done < total and not stopping.is_reached:
            border = min(done + segment_rounds, total)
            booster = xgb.train(
                learner | {"seed": seed + done // segment_rounds},
                matrix,
                num_boost_round=border - done,
                evals=evals,
                xgb_model=model,
                callbacks=[rounds.until(border)],
                verbose_eval=False,
            )
            done = booster.num_boosted_rounds()
            stopping.note(booster)
            model = booster.save_raw("ubj")
            if not stopping.is_reached:  # else the border was not reached
                control.save_checkpoint(f"rounds-{done}", _framed(model))
            control.check()
        params = _FIXED | settings | {"n_estimators": total, "random_state": seed}
        return _classifier(stopping.best_part(model), params, n_jobs)


def load_trainer(name: str) -> Trainer:
    """`xgboost`, or an instance of `package.module:ClassName`. Raises ConfigurationError."""
    if name == "xgboost":
        return XGBoostTrainer()
    module_name, _, class_name = name.partition(":")
    if not module_name or not class_name.isidentifier():
        message = f"trainer {name!r} is not known; write `xgboost` or `package.module:ClassName`"
        raise ConfigurationError(message)
    try:
        trainer = getattr(importlib.import_module(module_name), class_name)()
    except (ImportError, AttributeError, TypeError) as exc:
        message = f"trainer {name!r} cannot be made: {exc}; the class must be importable and take no arguments"
        raise ConfigurationError(message) from exc
    if not callable(getattr(trainer, "fit", None)):
        message = f"trainer {name!r} has no method `fit`; see mlops.domain.ports.Trainer"
        raise ConfigurationError(message)
    return trainer  # type: ignore[no-any-return]  # checked by its method


class _Rounds(xgb.callback.TrainingCallback):  # type: ignore[misc]  # the library's base is untyped
    """Tells the control how far the training is, after each round.

    The last round of a segment is not checked here: its model is saved first, then asked for.
    """

    def __init__(self, control: TrainingControl, *, total: int, done: int, stopping: EarlyStopping) -> None:
        self._control, self._total, self._done, self._border = control, total, done, total
        self._started_at, self._first, self._stopping = time.monotonic(), done, stopping

    def until(self, border: int) -> _Rounds:
        """The same, for the segment that ends at `border`."""
        self._border = border
        return self

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ANN401, ARG002 -- the library's signature
        """True: stop, no round has been better for long. Raises what the control raises."""
        self._done += 1
        per_round = (time.monotonic() - self._started_at) / (self._done - self._first)
        left_s = per_round * (self._total - self._done)
        self._control.report(Progress(done=self._done, total=self._total, left_s=left_s))
        if self._done < self._border:
            self._control.check()
        return self._stopping.look(self._done, evals_log)


def check_params(params: Mapping[str, float | int | str | bool]) -> None:
    """Raises ConfigurationError for a parameter that is not supported, or out of its range.

    Beside what a strategy may set, a training's plan adds the constraints of `monotone`.
    """
    for name, value in params.items():
        fault = None if name == _CONSTRAINTS else fault_of(name, value)
        if fault:
            message = f"parameter {fault}"
            raise ConfigurationError(message)


def _resumed(
    control: TrainingControl, features: tuple[str, ...], total: int, segment_rounds: int, *, first: int
) -> tuple[int, bytearray] | None:
    """Rounds done and model of the newest checkpoint; None where it does not fit this training."""
    found = control.load_checkpoint()
    if found is None:
        return None
    model = _unframed(found[1])
    if model is None:
        return None  # a torn checkpoint costs the rounds it held, not the training
    booster = xgb.Booster(model_file=model)
    done = booster.num_boosted_rounds()
    at_border = first <= done <= total and ((done - first) % segment_rounds == 0 or done == total)
    return (done, model) if at_border and feature_names(booster) == features else None


def _begun(base: bytes | None, total: int) -> tuple[int, bytearray | None]:
    """Rounds and model to start from. Raises ConfigurationError where the base has as many rounds as are wanted."""
    if base is None:
        return 0, None
    booster = xgb.Booster(model_file=bytearray(base))
    done = booster.num_boosted_rounds()
    if done >= total:
        message = f"a model of {done} rounds cannot be continued to {total}; ask for at least one round more"
        raise ConfigurationError(message)
    # Where the base stopped early its best round is noted in it, and predictions would leave later trees out.
    booster.set_attr(best_iteration=None, best_score=None)
    return done, booster.save_raw("ubj")


def _framed(model: bytearray) -> bytes:
    """The model with its digest before it: XGBoost does not raise on a torn model, it aborts the process."""
    return hashlib.sha256(model).digest() + bytes(model)


def _unframed(payload: bytes) -> bytearray | None:
    digest, model = payload[:_DIGEST_BYTES], payload[_DIGEST_BYTES:]
    return bytearray(model) if hashlib.sha256(model).digest() == digest else None


def _classifier(model: bytearray | None, params: Mapping[str, Any], n_jobs: int) -> xgb.XGBClassifier:
    classifier = xgb.XGBClassifier()
    classifier.load_model(model)
    # Loading resets what is not stored in the model.
    classifier.set_params(**params, n_jobs=n_jobs)
    return classifier

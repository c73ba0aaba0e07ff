"""Fits an XGBoost classifier in segments, so that a training can stop at a border and be resumed.

Called by the train stage. XGBoost's own resume gives another model than an uninterrupted training, since
subsampling starts from the seed again; here every segment starts from a reloaded booster with a seed of
its own, interrupted or not, so both give the same bytes. The state of early stopping travels in the model, since
XGBoost's own callback begins to count anew with every segment.

Rows become XGBoost's binned matrix block by block. XGBoost goes over the rows five times (shape, sketch, bins); they
are read anew each time, so that only one block stands beside its own copy. One array and the same rows in blocks give
the same bins as long as the sketch holds every distinct value; beyond that the cuts may differ within the sketch's
error.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from mlops.domain.errors import ConfigurationError, SingleClass, UnusableFeatures
from mlops.domain.live.rows import prepare_rows
from mlops.domain.ports import Progress
from mlops.domain.training.feature_names import encoded_names, feature_names
from mlops.domain.training.matrix import Rows, row_blocks
from mlops.domain.training.parameters import fault_of

if TYPE_CHECKING:
    from mlops.domain.ports import Trainer, TrainingControl, TrainingData, Validation

_DEFAULT_ROUNDS = 100
"""Boosting rounds where the parameters do not say `n_estimators`; the documented value."""
_FIXED: dict[str, Any] = {"objective": "binary:logistic", "tree_method": "hist"}
_CONSTRAINTS = "monotone_constraints"
_DIGEST_BYTES = 32
_STOPPING_METRIC = "logloss"
"""Of the validation rows; lower is better. AUC would not see a model that grows overconfident."""
_ROUND, _SCORE = "best_iteration", "best_score"
Floats = npt.NDArray[np.float32]
CPU, CUDA = "cpu", "cuda"


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
        _check_params(params)
        settings: dict[str, Any] = dict(params)
        total = int(settings.pop("n_estimators", _DEFAULT_ROUNDS))
        _refuse_unlearnable(data)
        learner = _FIXED | settings | {"device": device, "nthread": n_jobs}
        if data.validation is not None:
            learner["eval_metric"] = _STOPPING_METRIC
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
    """Return the trainer `xgboost`, or an instance of `package.module:ClassName`. Raises ConfigurationError."""
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
        """Return the callback for the segment that ends at `border`."""
        self._border = border
        return self

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ANN401, ARG002 -- the library's signature
        """Return True to stop: no round has been better for long. Raises what the control raises."""
        self._done += 1
        per_round = (time.monotonic() - self._started_at) / (self._done - self._first)
        left_s = per_round * (self._total - self._done)
        self._control.report(Progress(done=self._done, total=self._total, left_s=left_s))
        if self._done < self._border:
            self._control.check()
        return self._stopping.look(self._done, evals_log)


def _check_params(params: Mapping[str, float | int | str | bool]) -> None:
    """Raise ConfigurationError for a parameter that is not supported, or out of its range.

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
    """Put the model's digest before it: XGBoost does not raise on a torn model, it aborts the process."""
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


class EarlyStopping:
    """State of early stopping: the best round so far, and whether none was better for `patience_rounds`."""

    def __init__(self, patience_rounds: int | None, *, best_round: int = 0, best_score: float = float("inf")) -> None:
        """patience_rounds: None never stops. best_round: counted from 1; 0 before the first."""
        self._patience = patience_rounds
        self.best_round = best_round
        self.best_score = best_score
        self.is_reached = False

    @classmethod
    def of(cls, validation: Validation | None, model: bytearray | None) -> Self:
        """Start on these validation rows, or continue where a checkpoint's model left off."""
        if validation is None:
            return cls(None)
        if model is None:
            return cls(validation.patience_rounds)
        kept = xgb.Booster(model_file=model).attributes()
        return cls(validation.patience_rounds, best_round=int(kept[_ROUND]) + 1, best_score=float(kept[_SCORE]))

    def look(self, done: int, evals_log: Mapping[str, Mapping[str, Sequence[float]]]) -> bool:
        """Take in the round that was just boosted; True where it is time to stop."""
        if self._patience is None:
            return False
        score = evals_log["validation"][_STOPPING_METRIC][-1]
        if score < self.best_score:
            self.best_round, self.best_score = done, score
        self.is_reached = done - self.best_round >= self._patience
        return self.is_reached

    def note(self, booster: xgb.Booster) -> None:
        """Write the state into the model, in the names that XGBoost itself uses; nothing where it never stops."""
        if self._patience is not None:
            booster.set_attr(**{_ROUND: str(self.best_round - 1), _SCORE: repr(self.best_score)})

    def best_part(self, model: bytearray | None) -> bytearray | None:
        """Return the model up to its best round; all of it where it never stops."""
        if self._patience is None or model is None:
            return model
        best = xgb.Booster(model_file=model)[: self.best_round]
        self.note(best)
        kept: bytearray = best.save_raw("ubj")
        return kept


def binned(
    data: TrainingData, control: TrainingControl, *, max_bin: int, n_jobs: int
) -> tuple[xgb.QuantileDMatrix, list[tuple[xgb.QuantileDMatrix, str]]]:
    """Bin the rows to fit, and those to evaluate after each round. Infinities count as missing.

    Raises what `control.check` raises, which is asked at each block.
    """

    def make(x: Rows, y: npt.NDArray[np.int8], ref: xgb.QuantileDMatrix | None = None) -> xgb.QuantileDMatrix:
        options: dict[str, Any] = {"nthread": n_jobs, "max_bin": max_bin, "ref": ref}
        names = encoded_names(data.features)
        if isinstance(x, np.ndarray):
            return xgb.QuantileDMatrix(prepare_rows(x), label=y, feature_names=names, **options)
        return xgb.QuantileDMatrix(_Blocks(x, y, names, control.check), **options)

    matrix, validation = make(data.x, data.y), data.validation
    if validation is None:
        return matrix, []
    evaluated = make(validation.x, validation.y, matrix)
    evaluated.set_weight(np.where(validation.y == 1, np.float32(validation.positive_weight), np.float32(1)))
    return matrix, [(evaluated, "validation")]


def _refuse_unlearnable(data: TrainingData) -> None:
    """Raise SingleClass or UnusableFeatures for rows that nothing can be learned from."""
    positive = int(np.sum(data.y == 1))
    if positive in (0, len(data.y)):
        message = (
            f"all {len(data.y)} training labels are {int(positive > 0)}; check the label's rule, "
            f"or train on a longer window"
        )
        raise SingleClass(message)
    if not _varies(data.x):
        message = (
            f"none of the {len(data.features)} features varies over {len(data.y)} training rows; check the feature view"
        )
        raise UnusableFeatures(message)


class _Blocks(xgb.DataIter):  # type: ignore[misc]  # the library's base is untyped
    """Gives XGBoost one block at a time, as often as it asks."""

    def __init__(self, x: Rows, y: npt.NDArray[np.int8], features: list[str], check: Callable[[], None]) -> None:
        self._x, self._y, self._features, self._check = x, y, features, check
        self._blocks: Iterator[Floats] = iter(())
        self._place = 0
        super().__init__()

    def reset(self) -> None:
        """Begin again."""
        self._blocks = row_blocks(self._x)
        self._place = 0

    def next(self, input_data: Callable[..., Any]) -> bool:
        """Hand over the next block; False after the last."""
        self._check()
        block = next(self._blocks, None)
        if block is None:
            return False
        label = self._y[self._place : self._place + len(block)]
        self._place += len(block)
        input_data(data=prepare_rows(block), label=label, feature_names=self._features)
        return True


def _varies(x: Rows) -> bool:
    """Whether any feature has two different numbers; fmin and fmax skip missing values."""
    low: Floats | None = None
    high: Floats | None = None
    for block in row_blocks(x):
        if not block.shape[1]:
            return False
        finite = prepare_rows(block)
        least, most = np.fmin.reduce(finite), np.fmax.reduce(finite)
        low = least if low is None else np.fmin(low, least)
        high = most if high is None else np.fmax(high, most)
        # A column of nothing but missing values gives nan, and nan < nan is False.
        if np.any(low < high):
            return True
    return False


@dataclass(frozen=True, kw_only=True)
class DeviceChoice:
    """The device to fit on."""

    device: str
    """`cpu` or `cuda`"""
    warning: str = ""
    """Why it is not the one that was asked for; empty where it is."""


def usable_device(asked: str) -> DeviceChoice:
    """Return the device where XGBoost can boost on it, else the CPU with the reason. Probes CUDA with two rows."""
    if asked == CPU:
        return DeviceChoice(device=CPU)
    try:
        found = probe(asked)
    except xgb.core.XGBoostError as exc:
        # The library's first line; below it is a stack trace.
        reason = str(exc).strip().splitlines()[0]
    else:
        if found.startswith(asked):
            return DeviceChoice(device=asked)
        reason = f"XGBoost {xgb.__version__} sees no GPU, or was built without CUDA"
    return DeviceChoice(device=CPU, warning=f"device {asked!r} was asked for and the CPU was used: {reason}")


def probe(device: str) -> str:
    """Return the device that one round of boosting ended on."""
    x = np.array([[0.0], [1.0]], dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is said once, in our own words
        matrix = xgb.DMatrix(x, label=[0, 1], nthread=1)
        booster = xgb.train({"device": device, "tree_method": "hist", "nthread": 1, "verbosity": 0}, matrix, 1)
    config = json.loads(booster.save_config())
    return str(config["learner"]["generic_param"]["device"])

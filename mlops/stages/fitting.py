"""The fit of a train stage: on the device that is there, with what the plan says. Called by the train stage."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any

import structlog
import xgboost as xgb

from mlops.domain.errors import (
    ConfigurationError,
    InsufficientData,
    UnusableModelFile,
)
from mlops.domain.frame import select_features
from mlops.domain.ports import XGBOOST_TAG, FeatureSource, Ledger, ModelRegistry, expect
from mlops.domain.training.feature_names import encoded_names, feature_names
from mlops.domain.training.fingerprint import canonical_json, data_fingerprint
from mlops.domain.training.plan import FitPlan, fit_plan
from mlops.domain.training.trainer import CPU, CUDA, load_trainer, usable_device

if TYPE_CHECKING:
    from config.settings import Settings
    from mlops.domain.policies import Strategy, TrainingPolicy
    from mlops.domain.ports import ModelRegistry, ModelVersion, Progress, TrainingControl, TrainingData
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


# ---- The champion as what an incremental training continues, or why this training must be a full one
#
# Called by the train stage where `--incremental` was asked for. What a strategy comes to by itself (no champion yet,
# as many updates as the policy allows) means a full training, said in a warning; what a person changed (another
# label, another horizon, fewer features, a trainer that cannot continue) is refused.

_INCREMENTAL_TAG = "incremental"
"""Tag of a version: the version that it continues."""
_UPDATES_TAG = "incremental_updates"
"""Tag of a version: how many updates it is away from a full training."""
HORIZON_TAG = "horizon_dates"
_OBJECTIVE = "binary:logistic"


@dataclass(frozen=True, kw_only=True)
class ChampionBase:
    """A model to continue."""

    version: str
    model: bytes
    """UBJSON"""
    digest: str
    """SHA-256 of the version's file; empty where it was registered elsewhere."""
    rounds: int
    features: tuple[str, ...]
    train_start: date
    train_end: date
    updates: int
    """Incremental updates that it has had already."""

    def continued(self, policy: TrainingPolicy) -> TrainingPolicy:
        """The policy of the update: so many rounds more, all of them, without what needs a long history."""
        return replace(
            policy,
            params={**policy.params, "n_estimators": self.rounds + policy.incremental_rounds},
            early_stopping_rounds=None,
            folds=0,
            leak_check=False,
        )

    def refuse_knowing(self, split: Split) -> None:
        """Raises InsufficientData where the base was trained on dates that are held out now."""
        if self.train_end > split.last_train:
            message = (
                f"champion {self.version} was trained up to {self.train_end}, and this training ends on "
                f"{split.last_train}: it knows dates that are held out; train in full, or as of a later date"
            )
            raise InsufficientData(message)

    def tags(self, split: Split, *, rounds: int) -> dict[str, str]:
        """Tags on the version's origin; its training dates are the base's and its own."""
        return {
            _INCREMENTAL_TAG: self.version,
            _UPDATES_TAG: str(self.updates + 1),
            "base_model_sha256": self.digest,
            "total_rounds": str(rounds),
            "recent_start": split.first_train.isoformat(),
            "train_start": self.first_train(split).isoformat(),
        }

    def first_train(self, split: Split) -> date:
        """Oldest date that the base or the update was trained on."""
        return min(self.train_start, split.first_train)


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """Starting point of a training."""

    base: ChampionBase | None = None
    """None: a full training."""
    warnings: tuple[str, ...] = ()
    """Why a full one although an incremental one was asked for, or what is not known of the base."""


def beginning(
    ledger: Ledger, registry: ModelRegistry, source: FeatureSource, strategy: Strategy, *, namespace: str
) -> Beginning:
    """The champion, or that there is none to continue. Raises ConfigurationError, UnusableModelFile, RegistryError."""
    policy = strategy.training
    champion = ledger.champion(strategy.name, namespace=namespace)
    version = champion.version
    if version is None:
        words = f"strategy {strategy.name!r} has no champion to continue, so it was trained in full"
        return Beginning(warnings=(words,))
    _refuse_trainer(policy)
    found = expect(registry.version(strategy.model_name, version), champion.identity)
    updates = _updates(found.tags)
    if updates >= policy.max_incremental_updates:
        words = (
            f"champion {version} has had {updates} incremental updates, as many as "
            f"training.max_incremental_updates allows, so it was trained in full"
        )
        return Beginning(warnings=(words,))
    _refuse_other_question(policy, found)
    base = _base(registry, found, updates)
    _refuse_left_out(source, strategy, base)
    unsaid = () if HORIZON_TAG in found.tags else (f"champion {version} does not say how far its label looked ahead",)
    trees = found.tags.get(XGBOOST_TAG)
    mixed = (
        ()
        if trees in (None, xgb.__version__)
        else (f"the trees of champion {version} are of XGBoost {trees}, the new ones of {xgb.__version__}",)
    )
    return Beginning(base=base, warnings=(*unsaid, *mixed))


def _base(registry: ModelRegistry, found: ModelVersion, updates: int) -> ChampionBase:
    booster = registry.load_classifier(found.name, found.version).get_booster()
    features = feature_names(booster)
    if not features:
        message = f"champion {found.version} does not say the names of its features and cannot be continued"
        raise UnusableModelFile(f"{message}; train in full")
    _refuse_objective(booster, found.version)
    try:
        days = [date.fromisoformat(found.tags[name]) for name in ("train_start", "train_end")]
    except (KeyError, ValueError) as exc:
        message = f"champion {found.version} does not say which dates it was trained on; train in full"
        raise UnusableModelFile(message) from exc
    return ChampionBase(
        version=found.version,
        model=bytes(booster.save_raw("ubj")),
        digest=found.tags.get("acis.model_sha256", ""),
        rounds=booster.num_boosted_rounds(),
        features=tuple(features),
        train_start=days[0],
        train_end=days[1],
        updates=updates,
    )


def _updates(tags: Mapping[str, str]) -> int:
    try:
        return max(0, int(tags.get(_UPDATES_TAG, "0")))
    except ValueError:
        return 0


def _refuse_trainer(policy: TrainingPolicy) -> None:
    if not getattr(load_trainer(policy.trainer), "can_continue", False):
        message = (
            f"trainer {policy.trainer!r} cannot continue a model; give it `can_continue = True` and let it honour "
            f"TrainingData.base, or train in full"
        )
        raise ConfigurationError(message)


def _refuse_other_question(policy: TrainingPolicy, found: ModelVersion) -> None:
    theirs = {"label": found.tags.get("label"), "horizon_dates": found.tags.get(HORIZON_TAG)}
    ours = {"label": policy.label, "horizon_dates": str(policy.horizon_dates)}
    if theirs["label"] is None:
        message = f"champion {found.version} does not say what it predicts, so it cannot be continued; train in full"
        raise ConfigurationError(message)
    other = [name for name, value in theirs.items() if value is not None and value != ours[name]]
    if other:
        name = other[0]
        message = (
            f"champion {found.version} was trained with training.{name} = {theirs[name]!r}, the strategy now has "
            f"{ours[name]!r}; its trees answer another question: train in full"
        )
        raise ConfigurationError(message)


def _refuse_left_out(source: FeatureSource, strategy: Strategy, base: ChampionBase) -> None:
    """A column that is not in the view any more is named where the rows are read."""
    view = source.columns()
    wanted = select_features(view, strategy.data)
    left_out = sorted({column.name for column in view} & set(base.features) - set(wanted))
    if left_out:
        message = (
            f"champion {base.version} reads {', '.join(left_out)}, which data.include or data.exclude leaves out now, "
            f"and its trees would go on to: train in full"
        )
        raise ConfigurationError(message)


def _refuse_objective(booster: xgb.Booster, version: str) -> None:
    objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
    if objective != _OBJECTIVE:
        message = f"champion {version} was trained for {objective!r}, not {_OBJECTIVE!r}; train in full"
        raise UnusableModelFile(message)


def incremental_result(tags: Mapping[str, str]) -> dict[str, object]:
    """Part of the stage's result on a version's base, from its tags; nothing for a full training."""
    if _INCREMENTAL_TAG not in tags:
        return {}
    return {
        "incremental": {
            "base_version": tags[_INCREMENTAL_TAG],
            "base_model_sha256": tags["base_model_sha256"],
            "update": int(tags[_UPDATES_TAG]),
            "total_rounds": int(tags["total_rounds"]),
            "recent_start": tags["recent_start"],
        }
    }

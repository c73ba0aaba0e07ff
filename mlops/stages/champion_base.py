"""The champion as what an incremental training continues, or why this training must be a full one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

import xgboost as xgb

from mlops.domain.errors import (
    ConfigurationError,
    InsufficientData,
    UnusableModelFile,
)
from mlops.domain.frame import select_features
from mlops.domain.ports import XGBOOST_TAG, FeatureSource, Ledger, ModelRegistry, expect
from mlops.domain.training.feature_names import feature_names
from mlops.domain.training.judged_twin import HORIZON_TAG
from mlops.domain.training.trainer import load_trainer
from mlops.stages.judged_model import load_judged

if TYPE_CHECKING:
    from mlops.domain.policies import Strategy, TrainingPolicy
    from mlops.domain.ports import ModelVersion
    from mlops.domain.promotion.records import ModelIdentity
    from mlops.domain.training.splits import Split

_INCREMENTAL_TAG = "incremental"
"""Tag of a version: the version that it continues."""
_UPDATES_TAG = "incremental_updates"
"""Tag of a version: how many updates it is away from a full training."""
_OBJECTIVE = "binary:logistic"


@dataclass(frozen=True, kw_only=True)
class ChampionBase:
    """A model to continue."""

    version: str
    model: bytes
    """What the judged model continues: the champion's twin, or the champion where it was judged itself; UBJSON"""
    digest: str
    """SHA-256 of that file."""
    refit_model: bytes
    """What a refit continues: the champion itself"""
    refit_digest: str
    rounds: int
    features: tuple[str, ...]
    train_start: date
    train_end: date
    """Of the model to judge by"""
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

    def tags(self, split: Split, *, rounds: int, is_refit: bool) -> dict[str, str]:
        """Tags on the version's origin; its training dates are the base's and its own.

        split : whose training part the registered model learnt from      is_refit : it is not the judged model
        """
        return {
            _INCREMENTAL_TAG: self.version,
            _UPDATES_TAG: str(self.updates + 1),
            "base_model_sha256": self.refit_digest if is_refit else self.digest,
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
    base = _base(ledger, registry, found, champion.identity, updates)
    _refuse_left_out(source, strategy, base)
    unsaid = () if HORIZON_TAG in found.tags else (f"champion {version} does not say how far its label looked ahead",)
    trees = found.tags.get(XGBOOST_TAG)
    mixed = (
        ()
        if trees in (None, xgb.__version__)
        else (f"the trees of champion {version} are of XGBoost {trees}, the new ones of {xgb.__version__}",)
    )
    return Beginning(base=base, warnings=(*unsaid, *mixed))


def _base(
    ledger: Ledger, registry: ModelRegistry, found: ModelVersion, identity: ModelIdentity, updates: int
) -> ChampionBase:
    judged = load_judged(ledger, registry, found, identity)
    booster = judged.itself.get_booster()
    features = feature_names(booster)
    if not features:
        message = f"champion {found.version} does not say the names of its features and cannot be continued"
        raise UnusableModelFile(f"{message}; train in full")
    _refuse_objective(booster, found.version)
    try:
        first = date.fromisoformat(found.tags["train_start"])
    except (KeyError, ValueError):
        first = None
    if first is None or judged.train_end is None or "train_end" not in found.tags:
        message = f"champion {found.version} does not say which dates it was trained on; train in full"
        raise UnusableModelFile(message)
    return ChampionBase(
        version=found.version,
        model=bytes(judged.classifier.get_booster().save_raw("ubj")),
        digest=judged.twin_sha256 or str(identity.sha256),
        refit_model=bytes(booster.save_raw("ubj")),
        refit_digest=str(identity.sha256),
        rounds=booster.num_boosted_rounds(),
        features=tuple(features),
        train_start=first,
        train_end=judged.train_end,
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

"""The champion as a model that a check can ask: loaded once per process, then scored on the check's windows.

Called by the drift stage, and only where there is a champion: a strategy without one never loads MLflow or XGBoost.
A champion that cannot be loaded or scored is a finding of the check, never its failure.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import xgboost as xgb

from mlops.domain.drift.outputs import PredictionReport, model_matrix, prediction_drift
from mlops.domain.drift.training_profile import profile_digest, read_profile
from mlops.domain.errors import (
    ConfigurationError,
    DataError,
    InsufficientData,
    RegistryError,
    RegistryUnavailable,
    UnusableModelFile,
    UnusableProfile,
)
from mlops.domain.frame import select_features
from mlops.domain.ports import DIGEST_TAG, UNKNOWN, XGBOOST_TAG, FeatureSource, Ledger, ModelRegistry, expect
from mlops.domain.training.feature_names import feature_names
from mlops.domain.training.trainer import load_trainer
from mlops.stages.scoring import positive_probability

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from mlops.domain.drift.training_profile import DriftProfile
    from mlops.domain.frame import FeatureFrame, Floats
    from mlops.domain.policies import DriftPolicy, Strategy, TrainingPolicy
    from mlops.domain.ports import ModelRegistry, ModelVersion
    from mlops.domain.records import Champion, ModelIdentity
    from mlops.domain.training.splits import Split

#: What keeps a champion from being asked.
NOT_ASKED = (RegistryUnavailable, RegistryError, ConfigurationError, DataError)
#: A worker serves many strategies; a model of a hundred trees is a few MB.
_KEPT = 16


@dataclass(frozen=True, kw_only=True)
class ChampionModel:
    """A loaded version, and the features it reads in its order."""

    version: str
    classifier: xgb.XGBClassifier
    features: tuple[str, ...]

    def probability(self, frame: FeatureFrame) -> Floats:
        """(n,) probability of the positive class for the window's rows. Raises DataError, UnusableModelFile."""
        import xgboost as xgb  # noqa: PLC0415 -- loaded with the model

        x = model_matrix(frame, self.features)
        try:
            return positive_probability(self.classifier, x)
        except (xgb.core.XGBoostError, ValueError) as exc:
            message = f"version {self.version} cannot be scored: {str(exc).splitlines()[0]}"
            raise UnusableModelFile(message) from exc
        except UnusableModelFile as exc:
            raise UnusableModelFile(f"version {self.version} cannot be scored: {exc}") from exc

    def importance(self) -> dict[str, float]:
        """Each feature's part of the total gain; all 0 for a model without splits."""
        from mlops.domain.training.importance import feature_importance  # noqa: PLC0415 -- beside the model

        return {part.feature: part.share for part in feature_importance(self.classifier, self.features)}


class ChampionModels:
    """The champions that this process has loaded; one file is read once, however many checks ask it."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry
        self._loaded: OrderedDict[tuple[str, str, str | None, datetime], ChampionModel] = OrderedDict()

    def load(self, model_name: str, version: str, identity: ModelIdentity = UNKNOWN) -> ChampionModel:
        """The version; the registry is asked whether it is the same file still. Raises one of NOT_ASKED."""
        found = expect(self._registry.version(model_name, version), identity)
        # A version that was registered elsewhere has no digest; in a registry that was made anew it has another time.
        key = (model_name, version, found.tags.get(DIGEST_TAG), found.created_at)
        if key not in self._loaded:
            classifier = self._registry.load_classifier(model_name, version)
            features = feature_names(classifier.get_booster())
            if not features:
                message = f"version {version} does not say the names of its features; train it again here"
                raise UnusableModelFile(message)
            # What a check computes beside its statistics must not need more cores than it has.
            classifier.set_params(n_jobs=1)
            self._loaded[key] = ChampionModel(version=version, classifier=classifier, features=features)
        self._loaded.move_to_end(key)
        while len(self._loaded) > _KEPT:
            self._loaded.popitem(last=False)
        return self._loaded[key]


def compare_predictions(
    model: ChampionModel, reference: FeatureFrame, current: FeatureFrame, policy: DriftPolicy
) -> PredictionReport:
    """The champion's predictions on both windows. Raises DataError, UnusableModelFile."""
    return prediction_drift(model.version, model.probability(reference), model.probability(current), policy)


@dataclass(frozen=True, kw_only=True)
class AskedChampion:
    """The strategy's champion, if there is one and the policy wants to ask it."""

    model: ChampionModel | None = None
    why_not: str | None = None
    """In words, where it should have been asked and could not be"""


def ask_champion(champions: ChampionModels, strategy: Strategy, champion: Champion) -> AskedChampion:
    """Load the champion where the policy has a question for it; a strategy without one loads nothing."""
    version = champion.version
    if version is None or not (strategy.drift.predictions or strategy.drift.weights == "importance"):
        return AskedChampion()
    try:
        return AskedChampion(model=champions.load(strategy.model_name, version, champion.identity))
    except NOT_ASKED as exc:
        return AskedChampion(why_not=f"champion {version} cannot be asked: {exc}")


# ---- Drift profiles of registered versions, kept near the check: in memory, then on disk, then in the registry
#
# A check of a version that this machine has seen needs no registry, whose library takes seconds to import. A file is
# named for the champion's sequence number too, since a registry that was made anew counts its versions anew, and for
# its own digest, which is verified whenever it is read.

log = structlog.get_logger(__name__)

#: Profiles in memory, of 15 MB each with 45 features and four years.
_IN_MEMORY = 4
#: Files of one model; a rollback finds the version before.
_ON_DISK = 4


@dataclass(frozen=True, kw_only=True)
class StoredProfile:
    """A verified profile."""

    profile: DriftProfile
    sha256: str


class ProfileStore:
    """Profiles by model, version and the champion's sequence number."""

    def __init__(self, folder: Path, registry: Callable[[], ModelRegistry], *, origin: str) -> None:
        """`origin` names the registry, so that two of them do not share files; `registry` opens it."""
        self._folder = folder
        self._registry = registry
        self._origin = hashlib.sha256(origin.encode()).hexdigest()[:8]
        self._known: OrderedDict[str, StoredProfile] = OrderedDict()

    def get(self, model_name: str, version: str, *, seq: int, identity: ModelIdentity = UNKNOWN) -> StoredProfile:
        """The version's profile. Raises UnusableProfile, VersionNotFound, ModelNotFound, RegistryUnavailable."""
        place = self._folder / model_name
        stem = f"{self._origin}-v{version}-seq{seq}-"
        key = f"{model_name}/{stem}"
        found = self._known.get(key) or self._on_disk(place, stem)
        if found is None:
            registry = self._registry()
            expect(registry.version(model_name, version), identity)
            content = registry.drift_profile(model_name, version)
            found = StoredProfile(profile=read_profile(content), sha256=profile_digest(content))
            _write(place, f"{stem}{found.sha256}.arrow", content)
        self._known[key] = found
        self._known.move_to_end(key)
        while len(self._known) > _IN_MEMORY:
            self._known.popitem(last=False)
        return found

    def _on_disk(self, place: Path, stem: str) -> StoredProfile | None:
        for path in sorted(place.glob(f"{stem}*.arrow")):
            sha256 = path.stem.removeprefix(stem)
            try:
                return StoredProfile(profile=read_profile(path.read_bytes(), expected_sha256=sha256), sha256=sha256)
            except (OSError, UnusableProfile) as exc:
                log.warning("profile.file_not_usable", path=str(path), error=str(exc), next="fetched from the registry")
        return None


def _write(place: Path, name: str, content: bytes) -> None:
    """Whole or not at all; a folder that cannot be written costs the next process a download."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place, prefix=".profile-", delete=False) as file:
            file.write(content)
        os.replace(file.name, place / name)  # noqa: PTH105 -- Path.replace says the same
        oldest_first = sorted(place.glob("*.arrow"), key=lambda path: path.stat().st_mtime)
        for path in oldest_first[:-_ON_DISK]:
            path.unlink(missing_ok=True)
    except OSError as exc:
        log.warning("profile.not_kept", folder=str(place), error=str(exc), action="set ACIS_VAR_DIR")


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

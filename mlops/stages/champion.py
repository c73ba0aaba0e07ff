"""The champion as a model that a check can ask: loaded once per process, then scored on the check's windows.

Called by the drift stage, and only where there is a champion: a strategy without one never loads MLflow or XGBoost.
A champion that cannot be loaded or scored is a finding of the check, never its failure.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from mlops.domain.drift.outputs import PredictionReport, model_matrix, prediction_drift
from mlops.domain.drift.references.training_profile import read_profile
from mlops.domain.errors import (
    ConfigurationError,
    DataError,
    RegistryError,
    RegistryUnavailable,
    UnusableModelFile,
    UnusableProfile,
)
from mlops.domain.ports import UNKNOWN, ModelRegistry, expect
from mlops.domain.training.feature_names import feature_names
from mlops.stages.judged_model import load_judged, twin_digest
from mlops.stages.scoring import positive_probability

if TYPE_CHECKING:
    import xgboost as xgb

    from mlops.domain.drift.references.training_profile import DriftProfile
    from mlops.domain.frame import FeatureFrame, Floats
    from mlops.domain.policies import DriftPolicy, Strategy
    from mlops.domain.ports import Ledger
    from mlops.domain.promotion.records import Champion, ModelIdentity
    from mlops.stages.judged_model import JudgedModel
    from mlops.stages.table import DriftServices

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
        self._loaded: OrderedDict[tuple[str, str, str | None], ChampionModel] = OrderedDict()
        self._judged: OrderedDict[tuple[str, str, str | None, str | None], JudgedModel] = OrderedDict()

    def load(self, model_name: str, version: str, identity: ModelIdentity) -> ChampionModel:
        """The version, whose file has the identity's digest when it is read. Raises one of NOT_ASKED."""
        expect(self._registry.version(model_name, version), identity)
        key = (model_name, version, identity.sha256)
        if key not in self._loaded:
            classifier = self._registry.load_classifier(model_name, version, sha256=identity.sha256)
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

    def judged(
        self, ledger: Ledger, model_name: str, version: str, identity: ModelIdentity
    ) -> tuple[JudgedModel, dict[str, str]]:
        """The version with the model that it was judged by, and its tags, as far as the ledger has them by those.

        Raises one of NOT_ASKED.
        """
        found = expect(self._registry.version(model_name, version), identity)
        tags = {**found.tags, **ledger.training_facts(identity)[0]}
        key = (model_name, version, identity.sha256, twin_digest(ledger, identity))
        judged = self._judged.get(key)
        if judged is None:
            judged = load_judged(ledger, self._registry, found, identity)
            for classifier in (judged.classifier, judged.itself):
                classifier.set_params(n_jobs=1)
            if judged.finding is None:  # a twin that cannot be had now may be there tomorrow
                self._judged[key] = judged
        while len(self._judged) > _KEPT:
            self._judged.popitem(last=False)
        return judged, tags


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


def ask_champion(services: DriftServices, strategy: Strategy, champion: Champion) -> AskedChampion:
    """Load the champion where the policy has a question for it; a strategy without one loads nothing."""
    version = champion.version
    if version is None or not (strategy.drift.predictions or strategy.drift.weights == "importance"):
        return AskedChampion()
    try:
        return AskedChampion(model=services.champions.load(strategy.model_name, version, champion.identity))
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

    def get(
        self, model_name: str, version: str, *, seq: int, sha256: str, identity: ModelIdentity = UNKNOWN
    ) -> StoredProfile:
        """The version's profile. Raises UnusableProfile, VersionNotFound, ModelNotFound, RegistryUnavailable.

        sha256 : digest that the ledger has of the file; another file is refused
        """
        place = self._folder / model_name
        stem = f"{self._origin}-v{version}-seq{seq}-"
        key = f"{model_name}/{stem}"
        found = self._known.get(key) or self._on_disk(place, stem)
        if found is None or found.sha256 != sha256:
            registry = self._registry()
            expect(registry.version(model_name, version), identity)
            content = registry.drift_profile(model_name, version)
            found = StoredProfile(profile=read_profile(content, expected_sha256=sha256), sha256=sha256)
            _write(place, f"{stem}{sha256}.arrow", content)
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
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=place, prefix=".profile-", delete=False) as file:
            file.write(content)
        os.replace(file.name, place / name)  # noqa: PTH105 -- Path.replace says the same
        oldest_first = sorted(place.glob("*.arrow"), key=lambda path: path.stat().st_mtime)
        for path in oldest_first[:-_ON_DISK]:
            path.unlink(missing_ok=True)
    except OSError as exc:
        log.warning("profile.not_kept", folder=str(place), error=str(exc), action="set ACIS_VAR_DIR")

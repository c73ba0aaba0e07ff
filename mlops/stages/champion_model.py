"""The champion as a model that a check can ask: loaded once per process, then scored on the check's windows.

Called by the drift stage, and only where there is a champion: a strategy without one never loads MLflow or XGBoost.
A champion that cannot be loaded or scored is a finding of the check, never its failure.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops.domain.drift.outputs import PredictionReport, model_matrix, prediction_drift
from mlops.domain.errors import ConfigurationError, DataError, RegistryError, RegistryUnavailable, UnusableModelFile
from mlops.domain.ports import DIGEST_TAG, UNKNOWN, expect
from mlops.domain.training.feature_names import feature_names
from mlops.stages.scoring import positive_probability

if TYPE_CHECKING:
    from datetime import datetime

    import xgboost as xgb

    from mlops.domain.frame import FeatureFrame, Floats
    from mlops.domain.policies import DriftPolicy, Strategy
    from mlops.domain.ports import ModelRegistry
    from mlops.domain.records import Champion, ModelIdentity

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

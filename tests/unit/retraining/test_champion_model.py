"""The champion as a check asks it: loaded once, asked by its own features' names."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import xgboost as xgb

from mlops.domain.errors import ModelNotFound, UnusableModelFile
from mlops.domain.frame import FeatureFrame
from mlops.stages import champion as champion_module
from mlops.stages.champion import ChampionModel, ChampionModels
from tests.support.models import FEATURES, fitted, trained_model, training_data
from tests.support.registry import FakeRegistry

MODEL = "acis_growth_classifier"


class CountingRegistry(FakeRegistry):
    """Notes what is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []

    def load_classifier(self, model_name: str, version: str) -> Any:
        self.loads.append(version)
        return super().load_classifier(model_name, version)


def registry(*models: xgb.XGBClassifier) -> CountingRegistry:
    found = CountingRegistry()
    for number, model in enumerate(models):
        found.log_training(trained_model(f"run-{number}", model=model))
    return found


def frame(x: np.ndarray) -> FeatureFrame:
    numbers = {name: x[:, place].astype(float) for place, name in reversed(list(enumerate(FEATURES)))}
    return FeatureFrame(n_rows=len(x), numbers=numbers, categories={})


def test_a_version_is_loaded_once_and_computes_in_one_thread() -> None:
    source = registry(fitted())
    models = ChampionModels(source)
    assert models.load(MODEL, "1") is models.load(MODEL, "1")
    assert source.loads == ["1"]
    assert models.load(MODEL, "1").classifier.n_jobs == 1


def test_another_file_under_the_same_version_is_loaded_again() -> None:
    source = registry(fitted())
    models = ChampionModels(source)
    models.load(MODEL, "1")
    [version] = source._models[MODEL]
    source._models[MODEL] = [replace(version, tags={**version.tags, "acis.model_sha256": "1" * 64})]
    models.load(MODEL, "1")
    assert source.loads == ["1", "1"]


def test_a_version_without_a_digest_in_a_registry_made_anew_is_loaded_again() -> None:
    source = registry(fitted())
    models = ChampionModels(source)
    [version] = source._models[MODEL]
    source._models[MODEL] = [replace(version, tags={})]
    models.load(MODEL, "1")
    source._models[MODEL] = [replace(version, tags={}, created_at=version.created_at + timedelta(days=1))]
    models.load(MODEL, "1")
    assert source.loads == ["1", "1"]


def test_the_models_asked_longest_ago_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(champion_module, "_KEPT", 2)
    source = registry(*[fitted()] * 3)
    models = ChampionModels(source)
    for version in ("1", "2", "1", "3", "1", "2"):
        models.load(MODEL, version)
    assert source.loads == ["1", "2", "3", "2"]


def test_a_version_that_is_not_there_is_an_error_each_time() -> None:
    models = ChampionModels(registry())
    for _ in range(2):
        with pytest.raises(ModelNotFound):
            models.load(MODEL, "1")


def test_a_model_without_names_of_features_is_refused() -> None:
    data = training_data()
    nameless = xgb.XGBClassifier(n_estimators=2, n_jobs=1).fit(data.x, data.y)
    with pytest.raises(UnusableModelFile, match="does not say the names of its features"):
        ChampionModels(registry(nameless)).load(MODEL, "1")


def test_it_says_what_the_classifier_says_of_its_features_by_name() -> None:
    data = training_data()
    model = fitted(data)
    x = data.x[:50].copy()
    x[3, 1] = np.nan
    x[4, 0] = np.inf
    expected_x = np.where(np.isinf(x), np.nan, x)
    champion = ChampionModels(registry(model)).load(MODEL, "1")
    np.testing.assert_array_equal(
        champion.probability(frame(x)), model.predict_proba(expected_x)[:, 1].astype(np.float64)
    )


def test_a_model_of_three_classes_has_no_positive_one() -> None:
    data = training_data()
    model = xgb.XGBClassifier(n_estimators=2, n_jobs=1).fit(data.x, np.arange(len(data.y)) % 3)
    champion = ChampionModel(version="4", classifier=model, features=FEATURES)
    with pytest.raises(UnusableModelFile, match=r"version 4 cannot be scored: it gives .* not of two classes"):
        champion.probability(frame(data.x[:10]))


def test_a_model_that_wants_other_columns_is_refused_in_words() -> None:
    champion = ChampionModel(version="4", classifier=fitted(), features=FEATURES[:2])
    with pytest.raises(UnusableModelFile, match="version 4 cannot be scored"):
        champion.probability(frame(training_data().x[:10]))


def test_its_importance_is_each_features_share_of_the_gain() -> None:
    model = fitted()
    gain = model.get_booster().get_score(importance_type="total_gain")
    champion = ChampionModel(version="1", classifier=model, features=FEATURES)
    expected = {name: gain.get(name, 0.0) / sum(gain.values()) for name in FEATURES}
    assert champion.importance() == pytest.approx(expected)

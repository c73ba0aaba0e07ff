"""The champion as a check asks it: loaded once, asked by its own features' names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import xgboost as xgb

from mlops.domain.errors import ModelNotFound, UnusableModelFile
from mlops.domain.frame import FeatureFrame
from mlops.domain.records import ModelIdentity
from mlops.stages import champion as champion_module
from mlops.stages.champion import ChampionModel, ChampionModels
from tests.support.models import FEATURES, fitted, trained_model, training_data
from tests.support.registry import FakeRegistry, sha256_of

MODEL = "acis_growth_classifier"


class CountingRegistry(FakeRegistry):
    """Notes what is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []

    def load_classifier(self, model_name: str, version: str, *, sha256: str | None) -> Any:
        self.loads.append(version)
        return super().load_classifier(model_name, version, sha256=sha256)


def registry(*models: xgb.XGBClassifier) -> CountingRegistry:
    found = CountingRegistry()
    for number, model in enumerate(models):
        found.log_training(trained_model(f"run-{number}", model=model))
    return found


def known(source: FakeRegistry, version: str) -> ModelIdentity:
    """What the ledger knows the version by."""
    return ModelIdentity(sha256=sha256_of(source.model_file(MODEL, version)))


def frame(x: np.ndarray) -> FeatureFrame:
    numbers = {name: x[:, place].astype(float) for place, name in reversed(list(enumerate(FEATURES)))}
    return FeatureFrame(n_rows=len(x), numbers=numbers, categories={})


def test_a_version_is_loaded_once_and_computes_in_one_thread() -> None:
    source = registry(fitted())
    models = ChampionModels(source)
    assert models.load(MODEL, "1", known(source, "1")) is models.load(MODEL, "1", known(source, "1"))
    assert source.loads == ["1"]
    assert models.load(MODEL, "1", known(source, "1")).classifier.n_jobs == 1


def test_a_file_that_the_ledger_knows_by_another_digest_is_loaded_again() -> None:
    source = registry(fitted())
    models = ChampionModels(source)
    models.load(MODEL, "1", known(source, "1"))
    [version] = source._models[MODEL]
    another = b"another file"
    source.files[MODEL, "1"] = another
    source._models[MODEL] = [replace(version, tags={**version.tags, "acis.model_sha256": sha256_of(another)})]
    models.load(MODEL, "1", known(source, "1"))
    assert source.loads == ["1", "1"]


@pytest.mark.parametrize("sha256", [None, "f" * 64])
def test_a_version_whose_file_is_not_what_the_ledger_recorded_is_refused(sha256: str | None) -> None:
    source = registry(fitted())
    source.set_tags(MODEL, "1", {"acis.model_sha256": sha256 or "1" * 64})
    with pytest.raises(UnusableModelFile, match="has another digest"):
        ChampionModels(source).load(MODEL, "1", ModelIdentity(sha256=sha256))


def test_the_models_asked_longest_ago_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(champion_module, "_KEPT", 2)
    source = registry(*[fitted()] * 3)
    models = ChampionModels(source)
    for version in ("1", "2", "1", "3", "1", "2"):
        models.load(MODEL, version, known(source, version))
    assert source.loads == ["1", "2", "3", "2"]


def test_a_version_that_is_not_there_is_an_error_each_time() -> None:
    models = ChampionModels(registry())
    for _ in range(2):
        with pytest.raises(ModelNotFound):
            models.load(MODEL, "1", ModelIdentity(sha256="ab" * 32))


def test_a_model_without_names_of_features_is_refused() -> None:
    data = training_data()
    nameless = xgb.XGBClassifier(n_estimators=2, n_jobs=1).fit(data.x, data.y)
    source = registry(nameless)
    with pytest.raises(UnusableModelFile, match="does not say the names of its features"):
        ChampionModels(source).load(MODEL, "1", known(source, "1"))


def test_it_says_what_the_classifier_says_of_its_features_by_name() -> None:
    data = training_data()
    model = fitted(data)
    x = data.x[:50].copy()
    x[3, 1] = np.nan
    x[4, 0] = np.inf
    expected_x = np.where(np.isinf(x), np.nan, x)
    source = registry(model)
    champion = ChampionModels(source).load(MODEL, "1", known(source, "1"))
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

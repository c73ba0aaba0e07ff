"""A model file is verified before it is read, and the fast engine before it is used."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest
import xgboost as xgb

from mlops.domain.drift.references.training_profile import make_profile, write_profile
from mlops.domain.errors import UnusableModelFile
from mlops.domain.frame import FeatureFrame
from mlops.domain.ports import Window
from mlops.serving import loading
from mlops.serving.loading import CHECKED_ROWS, ModelFile, serve
from mlops.serving.trees import Trees
from tests.support.serving import FEATURES, classifier, frame, model_bytes, rows, served

CONTENT = model_bytes(classifier())
FILE = ModelFile(strategy="growth", version="3", seq=7, sha256=hashlib.sha256(CONTENT).hexdigest(), content=CONTENT)


def profile_of(n: int = 500, features: tuple[str, ...] = FEATURES) -> bytes:
    x = rows(n).astype(np.float64)
    days = np.datetime64("2020-01-01", "D") + np.arange(n) // 10
    part = FeatureFrame(
        n_rows=n,
        numbers={name: x[:, place] for place, name in enumerate(features)},
        categories={},
        dates=days,
    )
    nothing = FeatureFrame(n_rows=0, numbers={}, categories={})
    window = Window(start=date(2019, 12, 31), end=date(2020, 3, 1))
    made = make_profile(
        nothing, part, nothing, strategy="growth", as_of=date(2020, 3, 1), trained_window=window, bins=10
    )
    return write_profile(made)


def test_a_served_model_says_what_it_is() -> None:
    model = serve(FILE)
    assert (model.strategy, model.version, model.seq, model.sha256) == ("growth", "3", 7, FILE.sha256)
    assert (model.features, model.engine, model.variant) == (FEATURES, "onnx", "champion")


@pytest.mark.parametrize("content", [b"", b"{", CONTENT[:-5], CONTENT[:2000] + b"x" + CONTENT[2001:], b"{}", b"{ab}"])
def test_a_damaged_file_is_refused(content: bytes) -> None:
    with pytest.raises(UnusableModelFile, match=r"model file of growth version 3 has digest .*, the ledger has"):
        serve(replace(FILE, content=content))


@pytest.mark.parametrize("content", [b"", b"{", CONTENT[:-5], b"{}", pickle.dumps(["a pickle"])])
def test_a_file_of_the_right_digest_that_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(UnusableModelFile, match="of growth version 3"):
        serve(replace(FILE, content=content, sha256=hashlib.sha256(content).hexdigest()))


def test_a_model_without_names_or_of_three_classes_is_refused() -> None:
    nameless = xgb.XGBClassifier(n_estimators=2, n_jobs=1).fit(rows(100), np.arange(100) % 2)
    with pytest.raises(UnusableModelFile, match="does not say the names of its features"):
        served(nameless)
    three = xgb.XGBClassifier(n_estimators=2, n_jobs=1).fit(frame(99), np.arange(99) % 3)
    with pytest.raises(UnusableModelFile, match="gives no probability of a class"):
        served(three)


def test_engines_are_compared_on_rows_of_the_training_profile_with_missing_values() -> None:
    model = serve(replace(FILE, profile=profile_of()))
    assert (model.check.n_rows, model.check.n_flipped) == (2 * CHECKED_ROWS, 0)
    assert (
        "on 2,000 rows of the training profile and at the model's thresholds, with no decisions" in model.check.reason
    )
    drawn, _ = loading.checked_rows(loading.read_trees(classifier().get_booster()), FEATURES, profile_of())
    share = np.isnan(drawn[:CHECKED_ROWS]).mean()
    assert 0.08 < share < 0.12  # a tenth is missing in the training's rows
    present = drawn[:CHECKED_ROWS, 0][~np.isnan(drawn[:CHECKED_ROWS, 0])]
    assert set(present) <= set(rows(500)[:, 0])


@pytest.mark.parametrize(
    ("profile", "why"),
    [
        (None, "the version has no training profile here"),
        (b"torn", "the drift profile is torn"),
        (
            profile_of(features=tuple(f"other_{i}" for i in range(6))),
            "the training profile has no numbers of feature_0",
        ),
    ],
)
def test_without_a_profile_the_rows_stand_at_the_model_s_own_thresholds(profile: bytes | None, why: str) -> None:
    model = serve(replace(FILE, profile=profile))
    assert (model.engine, model.check.n_rows) == ("onnx", 2 * CHECKED_ROWS)
    assert f"at the model's own thresholds ({why}" in model.check.reason


@pytest.mark.parametrize(
    "spoil",
    [
        lambda trees: replace(trees, missing_left=~trees.missing_left),
        lambda trees: replace(trees, base_margin=trees.base_margin + 0.001),
        lambda trees: replace(trees, value=np.where(trees.is_leaf, trees.value, np.nextafter(trees.value, np.inf))),
        lambda trees: replace(trees, left=np.where(trees.is_leaf, -1, trees.right), right=trees.left),
    ],
    ids=["missing values go the other way", "another base", "thresholds one float above", "sides exchanged"],
)
def test_a_fast_engine_that_differs_is_not_used(spoil: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    right = loading.onnx_graph
    monkeypatch.setattr(loading, "onnx_graph", lambda trees: right(spoil(trees)))
    model = serve(replace(FILE, profile=profile_of()))
    assert (model.engine, model.check.n_rows) == ("xgboost", 2 * CHECKED_ROWS)
    assert model.check.largest_difference > loading.LARGEST_DIFFERENCE
    assert "differs from XGBoost by at most" in model.check.reason
    exact = classifier().predict_proba(frame(50))[:, 1]
    np.testing.assert_array_equal(model.predictor.probabilities(rows(50)), exact)


def test_a_fast_engine_that_fails_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Trees) -> bytes:
        return b"no graph"

    monkeypatch.setattr(loading, "onnx_graph", broken)
    model = serve(FILE)
    assert model.engine == "xgboost"
    assert model.check.reason.startswith("XGBoost answers: onnxruntime failed with InvalidProtobuf")

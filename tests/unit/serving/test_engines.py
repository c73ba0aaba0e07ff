"""The fast engine gives what XGBoost gives, for each kind of model that it is used for."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb

from mlops.domain.errors import InvalidRows
from mlops.domain.live.rows import prepare_rows
from mlops.serving.engines import FEW_ROWS, OnnxPredictor
from mlops.serving.model import ServedModel
from tests.support.serving import FEATURES, classifier, frame, rows, served

#: One unit in the last place of a float32 between 0.5 and 1: exp of another library, rounded.
ONE_ROUNDING = 2.0**-24


def asked_one_by_one(model: ServedModel, x: Any) -> np.ndarray:
    slot = model.predictor.take()
    found = []
    for row in x:
        slot.row[0] = row
        found.append(slot.ask())
    model.predictor.give(slot)
    return np.array(found, dtype=np.float32)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"n_estimators": 100, "max_depth": 8},
        {"base_score": 0.07},
        {"base_score": 0.5},
        {"scale_pos_weight": 7.0},
        {"n_estimators": 1},
        {"gamma": 1e6},  # every tree is a single leaf
        {"num_parallel_tree": 3, "subsample": 0.5},
        {"max_leaves": 9, "grow_policy": "lossguide"},
        {"monotone_constraints": (1, 0, 0, 0, 0, 0)},
        {"min_child_weight": 0.0, "reg_lambda": 0.0, "learning_rate": 1.0, "n_estimators": 60},
    ],
    ids=str,
)
def test_few_rows_have_the_probabilities_of_xgboost(params: dict[str, Any]) -> None:
    trained = classifier(**params)
    model = served(trained)
    assert isinstance(model.predictor, OnnxPredictor), model.check
    x = rows(3000, seed=9)
    x[:50] = np.nan
    exact = trained.predict_proba(pd.DataFrame(x, columns=list(FEATURES)))[:, 1]
    assert np.abs(asked_one_by_one(model, x) - exact).max() <= ONE_ROUNDING
    for n in (1, 2, FEW_ROWS):
        assert np.abs(model.predictor.probabilities(x[:n]) - exact[:n]).max() <= ONE_ROUNDING
    np.testing.assert_array_equal(model.predictor.probabilities(x), exact)
    assert model.predictor.probabilities(x[:0]).shape == (0,)


def test_a_model_that_stopped_early_is_asked_up_to_its_best_round() -> None:
    x = frame()
    noise = np.random.default_rng(5).integers(0, 2, len(x))
    trained = xgb.XGBClassifier(n_estimators=200, early_stopping_rounds=5, max_depth=3, n_jobs=1)
    trained.fit(x, (x.feature_0.fillna(0) > 0).astype(int), eval_set=[(x, noise)], verbose=False)
    assert trained.best_iteration + 1 < trained.get_booster().num_boosted_rounds()
    model = served(trained)
    np.testing.assert_array_equal(model.predictor.probabilities(rows()), trained.predict_proba(x)[:, 1])
    assert (
        np.abs(asked_one_by_one(model, rows()[:100]) - trained.predict_proba(x.head(100))[:, 1]).max() <= ONE_ROUNDING
    )


@pytest.mark.parametrize("params", [{"booster": "dart"}, {"objective": "reg:squarederror"}], ids=str)
def test_a_model_that_is_not_converted_is_asked_by_xgboost_which_says_so(params: dict[str, Any]) -> None:
    if "objective" in params:
        x = frame()
        trained = xgb.XGBRegressor(n_estimators=3, max_depth=2, n_jobs=1).fit(x, np.full(len(x), 0.4))
        trained.get_booster().set_param({"objective": "reg:logistic"})
    else:
        trained = classifier(**params)
    model = served(trained)
    assert (model.engine, model.check.n_rows) == ("xgboost", 0)
    assert "XGBoost answers: the model has booster" in model.check.reason
    exact = trained.get_booster().inplace_predict(rows(50), missing=np.nan, validate_features=False)
    np.testing.assert_array_equal(model.predictor.probabilities(rows(50)), exact)
    np.testing.assert_array_equal(asked_one_by_one(model, rows(50)), exact)


@pytest.mark.parametrize("engine", ["onnx", "xgboost"])
def test_values_are_filled_in_as_training_prepares_them(engine: str) -> None:
    model = served(classifier() if engine == "onnx" else classifier(booster="dart"))
    assert model.engine == engine
    slot = model.predictor.take()
    for values in (
        (1.0, 2, True, np.float32(0.5), np.int64(3), Decimal("0.1")),
        (math.inf, -math.inf, 1e39, -1e300, math.nan, 1.0),
        (None, pd.NA, pd.NaT, 10**400, 0.0, -0.0),
        (math.nan,) * 6,
        (3e38, 3e38, 3e38, 3e38, 3e38, 3e38),
    ):
        slot.fill(values, FEATURES)
        known = {None: math.nan, pd.NA: math.nan, pd.NaT: math.nan, 10**400: math.inf}
        plain = [float(known.get(value, value)) for value in values]
        np.testing.assert_array_equal(slot.row, prepare_rows([plain]))


@pytest.mark.parametrize("value", ["1.5", b"1", object(), [1.0], 1j, np.complex64(1), pd.Timestamp("2020-01-01")])
def test_what_is_no_number_is_refused_by_its_column(value: object) -> None:
    slot = served(classifier()).predictor.take()
    with pytest.raises(InvalidRows, match=r"^feature_2 is .*, and a number is asked for$"):
        slot.fill((1.0, 1.0, value, 1.0, 1.0, 1.0), FEATURES)  # type: ignore[arg-type]  # what a caller may give


def test_threads_that_ask_at_once_do_not_meet() -> None:
    model = served(classifier())
    x = rows(400, seed=4)
    exact = model.predictor.probabilities(x)

    def ask(place: int) -> float:
        slot = model.predictor.take()
        slot.fill(x[place].tolist(), FEATURES)
        found = slot.ask()
        model.predictor.give(slot)
        return found

    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            found = np.array(list(pool.map(ask, range(len(x)))), dtype=np.float32)
            assert np.abs(found - exact).max() <= ONE_ROUNDING

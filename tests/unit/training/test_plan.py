from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mlops.domain.errors import ConfigurationError, InsufficientData
from mlops.domain.policies import TrainingPolicy
from mlops.domain.training.matrix import FeatureMatrix
from mlops.domain.training.plan import FitPlan, constraints, fit_plan
from mlops.domain.training.splits import split_by_date
from mlops.domain.training.trainer import XGBoostTrainer
from tests.support.models import RecordingControl

FEATURES = ("rsi_14", "beta")
DAYS = np.datetime64("2020-01-01", "D") + np.repeat(np.arange(100), 4)  # 100 dates of 4 names
POLICY = TrainingPolicy(
    horizon_dates=5, embargo_dates=0, holdout_dates=20, validation_dates=10, params={"n_estimators": 20, "max_depth": 3}
)


def rows(*, positive_share: float = 0.5) -> tuple[FeatureMatrix, np.ndarray]:
    generator = np.random.default_rng(5)
    x = generator.normal(size=(400, 2)).astype(np.float32)
    score = -x[:, 0] + 0.5 * generator.normal(size=400)
    matrix = FeatureMatrix(2)
    matrix.append(x)
    return matrix, (score > np.quantile(score, 1 - positive_share)).astype(np.int8)


def plan(positive_share: float = 0.5, **changes: Any) -> FitPlan:
    policy = replace(POLICY, **changes)
    x, y = rows(positive_share=positive_share)
    split = split_by_date(
        DAYS, np.ones(400, dtype=bool), horizon_dates=policy.horizon_dates, holdout_dates=policy.holdout_dates
    )
    return fit_plan(policy, split, x=x, y=y, dates=DAYS, features=FEATURES)


def test_without_early_stopping_all_training_rows_are_fitted() -> None:
    made = plan()
    # 100 dates, 20 held out, and the last label of the training reaches no further than the first of those.
    assert made.n_fitted == (100 - 20 - 5 + 1) * 4
    assert (made.n_validation, made.data.validation, made.params) == (0, None, POLICY.params)


def test_validation_is_the_newest_training_dates_and_no_fitted_label_reaches_into_them() -> None:
    made = plan(early_stopping_rounds=3)
    last_train = 100 - 20 - 5  # its index; held out from 80 on
    first_validation = last_train - 9
    assert made.n_validation == 10 * 4
    assert made.data.dates.max() == DAYS[0] + (first_validation - 5)
    assert made.last_fitted.isoformat() == str(DAYS[0] + (first_validation - 5))
    validation = made.data.validation
    assert validation is not None
    x, _ = rows()
    np.testing.assert_array_equal(validation.x, x[np.isin(DAYS, DAYS[0] + np.arange(first_validation, last_train + 1))])
    assert validation.patience_rounds == 3
    assert len(validation.y) == 40


def test_a_training_too_short_to_keep_dates_back_says_so() -> None:
    with pytest.raises(InsufficientData, match="90 held-out dates"):
        plan(early_stopping_rounds=3, validation_dates=90)


def test_balanced_classes_weigh_the_same() -> None:
    made = plan(positive_share=0.2, class_weight="balanced", early_stopping_rounds=5)
    weight = float(made.params["scale_pos_weight"])
    positive = int(made.data.y.sum())
    assert weight * positive == pytest.approx(len(made.data.y) - positive)
    assert made.data.validation is not None
    assert made.data.validation.positive_weight == weight


def test_a_balanced_fit_speaks_of_a_sample_with_as_many_of_both() -> None:
    # A logistic fit reproduces the weighted share of positives of its own rows: 1/2 when both classes weigh the same.
    def mean_probability(**changes: Any) -> float:
        made = plan(positive_share=0.1, **changes)
        y, p = made.data.y, fit(made).predict_proba(np.asarray(made.data.x))[:, 1]
        weight = np.where(y == 1, (y == 0).sum() / (y == 1).sum(), 1.0)
        return float(np.average(p, weights=weight))

    assert mean_probability(class_weight="balanced") == pytest.approx(0.5, abs=0.03)
    assert mean_probability() < 0.45


def fit(made: FitPlan) -> Any:
    return XGBoostTrainer().fit(
        made.data, params=made.params, seed=1, device="cpu", n_jobs=1, segment_rounds=10, control=RecordingControl()
    )


@pytest.mark.parametrize("direction", [1, -1])
def test_a_constrained_feature_moves_the_probability_one_way_only(direction: int) -> None:
    made = plan(monotone={"rsi_14": direction})
    model = fit(made)
    grid = np.column_stack([np.linspace(-3, 3, 200), np.zeros(200)]).astype(np.float32)
    steps = np.diff(model.predict_proba(grid)[:, 1]) * direction
    assert (steps >= 0).all()
    unconstrained = np.diff(fit(plan()).predict_proba(grid)[:, 1])
    assert unconstrained.min() < 0 < unconstrained.max()  # without it, noise bends it both ways


def test_constraints_are_in_the_order_of_the_features() -> None:
    assert constraints({"c": 1, "a": -1}, ("a", "b", "c")) == "(-1,0,1)"


def test_a_constraint_on_something_that_is_no_feature_is_refused_with_a_guess() -> None:
    with pytest.raises(ConfigurationError, match=r"names 'rsi_41', .* did you mean 'rsi_14'"):
        plan(monotone={"rsi_41": 1})
    with pytest.raises(ConfigurationError, match="the features are rsi_14, beta"):
        plan(monotone={"zzz": 1})


@pytest.mark.parametrize(
    ("params", "policy"),
    [
        ({"scale_pos_weight": 2.0}, {"class_weight": "balanced"}),
        ({"monotone_constraints": "(1,0)"}, {"monotone": {"beta": 1}}),
    ],
)
def test_a_parameter_that_is_set_in_two_places_is_refused(params: dict[str, Any], policy: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="take one out"):
        plan(params=params, **policy)
    assert plan(params=params).params == params

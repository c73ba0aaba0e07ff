"""The plan of a training since a change: how many dates it needs, and what of the policy it keeps."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest

from mlops.domain.policies import TrainingPolicy
from mlops.domain.training.judged_twin import HORIZON_TAG, SINCE_TAG, since_of
from mlops.domain.training.since_change import least_dates, next_dates, policy_since
from mlops.domain.training.splits import labelled_dates, split_by_date

POLICY = TrainingPolicy(folds=5, leak_check=True, early_stopping_rounds=10)


@pytest.mark.parametrize("horizon", [0, 1, 5, 20, 60])
def test_the_least_dates_can_be_split_with_the_labels_horizon_purged(horizon: int) -> None:
    n = least_dates(horizon)
    policy = policy_since(TrainingPolicy(horizon_dates=horizon), n_labelled=n)
    panel = np.arange(np.datetime64("2024-01-01"), np.datetime64("2024-01-01") + n + horizon)
    known = np.isin(panel, labelled_dates(panel, as_of=panel[-1].item(), horizon_dates=horizon))
    split = split_by_date(
        panel,
        known,
        horizon_dates=policy.horizon_dates,
        holdout_dates=policy.holdout_dates,
        embargo_dates=policy.embargo_dates,
    )
    assert (split.first_holdout - split.last_train).days == max(1, horizon)
    assert split.n_train_dates >= 4
    assert split.n_holdout_dates >= 6
    assert split.n_train_dates + split.n_holdout_dates + max(1, horizon) - 1 == n


def test_what_needs_a_longer_history_is_left_out_until_there_is_one() -> None:
    # 2 x 60 held-out dates, a horizon of 20 and an embargo of 5.
    few, enough = (policy_since(POLICY, n_labelled=n) for n in (144, 145))
    assert (few.folds, few.leak_check, few.early_stopping_rounds, few.embargo_dates) == (0, False, None, 0)
    assert few.holdout_dates == 60
    assert few.params == {**POLICY.params, "n_estimators": 30}
    own = replace(POLICY, params={"eta": 0.1}, trainer="own.trainer:Own")
    assert policy_since(own, n_labelled=40).params == {"eta": 0.1}
    # XGBoost grows 100 rounds where none are named.
    assert policy_since(replace(own, trainer="xgboost"), n_labelled=40).params == {"eta": 0.1, "n_estimators": 30}
    assert enough == POLICY


def test_the_next_training_has_an_eighth_more_dates() -> None:
    assert [next_dates(n) for n in (1, 14, 35, 80)] == [2, 16, 40, 90]


def test_a_change_before_the_window_decides_nothing() -> None:
    as_of = date(2024, 3, 10)
    asked: dict[str, Any] = {"label": POLICY.label, "horizon_dates": 20}
    facts = {SINCE_TAG: "2024-03-05", "training_date": "2024-03-04", "label": POLICY.label}
    assert since_of(facts, as_of=as_of, training_days=6, **asked) == date(2024, 3, 5)
    assert since_of(facts, as_of=as_of, training_days=5, **asked) is None
    assert since_of(facts, as_of=date(2024, 3, 4), training_days=730, **asked) is None
    assert since_of({}, as_of=as_of, training_days=730, **asked) is None
    assert since_of({**facts, SINCE_TAG: "soon"}, as_of=as_of, training_days=730, **asked) is None


def test_a_change_that_was_found_later_or_for_another_label_decides_nothing() -> None:
    as_of = date(2024, 3, 10)
    facts = {SINCE_TAG: "2024-03-05", "training_date": "2024-03-10", "label": POLICY.label, HORIZON_TAG: "20"}
    asked: dict[str, Any] = {"as_of": as_of, "training_days": 730, "label": POLICY.label, "horizon_dates": 20}
    assert since_of(facts, **asked) == date(2024, 3, 5)
    for other in ({"training_date": "2024-03-11"}, {"label": "target_return > 1"}, {HORIZON_TAG: "5"}):
        assert since_of({**facts, **other}, **asked) is None

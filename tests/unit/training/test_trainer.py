from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from hypothesis import given
from hypothesis import strategies as st

from mlops.domain.errors import ConfigurationError, SingleClass, UnusableFeatures
from mlops.domain.ports import TrainingData, Validation
from mlops.domain.training.feature_names import encoded_names, feature_names
from mlops.domain.training.importance import contributions, feature_importance
from mlops.domain.training.matrix import FeatureMatrix
from mlops.domain.training.trainer import XGBoostTrainer, load_trainer
from tests.support.models import FEATURES, RecordingControl, Stop, training_data

PARAMS = {"max_depth": 3, "learning_rate": 0.1, "n_estimators": 25, "subsample": 0.8, "colsample_bytree": 0.8}


def fit(control: RecordingControl | None = None, data: TrainingData | None = None, **changes: Any) -> xgb.XGBClassifier:
    options = {"params": PARAMS, "seed": 42, "device": "cpu", "n_jobs": 1, "segment_rounds": 10} | changes
    return XGBoostTrainer().fit(data or training_data(), control=control or RecordingControl(), **options)


def content(model: xgb.XGBClassifier) -> bytes:
    return bytes(model.get_booster().save_raw("ubj"))


@pytest.mark.parametrize("stop_after", [10, 13, 20, 24])
def test_a_resumed_training_gives_the_bytes_of_an_uninterrupted_one(stop_after: int) -> None:
    stopped = RecordingControl(stop_after=stop_after)
    with pytest.raises(Stop):
        fit(stopped)
    resumed = RecordingControl(checkpoint=stopped.checkpoint)
    model = fit(resumed)
    assert content(model) == content(fit())
    assert resumed.progress[0].done == stop_after // 10 * 10 + 1


def test_the_seed_changes_the_model_and_its_repetition_does_not() -> None:
    assert content(fit()) == content(fit())
    assert content(fit()) != content(fit(seed=43))


def test_segments_subsample_differently() -> None:
    # With one seed for all segments, trees 1 and 11 would draw the same rows; then resuming were easy and wrong.
    assert content(fit(segment_rounds=10)) != content(fit(segment_rounds=25))


def test_each_round_is_reported_and_each_border_saved_before_it_is_asked_whether_to_stop() -> None:
    control = RecordingControl()
    fit(control)
    assert [progress.done for progress in control.progress] == list(range(1, 26))
    assert control.progress[-1].total == 25
    assert control.progress[-1].left_s == 0
    assert control.saved == ["rounds-10", "rounds-20", "rounds-25"]
    assert control.checks == 25
    stopped = RecordingControl(stop_after=10)
    with pytest.raises(Stop):
        fit(stopped)
    assert stopped.saved == ["rounds-10"]


@pytest.mark.parametrize("damage", [lambda _: b"", lambda _: b"torn", lambda good: good[:-1], lambda good: good + b" "])
def test_a_torn_checkpoint_costs_its_rounds_and_not_the_training(damage: Callable[[bytes], bytes]) -> None:
    # XGBoost itself aborts the process on such bytes.
    stopped = RecordingControl(stop_after=10)
    with pytest.raises(Stop):
        fit(stopped)
    assert stopped.checkpoint is not None
    control = RecordingControl(checkpoint=("rounds-10", damage(stopped.checkpoint[1])))
    assert content(fit(control)) == content(fit())
    assert control.progress[0].done == 1


def test_a_checkpoint_of_other_features_or_another_segment_length_is_not_used() -> None:
    done = RecordingControl()
    fit(done, segment_rounds=7)  # ends at 25, a border of any length
    with pytest.raises(Stop):
        fit(stopped := RecordingControl(stop_after=7), segment_rounds=7)
    assert content(fit(RecordingControl(checkpoint=stopped.checkpoint))) == content(fit())
    renamed = replace(training_data(), features=("a", "b", "c"))
    control = RecordingControl(checkpoint=done.checkpoint)
    fit(control, data=renamed)
    assert control.progress[0].done == 1


def test_a_finished_checkpoint_needs_no_round() -> None:
    done = RecordingControl()
    model = fit(done)
    again = RecordingControl(checkpoint=done.checkpoint)
    assert content(fit(again)) == content(model)
    assert again.progress == []


def test_the_classifier_predicts_by_feature_name() -> None:
    data = training_data()
    model = fit()
    frame = pd.DataFrame(data.x, columns=list(FEATURES))
    assert model.get_booster().feature_names == list(FEATURES)
    assert model.predict_proba(frame).shape == (400, 2)
    assert set(model.predict(frame)) == {0, 1}
    assert np.mean(model.predict(frame) == data.y) > 0.7
    with pytest.raises(ValueError, match="feature_names mismatch"):
        model.predict(frame.rename(columns={"pe_ratio": "pb_ratio"}))


def test_names_that_xgboost_refuses_are_trained_resumed_and_explained_under_their_own_names() -> None:
    names = ("ret[5]", "rsi<30", "x%5By")
    data = replace(training_data(), features=names)
    stopped = RecordingControl(stop_after=13)
    with pytest.raises(Stop):
        fit(stopped, data)
    resumed = RecordingControl(checkpoint=stopped.checkpoint)
    model = fit(resumed, data)
    assert resumed.progress[0].done == 11  # the checkpoint's features are known again
    assert feature_names(model.get_booster()) == names
    assert model.get_booster().feature_names == ["ret%5B5%5D", "rsi%3C30", "x%255By"]
    plain = {part.feature: part.share for part in feature_importance(fit(), FEATURES)}
    renamed = {part.feature: part.share for part in feature_importance(model, names)}
    assert list(renamed.values()) == list(plain.values())
    assert contributions(model, np.asarray(data.x)[:5], names).features == names


@given(st.text(alphabet="[]<%235BDCEab ", max_size=12))
def test_a_name_is_read_back_as_it_was_and_xgboost_takes_it(name: str) -> None:
    matrix = xgb.DMatrix(np.zeros((2, 1)), label=[0, 1], feature_names=encoded_names([name]))
    booster = xgb.train({"objective": "binary:logistic"}, matrix, num_boost_round=1)
    assert feature_names(booster) == (name,)


def test_the_classifier_keeps_its_parameters() -> None:
    found = fit(n_jobs=1).get_params()
    assert {name: found[name] for name in PARAMS} == PARAMS
    assert (found["n_jobs"], found["random_state"], found["tree_method"]) == (1, 42, "hist")


def test_infinities_are_missing_values() -> None:
    data = training_data()
    infinite, missing = data.x.copy(), data.x.copy()
    infinite[::7, 1] = np.inf
    missing[::7, 1] = np.nan
    assert content(fit(data=replace(data, x=infinite))) == content(fit(data=replace(data, x=missing)))
    assert np.isinf(infinite).any()  # the caller's matrix is left alone


@pytest.mark.parametrize("value", [0, 1])
def test_labels_of_one_class_are_refused(value: int) -> None:
    data = training_data()
    with pytest.raises(SingleClass, match=f"all 400 training labels are {value}"):
        fit(data=replace(data, y=np.full(400, value, dtype=np.int8)))


@pytest.mark.parametrize("fill", [1.0, np.nan, np.inf])
def test_features_that_do_not_vary_are_refused(fill: float) -> None:
    data = training_data()
    with pytest.raises(UnusableFeatures, match="none of the 3 features varies"):
        fit(data=replace(data, x=np.full_like(data.x, fill)))


def test_one_varying_feature_is_enough() -> None:
    data = training_data()
    x = np.full_like(data.x, np.nan)
    x[:, 0] = data.x[:, 0]
    assert fit(data=replace(data, x=x)).n_features_in_ == 3


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"max_dept": 3}, "did you mean 'max_depth'"),
        ({"seed": 3}, "the policy's `seed`"),
        ({"n_jobs": 3}, "ACIS_TRAIN_N_JOBS"),
        ({"n_estimators": 0}, "n_estimators is a whole number, 1 to 100,000"),
        ({"missing": -999.0}, "what is missing is NULL"),
    ],
)
def test_parameters_that_would_be_ignored_are_refused(params: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        fit(params=params)


def test_the_default_trainer_has_a_name_and_others_a_path() -> None:
    assert isinstance(load_trainer("xgboost"), XGBoostTrainer)
    assert isinstance(load_trainer("mlops.domain.training.trainer:XGBoostTrainer"), XGBoostTrainer)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lightgbm", "write `xgboost` or"),
        ("mlops.nowhere:Trainer", "cannot be made"),
        ("mlops.domain.training.trainer:Nobody", "cannot be made"),
        ("datetime:date", "cannot be made"),
        ("builtins:dict", "no method `fit`"),
    ],
)
def test_a_trainer_that_is_none_is_refused(name: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        load_trainer(name)


def in_a_file(x: np.ndarray, *, block: int = 90) -> FeatureMatrix:
    matrix = FeatureMatrix(x.shape[1], in_memory_bytes=0)
    for start in range(0, len(x), block):
        matrix.append(x[start : start + block])
    return matrix


@pytest.mark.parametrize("n", [400, 40_000])
def test_rows_that_are_streamed_give_the_bytes_of_the_same_rows_in_one_array(n: int) -> None:
    # 40,000 rows are three blocks; values of two digits, so that the sketch holds every distinct one.
    data = training_data(n)
    x = np.round(np.asarray(data.x), 2)
    x[::11, 1] = np.nan
    x[::13, 2] = np.inf
    keep = np.arange(n) % 5 != 0
    kept = {"y": data.y[keep], "dates": data.dates[keep]}
    one = fit(data=replace(data, x=x[keep], **kept))
    streamed = fit(data=replace(data, x=in_a_file(x, block=9_000).where(keep), **kept))
    assert content(streamed) == content(one)
    # A wrong order of rows or labels shows.
    shuffled = fit(data=replace(data, x=in_a_file(x[::-1].copy(), block=9_000).where(keep), **kept))
    assert content(shuffled) != content(one)


def test_streamed_rows_are_checked_for_features_that_vary_in_a_later_block() -> None:
    x = np.ones((50_000, 3), dtype=np.float32)
    y = (np.arange(50_000) % 2).astype(np.int8)
    data = replace(training_data(), x=in_a_file(x, block=5_000), y=y)
    with pytest.raises(UnusableFeatures, match="none of the 3 features varies"):
        fit(data=data)
    x[49_000:, 1] = 2.0
    fit(data=replace(data, x=in_a_file(x, block=5_000)), params={"n_estimators": 1})


def test_a_training_is_told_to_stop_while_its_rows_are_streamed() -> None:
    class StoppedAtOnce(RecordingControl):
        def check(self) -> None:
            raise Stop

    data = training_data()
    control = StoppedAtOnce()
    with pytest.raises(Stop):
        fit(control, data=replace(data, x=in_a_file(np.asarray(data.x))))
    assert control.progress == []


def noisy(*, patience: int = 4) -> TrainingData:
    """A signal that is learnt in a few rounds, and noise enough to overfit after them."""
    whole = training_data(600)
    x = np.asarray(whole.x)
    validation = Validation(x=x[400:], y=whole.y[400:], patience_rounds=patience)
    return replace(whole, x=x[:400], y=whole.y[:400], dates=whole.dates[:400], validation=validation)


EAGER = PARAMS | {"learning_rate": 0.5, "n_estimators": 40}


def best_round_by_hand(data: TrainingData, model_of: Callable[[int], xgb.XGBClassifier], rounds: int) -> int:
    """The round with the least validation log loss, from models of so many rounds each."""
    assert data.validation is not None
    losses = []
    for n in range(1, rounds + 1):
        p = model_of(n).predict_proba(np.asarray(data.validation.x))[:, 1].astype(np.float64)
        y = data.validation.y
        losses.append(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))
    return int(np.argmin(losses)) + 1


def test_boosting_stops_and_the_model_ends_with_its_best_round() -> None:
    data = noisy()
    control = RecordingControl()
    model = fit(control, data=data, params=EAGER)
    best = model.get_booster().num_boosted_rounds()
    assert control.progress[-1].done == best + 4 < 40

    def without_stopping(n: int) -> xgb.XGBClassifier:
        return fit(data=replace(data, validation=None), params=EAGER | {"n_estimators": n})

    assert best == best_round_by_hand(data, without_stopping, best + 4)
    assert model.best_iteration == best - 1
    assert model.get_booster().trees_to_dataframe().equals(without_stopping(best).get_booster().trees_to_dataframe())


@pytest.mark.parametrize("segment_rounds", [2, 3])
def test_a_resumed_training_stops_at_the_round_of_an_uninterrupted_one(segment_rounds: int) -> None:
    # Patience is longer than a segment, so the best round lies behind a border where the training was resumed.
    data = noisy(patience=5)
    whole = fit(data=data, params=EAGER, segment_rounds=segment_rounds)
    control = RecordingControl(stop_after=segment_rounds)
    resumed = None
    for stop_after in range(segment_rounds, 40, segment_rounds):
        control = RecordingControl(checkpoint=control.checkpoint, stop_after=stop_after)
        try:
            resumed = fit(control, data=data, params=EAGER, segment_rounds=segment_rounds)
            break
        except Stop:
            continue
    assert resumed is not None
    assert content(resumed) == content(whole)


def test_a_patience_that_never_runs_out_keeps_the_best_round_too() -> None:
    data = noisy(patience=100)
    control = RecordingControl()
    model = fit(control, data=data, params=EAGER)
    assert control.progress[-1].done == 40
    assert model.get_booster().num_boosted_rounds() < 40


@pytest.mark.parametrize("stop_after", [17, 20, 24])
def test_a_continued_training_keeps_the_bases_trees_and_gives_the_same_bytes_when_resumed(stop_after: int) -> None:
    base = content(fit(params=PARAMS | {"n_estimators": 7}))
    data = replace(training_data(seed=8), base=base)
    stopped = RecordingControl(stop_after=stop_after)
    with pytest.raises(Stop):
        fit(stopped, data)
    whole = fit(data=data)
    assert content(fit(RecordingControl(checkpoint=stopped.checkpoint), data)) == content(whole)
    assert whole.get_booster().get_dump()[:7] == xgb.Booster(model_file=bytearray(base)).get_dump()
    assert whole.get_booster().num_boosted_rounds() == 25


def test_a_base_that_stopped_early_does_not_hide_the_trees_that_are_added() -> None:
    data = training_data()
    held = training_data(seed=11)
    stops = replace(data, validation=Validation(x=held.x, y=held.y, patience_rounds=2))
    base = fit(data=stops, params=PARAMS | {"n_estimators": 25})
    rounds = base.get_booster().num_boosted_rounds()
    more = fit(data=replace(data, base=content(base)), params=PARAMS | {"n_estimators": rounds + 5})
    x = np.asarray(data.x)
    assert not np.allclose(more.predict_proba(x), base.predict_proba(x))
    assert np.allclose(more.predict_proba(x), more.predict_proba(x, iteration_range=(0, rounds + 5)))


def test_a_model_cannot_be_continued_to_fewer_rounds_than_it_has() -> None:
    data = replace(training_data(), base=content(fit()))
    with pytest.raises(ConfigurationError, match="25 rounds cannot be continued to 25"):
        fit(data=data)

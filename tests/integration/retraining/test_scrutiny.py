"""Folds, the random split and findings in the train stage, and the promotion that a finding holds back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlops.domain.errors import ConfigurationError, StageCancelled
from mlops.domain.ports import Progress, TrainedModel, TrainingControl, TrainingData
from mlops.domain.records import Grant, Kind, RunState, Stage, StageOutcome
from mlops.domain.training.trainer import XGBoostTrainer
from mlops.reporting.narrative import train_lines
from mlops.runs.request import run_request
from mlops.stages.fitting import SideControl
from mlops.stages.promote import promote
from mlops.stages.train import train
from tests.support.models import RecordingControl
from tests.support.services import LAST, MODEL, N_DATES, TICKERS, FakeServices, panel, small_strategy

LEAK = "single_feature_predicts_label:leak"


def trained(services: FakeServices, **asked: Any) -> tuple[Grant, StageOutcome]:
    grant = services.granted(Kind.TRAIN, Stage.TRAIN, **asked)
    outcome = train(grant, services, services.keeper(grant))
    services.ledger.finish(grant, outcome)
    return grant, outcome


def decided(services: FakeServices) -> StageOutcome:
    grant = services.granted(Kind.PROMOTE, Stage.PROMOTE)
    outcome = promote(grant, services, services.keeper(grant))
    services.ledger.finish(grant, outcome)
    return outcome


def leaking() -> pa.Table:
    """The panel with a column that is the sign of the return to come, blurred a little."""
    table = panel()
    target = table.column("target_return").to_numpy()
    return table.append_column(
        "leak", pa.array(np.sign(target) + np.random.default_rng(2).normal(size=len(target)) / 3)
    )


class NoCheckpoints(XGBoostTrainer):
    """The default trainer, which counts the trainings and what they were given to resume from."""

    resumed: list[Any] = []  # noqa: RUF012 -- made anew by each training, read by the test

    def fit(self, data: TrainingData, *, control: TrainingControl, **how: Any) -> Any:
        NoCheckpoints.resumed.append(type(control).__name__)
        return super().fit(data, control=control, **how)


class CancelledInItsSecondTraining(XGBoostTrainer):
    n = 0

    def fit(self, data: TrainingData, **how: Any) -> Any:
        CancelledInItsSecondTraining.n += 1
        if CancelledInItsSecondTraining.n == 2:
            raise StageCancelled
        return super().fit(data, **how)


def test_no_fold_is_trained_unless_asked_for(services: FakeServices) -> None:
    NoCheckpoints.resumed.clear()
    services.with_policy(training=replace(small_strategy().training, trainer=f"{__name__}:NoCheckpoints"))
    _, outcome = trained(services)
    assert "folds" not in outcome.result
    assert "random_split" not in outcome.result
    assert NoCheckpoints.resumed == ["BoundControl"]


def test_folds_lie_before_the_held_out_dates_and_are_logged_as_a_table_and_as_metrics(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[tuple[TrainedModel, str]] = []
    log_training = services.fake_registry.log_training

    def watched(record: TrainedModel, **_: Any) -> Any:
        logged.append((record, Path(record.artifacts["folds.csv"]).read_text()))
        return log_training(record)

    monkeypatch.setattr(services.fake_registry, "log_training", watched)
    _, outcome = trained(services, folds=3)
    folds = outcome.result["folds"]
    assert [fold["fold"] for fold in folds] == [1, 2, 3]
    assert folds[-1]["test_end"] == outcome.result["train_end"]
    # 171 dates may be trained on (200 less 5 unknown, 20 held out, 4 purged); 85 of them make 3 pieces of 28.
    assert all(fold["n_test"] == 28 * TICKERS for fold in folds)
    assert all(0.7 < fold["accuracy"] < 1 for fold in folds)  # the sign of momentum is right in 0.85
    ((record, table),) = logged
    assert table.splitlines()[0].startswith("fold,train_start,train_end,test_start,test_end,n_train,n_test,accuracy")
    mean = sum(fold["accuracy"] for fold in folds) / 3
    assert record.metrics["fold_accuracy_mean"] == pytest.approx(mean, abs=1e-6)
    assert outcome.result["metrics"]["fold_count"] == 3


def test_a_second_grant_says_the_same_of_folds_split_and_findings(services: FakeServices) -> None:
    services.with_source(leaking())
    grant = services.granted(Kind.TRAIN, Stage.TRAIN, folds=2, leak_check=True)
    first = train(grant, services, services.keeper(grant))
    assert train(grant, services, services.keeper(grant)).result == first.result
    assert {"folds", "random_split", "findings"} <= set(first.result)


def test_too_short_a_history_for_folds_is_a_note_and_the_version_is_there(services: FakeServices) -> None:
    services.with_source(panel(n_dates=40))
    _, outcome = trained(services, folds=9)
    assert "folds" not in outcome.result
    (note,) = outcome.result["notes"]
    assert note.startswith("no stability table: 9 folds need")
    assert f"Note: {note}" in train_lines(outcome.result)
    assert services.registry.version(MODEL, "1").stage == "Staging"


def test_a_metric_that_could_not_be_measured_is_said(services: FakeServices) -> None:
    services.with_policy(training=replace(small_strategy().training, metrics={"own": "no_such_module:metric"}))
    _, outcome = trained(services)
    assert outcome.result["notes"][0].startswith("own is left out: metric own: no_such_module:metric cannot be")


def test_side_trainings_stop_with_the_run_and_keep_no_checkpoint(services: FakeServices) -> None:
    NoCheckpoints.resumed.clear()
    services.with_policy(training=replace(small_strategy().training, trainer=f"{__name__}:NoCheckpoints"))
    trained(services, folds=2, leak_check=True)
    assert NoCheckpoints.resumed == ["BoundControl", "SideControl", "SideControl", "SideControl"]
    CancelledInItsSecondTraining.n = 0
    services.with_policy(
        training=replace(small_strategy().training, trainer=f"{__name__}:CancelledInItsSecondTraining", folds=2)
    )
    grant = services.granted(Kind.TRAIN, Stage.TRAIN)
    with pytest.raises(StageCancelled):
        train(grant, services, services.keeper(grant))
    assert len(services.registry.versions(MODEL)) == 1  # of the first training


def test_a_side_training_reports_the_progress_of_all_and_resumes_nothing() -> None:
    main = RecordingControl(checkpoint=("rounds-5", b"main"))
    side = SideControl(main, number=1, total=3, unit="rounds of folds")
    side.report(Progress(done=4, total=10, left_s=2.0))
    side.save_checkpoint("rounds-10", b"fold")
    side.check()
    assert main.progress == [Progress(done=14, total=30, unit="rounds of folds")]
    assert (main.checkpoint, main.saved, main.checks) == (("rounds-5", b"main"), [], 1)
    assert side.load_checkpoint() is None


def test_the_random_split_is_measured_where_asked_and_the_version_is_tagged_with_the_gap(
    services: FakeServices,
) -> None:
    _, outcome = trained(services, leak_check=True)
    split = outcome.result["random_split"]
    assert split["honest_accuracy"] == pytest.approx(outcome.result["metrics"]["accuracy"], abs=1e-6)
    # Labels of this panel do not overlap: the random split promises no more than the dates keep.
    assert abs(split["gap"]) < 0.1
    assert services.registry.version(MODEL, "1").tags["random_split_gap"] == f"{split['gap']:+.3f}"
    assert outcome.result["metrics"]["random_split_accuracy"] == pytest.approx(split["accuracy"], abs=1e-6)
    assert any(line.startswith("A random split shows an accuracy of") for line in train_lines(outcome.result))


def test_overlapping_labels_without_skill_give_the_gap_away(services: FakeServices) -> None:
    # Each name keeps its label for 20 days, and two features say which day and which name a row is.
    generator = np.random.default_rng(4)
    columns = {
        "target_return": generator.choice([-0.1, 0.1], size=(N_DATES // 20, TICKERS)).repeat(20, axis=0).ravel(),
        "momentum": np.arange(N_DATES, dtype=float).repeat(TICKERS),
        "value": np.tile(np.arange(TICKERS, dtype=float), N_DATES),
    }
    table = panel()
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    services.with_source(table)
    params = {"n_estimators": 100, "max_depth": 6}
    services.with_policy(training=replace(small_strategy().training, horizon_dates=20, params=params))
    _, outcome = trained(services, leak_check=True)
    split = outcome.result["random_split"]
    assert split["gap"] > 0.15
    assert "random_split_gap" in [one["code"] for one in outcome.result["findings"]]
    assert split["honest_accuracy"] <= split["majority_accuracy"]


def test_a_feature_that_predicts_the_label_alone_blocks_promotion_by_name_until_it_is_accepted(
    services: FakeServices,
) -> None:
    services.with_source(leaking())
    _, outcome = trained(services)
    codes = [found["code"] for found in outcome.result["findings"]]
    assert LEAK in codes
    assert any(line.endswith(f"[{LEAK}]") for line in train_lines(outcome.result))
    refused = decided(services)
    assert refused.run_state is RunState.REFUSED
    assert refused.result["reasons"][0].startswith("findings that nobody accepted: ")
    assert LEAK in refused.result["reasons"][1]
    trained(services)
    services.with_policy(promotion=replace(small_strategy().promotion, accepted_findings=tuple(codes)))
    accepted = decided(services)
    assert (accepted.run_state, accepted.result["decision"]) == (RunState.SUCCEEDED, "promote")


def test_a_feature_that_is_the_labels_own_column_is_found_though_the_label_asks_about_more(
    services: FakeServices,
) -> None:
    # Next volatility above trailing volatility: alone, next volatility does not rank the label well.
    generator = np.random.default_rng(6)
    n = N_DATES * TICKERS
    trailing = np.exp(generator.normal(size=n))
    ahead = trailing * np.exp(generator.normal(size=n))
    table = panel()
    for name, values in {"trailing": trailing, "target_vol": ahead, "smooth_vol": np.sqrt(ahead)}.items():
        table = table.append_column(name, pa.array(values))
    services.with_source(table)
    services.with_policy(training=replace(small_strategy().training, label="target_vol > trailing"))
    _, outcome = trained(services)
    (one,) = outcome.result["findings"]
    assert one["code"] == "target_like_column:smooth_vol"
    assert "moves like target_vol: rank correlation +1.000" in one["words"]


def test_an_honest_training_has_no_finding_and_is_promoted(services: FakeServices) -> None:
    _, outcome = trained(services)
    assert outcome.result["findings"] == []
    assert decided(services).result["decision"] == "promote"


@pytest.mark.parametrize("folds", [-1, 21])
def test_a_number_of_folds_that_cannot_be_made_is_refused_before_the_run(services: FakeServices, folds: int) -> None:
    with pytest.raises(ConfigurationError, match=f"{folds} folds cannot be made; give 0"):
        run_request(services.strategies, "growth", Kind.TRAIN, reason="t", requested_by="t", folds=folds, as_of=LAST)

"""Newly known labels that a champion gets wrong: what is said, what is trained on which dates, and who replaces whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from structlog.testing import capture_logs
from xgboost.core import XGBoostError

from mlops.domain.errors import InsufficientData, UnusableModelFile
from mlops.domain.policies import DriftPolicy, FindingsPolicy, PromotionPolicy
from mlops.domain.promotion.evidence import replay
from mlops.domain.records import Executor, Grant, Kind, RunState, Stage, StageOutcome
from mlops.domain.training.judged_twin import SINCE_TAG
from mlops.domain.training.since_change import least_dates, next_dates
from mlops.drift_detection.drift_detector import monitor_drift_and_alert
from mlops.features.parquet import ParquetFeatures
from mlops.reporting.narrative import retrain_reason, stage_lines, why
from mlops.reporting.page.render import render_page
from mlops.runs.inline import run_inline
from mlops.runs.request import run_request
from mlops.stages.drift import check_drift
from mlops.stages.promote import promote
from mlops.stages.train import train
from tests.support.ledgers import decision_for, promoting
from tests.support.models import trained_model
from tests.support.services import FIRST, LAST, MODEL, FakeServices, panel, small_strategy

DAY = timedelta(days=1)
TRAINED_ON, CHANGED_ON = FIRST + 120 * DAY, FIRST + 140 * DAY
HORIZON = 5
LEAST = least_dates(HORIZON)
CALM = DriftPolicy(rule="raw", psi_significant=5.0)


def changed(on: date = CHANGED_ON, table: pa.Table | None = None) -> pa.Table:
    """The panel, in which what went up with `momentum` goes down with it from a date on."""
    table = panel() if table is None else table
    days = np.asarray(table.column("date").to_numpy(), dtype="datetime64[D]")
    target = np.where(days >= np.datetime64(on), -1.0, 1.0) * table.column("target_return").to_numpy()
    return table.set_column(table.column_names.index("target_return"), "target_return", pa.array(target))


@pytest.fixture(autouse=True)
def _champion(services: FakeServices) -> None:
    """A refitted champion of the time before the change."""
    services.with_policy(
        training=replace(small_strategy().training, refit=True),
        drift=CALM,
        findings=FindingsPolicy(single_feature_auc=0.99),
    )
    services.with_source(changed())
    assert run(services, Kind.RETRAIN, TRAINED_ON).result["promoted"]


STAGES = {Stage.DRIFT: check_drift, Stage.TRAIN: train, Stage.PROMOTE: promote}


def stages(services: FakeServices, kind: Kind, as_of: date, **asked: Any) -> Iterator[tuple[Grant, StageOutcome]]:
    """The stages of a run as of a date, one after the other."""
    first = Stage.DRIFT if kind in (Kind.PIPELINE, Kind.CHECK) else Stage.TRAIN
    grant = services.granted(kind, first, as_of=as_of, **asked)
    while True:
        outcome = STAGES[grant.stage](grant, services, services.keeper(grant))
        services.ledger.finish(grant, outcome)
        yield grant, outcome
        if outcome.next_stage is None:
            return
        grant = services.claimed(grant.run_id, outcome.next_stage)


def run(services: FakeServices, kind: Kind, as_of: date, **asked: Any) -> StageOutcome:
    """The last stage's outcome."""
    return list(stages(services, kind, as_of, **asked))[-1][1]


def watched(services: FakeServices, as_of: date) -> dict[str, Any]:
    return dict(run(services, Kind.CHECK, as_of).result["label_watch"])


def day_with(n_labelled: int, since: date = CHANGED_ON) -> date:
    """The day on which so many dates from a date on have labels."""
    return since + (n_labelled - 1 + HORIZON) * DAY


def test_a_changed_relation_replaces_the_champion_by_one_that_learnt_the_new_one(services: FakeServices) -> None:
    day = day_with(LEAST)
    (_, check), (_, trained), (_, decided) = stages(services, Kind.PIPELINE, day)
    assert (check.result["retrain_reason"], check.next_stage) == ("labels", Stage.TRAIN)
    assert check.result["label_watch"]["change_at"] == CHANGED_ON.isoformat()
    result = trained.result
    assert result[SINCE_TAG] == result["train_start"] == CHANGED_ON.isoformat()
    assert result["train_end"] == (day - HORIZON * DAY).isoformat()
    # 14 labelled dates: 4 to train on, the horizon from the last of them to the first of 6 that are held out.
    assert result["twin"]["train_end"] == (CHANGED_ON + 3 * DAY).isoformat()
    assert result["holdout_start"] == (CHANGED_ON + 8 * DAY).isoformat()
    assert decided.result["decision"] == "promote", decided.result["reasons"]
    assert services.ledger.champion("growth").version == "2"
    assert services.registry.version(MODEL, "2").tags[SINCE_TAG] == CHANGED_ON.isoformat()
    promotion = services.ledger.promotions("growth", limit=1)[0]
    # The champion's dates after its twin's last one, a horizon later, up to the change.
    n_before = (CHANGED_ON - (TRAINED_ON - 24 * DAY)).days
    assert promotion.evidence["test"]["n_dates_before"] == n_before
    again = replay(promotion.evidence, promotion.evidence_digest)
    assert again is not None
    assert again.agrees


def test_an_inline_run_over_parquet_replaces_the_champion(services: FakeServices, tmp_path: Path) -> None:
    pq.write_table(changed(), tmp_path / "features.parquet")
    vars(services)["source"] = ParquetFeatures(tmp_path / "features.parquet")
    asked = {"reason": "a test", "requested_by": "test", "as_of": day_with(LEAST)}
    request = run_request(services.strategies, "growth", Kind.PIPELINE, executor=Executor.INLINE, **asked)
    view = run_inline(services, request, on_accept=lambda _: None, on_stage=lambda *_: None)
    assert (view.state, [one.stage for one in view.stages]) == (
        RunState.SUCCEEDED,
        [Stage.DRIFT, Stage.TRAIN, Stage.PROMOTE],
    )
    assert services.ledger.champion("growth").version == "2"


def test_what_was_found_is_told_where_a_check_is_shown(services: FakeServices) -> None:
    *_, (grant, _) = stages(services, Kind.PIPELINE, day_with(LEAST))
    view = services.ledger.run(grant.run_id)
    lines = [line for stage in view.stages for line in stage_lines("growth", view.kind, stage)]
    assert any("Labels: newly known labels contradict the model since 2020-05-20" in line for line in lines)
    assert any(
        "changed at 2020-05-20 for growth. Starting retraining on the dates since then" in line for line in lines
    )
    assert any(line.startswith("Rows from 2020-05-20 on") for line in lines)
    assert why(view)[0].startswith("It retrained because the relation of features and label changed at 2020-05-20")
    assert "the features' verdict is stable" in why(view)[0]
    page = render_page(services.ledger.stored_report(grant.run_id).document)
    assert "What newly known labels say of the champion" in page
    assert "<i>bound</i>" in page
    assert "<i>found</i>" in page


def test_a_training_waits_until_enough_dates_since_the_change_have_labels(services: FakeServices) -> None:
    outcome = run(services, Kind.PIPELINE, day_with(LEAST - 1))
    assert (outcome.next_stage, outcome.run_state, outcome.result["retrain_reason"]) == (None, RunState.SUCCEEDED, None)
    words = outcome.result["label_watch"]["retrain_words"]
    assert words in retrain_reason(outcome.result, "growth")
    assert words == "13 dates since 2020-05-20 have labels, and a training needs 14: it waits for 1 more"


def test_a_check_knows_no_label_before_its_horizon_has_passed(services: FakeServices) -> None:
    assert (
        watched(services, CHANGED_ON + (HORIZON - 1) * DAY)["n_dates"] == (CHANGED_ON - TRAINED_ON).days + HORIZON - 1
    )
    as_of = day_with(LEAST)
    later = watched(services, as_of)
    table = changed()
    services.with_source(table.filter(pc.less_equal(table.column("date"), pa.scalar(as_of, pa.date32()))))
    assert watched(services, as_of) == later


def test_a_relation_that_stays_opens_nothing(services: FakeServices) -> None:
    services.with_source(panel())
    outcome = run(services, Kind.PIPELINE, LAST)
    watch = outcome.result["label_watch"]
    assert (watch["fired_on"], watch["retrain"], outcome.next_stage) == (None, False, None)
    assert watch["n_dates"] == (LAST - TRAINED_ON).days


def test_one_retraining_follows_a_change_until_an_eighth_more_labels_are_known(services: FakeServices) -> None:
    services.with_policy(promotion=PromotionPolicy(min_accuracy=0.99))
    assert not run(services, Kind.PIPELINE, day_with(LEAST)).result["promoted"]
    services.with_policy(drift=replace(CALM, cooldown_days=365))  # of drift, which has its own
    again = next_dates(LEAST)
    outcome = run(services, Kind.PIPELINE, day_with(again - 1))
    assert outcome.next_stage is None
    assert f"another training follows at {again}" in outcome.result["label_watch"]["retrain_words"]
    assert not run(services, Kind.PIPELINE, day_with(again)).result["promoted"]
    assert [one.version for one in services.registry.versions(MODEL)] == ["3", "2", "1"]


def test_nothing_follows_while_a_version_waits_for_a_person(services: FakeServices) -> None:
    services.with_policy(promotion=PromotionPolicy(min_accuracy=0.6, approval="manual"))
    assert run(services, Kind.PIPELINE, day_with(LEAST)).run_state is RunState.AWAITING_APPROVAL
    outcome = run(services, Kind.CHECK, day_with(next_dates(LEAST)))
    assert "waits for a person's approval" in outcome.result["label_watch"]["retrain_words"]


def test_a_worker_that_dies_after_the_check_or_the_training_leaves_one_version_of_the_same_dates(
    services: FakeServices,
) -> None:
    grant, _ = next(iter(stages(services, Kind.PIPELINE, day_with(LEAST))))
    services.with_policy(training=small_strategy().training, drift=DriftPolicy())  # the run has a policy of its own
    lost = services.claimed(grant.run_id, Stage.TRAIN)
    first = train(lost, services, services.keeper(lost)).result
    services.ledger.release(lost, cause="the worker was stopped")
    claimed = services.claimed(grant.run_id, Stage.TRAIN)
    second = train(claimed, services, services.keeper(claimed)).result
    assert second == first
    assert (first[SINCE_TAG], first["version"]) == (CHANGED_ON.isoformat(), "2")
    assert len(services.registry.versions(MODEL)) == 2


def test_later_trainings_begin_at_the_change_too_until_the_window_has_passed_it(services: FakeServices) -> None:
    assert run(services, Kind.PIPELINE, day_with(LEAST)).result["promoted"]
    trained = run(services, Kind.TRAIN, LAST, incremental=True).result
    assert trained["train_start"] == CHANGED_ON.isoformat()
    assert "so it was trained in full" in trained["warnings"][0]
    # 55 labelled dates are enough for the policy's own 20 held out.
    assert (date.fromisoformat(trained["holdout_end"]) - date.fromisoformat(trained["holdout_start"])).days == 19
    services.with_policy(training=replace(small_strategy().training, training_days=(LAST - CHANGED_ON).days))
    assert run(services, Kind.TRAIN, LAST).result[SINCE_TAG] is None


def test_a_check_says_that_a_retraining_is_needed_and_what_a_pipeline_would_do(services: FakeServices) -> None:
    result = run(services, Kind.CHECK, day_with(LEAST)).result
    assert (result["retrain"], result["retrain_reason"], result["episode"]) == (True, "labels", None)
    words = f"a check trains nothing; a pipeline would open a training on the dates since {CHANGED_ON}"
    assert result["label_watch"]["retrain_words"].startswith(words)


def test_the_documented_function_says_that_a_retraining_is_needed(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.services.connect", lambda: services)
    assert monitor_drift_and_alert("growth", as_of=day_with(LEAST))
    assert not monitor_drift_and_alert("growth", as_of=day_with(LEAST - 1))


def test_labels_open_the_training_where_features_drift_too_and_it_counts_as_a_retraining_of_drift(
    services: FakeServices,
) -> None:
    services.with_policy(drift=DriftPolicy(rule="raw", alert_share=0.01, psi_moderate=1e-6, psi_significant=1e-6))
    (grant, check), (_, trained), _ = stages(services, Kind.PIPELINE, day_with(LEAST))
    assert (check.result["retrain_reason"], check.result["drifted"]) == ("labels", True)
    assert check.result["episode"]["retrain"]
    assert trained.result[SINCE_TAG] == CHANGED_ON.isoformat()
    assert f"the features' verdict is {check.result['verdict']}" in why(services.ledger.run(grant.run_id))[0]
    later = run(services, Kind.CHECK, day_with(LEAST + 1)).result
    assert (later["drifted"], later["retrain"]) == (True, False)
    assert day_with(LEAST).isoformat() in later["episode"]["retrained"]


def test_a_change_that_is_told_again_each_day_is_warned_of_once(services: FakeServices) -> None:
    fired_on = date.fromisoformat(watched(services, day_with(LEAST))["fired_on"])
    with capture_logs() as first:
        run(services, Kind.PIPELINE, fired_on)
    with capture_logs() as second:
        run(services, Kind.PIPELINE, fired_on + DAY)
    told = [[one["log_level"] for one in logs if one["event"] == "labels.changed"] for logs in (first, second)]
    assert told == [["warning"], ["info"]]


def test_a_training_as_of_before_the_champions_or_for_another_label_takes_the_policys_window(
    services: FakeServices,
) -> None:
    assert run(services, Kind.PIPELINE, day_with(LEAST)).result["promoted"]
    assert run(services, Kind.TRAIN, day_with(LEAST) - DAY).result[SINCE_TAG] is None
    training = services.strategies["growth"].training
    for other in ({"label": "target_return > 0.001"}, {"horizon_dates": HORIZON + 1}):
        services.with_policy(training=replace(training, **other))
        assert run(services, Kind.TRAIN, LAST).result[SINCE_TAG] is None


def test_a_forced_training_before_there_are_enough_dates_has_the_policys_window_and_the_labels_own_follows(
    services: FakeServices,
) -> None:
    day = day_with(LEAST - 4)
    assert watched(services, day)["fired_on"] is not None
    *_, (_, trained), (_, decided) = stages(services, Kind.RETRAIN, day)
    assert (trained.result[SINCE_TAG], decided.result["promoted"]) == (None, False)
    outcome = run(services, Kind.PIPELINE, day_with(LEAST))
    assert (outcome.result["promoted"], services.ledger.champion("growth").version) == (True, "3")


def test_parameters_are_not_searched_on_too_few_dates_since_a_change(services: FakeServices) -> None:
    vars(services)["studies"] = SimpleNamespace(delete=lambda _: None)
    assert run(services, Kind.PIPELINE, day_with(LEAST)).result["promoted"]
    search = {"max_depth": [2, 4]}
    services.with_policy(training=replace(services.strategies["growth"].training, search=search))
    trained = run(services, Kind.TRAIN, day_with(LEAST + 3), tune=2).result
    assert (trained[SINCE_TAG], "tuning" in trained) == (CHANGED_ON.isoformat(), False)
    assert "too few to search parameters on" in trained["warnings"][0]


def test_a_person_who_brings_the_champion_back_is_not_overruled(services: FakeServices) -> None:
    before = services.ledger.champion("growth")
    assert run(services, Kind.PIPELINE, day_with(LEAST)).result["promoted"]
    seq = services.ledger.champion("growth").seq
    back = decision_for("1", decision="rollback", expected_seq=seq, identity=before.identity, actor="a person")
    services.ledger.decide(promoting(services.ledger), back)
    outcome = run(services, Kind.PIPELINE, LAST)
    assert (outcome.next_stage, outcome.result["retrain"]) == (None, False)
    assert "a person brought the champion before it back" in outcome.result["label_watch"]["retrain_words"]


def test_a_model_that_xgboost_refuses_to_score_fails_no_check(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise XGBoostError("these features are of another shape")

    monkeypatch.setattr("mlops.stages.live.label_watch.positive_probability", refuse)
    assert "these features are of another shape" in watched(services, day_with(LEAST))["why_not"]


def test_a_champion_that_was_judged_itself_is_watched_after_what_it_held_out(services: FakeServices) -> None:
    services.with_policy(training=small_strategy().training, promotion=PromotionPolicy(comparison="gates"))
    assert run(services, Kind.RETRAIN, CHANGED_ON).result["promoted"]
    watch = watched(services, day_with(LEAST))
    assert (watch["version"], watch["change_at"]) == ("2", CHANGED_ON.isoformat())
    assert watch["n_dates"] == (day_with(LEAST) - CHANGED_ON).days


def test_what_keeps_labels_from_being_told_is_said_and_fails_no_check(services: FakeServices) -> None:
    day = day_with(LEAST)
    services.with_source(changed().drop_columns(["target_return"]))
    assert "the feature view lacks target_return" in watched(services, day)["why_not"]
    services.with_source(changed())
    assert "would know what came after" in watched(services, TRAINED_ON - DAY)["why_not"]
    services.with_policy(drift=replace(CALM, label_alpha=0.0))
    assert "drift.label_alpha is 0" in watched(services, day)["why_not"]


def test_a_champion_without_a_training_of_this_ledger_cannot_be_watched(services: FakeServices) -> None:
    services.registry.log_training(trained_model("by-hand"))
    identity = services.registry.version(MODEL, "2").identity
    seq = services.ledger.champion("growth").seq
    decision = replace(decision_for("2", identity=identity), expected_seq=seq)
    services.ledger.decide(promoting(services.ledger), decision)
    watch = watched(services, day_with(LEAST))
    assert "does not say which dates its training learnt from" in watch["why_not"]
    assert not watch["retrain"]


def test_a_twin_that_is_gone_leaves_the_question_open(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> bytes:
        raise UnusableModelFile("the twin's file is gone")

    monkeypatch.setattr(services.fake_registry, "twin_file", gone)
    assert "the twin's file is gone" in watched(services, day_with(LEAST))["why_not"]


def test_too_few_labelled_dates_are_counted_in_words(services: FakeServices) -> None:
    grant, _ = next(iter(stages(services, Kind.PIPELINE, day_with(LEAST))))
    table = changed()
    days = np.asarray(table.column("date").to_numpy(), dtype="datetime64[D]")
    target = np.where(days == np.datetime64(CHANGED_ON + DAY), np.nan, table.column("target_return").to_numpy())
    place = table.column_names.index("target_return")
    services.with_source(table.set_column(place, "target_return", pa.array(target)))
    claimed = services.claimed(grant.run_id, Stage.TRAIN)
    with pytest.raises(InsufficientData, match="needs 14 of them with labels; found 13, so 1 are missing"):
        train(claimed, services, services.keeper(claimed))

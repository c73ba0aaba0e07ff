"""What `make run` leaves: in the ledger, in MLflow, in the result backend and in Flower."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from mlflow import MlflowClient

from devstack.demo import SCORED_AS_OF, predict_past, run_pass, sample_passes, score_past
from mlops.domain.records import RunState, RunView, Stage
from mlops.ledger.queries.live import LiveReport
from tests.acceptance.conftest import FIRST, IN_PRODUCTION, SECOND, STRATEGIES, Demo
from tests.support.flower import FlowerApi
from tests.support.served_stack import ServedStack, Terminal

METRICS = {"accuracy", "precision", "recall", "f1_score", "roc_auc"}
PARAMETERS = {"max_depth", "learning_rate", "n_estimators", "subsample", "colsample_bytree"}
PARAMETERS |= {"train_samples", "test_samples", "n_features", "strategy"}


def result(view: RunView, stage: Stage) -> dict[str, Any]:
    return next(item.result or {} for item in view.stages if item.stage is stage)


@pytest.fixture(scope="module")
def mlflow(stack: ServedStack) -> MlflowClient:
    return MlflowClient(stack.endpoints.settings()["mlflow_tracking_uri"])


def test_two_passes_give_one_finished_run_per_strategy_and_pass(demo: Demo) -> None:
    assert set(demo.runs) == {(day, strategy) for day in (FIRST, SECOND) for strategy in STRATEGIES}
    assert len(demo.everything) == len(demo.runs)
    assert {view.state for view in demo.runs.values()} <= {RunState.SUCCEEDED, RunState.REFUSED}
    assert all(view.finished_at is not None for view in demo.runs.values())


def test_four_strategies_are_in_production_and_direction_is_refused(demo: Demo) -> None:
    for strategy in IN_PRODUCTION:
        assert [version.stage for version in demo.versions[strategy]].count("Production") == 1
        assert demo.of_pass(FIRST)[strategy].state is RunState.SUCCEEDED
    assert {version.stage for version in demo.versions["direction"]} == {"Archived"}
    for day in (FIRST, SECOND):
        refused = demo.of_pass(day)["direction"]
        assert refused.state is RunState.REFUSED
        # the documented gate
        assert any("below the required 0.7000" in reason for reason in result(refused, Stage.PROMOTE)["reasons"])


def test_the_second_pass_detects_drift_and_retrains(demo: Demo) -> None:
    for strategy in IN_PRODUCTION:
        first, second = demo.of_pass(FIRST)[strategy], demo.of_pass(SECOND)[strategy]
        assert result(first, Stage.DRIFT)["retrain_reason"] == "no_champion"
        assert result(second, Stage.DRIFT)["retrain_reason"] == "drift"
        assert result(second, Stage.DRIFT)["drift_ratio"] >= 0.3
        assert (result(first, Stage.TRAIN)["version"], result(second, Stage.TRAIN)["version"]) == ("1", "2")


def test_every_run_has_its_drift_report_and_its_promotion_with_evidence(stack: ServedStack, demo: Demo) -> None:
    for (day, strategy), view in demo.runs.items():
        reports = [one for one in stack.services.ledger.drift_reports(strategy) if one["run_id"] == view.run_id]
        assert [one["as_of"] for one in reports] == [day]
        promotions = [one for one in demo.promotions[strategy] if one.run_id == view.run_id]
        assert len(promotions) == 1
        assert promotions[0].version == result(view, Stage.TRAIN)["version"]
        assert promotions[0].evidence["metrics"].keys() >= METRICS
        assert promotions[0].evidence["data_fingerprint"]
        assert len(promotions[0].evidence_digest) == 64  # SHA-256 in hexadecimal
        assert promotions[0].projected_at is not None


def test_mlflow_lists_five_models_whose_stage_and_alias_agree(demo: Demo, mlflow: MlflowClient) -> None:
    names = {model.name for model in mlflow.search_registered_models()}
    assert names >= {f"acis_{strategy}_classifier" for strategy in STRATEGIES}
    for strategy, versions in demo.versions.items():
        in_production = [version.version for version in versions if version.stage == "Production"]
        assert [version.version for version in versions if "champion" in version.aliases] == in_production
        # Nobody knows yet whether it is better than the champion; every other one is decided.
        undecided = [one.version for one in demo.promotions[strategy] if one.decision == "inconclusive"]
        assert [version.version for version in versions if "challenger" in version.aliases] == undecided[:1]
        assert len(in_production) == (strategy in IN_PRODUCTION)
        assert in_production == [one.version for one in demo.promotions[strategy] if one.decision == "promote"][:1]


def test_each_ledger_run_registered_one_version(demo: Demo) -> None:
    for strategy, versions in demo.versions.items():
        runs = [view.run_id for view in demo.everything if view.strategy == strategy]
        assert sorted(version.tags["run_id"] for version in versions) == sorted(runs)


def test_a_training_logs_what_the_guide_lists(demo: Demo, mlflow: MlflowClient, tmp_path: Path) -> None:
    experiment = mlflow.get_experiment_by_name("acis-ai-models")
    assert experiment is not None
    for view in demo.runs.values():
        trained = result(view, Stage.TRAIN)
        run = mlflow.get_run(trained["mlflow_run_id"])
        assert run.info.experiment_id == experiment.experiment_id
        assert run.info.status == "FINISHED"
        assert run.data.params.keys() >= PARAMETERS
        assert run.data.params["strategy"] == view.strategy
        assert run.data.metrics.keys() >= METRICS | {"majority_accuracy"}
        assert run.data.tags["strategy"] == view.strategy
        assert run.data.tags["model_type"] == "xgboost"
        assert run.data.tags["training_date"] == str(view.as_of)
        assert run.data.tags["run_id"] == view.run_id
        assert run.data.tags["data_fingerprint"] == trained["data_fingerprint"]
        assert "feature_importance.csv" in {file.path for file in mlflow.list_artifacts(run.info.run_id)}
        assert len(run.inputs.dataset_inputs) == 1
    path = mlflow.download_artifacts(run.info.run_id, "feature_importance.csv", str(tmp_path))
    with Path(path).open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == trained["n_features"]


def test_models_are_stored_in_xgboost_s_own_format_and_nothing_is_a_pickle(demo: Demo) -> None:
    stored = [path for path in demo.artifacts if path.name == "model.ubj"]
    assert len(stored) == len(demo.runs)
    # A pickle of protocol 2 and later begins with the byte 0x80 and its protocol's number.
    pickles = [path for path in demo.artifacts if path.read_bytes()[:2] in {bytes([0x80, n]) for n in range(2, 6)}]
    assert pickles == []
    assert [path for path in demo.artifacts if path.suffix in {".pkl", ".pickle", ".joblib"}] == []


def test_a_bare_celery_client_gets_each_run_s_outcome(stack: ServedStack, demo: Demo) -> None:
    app = Celery("bare", backend=stack.endpoints.celery_result_backend, set_as_current=False)
    for view in demo.runs.values():
        outcome = app.AsyncResult(view.run_id).get(timeout=5)
        assert outcome["state"] == view.state
        assert outcome["strategy"] == view.strategy
        assert outcome["version"] == result(view, Stage.TRAIN)["version"]
        assert outcome["promoted"] is (view.state is RunState.SUCCEEDED)
        assert bool(outcome["reasons"]) or outcome["promoted"]


def sender_of(task: dict[str, Any], demo: Demo) -> dict[str, Any]:
    """The task of the stage before; a stage that had to wait for MLflow hangs under its own first try."""
    sender = demo.tasks[task["parent_id"]]
    return sender_of(sender, demo) if sender["name"] == task["name"] else sender


def test_flower_shows_each_run_as_a_chain_from_drift_to_promotion(demo: Demo) -> None:
    chains = {}
    for task_id, task in demo.tasks.items():
        if task["name"] == "model.promote":
            training = sender_of(task, demo)
            check = sender_of(training, demo)
            assert (training["name"], check["name"]) == ("model.train", "drift.check")
            assert {task["root_id"], training["root_id"], check["root_id"]} == {check["parent_id"]}
            chains[check["parent_id"]] = task_id
    assert set(chains) == {view.run_id for view in demo.runs.values()}


def test_flower_asks_for_a_sign_in(stack: ServedStack) -> None:
    flower = FlowerApi(stack.endpoints)
    assert flower.get("/api/tasks", sign_in=False)[0] == 401
    assert flower.get("/", sign_in=False)[0] == 401
    assert flower.get("/api/tasks", sign_in=True)[0] == 200


def test_a_second_start_says_that_one_runs_and_where(stack: ServedStack, terminal: Terminal) -> None:
    second = terminal.run("acis up")
    assert second.code == 3
    assert "runs already" in second.err
    assert "stopped" not in second.said
    for place in (stack.endpoints.mlflow_tracking_uri, stack.endpoints.flower_url, str(stack.var_dir)):
        assert place in second.err


def test_the_same_passes_again_find_the_same_runs(stack: ServedStack, demo: Demo) -> None:
    for one in sample_passes():
        again = run_pass(stack.services, one, on_change=lambda _: None)
        assert {view.run_id for view in again} == {view.run_id for view in demo.of_pass(str(one.as_of)).values()}


def test_the_output_names_the_places_and_says_what_the_demo_predicts(stack: ServedStack) -> None:
    shown = stack.out.read_text(encoding="utf-8")
    assert stack.endpoints.mlflow_tracking_uri in shown
    assert stack.endpoints.flower_url in shown
    assert "The demo predicts volatility" in shown
    assert "direction: accuracy" in shown
    for strategy in STRATEGIES:
        assert f"\n{strategy} " in shown or f" {strategy} " in shown


def report_of(stack: ServedStack, demo: Demo, strategy: str) -> LiveReport:
    """What the demo's scoring said."""
    found = {report.run_id: report for report in stack.services.ledger.live_reports(strategy)}
    return found[demo.scorings[strategy].run_id]


def test_each_champion_has_predicted_the_days_after_its_training_and_what_came_is_known(
    stack: ServedStack, demo: Demo
) -> None:
    assert set(demo.scorings) == set(IN_PRODUCTION)
    assert {view.state for view in demo.scorings.values()} == {RunState.SUCCEEDED}
    ledger = stack.services.ledger
    for strategy in IN_PRODUCTION:
        days = [day for day in ledger.live_days(strategy) if day.as_of <= SCORED_AS_OF]
        # Of the New York Stock Exchange: 11 of December, 21 of January, 19 of February, 22 of March, 21 of April.
        assert len(days) == 94
        assert (str(days[0].as_of), days[-1].as_of) == ("2019-12-16", SCORED_AS_OF)
        # The label looks 20 dates ahead: of the last 20 nothing came yet, and it is not guessed.
        assert [day.n_labelled == 0 for day in days] == [False] * (len(days) - 20) + [True] * 20
        report = report_of(stack, demo, strategy)
        assert report.document["headline"]["n_days"] == len(days) - 20
        assert report.document["parity"]["n_equal"] == report.document["parity"]["n_rows"] > 0
    out = stack.out.read_text(encoding="utf-8")
    assert "What the champions' predictions were worth, as known on 2020-04-30" in out


def test_a_champion_of_2019_is_seen_to_decay_in_march_2020(stack: ServedStack, demo: Demo) -> None:
    for strategy in IN_PRODUCTION:
        report = report_of(stack, demo, strategy)
        assert report.document["headline"]["decayed_on"][:7] == "2020-03", strategy


def test_a_second_start_predicts_and_scores_nothing_again(stack: ServedStack, demo: Demo) -> None:
    for one in sample_passes():
        assert predict_past(stack.services, one, on_date=lambda *_: None) == []
    again = score_past(stack.services, on_change=lambda _: None)
    assert {view.run_id for view in again} == {view.run_id for view in demo.scorings.values()}

"""The documented client, end to end, on a real server."""

from __future__ import annotations

import secrets
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature

from mlops.domain.errors import InvalidStage, NothingConfigured, RegistryError, UnusableModelFile, VersionNotFound
from mlops.domain.policies import strategy_of_model
from mlops.mlflow.mlflow_client import ACISMLflowClient
from mlops.registry.registry import MlflowRegistry
from tests.support.ledgers import TimedLedger, decision_for
from tests.support.models import FEATURES, fitted, training_data

DATA = training_data()
X_TRAIN = pd.DataFrame(DATA.x, columns=list(FEATURES))


@pytest.fixture
def name() -> str:
    return f"acis_t{secrets.token_hex(4)}_classifier"


@pytest.fixture
def client(mlflow_url: str, name: str, timed: TimedLedger) -> ACISMLflowClient:
    """Transitions are recorded without a look at the gates; that is tested with the stages."""
    registry, ledger = MlflowRegistry(mlflow_url), timed.ledger

    def directly(*, model_name: str, version: str, stage: str, reason: str) -> None:
        strategy = strategy_of_model(model_name)
        seq, identity = ledger.champion(strategy).seq, registry.version(model_name, version).identity
        if stage == "Production":
            decision = decision_for(version, expected_seq=seq, model_name=model_name, identity=identity)
            ledger.record_transition(strategy, decision)
        registry.apply_stage(model_name, version, stage, seq=0, tags={"acis.reasons": reason})

    return ACISMLflowClient(mlflow_url, experiment_name=f"test-{name}", on_transition=directly, n_jobs=2, ledger=ledger)


def logged(client: ACISMLflowClient, name: str, **metrics: float) -> Any:
    model = fitted(DATA)
    with client.start_run(run_name="growth", tags={"stage": "test"}):
        client.log_params({"max_depth": 2})
        client.log_metrics(metrics)
        return client.log_model(
            model=model,
            artifact_path="model",
            registered_model_name=name,
            signature=infer_signature(X_TRAIN, model.predict(X_TRAIN)),
            input_example=X_TRAIN.head(5),
        )


def test_the_guide_s_steps_work_one_after_the_other(client: ACISMLflowClient, name: str) -> None:
    first = logged(client, name, accuracy=0.742, precision=0.738, recall=0.725, f1_score=0.731, roc_auc=0.821)
    assert (first.version, first.model_uri) == ("1", f"models:/{name}/1")
    promoted = client.transition_model_stage(name=name, version="1", stage="Production", archive_existing=True)
    assert (promoted.stage, promoted.aliases) == ("Production", ("champion",))
    model = client.load_model(f"models:/{name}/Production")
    np.testing.assert_array_equal(model.predict(X_TRAIN), fitted(DATA).predict(X_TRAIN))
    assert model.predict_proba(X_TRAIN).shape == (400, 2)
    assert model.n_jobs == 2
    comparison = client.compare_models(model_names=[name, "acis_absent_classifier"], stage="Production")
    assert [*comparison] == ["model_name", "version", "accuracy", "precision", "recall", "f1_score", "roc_auc"]
    assert comparison.to_dict("records") == [
        {"model_name": name, "version": 1, "accuracy": 0.742, "precision": 0.738}
        | {"recall": 0.725, "f1_score": 0.731, "roc_auc": 0.821}
    ]
    second = logged(client, name, accuracy=0.75)
    client.transition_model_stage(name=name, version=second.version, stage="Production")
    latest = client.get_latest_model_version(name, "Production")
    assert latest is not None
    assert latest.version == "2"
    client.transition_model_stage(name=name, version="1", stage="Production", archive_existing=True)
    assert client.get_latest_model_version(name, "Archived") == client._registry.version(name, "2")


@pytest.mark.parametrize(
    "uri",
    ["models:/{}/Production", "models:/{}/production", "models:/{}/1", "models:/{}@champion", "models:/{}/latest"],
)
def test_a_model_is_loaded_by_stage_version_or_alias(client: ACISMLflowClient, name: str, uri: str) -> None:
    logged(client, name)
    client.transition_model_stage(name, 1, "Production")
    assert client.load_model(uri.format(name)).get_booster().feature_names == list(FEATURES)


def test_a_model_that_is_not_registered_and_was_changed_is_not_loaded(
    client: ACISMLflowClient, servers_folder: Path
) -> None:
    with client.start_run() as run:
        stored = client.log_model(fitted(DATA))
    (file,) = servers_folder.rglob(f"{stored.model_id}/artifacts/model.ubj")
    fitted(DATA, rounds=1).save_model(file)
    for uri in (stored.model_uri, f"runs:/{run.info.run_id}/model"):
        with pytest.raises(UnusableModelFile, match="was changed after it was logged"):
            client.load_model(uri)


def test_a_model_that_is_not_registered_is_loaded_by_its_run(client: ACISMLflowClient) -> None:
    with client.start_run() as run:
        stored = client.log_model(fitted(DATA), name="model")
    assert stored.version is None
    assert client.load_model(stored.model_uri).n_features_in_ == 3
    assert client.load_model(f"runs:/{run.info.run_id}/model").n_features_in_ == 3
    with pytest.raises(RegistryError, match="logged no model named 'other'; it has model"):
        client.load_model(f"runs:/{run.info.run_id}/other")


@pytest.mark.parametrize("uri", ["models:/{}/Staging", "models:/{}@nobody"])
def test_a_place_that_no_version_holds_is_said(client: ACISMLflowClient, name: str, uri: str) -> None:
    logged(client, name)
    with pytest.raises(VersionNotFound, match="train or promote one"):
        client.load_model(uri.format(name))
    with pytest.raises(RegistryError, match="write models:/NAME/Production"):
        client.load_model("growth")


def test_a_registered_run_s_model_gets_a_version_of_its_own(client: ACISMLflowClient, name: str) -> None:
    stored = logged(client, name)
    version = client.register_model(f"runs:/{stored.run_id}/model", f"{name}_copy", tags={"why": "test"})
    assert (version.version, version.tags["why"], version.run_id) == ("1", "test", stored.run_id)
    assert client.load_model(f"models:/{name}_copy/1").n_features_in_ == 3


def test_runs_are_searched_and_the_best_is_found(client: ACISMLflowClient, name: str) -> None:
    logged(client, name, accuracy=0.6, log_loss=0.3)
    best = logged(client, name, accuracy=0.7, log_loss=0.5)
    frame = client.search_runs("metrics.accuracy > 0.65")
    assert frame["run_id"].tolist() == [best.run_id]
    assert frame["params.max_depth"].tolist() == ["2"]
    by_accuracy, by_loss = client.get_best_run("accuracy"), client.get_best_run("log_loss")
    assert by_accuracy is not None
    assert by_accuracy.run_id == best.run_id
    assert by_loss is not None
    assert by_loss.metrics["log_loss"] == 0.3
    assert client.get_best_run("sharpe_ratio") is None


def test_a_run_that_raises_is_failed_and_leaves_no_active_run(client: ACISMLflowClient) -> None:
    with pytest.raises(ZeroDivisionError), client.start_run(run_name="broken"):
        raise ZeroDivisionError
    assert mlflow.active_run() is None
    assert client.search_runs()["status"].tolist() == ["FAILED"]


def test_runs_nest_and_the_library_s_own_calls_write_to_them(client: ACISMLflowClient) -> None:
    with client.start_run(run_name="study") as outer, client.start_run(run_name="trial", nested=True) as inner:
        mlflow.log_metric("sharpe_ratio", 1.2)
    frame = client.search_runs().set_index("run_id")
    assert frame.loc[inner.info.run_id, "metrics.sharpe_ratio"] == 1.2
    assert frame.loc[inner.info.run_id, "tags.mlflow.parentRunId"] == outer.info.run_id


def test_writing_without_a_run_says_how_to_open_one(client: ACISMLflowClient) -> None:
    with pytest.raises(RegistryError, match=r"with client\.start_run"):
        client.log_metrics({"accuracy": 1})
    assert mlflow.active_run() is None


def test_a_model_logged_without_a_run_gets_one(client: ACISMLflowClient, name: str) -> None:
    stored = client.log_model(fitted(DATA), "model", name)
    assert stored.version == "1"
    assert client.search_runs()["status"].tolist() == ["FINISHED"]


def test_artifacts_of_run_and_model_are_listed_together(client: ACISMLflowClient, name: str) -> None:
    with client.start_run() as run:
        mlflow.log_text("feature,gain\n", "feature_importance.csv")
        client.log_model(fitted(DATA), input_example=X_TRAIN.head(5))
    found = client.get_model_artifacts(run.info.run_id)
    assert {"feature_importance.csv", "model/model.ubj", "model/input_example.json"} <= set(found)


def test_requirements_are_pinned_and_name_one_xgboost_wheel(client: ACISMLflowClient, mlflow_url: str) -> None:
    stored = client.log_model(fitted(DATA))
    text = mlflow.artifacts.load_text(f"runs:/{stored.run_id}/model/requirements.txt")
    packages = [line.partition("==")[0] for line in text.splitlines()]
    assert len([package for package in packages if package.startswith("xgboost")]) == 1
    assert all("==" in line for line in text.splitlines())


def test_what_would_leave_two_in_production_is_refused(client: ACISMLflowClient, name: str) -> None:
    logged(client, name)
    logged(client, name)
    client.transition_model_stage(name, 1, "Production", archive_existing=False)
    with pytest.raises(RegistryError, match="a model has one Production version"):
        client.transition_model_stage(name, 2, "Production", archive_existing=False)
    with pytest.raises(InvalidStage, match="'Live' is not known"):
        client.transition_model_stage(name, 2, "Live")


def test_staging_replaces_what_stood_there(client: ACISMLflowClient, name: str) -> None:
    logged(client, name)
    logged(client, name)
    client.transition_model_stage(name, 1, "Staging")
    client.transition_model_stage(name, 2, "Staging", reason="newer data")
    assert client._registry.version(name, "1").stage == "Archived"
    assert client._registry.version(name, "2").aliases == ("challenger",)


def test_deprecations_of_the_library_do_not_reach_the_user(client: ACISMLflowClient, name: str) -> None:
    logged(client, name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client.transition_model_stage(name, 1, "Production")
        client.get_latest_model_version(name, "Production")
        client.load_model(f"models:/{name}/Production")
    assert [str(warning.message) for warning in caught if issubclass(warning.category, FutureWarning)] == []


def test_only_xgboost_models_are_stored(client: ACISMLflowClient) -> None:
    with pytest.raises(RegistryError, match="type dict cannot be stored"):
        client.log_model({})


def test_importing_the_client_does_not_import_the_library() -> None:
    code = "import sys; import mlops.mlflow.mlflow_client; print('mlflow' in sys.modules, 'xgboost' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_without_a_server_both_ways_out_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("ACIS_VAR_DIR", str(tmp_path))
    with pytest.raises(NothingConfigured, match=r"make run.*MLFLOW_TRACKING_URI"):
        ACISMLflowClient()


def test_a_model_that_is_named_like_a_strategy_has_a_place_of_its_own(client: ACISMLflowClient, name: str) -> None:
    logged(client, name)
    client.transition_model_stage(name, 1, "Production")  # the strategy's champion, in the ledger
    bare = strategy_of_model(name)
    for _ in range(2):
        logged(client, bare)
    assert client.get_latest_model_version(bare, "Production") is None
    client._registry.apply_stage(bare, "2", "Production", seq=0, tags={})
    assert client.get_latest_model_version(bare, "Production") == client._registry.version(bare, "2")

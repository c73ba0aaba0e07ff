"""The guide's Python blocks, in its order, in one interpreter in another folder.

Each block is the guide's own text; what it leaves out (data, a version's number) is made before it.
"""

from __future__ import annotations

import getpass
import re
from dataclasses import replace

import pytest

from tests.support.ledgers import decision_for
from tests.support.notebook import Notebook
from tests.support.served_stack import ServedStack

GROWTH = "acis_growth_classifier"

THE_FOUR_IMPORTS = """
from mlops.mlflow.mlflow_client import ACISMLflowClient
from mlops.mlflow.train_with_mlflow import train_model_with_mlflow, promote_model_to_production
from mlops.drift_detection.drift_detector import monitor_drift_and_alert, load_data_for_drift_detection
from mlops.retraining.auto_retrain import AutoRetrainingPipeline
"""

CLIENT = """
from mlops.mlflow.mlflow_client import ACISMLflowClient

client = ACISMLflowClient()
"""

DATA = """
import mlflow
import numpy as np
import pandas as pd
import xgboost as xgb
from mlflow.models import infer_signature

random = np.random.default_rng(0)
X_train = pd.DataFrame(random.random((200, 3)), columns=["pe_ratio", "momentum_50d", "beta"])
y_train = (X_train["beta"] > 0.5).astype(int)
xgb_model = xgb.XGBClassifier(n_estimators=5, n_jobs=1).fit(X_train, y_train)
signature = infer_signature(X_train, xgb_model.predict(X_train))
"""


@pytest.fixture(scope="module")
def cells(notebook: Notebook) -> Notebook:
    """The notebook with a client and some data in it."""
    notebook.run(CLIENT)
    notebook.run(DATA)
    return notebook


def test_the_four_imports_work_from_another_folder(notebook: Notebook) -> None:
    notebook.run(THE_FOUR_IMPORTS)


def test_log_model_registers_a_version(cells: Notebook, stack: ServedStack) -> None:
    name = "acis_guide_classifier"  # the guide's block with a model of its own, so that growth's versions stay its own
    cells.run(
        f"""
# During training
logged = client.log_model(
    model=xgb_model,
    artifact_path="model",
    registered_model_name="{name}",
    signature=signature,
    input_example=X_train.head(5)
)
"""
    )
    assert cells.value("logged.version") == "1"
    assert stack.services.registry.version(name, "1").stage == "None"
    loaded = f'client.load_model("models:/{name}/1").predict_proba(X_train).tolist()'
    assert cells.value(loaded) == cells.value("xgb_model.predict_proba(X_train).tolist()")


def test_promote_model_to_production_judges_the_newest_version_in_staging(cells: Notebook, stack: ServedStack) -> None:
    mlflow_run = cells.run(
        """
from mlops.mlflow.train_with_mlflow import train_model_with_mlflow
print("run", train_model_with_mlflow("growth"))
"""
    ).split()[-1]
    cells.run(
        """
from mlops.mlflow.train_with_mlflow import promote_model_to_production

promoted = promote_model_to_production(
    model_name="acis_growth_classifier",
    min_accuracy=0.7
)
"""
    )
    promotion = stack.services.ledger.promotions("growth")[0]
    version = stack.services.registry.version(GROWTH, promotion.version)
    assert version.run_id == mlflow_run
    assert promotion.evidence["policy"]["min_accuracy"] == 0.7
    assert cells.value("promoted") is (version.stage == "Production")


def passed_its_gates(stack: ServedStack, version: str) -> None:
    """The ledger has judged that very version and did not refuse it; whatever the stack's own trainings came to."""
    ledger, found = stack.services.ledger, stack.services.registry.version(GROWTH, version)
    seq = ledger.champion("growth").seq
    judged = decision_for(version, expected_seq=seq, decision="inconclusive", target_stage="Staging")
    ledger.projected(ledger.record_transition("growth", replace(judged, identity=found.identity)).id)


def test_a_transition_by_hand_archives_the_old_version_and_is_in_the_ledger(
    cells: Notebook, stack: ServedStack
) -> None:
    before = stack.services.ledger.champion("growth").version
    other = next(v.version for v in stack.services.registry.versions(GROWTH) if v.version != before)
    passed_its_gates(stack, other)
    cells.run(
        f"""
client.transition_model_stage(
    name="acis_growth_classifier",
    version="{other}",
    stage="Production",
    archive_existing=True  # Archive current production version
)
"""
    )
    newest = stack.services.ledger.promotions("growth")[0]
    assert (newest.decision, newest.version, newest.previous_version) == ("transition", other, before)
    assert newest.actor == f"{getpass.getuser()} (python)"
    assert newest.reasons == ("transition_model_stage",)
    assert stack.services.ledger.champion("growth").version == other
    assert stages(stack, "Production") == [other]
    assert aliased(stack) == [other]
    assert before is not None
    assert stack.services.registry.version(GROWTH, before).stage == "Archived"


def test_a_rollback_by_hand_brings_the_former_version_back_with_its_reason(cells: Notebook, stack: ServedStack) -> None:
    champion = stack.services.ledger.champion("growth").version
    former = stack.services.ledger.former_champions("growth")[0].version
    cells.run(
        f"""
# Transition old version back to Production
client.transition_model_stage(
    name="acis_growth_classifier",
    version="{former}",  # Previous stable version
    stage="Production",
    archive_existing=True
)
"""
    )
    assert stages(stack, "Production") == aliased(stack) == [former]
    cells.run(f'client.transition_model_stage("{GROWTH}", "{champion}", "Production", reason="it was right after all")')
    assert stack.services.ledger.promotions("growth")[0].reasons == ("it was right after all",)
    assert stages(stack, "Production") == aliased(stack) == [champion]


def test_the_production_model_predicts(cells: Notebook) -> None:
    cells.run(
        """
# Load latest production model
model_uri = "models:/acis_growth_classifier/Production"
model = client.load_model(model_uri)

X_new = np.zeros((4, model.n_features_in_))
# Use for inference
predictions = model.predict(X_new)
"""
    )
    assert cells.value("type(model).__name__") == "XGBClassifier"
    assert set(cells.value("predictions.tolist()")) <= {0, 1}
    probabilities = cells.value("model.predict_proba(X_new).tolist()")
    assert [sum(pair) for pair in probabilities] == pytest.approx([1.0] * 4)


def test_compare_models_prints_the_documented_columns(cells: Notebook) -> None:
    printed = cells.run(
        """
# Compare all strategies in Production
comparison = client.compare_models(
    model_names=[
        "acis_growth_classifier",
        "acis_value_classifier",
        "acis_dividend_classifier"
    ],
    stage="Production"
)

print(comparison)
"""
    )
    header, *rows = printed.splitlines()
    assert header.split() == ["model_name", "version", "accuracy", "precision", "recall", "f1_score", "roc_auc"]
    assert [row.split()[1] for row in rows] == [GROWTH, "acis_value_classifier", "acis_dividend_classifier"]


def test_monitor_drift_and_alert_says_whether_to_retrain(cells: Notebook) -> None:
    cells.run(
        """
from mlops.drift_detection.drift_detector import monitor_drift_and_alert

needs_retraining = monitor_drift_and_alert(
    strategy="growth",
    alert_threshold=0.3  # 30% of features need drift to trigger
)
"""
    )
    # 90 % of the features moved by PSI, but no more than usual: the newest date is a calm one.
    assert cells.value("needs_retraining") is False
    cells.run("from datetime import date")
    assert cells.value('monitor_drift_and_alert("growth", 0.3, as_of=date(2008, 10, 10))') is True
    assert cells.value('monitor_drift_and_alert("growth", 1.0, as_of=date(2008, 10, 10))') is False


def test_load_data_for_drift_detection_reads_both_windows(cells: Notebook, stack: ServedStack) -> None:
    printed = cells.run(
        f"""
from mlops.drift_detection.drift_detector import load_data_for_drift_detection
ref, curr = load_data_for_drift_detection({stack.endpoints.database_url!r}, 'growth')
print(f'Reference: {{len(ref)}} rows, Current: {{len(curr)}} rows')
"""
    )
    found = re.fullmatch(r"Reference: (\d+) rows, Current: (\d+) rows\n", printed)
    assert found
    # seven names: 30 calendar days hold 19 to 23 trading days, and 90 hold 59 to 65
    assert 7 * 19 <= int(found[2]) <= 7 * 23
    assert 7 * 59 <= int(found[1]) <= 7 * 65
    assert cells.value("ref['date'].max() < curr['date'].min()") is True


def test_the_pipeline_class_runs_a_strategy(cells: Notebook, stack: ServedStack) -> None:
    cells.run(
        """
from mlops.retraining.auto_retrain import AutoRetrainingPipeline
results = AutoRetrainingPipeline(["momentum"], drift_threshold=1.0).run()
"""
    )
    assert cells.value("[one.error for one in results]") == [""]
    run = stack.services.ledger.run(cells.value("results[0].run.run_id"))
    assert (run.strategy, run.kind, run.params) == ("momentum", "pipeline", {"drift_threshold": 1.0})


def test_the_tracking_uri_is_the_running_server_s(cells: Notebook, stack: ServedStack) -> None:
    assert cells.value("client.tracking_uri") == stack.endpoints.mlflow_tracking_uri
    cells.run("import mlflow\nmlflow.set_tracking_uri(client.tracking_uri)")
    assert cells.value("mlflow.get_tracking_uri()") == stack.endpoints.mlflow_tracking_uri


def test_custom_metrics_are_logged_in_a_run_of_the_client(cells: Notebook) -> None:
    cells.run(
        """
import mlflow
with client.start_run(run_name="custom", tags={"kind": "experiment"}) as run:
    client.log_metrics({"accuracy": 0.5})
    mlflow.log_metric("sharpe_ratio", 1.5)  # the library's own call goes to the same run
found = client.search_runs(f"attributes.run_id = '{run.info.run_id}'")
"""
    )
    assert cells.value("found['metrics.accuracy'].tolist() + found['metrics.sharpe_ratio'].tolist()") == [0.5, 1.5]


def test_a_study_logs_its_trials_as_nested_runs(cells: Notebook) -> None:
    cells.run(
        """
with client.start_run(run_name="study") as study:
    for depth in (3, 4):
        with client.start_run(run_name=f"depth {depth}", nested=True):
            client.log_params({"max_depth": depth})
            client.log_metrics({"accuracy": depth / 10})
trials = client.search_runs(f"tags.mlflow.parentRunId = '{study.info.run_id}'")
"""
    )
    assert sorted(cells.value("trials['params.max_depth'].tolist()")) == ["3", "4"]


def test_two_versions_answer_side_by_side(cells: Notebook, stack: ServedStack) -> None:
    cells.run("from mlops.mlflow.train_with_mlflow import train_model_with_mlflow; train_model_with_mlflow('value')")
    cells.run(
        """
control = client.load_model("models:/acis_value_classifier/Production")
treatment = client.load_model("models:/acis_value_classifier/Staging")
X = np.zeros((2, control.n_features_in_))
"""
    )
    assert cells.value("[len(one.predict(X)) for one in (control, treatment)]") == [2, 2]
    library = 'mlflow.xgboost.load_model("models:/acis_value_classifier/Production").predict(X).tolist()'
    assert cells.value(library) == cells.value("control.predict(X).tolist()")


def stages(stack: ServedStack, stage: str) -> list[str]:
    return [version.version for version in stack.services.registry.versions(GROWTH) if version.stage == stage]


def aliased(stack: ServedStack) -> list[str]:
    return [version.version for version in stack.services.registry.versions(GROWTH) if "champion" in version.aliases]

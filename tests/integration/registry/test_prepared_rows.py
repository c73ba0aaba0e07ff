"""A row has one probability wherever it is scored: in training, evaluation, service, and by MLflow's own loaders."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import xgboost as xgb

from mlops.domain.training.trainer import XGBoostTrainer, binned
from mlops.mlflow.mlflow_client import ACISMLflowClient
from mlops.registry.registry import MlflowRegistry
from mlops.serving.loading import ModelFile, serve
from mlops.stages.scoring import positive_probability
from tests.support.ledgers import TimedLedger, record_file
from tests.support.models import FEATURES, RecordingControl, fitted, trained_model, training_data
from tests.support.registry import loaded as loaded_by_digest

DATA = training_data()
INFINITE = pd.DataFrame(DATA.x, columns=list(FEATURES)).head(40).astype(np.float64)
INFINITE.iloc[:10, 0] = np.inf
INFINITE.iloc[10:20, 0] = -np.inf
INFINITE.iloc[20:30, 1] = 1e39  # no float32
INFINITE.iloc[30:, 2] = np.nan


@pytest.fixture(scope="module")
def trained() -> tuple[xgb.XGBClassifier, np.ndarray]:
    """A model that was trained on the rows among others, and (40,) what it says of them as the trainer binned them."""
    with np.errstate(over="ignore"):
        x = np.concatenate([INFINITE.to_numpy(dtype=np.float32), DATA.x[40:]])
    rows = replace(DATA, x=x)
    params = {"n_estimators": 20, "max_depth": 3, "learning_rate": 0.3}
    model = XGBoostTrainer().fit(
        rows, params=params, seed=1, device="cpu", n_jobs=1, segment_rounds=20, control=RecordingControl()
    )
    matrix, _ = binned(rows, RecordingControl(), max_bin=256, n_jobs=1)
    return model, np.asarray(model.get_booster().predict(matrix))[:40]


@pytest.fixture(scope="module")
def in_training(trained: tuple[xgb.XGBClassifier, np.ndarray]) -> np.ndarray:
    """(40,) probability of each row in the training."""
    return trained[1]


@pytest.fixture(scope="module")
def logged(mlflow_url: str, trained: tuple[xgb.XGBClassifier, np.ndarray]) -> tuple[str, str]:
    """A model's name and its version, logged as a training logs it."""
    name = f"acis_t{secrets.token_hex(4)}_classifier"
    found = MlflowRegistry(mlflow_url).log_training(
        trained_model(f"run-{secrets.token_hex(6)}", model_name=name, model=trained[0])
    )
    return name, found.version


def test_a_row_has_one_probability_in_training_evaluation_and_service(
    logged: tuple[str, str], trained: tuple[xgb.XGBClassifier, np.ndarray], mlflow_url: str, timed: TimedLedger
) -> None:
    name, version = logged
    registry, client = MlflowRegistry(mlflow_url), ACISMLflowClient(mlflow_url, ledger=timed.ledger)
    record_file(timed.ledger, registry.version(name, version))
    evaluated = loaded_by_digest(registry, name, version)
    loaded = client.load_model(f"models:/{name}/{version}")
    content = registry.model_file(name, version)
    sha256 = registry.version(name, version).identity.sha256
    assert sha256 is not None
    model = serve(ModelFile(strategy="growth", version=version, seq=1, sha256=sha256, content=content))
    expected = trained[1]
    np.testing.assert_array_equal(positive_probability(evaluated, INFINITE.to_numpy()).astype(np.float32), expected)
    np.testing.assert_array_equal(loaded.predict_proba(INFINITE)[:, 1], expected)
    assert np.abs(model.predictor.probabilities(model.reader.rows(INFINITE)) - expected).max() <= 2.0**-24
    # XGBoost's own class would not
    with np.errstate(over="ignore"):
        plain = trained[0].get_booster().inplace_predict(INFINITE.to_numpy(dtype=np.float32), missing=np.nan)
    assert np.abs(plain - expected).max() > 0.1


def test_mlflow_s_own_loaders_prepare_rows_where_this_project_is_not_installed(
    logged: tuple[str, str], in_training: np.ndarray, mlflow_url: str, tmp_path: Path
) -> None:
    name, version = logged
    with np.errstate(over="ignore"):
        np.save(tmp_path / "rows.npy", INFINITE.to_numpy(dtype=np.float32))  # as the signature has it
    script = f"""
import json, sys
sys.modules["mlops"] = None  # as if it were not installed: importing it raises
import numpy as np, pandas as pd, mlflow
mlflow.set_tracking_uri({mlflow_url!r})
rows = pd.DataFrame(np.load("rows.npy"), columns={list(FEATURES)!r})
served = mlflow.pyfunc.load_model("models:/{name}/{version}")
own = mlflow.xgboost.load_model("models:/{name}/{version}")
print(json.dumps({{
    "labels": np.asarray(served.predict(rows)).tolist(),
    "raw": served.get_raw_model().predict_proba(rows)[:, 1].tolist(),
    "own": own.predict_proba(rows)[:, 1].tolist(),
}}))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for way in ("raw", "own"):
        np.testing.assert_array_equal(np.float32(found[way]), in_training)
    assert found["labels"] == (in_training >= 0.5).astype(int).tolist()


def test_a_model_that_is_logged_by_hand_carries_its_preparation_too(mlflow_url: str) -> None:
    client = ACISMLflowClient(mlflow_url, experiment_name=f"test-{secrets.token_hex(4)}")
    stored = client.log_model(model=fitted(DATA), name="model")
    artifacts = mlflow.artifacts.list_artifacts(artifact_uri=stored.model_uri, tracking_uri=mlflow_url)
    assert "code" in {Path(item.path).name for item in artifacts}

"""From settings to services: opened on first use, and nothing configured is said with both ways out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from config.settings import ROOT, Settings
from mlops.domain.errors import ConfigurationError, InvalidStrategyFile, NothingConfigured
from tasks.services import connect, process_services


@pytest.mark.parametrize(
    ("port", "variable"),
    [
        ("ledger", "DATABASE_URL"),
        ("source", "DATABASE_URL"),
        ("registry", "MLFLOW_TRACKING_URI"),
        ("dispatcher", "CELERY_BROKER_URL"),
    ],
)
def test_a_server_that_is_not_named_is_asked_for_by_its_variable(port: str, variable: str) -> None:
    services = connect(Settings())
    with pytest.raises(NothingConfigured, match=f"{variable} is not set.*make run"):
        getattr(services, port)


def test_nothing_is_opened_before_it_is_used() -> None:
    connect(Settings(database_url="postgresql://nobody@127.0.0.1:1/none"))  # type: ignore[arg-type]


def test_features_may_come_from_a_folder_while_the_ledger_is_elsewhere(tmp_path: Path) -> None:
    services = connect(Settings(feature_source=str(tmp_path / "features.parquet")))  # type: ignore[arg-type]
    assert type(services.source).__name__ == "ParquetFeatures"


def test_a_source_that_is_none_of_ours_is_refused_without_its_password() -> None:
    with pytest.raises(ConfigurationError) as caught:
        connect(Settings(feature_source="mysql://user:s3cr3t@host/db")).source  # type: ignore[arg-type]  # noqa: B018
    assert "mysql" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_a_strategies_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidStrategyFile, match=r"absent\.toml does not exist; set ACIS_STRATEGIES_FILE"):
        connect(Settings(strategies_file=tmp_path / "absent.toml")).strategies  # noqa: B018


def test_the_documented_four_strategies_are_there_with_the_documented_defaults() -> None:
    strategies = connect(Settings()).strategies
    assert set(strategies) == {"growth", "value", "dividend", "momentum"}
    for name in strategies:
        one = strategies[name]
        assert (one.data.reference_days, one.data.current_days, one.data.min_current_rows) == (90, 7, 100)
        assert (one.drift.ks_p, one.drift.psi_moderate, one.drift.psi_significant) == (0.05, 0.1, 0.2)
        assert (one.drift.alert_share, one.promotion.min_accuracy) == (0.3, 0.70)
        assert one.training.params == {
            "max_depth": 6,
            "learning_rate": 0.1,
            "n_estimators": 100,
            "subsample": 0.8,
            "colsample_bytree": 0.8,
        }
        assert one.training.training_days == 730


def test_a_process_has_one_set_of_services() -> None:
    assert process_services() is process_services()


@pytest.mark.parametrize(("role", "wanted"), [("control", "mlops.ledger.ledger"), ("drift", "mlops.stages.drift")])
def test_a_worker_that_forks_has_loaded_what_its_children_need_and_nothing_that_must_not_be_forked(
    role: str, wanted: str
) -> None:
    code = f"""
import gc, sys, threading, worker.main
worker.main.app.loader.import_default_modules()
print(*[name for name in ("{wanted}", "xgboost", "sklearn", "mlflow") if name in sys.modules])
print(threading.active_count(), gc.isenabled())
from celery import signals
signals.worker_init.send(None)
print(gc.isenabled())
"""
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={
            "PATH": "/usr/bin:/bin", "CELERY_BROKER_URL": "redis://127.0.0.1:1/0", "ACIS_VAR_DIR": "/nonexistent",
            "WORKER_ROLE": role,
        },
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip
    assert found.stdout.splitlines() == [wanted, "1 False", "True"]


@pytest.mark.parametrize("module", ["worker.main", "tasks.dispatch", "mlops.bootstrap", "cli.app"])
def test_what_forks_or_starts_often_loads_neither_openmp_nor_mlflow(module: str) -> None:
    # A process that forks after OpenMP ran hangs in its children; and each of these takes a second to import.
    asked = f"import sys, {module}; print(*[name for name in ('xgboost', 'sklearn', 'mlflow', 'pandas') if name in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "CELERY_BROKER_URL": "redis://127.0.0.1:1/0", "ACIS_VAR_DIR": "/nonexistent"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == []

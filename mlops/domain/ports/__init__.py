"""What the stages need from outside, as Protocols; `mlops.bootstrap` chooses the adapters.

FeatureSource    features/postgres.py, parquet.py                 fake: tests/support; or one's own
ModelRegistry    mlflow/registry.py                              fake: tests/support
Trainer          training/trainer.py, or a strategy's own
Ledger           ledger/ (PostgreSQL)
Dispatcher       tasks/dispatch.py
"""

from __future__ import annotations

from mlops.domain.ports.dispatch import Alert, Dispatcher
from mlops.domain.ports.features import Column, DateFaults, FeatureSource, Window
from mlops.domain.ports.ledger import Ledger
from mlops.domain.ports.registry import (
    DIGEST_TAG,
    PROFILE_ARTIFACT,
    PROFILE_TAG,
    RUN_TAG,
    SEQ_TAG,
    TRIALS_TAG,
    UNKEPT,
    UNKNOWN,
    XGBOOST_TAG,
    Evidence,
    FailedTraining,
    KeptModel,
    LoggedByRun,
    ModelRegistry,
    ModelVersion,
    OpenRegistryRun,
    RegistryCensus,
    RegistryRun,
    ReportRecord,
    RunStart,
    TrainedModel,
    TrainingFacts,
    TrialRecord,
    expect,
)
from mlops.domain.ports.training import Progress, Trainer, TrainingControl, TrainingData, Validation

__all__ = [
    "DIGEST_TAG",
    "PROFILE_ARTIFACT",
    "PROFILE_TAG",
    "RUN_TAG",
    "SEQ_TAG",
    "TRIALS_TAG",
    "UNKEPT",
    "UNKNOWN",
    "XGBOOST_TAG",
    "Alert",
    "Column",
    "DateFaults",
    "Dispatcher",
    "Evidence",
    "FailedTraining",
    "FeatureSource",
    "KeptModel",
    "Ledger",
    "LoggedByRun",
    "ModelRegistry",
    "ModelVersion",
    "OpenRegistryRun",
    "Progress",
    "RegistryCensus",
    "RegistryRun",
    "ReportRecord",
    "RunStart",
    "TrainedModel",
    "Trainer",
    "TrainingControl",
    "TrainingData",
    "TrainingFacts",
    "TrialRecord",
    "Validation",
    "Window",
    "expect",
]

"""Small trainings: data with a signal, a fitted classifier, and all that is logged of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import xgboost as xgb

from mlops.domain.ports import Progress, TrainedModel, TrainingData

SKILLED = {"accuracy_skill": 0.4, "log_loss_skill": 0.3, "brier_skill": 0.3, "prediction_range": 0.6}
"""What a version that passes the floor has among its metrics."""
FEATURES = ("momentum_50d", "pe_ratio", "volatility_20d")


def training_data(n: int = 400, *, seed: int = 7, names_per_date: int = 4) -> TrainingData:
    """Rows whose label follows the first feature, with noise."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(n, len(FEATURES))).astype(np.float32)
    y = (x[:, 0] + generator.normal(size=n) > 0).astype(np.int8)
    days = np.datetime64("2019-01-01", "D") + np.arange(n) // names_per_date
    return TrainingData(x=x, y=y, dates=days, features=FEATURES)


def fitted(data: TrainingData | None = None, *, rounds: int = 5) -> xgb.XGBClassifier:
    """A small classifier with feature names."""
    data = data or training_data()
    frame = pd.DataFrame(data.x, columns=list(data.features))
    return xgb.XGBClassifier(n_estimators=rounds, max_depth=2, n_jobs=1).fit(frame, data.y)


def trained_model(
    run_id: str,
    *,
    model_name: str = "acis_growth_classifier",
    metrics: dict[str, float] | None = None,
    artifacts: dict[str, Path] | None = None,
    model: xgb.XGBClassifier | None = None,
) -> TrainedModel:
    """What the train stage hands to the registry."""
    data = training_data()
    frame = pd.DataFrame(data.x, columns=list(data.features))
    model = model or fitted(data)
    return TrainedModel(
        ledger_run_id=run_id,
        strategy="growth",
        model_name=model_name,
        run_name=f"growth {run_id}",
        model=model,
        params={"max_depth": 2, "n_estimators": 5},
        metrics=SKILLED | ({"accuracy": 0.742, "roc_auc": 0.821} if metrics is None else metrics),
        tags={"strategy": "growth", "data_fingerprint": "ab" * 32},
        features=data.features,
        example=frame.head(5),
        predictions=model.predict(frame.head(5)),
        artifacts=artifacts or {},
        dataset=frame.head(5),
        dataset_rows=len(frame),
        dataset_name="growth 2020-01-01",
    )


class Stop(Exception):
    """A control's reason to stop."""


class RecordingControl:
    """A `TrainingControl` that keeps everything, and stops after a round if it is told to."""

    def __init__(self, *, checkpoint: tuple[str, bytes] | None = None, stop_after: int | None = None) -> None:
        self.checkpoint = checkpoint
        self.progress: list[Progress] = []
        self.saved: list[str] = []
        self.checks = 0
        self._stop_after = stop_after

    def report(self, progress: Progress) -> None:
        self.progress.append(progress)

    def check(self) -> None:
        self.checks += 1
        if self._stop_after is not None and self.progress and self.progress[-1].done >= self._stop_after:
            raise Stop

    def save_checkpoint(self, name: str, payload: bytes) -> None:
        self.saved.append(name)
        self.checkpoint = (name, payload)

    def load_checkpoint(self) -> tuple[str, bytes] | None:
        return self.checkpoint

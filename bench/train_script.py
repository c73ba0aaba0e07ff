"""The training that somebody would write by hand, for bench/train.py: plain xgboost, scikit-learn, matplotlib, mlflow.

It does what the train stage does, in the shortest way: reads by ADBC, splits by date with a purge, fits, scores,
draws the same seven pictures, explains a sample by SHAP values, freezes the bins of each feature for later drift
checks, logs parameters, metrics, data set, files and the
model with signature, example and pinned requirements, registers it and moves it to Staging.
"""

from __future__ import annotations

import csv
import hashlib
import json
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import mlflow
import numpy as np
import pandas as pd
import xgboost as xgb
from mlflow.models import infer_signature
from mlflow.tracking import MlflowClient
from sklearn import calibration, metrics

HORIZON, EMBARGO, HOLDOUT = 20, 5, 60


def train_by_hand(url: str, tracking_uri: str, *, model_name: str, params: dict[str, Any]) -> dict[str, float]:
    """Seconds per part."""
    parts: dict[str, float] = {}

    @contextmanager
    def part(name: str) -> Any:  # noqa: ANN401 -- a context manager
        began = perf_counter()
        yield
        parts[name] = perf_counter() - began

    with part("read"), adbc.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT * FROM ml_training_features WHERE strategy = 'growth' ORDER BY date, ticker")
        frame = cursor.fetch_arrow_table().to_pandas()
        features = [name for name in frame.columns if name.startswith("f")]
        days = np.sort(frame["date"].unique())
        frame = frame[frame["date"] <= days[-1 - HORIZON]]
        labelled = days[: len(days) - HORIZON]
        held = frame["date"] >= labelled[-HOLDOUT]
        fitted = frame["date"] <= labelled[-HOLDOUT - HORIZON - EMBARGO]
        x, y = frame[features].astype("float32"), (frame["target_return"] > 0).astype(int)
        digest = hashlib.sha256(x.to_numpy().tobytes()).hexdigest()
    with part("fit"):
        model = xgb.XGBClassifier(**params, tree_method="hist", random_state=42, n_jobs=1).fit(x[fitted], y[fitted])
    with part("evaluate"):
        p = model.predict_proba(x[held])[:, 1]
        scores = _scores(y[held].to_numpy(), p, frame[held])
    with tempfile.TemporaryDirectory() as folder:
        with part("files"):
            _files(Path(folder), model, x[held], y[held].to_numpy(), p, frame[held], scores)
            _profile(Path(folder), x[fitted])
        with part("log"):
            _log(Path(folder), model, x[fitted], params, scores, tracking_uri, model_name, digest)
    return parts


def _scores(y: np.ndarray, p: np.ndarray, held: pd.DataFrame) -> dict[str, float]:
    called = p >= 0.5
    tn, fp, fn, tp = metrics.confusion_matrix(y, called).ravel()
    periods = []
    for day in np.unique(held["date"])[::HORIZON]:
        mask = (held["date"] == day).to_numpy() & called
        periods.append(held["target_return"][mask].mean() if mask.any() else 0.0)
    wealth = np.cumprod(1 + np.array(periods))
    return {
        "accuracy": metrics.accuracy_score(y, called),
        "precision": metrics.precision_score(y, called),
        "recall": metrics.recall_score(y, called),
        "f1_score": metrics.f1_score(y, called),
        "roc_auc": metrics.roc_auc_score(y, p),
        "log_loss": metrics.log_loss(y, p),
        "brier": metrics.brier_score_loss(y, p),
        "sharpe_ratio": float(np.mean(periods) / (np.std(periods, ddof=1) or 1)),
        "max_drawdown": float(np.max(1 - wealth / np.maximum.accumulate(wealth))),
        "true_positives": tp,
        "false_positives": fp,
        "true_negatives": tn,
        "false_negatives": fn,
    }


def _files(
    folder: Path,
    model: xgb.XGBClassifier,
    x: pd.DataFrame,
    y: np.ndarray,
    p: np.ndarray,
    held: pd.DataFrame,
    scores: dict[str, float],
) -> None:
    def picture(name: str, draw: Callable[[Any], Any]) -> None:
        figure, axes = plt.subplots(figsize=(6, 4.5), dpi=80)
        draw(axes)
        axes.set_title(name)
        figure.tight_layout()
        figure.savefig(folder / "plots" / f"{name}.png")
        plt.close(figure)

    (folder / "plots").mkdir()
    gain = model.get_booster().get_score(importance_type="gain")
    top = sorted(gain, key=gain.__getitem__)[-20:]
    sample = x.iloc[np.linspace(0, len(x) - 1, 300).astype(int)]
    shap = model.get_booster().predict(xgb.DMatrix(sample, nthread=1), pred_contribs=True)[:, :-1]
    order = np.argsort(-np.abs(shap).mean(axis=0))[:12]
    days = np.unique(held["date"])[::HORIZON]
    returns = [held["target_return"][(held["date"] == day).to_numpy()].mean() for day in days]
    called = [held["target_return"][(held["date"] == day).to_numpy() & (p >= 0.5)].mean() for day in days]
    matrix = metrics.confusion_matrix(y, p >= 0.5)

    def dots(axes: Any) -> None:  # noqa: ANN401 -- matplotlib's
        for row, index in enumerate(order):
            axes.scatter(shap[:, index], np.full(len(sample), row), c=sample.iloc[:, index], s=4, cmap="coolwarm")
        axes.set_yticks(range(len(order)), [sample.columns[index] for index in order])

    picture("roc", lambda axes: axes.plot(*metrics.roc_curve(y, p)[:2]))
    picture("precision_recall", lambda axes: axes.plot(*metrics.precision_recall_curve(y, p)[1::-1]))
    picture("calibration", lambda axes: axes.plot(*calibration.calibration_curve(y, p, n_bins=10)[::-1], marker="o"))
    picture("confusion", lambda axes: metrics.ConfusionMatrixDisplay(matrix).plot(ax=axes, colorbar=False))
    picture("importance", lambda axes: axes.barh(top, [gain[name] for name in top]))
    picture("shap_summary", dots)
    picture("signal", lambda axes: axes.plot(days, np.cumprod(1 + np.array([called, returns])[..., :].T, axis=0)))
    for name, rows in (
        ("feature_importance.csv", sorted(gain.items(), key=lambda item: -item[1])),
        ("shap_summary.csv", list(zip(x.columns, np.abs(shap).mean(axis=0), strict=True))),
    ):
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    (folder / "model_card.md").write_text("\n".join(f"{name}: {value:.4f}" for name, value in scores.items()))


def _profile(folder: Path, x: pd.DataFrame) -> None:
    """Edges and shares of ten bins per feature."""
    found = {}
    for name in x.columns:
        values = x[name].to_numpy()
        edges = np.unique(np.nanquantile(values, np.linspace(0, 1, 11)))
        shares = np.histogram(values[np.isfinite(values)], edges)[0] / len(values)
        found[name] = {"edges": edges.tolist(), "shares": shares.tolist(), "missing": float(np.isnan(values).mean())}
    (folder / "profile.json").write_text(json.dumps(found))


def _log(
    folder: Path,
    model: xgb.XGBClassifier,
    x: pd.DataFrame,
    params: dict[str, Any],
    scores: dict[str, float],
    tracking_uri: str,
    model_name: str,
    digest: str,
) -> None:
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_experiment("by-hand")
    with mlflow.start_run(run_name="growth by hand") as run:
        mlflow.set_tags({"strategy": "growth", "model_type": "xgboost", "data_fingerprint": digest})
        mlflow.log_params({**params, "seed": 42, "train_samples": len(x)})
        mlflow.log_metrics({name: float(value) for name, value in scores.items()})
        mlflow.log_input(mlflow.data.from_pandas(x.head(100), name="growth"), context="training")
        mlflow.log_artifacts(str(folder))
        mlflow.xgboost.log_model(
            model,
            name="model",
            signature=infer_signature(x.head(5), model.predict(x.head(5))),
            input_example=x.head(5),
            pip_requirements=[f"xgboost-cpu=={xgb.__version__}", f"mlflow=={mlflow.__version__}"],
            registered_model_name=model_name,
        )
    client = MlflowClient(tracking_uri)
    (version,) = client.search_model_versions(f"run_id = '{run.info.run_id}'")
    client.transition_model_version_stage(model_name, version.version, "Staging")
    client.set_registered_model_alias(model_name, "challenger", version.version)

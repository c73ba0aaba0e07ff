"""The train stage: read, split by date, fit, judge on dates the model never saw, log, register.

Safe to run twice: one run registers one version, and a second try finds it.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import structlog

from mlops.errors import EmptyWindow, MissingColumn
from mlops.features.frame import select_features
from mlops.features.labels import parse_label
from mlops.features.windows import training_window
from mlops.ledger.records import Grant, Kind, Stage, StageOutcome
from mlops.ledger.records import RunState as Run
from mlops.ports import FeatureSource, ModelVersion, Progress, TrainedModel, TrainingData
from mlops.retraining.as_of import resolve_as_of
from mlops.strategy_file import restore
from mlops.training.card import model_card
from mlops.training.fingerprint import data_fingerprint
from mlops.training.importance import importance_csv
from mlops.training.metrics import Evaluation, evaluate_classifier, majority_class_share
from mlops.training.plots import training_plots
from mlops.training.splits import Split, known_labels, split_by_date
from mlops.training.trading import evaluate_trading
from mlops.training.trainer import load_trainer

if TYPE_CHECKING:
    from datetime import date

    import numpy.typing as npt
    import pyarrow as pa

    from mlops.bootstrap import Services
    from mlops.retraining.lease_keeper import LeaseKeeper
    from mlops.strategies import Strategy

log = structlog.get_logger(__name__)

#: Rows of the input example in the model's folder; the guide logs `X_train.head(5)`.
EXAMPLE_ROWS = 5
EXPERIMENT_RUN_NAME = "{strategy} {as_of} {kind}"


@dataclass(frozen=True, kw_only=True)
class LabelledRows:
    """A strategy's rows with labels, as of a date."""

    x: npt.NDArray[np.float32]
    """(n, f); infinities and nulls are nan"""
    y: npt.NDArray[np.int8]
    """(n,); 0 where `known` is False"""
    known: npt.NDArray[np.bool_]
    """(n,) the label was known on the as-of date"""
    dates: npt.NDArray[np.datetime64]
    """(n,) datetime64[D], ascending"""
    target_return: npt.NDArray[np.float64] | None
    features: tuple[str, ...]


def read_labelled(
    source: FeatureSource, strategy: Strategy, *, as_of: date, features: tuple[str, ...] | None = None
) -> LabelledRows:
    """Rows of the training window. Raises EmptyWindow, MissingColumn, SourceUnavailable."""
    label = parse_label(strategy.training.label)
    columns = source.columns()
    names = {column.name for column in columns}
    chosen = features or select_features(columns, strategy.data)
    missing = sorted({*label.columns, *chosen} - names)
    if missing:
        message = f"the feature view lacks {', '.join(missing)}; it is needed by {strategy.training.label!r} or a model"
        raise MissingColumn(message)
    window = training_window(as_of, strategy.training)
    extra = sorted({*label.columns, *({"target_return"} & names)} - set(chosen))
    table = source.read(strategy.name, window, ["ticker", "date", *chosen, *extra])
    if table.num_rows == 0:
        message = (
            f"strategy {strategy.name!r} has no rows after {window.start} up to {window.end}; "
            f"load its features, or give another --as-of"
        )
        raise EmptyWindow(message)
    y, has_value = label.evaluate(table)
    dates = table.column("date").to_numpy().astype("datetime64[D]")
    in_time = known_labels(dates, dates, as_of=as_of, horizon_dates=strategy.training.horizon_dates)
    return LabelledRows(
        x=_matrix(table, chosen),
        y=np.asarray(y, dtype=np.int8),
        known=np.asarray(has_value, dtype=bool) & in_time,
        dates=dates,
        target_return=_column(table, "target_return") if "target_return" in table.column_names else None,
        features=tuple(chosen),
    )


def train(grant: Grant, services: Services, keeper: LeaseKeeper) -> StageOutcome:
    """Register one version, judged on held-out dates, and hand it to promotion where the run's kind says so."""
    strategy = restore(grant.policy)
    as_of = resolve_as_of(grant.as_of, strategy, services.source, today=services.now().date())
    found = services.registry.find_by_ledger_run(strategy.model_name, grant.run_id)
    if found is not None:
        log.info("train.version_found", version=found.version)
        result = _result(found, strategy, dict(found.tags))
    else:
        services.registry.close_stale_runs(grant.run_id, reason="the training was taken over by another worker")
        result = _fit_and_register(grant, services, keeper, strategy, as_of)
    _to_staging(services, keeper, strategy, grant, result["version"])
    ends = grant.kind is Kind.TRAIN
    return StageOutcome(
        result=result,
        run_state=Run.SUCCEEDED if ends else None,
        next_stage=None if ends else Stage.PROMOTE,
        as_of=as_of,
    )


def _fit_and_register(
    grant: Grant, services: Services, keeper: LeaseKeeper, strategy: Strategy, as_of: date
) -> dict[str, Any]:
    keeper.report(Progress(done=0, total=4, unit="steps"))
    rows = read_labelled(services.source, strategy, as_of=as_of)
    policy = strategy.training
    split = split_by_date(
        rows.dates, rows.known, horizon_dates=policy.horizon_dates, holdout_dates=policy.holdout_dates
    )
    keeper.check()
    began = time.monotonic()
    device = "cuda" if _on_gpu_queue() else "cpu"
    model = load_trainer(policy.trainer).fit(
        TrainingData(x=rows.x[split.train], y=rows.y[split.train], dates=rows.dates[split.train], features=rows.features),
        params=policy.params,
        seed=policy.seed,
        device=device,
        n_jobs=_n_jobs(services),
        segment_rounds=policy.segment_rounds,
        control=keeper,
    )
    fit_s = time.monotonic() - began
    probability = model.predict_proba(rows.x[split.holdout])[:, 1]
    evaluation = evaluate(strategy, rows, split, probability)
    fingerprint = data_fingerprint(
        rows.x[rows.known], rows.y[rows.known], rows.dates[rows.known], features=rows.features
    )
    tags = _tags(grant, strategy, as_of, split, rows, fingerprint=fingerprint, device=device, fit_s=fit_s)
    with tempfile.TemporaryDirectory(prefix="acis-train-") as folder:
        trained = _trained(grant, strategy, as_of, rows, split, model, evaluation, tags, probability, Path(folder))
        keeper.check_before_write()
        version = services.registry.log_training(trained)
    log.info("train.registered", model=version.name, version=version.version, fit_s=round(fit_s, 2))
    return _result(version, strategy, {**tags, **dict(version.tags)})


def evaluate(
    strategy: Strategy, rows: LabelledRows, split: Split, probability: npt.NDArray[np.floating[Any]]
) -> Evaluation:
    """Metrics of the held-out dates: of the classification, and of the trades where the label speaks of them."""
    held = split.holdout
    classified = evaluate_classifier(
        rows.y[held], probability, train_positive_share=majority_class_share(rows.y[split.train])
    )
    traded = evaluate_trading(
        rows.dates[held],
        probability,
        None if rows.target_return is None else rows.target_return[held],
        label=strategy.training.label,
        horizon_dates=strategy.training.horizon_dates,
    )
    return classified.merged(traded)


def _trained(  # noqa: PLR0913 -- everything that is logged
    grant: Grant,
    strategy: Strategy,
    as_of: date,
    rows: LabelledRows,
    split: Split,
    model: Any,  # noqa: ANN401 -- XGBClassifier
    evaluation: Evaluation,
    tags: Mapping[str, str],
    probability: npt.NDArray[np.floating[Any]],
    folder: Path,
) -> TrainedModel:
    example = pd.DataFrame(rows.x[split.train][:EXAMPLE_ROWS], columns=list(rows.features))
    artifacts = {
        **training_plots(rows.y[split.holdout], probability, model, rows.features, folder),
        "feature_importance.csv": importance_csv(model, rows.features, folder / "feature_importance.csv"),
        "model_card.md": _written(
            folder / "model_card.md",
            model_card(strategy, split=split, evaluation=evaluation, tags=tags, as_of=as_of),
        ),
    }
    params = {
        **strategy.training.params,
        "seed": strategy.training.seed,
        "strategy": strategy.name,
        "label": strategy.training.label,
        "train_samples": int(split.train.sum()),
        "test_samples": int(split.holdout.sum()),
        "n_features": len(rows.features),
        "horizon_dates": strategy.training.horizon_dates,
        "holdout_dates": strategy.training.holdout_dates,
    }
    labelled = rows.known
    return TrainedModel(
        ledger_run_id=grant.run_id,
        strategy=strategy.name,
        model_name=strategy.model_name,
        run_name=EXPERIMENT_RUN_NAME.format(strategy=strategy.name, as_of=as_of, kind=grant.kind),
        model=model,
        params=params,
        metrics=evaluation.metrics,
        tags=tags,
        features=rows.features,
        example=example,
        predictions=model.predict(example),
        artifacts=artifacts,
        dataset=pd.DataFrame(rows.x[labelled], columns=list(rows.features)),
        dataset_name=f"{strategy.name} {as_of}",
    )


def _tags(  # noqa: PLR0913
    grant: Grant,
    strategy: Strategy,
    as_of: date,
    split: Split,
    rows: LabelledRows,
    *,
    fingerprint: str,
    device: str,
    fit_s: float,
) -> dict[str, str]:
    return {
        "strategy": strategy.name,
        "model_type": "xgboost",
        "training_date": as_of.isoformat(),
        "run_id": grant.run_id,
        "data_fingerprint": fingerprint,
        "label": strategy.training.label,
        "device": device,
        "reason": grant.reason[:500],
        "train_start": split.first_train.isoformat(),
        "train_end": split.last_train.isoformat(),
        "holdout_start": split.first_holdout.isoformat(),
        "holdout_end": split.last_holdout.isoformat(),
        "n_train": str(int(split.train.sum())),
        "n_holdout": str(int(split.holdout.sum())),
        "n_features": str(len(rows.features)),
        "fit_s": f"{fit_s:.3f}",
    }


def _result(version: ModelVersion, strategy: Strategy, tags: Mapping[str, str]) -> dict[str, Any]:
    return {
        "model_name": version.name,
        "version": version.version,
        "mlflow_run_id": version.run_id,
        "metrics": dict(version.metrics),
        "label": strategy.training.label,
        "device": tags["device"],
        "data_fingerprint": tags["data_fingerprint"],
        "n_train": int(tags["n_train"]),
        "n_holdout": int(tags["n_holdout"]),
        "n_features": int(tags["n_features"]),
        "train_start": tags["train_start"],
        "train_end": tags["train_end"],
        "holdout_start": tags["holdout_start"],
        "holdout_end": tags["holdout_end"],
        "fit_s": float(tags["fit_s"]),
    }


def _to_staging(services: Services, keeper: LeaseKeeper, strategy: Strategy, grant: Grant, version: str) -> None:
    """Only an undecided version stands in Staging; one that this run has decided about already stays where it is."""
    if services.ledger.promotion_of(grant.run_id) is not None:
        return
    keeper.check_before_write()
    seq = services.ledger.champion(strategy.name, namespace=grant.namespace).seq
    services.registry.apply_stage(strategy.model_name, version, "Staging", seq=seq, tags={})


def _n_jobs(services: Services) -> int:
    settings = services.settings
    return settings.train_n_jobs or max(1, (os.cpu_count() or 1) // settings.train_concurrency)


def _on_gpu_queue() -> bool:
    return os.environ.get("WORKER_ROLE") == "train.gpu"


def _matrix(table: pa.Table, features: tuple[str, ...]) -> npt.NDArray[np.float32]:
    x = np.empty((table.num_rows, len(features)), dtype=np.float32)
    for index, name in enumerate(features):
        x[:, index] = _column(table, name)
    x[~np.isfinite(x)] = np.nan
    return x


def _column(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    return np.asarray(table.column(name).to_numpy(zero_copy_only=False), dtype=np.float64)


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path

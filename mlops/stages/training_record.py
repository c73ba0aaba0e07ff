"""The record of a training in the registry: parameters, metrics, tags, figures, card, example.

Called by the train stage when the model is fitted and scored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import structlog
import xgboost as xgb

from mlops.domain.drift.references.training_profile import DriftProfile, make_profile
from mlops.domain.errors import AcisError, LeaseLost, StageCancelled, TemporaryError
from mlops.domain.frame import feature_frame, left_out
from mlops.domain.panel import counted_dates
from mlops.domain.ports import PROFILE_ARTIFACT, XGBOOST_TAG, FailedTraining, FeatureSource, TrainedModel, Window
from mlops.domain.promotion.findings import INCOMPLETE, STALE, STALE_LABELS
from mlops.domain.sampling import smallest_marks_by_date
from mlops.domain.training.card import model_card
from mlops.domain.training.feature_names import encoded_names
from mlops.domain.training.fingerprint import data_fingerprint
from mlops.domain.training.importance import (
    IMPORTANCE_ARTIFACT,
    SAMPLE_ROWS,
    contributions,
    contributions_csv,
    importance_csv,
)
from mlops.domain.training.judged_twin import HORIZON_TAG, SINCE_TAG, TWIN_ARTIFACT, tags_of_result
from mlops.domain.training.metrics import Evaluation
from mlops.domain.training.plots import contributions_figure, importance_figure, save, signal_figure, training_plots
from mlops.domain.training.trading import signal_curve
from mlops.registry.notes import model_note, table
from mlops.stages.champion_base import Beginning
from mlops.stages.drift_windows import read_rows, read_thinned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from mlops.domain.policies import Strategy
    from mlops.domain.ports import ModelRegistry
    from mlops.domain.records import Grant
    from mlops.domain.training.checks import TrainingChecks
    from mlops.domain.training.importance import Contributions
    from mlops.domain.training.refit_distance import RefitDistance
    from mlops.domain.training.splits import Split
    from mlops.runs.lease import LeaseKeeper
    from mlops.stages.fitting import Fitted
    from mlops.stages.labelled_rows import LabelledRows
    from mlops.stages.tuning import Tuned

# ---- The files of a training, as the registry keeps them: pictures, tables, model card


def held_out_plots(
    strategy: Strategy,
    rows: LabelledRows,
    split: Split,
    probability: npt.NDArray[np.floating[Any]],
    folder: Path,
    *,
    is_twin: bool,
    check: Callable[[], None] = lambda: None,
) -> dict[str, Path]:
    """Write the pictures of the held-out dates into `folder`; artifact path → file.

    probability : (n held-out,) of the judged model      is_twin : that is not the registered one
    check : called before each picture is written; what it raises ends the drawing
    """
    held = split.holdout
    curve = signal_curve(
        rows.dates[held],
        probability,
        None if rows.target_return is None else rows.target_return[held],
        label=strategy.training.label,
        horizon_dates=strategy.training.horizon_dates,
    )
    of_twin = " of its judged twin" if is_twin else ""
    about = f"{strategy.name}, held out{of_twin} {split.first_holdout} to {split.last_holdout}"
    others = {} if curve is None else {"equity_curve.png": signal_figure(curve, about=about)}
    return training_plots(rows.y[held], probability, folder, about=about, others=others, check=check)


def _training_files(scored: ScoredModel, tags: Mapping[str, str], folder: Path) -> dict[str, Path]:
    """Artifact path → file in `folder`."""
    rows, split, learnt, name = scored.rows, scored.split, scored.trained_on, scored.strategy.name
    features = rows.features
    explained = _explained_rows(scored)
    plots = scored.plots
    if plots is None:
        plots = held_out_plots(scored.strategy, rows, split, scored.probability, folder, is_twin=False)
    trained = f"{name}, trained {learnt.first_train} to {learnt.last_train}, n = {int(learnt.train.sum()):,}"
    held_out = f"{name}, held out {split.first_holdout} to {split.last_holdout}"
    of_model = {
        "importance.png": importance_figure(scored.model, features, about=trained),
        "shap_summary.png": contributions_figure(explained, about=held_out),
    }
    card = folder / "model_card.md"
    text = model_card(
        scored.strategy,
        split=split,
        evaluation=scored.evaluation,
        checks=scored.checks,
        tags=tags,
        as_of=scored.as_of,
        columns=rows.columns,
        registered=None if scored.twin is None else learnt,
    )
    card.write_text(text, encoding="utf-8")
    return {
        **scored.checks.files(folder),
        **plots,
        **{f"plots/{name}": save(figure, folder / name) for name, figure in of_model.items()},
        IMPORTANCE_ARTIFACT: importance_csv(scored.model, features, folder / IMPORTANCE_ARTIFACT),
        "shap_summary.csv": contributions_csv(explained, folder / "shap_summary.csv"),
        "model_card.md": card,
    }


def _explained_rows(scored: ScoredModel) -> Contributions:
    """SHAP values of some of the held-out rows, evenly over their dates."""
    rows = scored.rows
    places = np.flatnonzero(scored.split.holdout)
    chosen = np.zeros(len(rows.x), dtype=bool)
    chosen[places[smallest_marks_by_date(rows.marks[places], rows.dates[places], SAMPLE_ROWS)]] = True
    return contributions(scored.model, scored.rows.x[chosen], scored.rows.features)


def _size_and_counts(scored: ScoredModel) -> Evaluation:
    """Metrics on the training rows of each class, and on the model's size in XGBoost's own format."""
    y = scored.rows.y[scored.trained_on.train]
    return Evaluation(
        metrics={
            "n_train_positive": float(np.count_nonzero(y == 1)),
            "n_train_negative": float(np.count_nonzero(y == 0)),
            "model_size_bytes": float(len(scored.model.get_booster().save_raw("ubj"))),
        }
    )


# ---- A training that fails leaves a run in the registry that says why. Called by the train stage

log = structlog.get_logger(__name__)


@contextmanager
def failure_logged(
    registry: ModelRegistry, keeper: LeaseKeeper, grant: Grant, strategy: Strategy, *, as_of: date
) -> Iterator[None]:
    """Log what the block raises, and let it go on. Not what only means that the stage waits, stops or is not ours."""
    try:
        yield
    except (TemporaryError, StageCancelled, LeaseLost):
        raise
    except Exception as exc:
        failed = FailedTraining(
            ledger_run_id=grant.run_id,
            run_name=run_name(strategy, grant, as_of=as_of),
            reason=f"{type(exc).__name__}: {exc}",
            params={**strategy.training.params, "seed": strategy.training.seed, "label": strategy.training.label},
            tags={
                "strategy": strategy.name,
                "training_date": as_of.isoformat(),
                "kind": grant.kind.value,
                "attempt": str(grant.attempt),
            },
        )
        try:
            keeper.check_before_write()
            registry.log_failure(failed)
        except AcisError as unlogged:
            # The ledger has the reason all the same; the first error is the one to show.
            log.warning("train.failure_not_logged", error=str(unlogged), action="none: the run's page has the reason")
        raise


def run_name(strategy: Strategy, grant: Grant, *, as_of: date) -> str:
    """Name of the registry's run: strategy, date and kind."""
    return f"{strategy.name} {as_of} {grant.kind.value}"


# ---- The drift profile of a training: what its rows looked like, read again as drift checks read them
#
# The training's own matrix will not do: it has no infinities, half the digits, and no earlier dates. Called by the
# train stage when the model is fitted; the profile is logged with the version.

#: Of more trained rows a sample is profiled: 45 features of it are 90 MB, and by Dvoretzky, Kiefer and Wolfowitz a
#: share is off by more than sqrt(ln(2 / .05) / (2 x 250,000)) = .0027 in one sample of twenty.
_PROFILE_ROWS = 250_000


def read_training_profile(
    source: FeatureSource,
    strategy: Strategy,
    *,
    features: Sequence[str],
    first: date,
    last: date,
    as_of: date,
) -> DriftProfile:
    """The profile of the dates from `first` to `last`, with the calibration history before and the days up to `as_of`.

    Raises what reading raises.
    """
    trained = Window(start=first - timedelta(days=1), end=last)
    history = Window(start=trained.start - timedelta(days=strategy.drift.calibration_days), end=trained.start)
    columns = ["ticker", "date", *features]
    counted = counted_dates(
        source, strategy.name, Window(start=history.start, end=as_of), min_share=strategy.data.min_date_share
    )
    most = min(strategy.data.max_reference_rows or _PROFILE_ROWS, _PROFILE_ROWS)
    rows = read_rows(
        counted, strategy.name, columns, history=history, reference=trained, current=Window(start=last, end=last),
        limit=most,
    )  # fmt: skip
    after = read_thinned(counted, strategy.name, Window(start=last, end=as_of), columns)
    return make_profile(
        *(feature_frame(table, features) for table in (rows.history, rows.reference, after)),
        strategy=strategy.name,
        as_of=as_of,
        trained_window=trained,
        bins=strategy.drift.bins,
    )


#: Rows of the input example in the model's folder; the guide logs `X_train.head(5)`.
_EXAMPLE_ROWS = 5
#: MLflow cuts longer tags.
MAX_TAG = 500


@dataclass(frozen=True, kw_only=True)
class JudgedTwin:
    """The model that was scored in place of the registered one."""

    fitted: Fitted
    file: bytes
    """UBJSON"""
    distance: RefitDistance


@dataclass(frozen=True, kw_only=True)
class ScoredModel:
    """A fitted model with all that it came from and how it was scored."""

    grant: Grant
    strategy: Strategy
    as_of: date
    rows: LabelledRows
    split: Split
    trained_on: Split
    """Its training part is what the registered model learnt from; `split` where that is the judged one"""
    fitted: Fitted
    """The registered model"""
    twin: JudgedTwin | None
    """None: the registered model was judged itself"""
    probability: npt.NDArray[np.floating[Any]]
    """(n held-out,) of class 1, by the judged model"""
    evaluation: Evaluation
    plots: Mapping[str, Path] | None = None
    """Pictures of the held-out dates, artifact path → file; None: they are not drawn yet"""
    checks: TrainingChecks
    begins: Beginning
    since: date | None = None
    """First date from which rows were taken, where it is not the policy's window alone that decided"""
    tuned: Tuned | None = None
    facts: tuple[str, ...] = ()
    """About the dates of its rows"""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings on how it was trained."""
        untold = left_out(self.rows.columns)
        unfit = (found.words for found in self.checks.findings if found.code in (STALE, STALE_LABELS, INCOMPLETE))
        told = (*unfit, *self.facts, *self.rows.notes)
        return (*self.begins.warnings, *self.fitted.warnings, *told, *([untold] if untold else []))

    @property
    def model(self) -> Any:  # noqa: ANN401 -- an XGBClassifier
        """The registered XGBClassifier."""
        return self.fitted.model

    @property
    def judged(self) -> Fitted:
        """The model that was scored."""
        return self.fitted if self.twin is None else self.twin.fitted


def tags_of(scored: ScoredModel) -> dict[str, str]:
    """Tags of the run and of the version; a retried stage reads its result back from them."""
    rows, split, learnt = scored.rows, scored.split, scored.trained_on
    known = rows.known
    fitted = scored.fitted
    best = scored.judged.best_iteration
    return {
        "strategy": scored.strategy.name,
        "model_type": "xgboost",
        XGBOOST_TAG: xgb.__version__,
        "training_date": scored.as_of.isoformat(),
        "run_id": scored.grant.run_id,
        "data_fingerprint": data_fingerprint(
            rows.x.where(known), rows.y[known], rows.dates[known], features=rows.features
        ),
        "label": scored.strategy.training.label,
        "device": fitted.device,
        "reason": scored.grant.reason[:MAX_TAG],
        "train_start": learnt.first_train.isoformat(),
        "train_end": learnt.last_train.isoformat(),
        "holdout_start": split.first_holdout.isoformat(),
        "holdout_end": split.last_holdout.isoformat(),
        "n_train": str(int(learnt.train.sum())),
        "n_holdout": str(int(split.holdout.sum())),
        "n_features": str(len(rows.features)),
        "fit_s": f"{fitted.fit_s:.3f}",
        "n_validation": str(scored.judged.n_validation),
        **({} if best is None else {"best_iteration": str(best)}),
        **({} if fitted.resumed_from is None else {"resumed_from": fitted.resumed_from}),
        **({"warning": "; ".join(scored.warnings)[:MAX_TAG]} if scored.warnings else {}),
        HORIZON_TAG: str(scored.strategy.training.horizon_dates),
        **({} if scored.since is None else {SINCE_TAG: scored.since.isoformat()}),
        **_twin_tags(scored),
        **_base_tags(scored),
        **(scored.tuned.tags() if scored.tuned is not None else {}),
        **scored.checks.tags(),
    }


def _base_tags(scored: ScoredModel) -> dict[str, str]:
    base = scored.begins.base
    if base is None:
        return {}
    return base.tags(
        scored.trained_on,
        rounds=scored.model.get_booster().num_boosted_rounds(),
        is_refit=scored.twin is not None,
    )


def _twin_tags(scored: ScoredModel) -> dict[str, str]:
    twin, split = scored.twin, scored.split
    if twin is None:
        return {}
    base = scored.begins.base
    first = split.first_train if base is None else base.first_train(split)
    return tags_of_result(
        {
            "twin": {
                "model_sha256": hashlib.sha256(twin.file).hexdigest(),
                "train_start": first.isoformat(),
                "train_end": split.last_train.isoformat(),
                "n_train": int(split.train.sum()),
                "distance": round(twin.distance.value, 4),
            },
            "holdout_start": split.first_holdout.isoformat(),
            "holdout_end": split.last_holdout.isoformat(),
        }
    )


def record_of(scored: ScoredModel, tags: dict[str, str], folder: Path, *, profile: bytes) -> TrainedModel:
    """Make the record for the registry; the files are written into `folder`."""
    rows, strategy = scored.rows, scored.strategy
    kept = {PROFILE_ARTIFACT: profile} | ({} if scored.twin is None else {TWIN_ARTIFACT: scored.twin.file})
    for name, content in kept.items():
        folder.joinpath(name).write_bytes(content)
    first_rows = np.flatnonzero(scored.split.train)[:_EXAMPLE_ROWS]
    example = pd.DataFrame(rows.x[np.isin(np.arange(len(rows.x)), first_rows)], columns=encoded_names(rows.features))
    return TrainedModel(
        ledger_run_id=scored.grant.run_id,
        strategy=strategy.name,
        model_name=strategy.model_name,
        run_name=run_name(strategy, scored.grant, as_of=scored.as_of)
        + (" incremental" if scored.begins.base is not None else ""),
        model=scored.model,
        params=_params(scored),
        metrics=scored.evaluation.merged(_size_and_counts(scored)).metrics | scored.checks.metrics(),
        tags=tags,
        features=rows.features,
        example=example,
        predictions=scored.model.predict(example),
        artifacts={**_training_files(scored, tags, folder), **{name: folder / name for name in kept}},
        dataset=example,
        dataset_rows=int(np.count_nonzero(rows.known)),
        dataset_name=f"{strategy.name} {scored.as_of}",
        trials=scored.tuned.trials if scored.tuned is not None else (),
        trials_metric=scored.tuned.metric if scored.tuned is not None else "",
        note=_note(scored, tags),
        model_note=model_note(strategy.name, strategy.description, strategy.training.label),
    )


#: What a description shows of the metrics, by name.
_SHOWN = {
    "accuracy": "accuracy",
    "holdout_majority_accuracy": "majority class",
    "roc_auc": "ROC AUC",
    "log_loss": "log loss",
    "f1_score": "F1",
    "sharpe_ratio": "Sharpe ratio",
}


def _note(scored: ScoredModel, tags: Mapping[str, str]) -> str:
    """Describe the training for MLflow's pages."""
    grant, training = scored.grant, scored.strategy.training
    metrics = scored.evaluation.metrics
    shown = ", ".join(f"{title} {metrics[name]:.3f}" for name, title in _SHOWN.items() if name in metrics)
    findings = [f"- {found.words}" for found in scored.checks.findings]
    judged_on, twin = "On the held-out dates", []
    if scored.twin is not None:
        judged_on = "The judged twin, of the same code, parameters and seed, on the held-out dates"
        of_twin = (tags["twin_train_start"], tags["twin_train_end"], f"{int(tags['twin_n_train']):,}")
        twin = [("judged twin trained on", *of_twin)]
    parts = [
        (
            f"**{scored.strategy.name}**, {grant.kind.value} as of {scored.as_of}, asked for by {grant.requested_by}: "
            f"{grant.reason[:MAX_TAG]}"
        ),
        f"{judged_on}: {shown or 'nothing could be measured'}",
        f"Predicts whether `{training.label}`, {training.horizon_dates} dates ahead.",
        table(
            ("", "from", "to", "rows"),
            ("trained on", tags["train_start"], tags["train_end"], f"{int(tags['n_train']):,}"),
            *twin,
            (
                "held out",
                str(scored.split.first_holdout),
                str(scored.split.last_holdout),
                f"{int(tags['n_holdout']):,}",
            ),
        ),
        f"Trained on dates since {scored.since}, where the relation of features and label changed."
        if scored.since is not None
        else "",
        f"Warning: {tags['warning']}" if "warning" in tags else "",
        "\n".join(["Too good to be true, old or incomplete:", *findings]) if findings else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _params(scored: ScoredModel) -> dict[str, Any]:
    policy = scored.strategy.training
    return {
        **scored.judged.params,
        **({} if scored.twin is None else {"refit_n_estimators": scored.model.get_booster().num_boosted_rounds()}),
        "seed": policy.seed,
        **({"incremental_rounds": policy.incremental_rounds} if scored.begins.base is not None else {}),
        "strategy": scored.strategy.name,
        "label": policy.label,
        "train_samples": int(scored.trained_on.train.sum()),
        "test_samples": int(scored.split.holdout.sum()),
        "n_features": len(scored.rows.features),
        "horizon_dates": policy.horizon_dates,
        "holdout_dates": policy.holdout_dates,
        "embargo_dates": policy.embargo_dates,
        "trainer": policy.trainer,
        "early_stopping_rounds": policy.early_stopping_rounds,
        "validation_dates": policy.validation_dates if policy.early_stopping_rounds else 0,
        "validation_samples": scored.judged.n_validation,
        "class_weight": policy.class_weight,
    }

"""The files of a training, as the registry keeps them: pictures, tables, model card. Called by training_record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlops.domain.sampling import smallest_marks_by_date
from mlops.domain.training.card import model_card
from mlops.domain.training.importance import (
    IMPORTANCE_ARTIFACT,
    SAMPLE_ROWS,
    contributions,
    contributions_csv,
    importance_csv,
)
from mlops.domain.training.metrics import Evaluation
from mlops.domain.training.plots import contributions_figure, importance_figure, signal_figure, training_plots
from mlops.domain.training.trading import signal_curve

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlops.domain.training.importance import Contributions
    from mlops.stages.training_record import ScoredModel


def training_files(scored: ScoredModel, tags: Mapping[str, str], folder: Path) -> dict[str, Path]:
    """Artifact path → file in `folder`."""
    rows, split, policy = scored.rows, scored.split, scored.strategy.training
    held, features = split.holdout, rows.features
    explained = explained_rows(scored)
    curve = signal_curve(
        rows.dates[held],
        scored.probability,
        None if rows.target_return is None else rows.target_return[held],
        label=policy.label,
        horizon_dates=policy.horizon_dates,
    )
    name = scored.strategy.name
    trained = f"{name}, trained {split.first_train} to {split.last_train}, n = {int(split.train.sum()):,}"
    held_out = f"{name}, held out {split.first_holdout} to {split.last_holdout}"
    others = {
        "importance.png": importance_figure(scored.model, features, about=trained),
        "shap_summary.png": contributions_figure(explained, about=held_out),
    }
    if curve is not None:
        others["equity_curve.png"] = signal_figure(curve, about=held_out)
    card = folder / "model_card.md"
    text = model_card(
        scored.strategy,
        split=split,
        evaluation=scored.evaluation,
        checks=scored.checks,
        tags=tags,
        as_of=scored.as_of,
        columns=rows.columns,
    )
    card.write_text(text, encoding="utf-8")
    return {
        **scored.checks.files(folder),
        **training_plots(rows.y[held], scored.probability, folder, about=held_out, others=others),
        IMPORTANCE_ARTIFACT: importance_csv(scored.model, features, folder / IMPORTANCE_ARTIFACT),
        "shap_summary.csv": contributions_csv(explained, folder / "shap_summary.csv"),
        "model_card.md": card,
    }


def explained_rows(scored: ScoredModel) -> Contributions:
    """SHAP values of some of the held-out rows, evenly over their dates."""
    rows = scored.rows
    places = np.flatnonzero(scored.split.holdout)
    chosen = np.zeros(len(rows.x), dtype=bool)
    chosen[places[smallest_marks_by_date(rows.marks[places], rows.dates[places], SAMPLE_ROWS)]] = True
    return contributions(scored.model, scored.rows.x[chosen], scored.rows.features)


def size_and_counts(scored: ScoredModel) -> Evaluation:
    """Metrics on the training rows of each class, and on the model's size in XGBoost's own format."""
    y = scored.rows.y[scored.split.train]
    return Evaluation(
        metrics={
            "n_train_positive": float(np.count_nonzero(y == 1)),
            "n_train_negative": float(np.count_nonzero(y == 0)),
            "model_size_bytes": float(len(scored.model.get_booster().save_raw("ubj"))),
        }
    )

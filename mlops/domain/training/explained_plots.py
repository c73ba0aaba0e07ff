"""Pictures of what a model looks at: the gain of its features, and their contributions. Called by the train stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mlops.domain.training.figures import begin
from mlops.domain.training.importance import feature_importance

if TYPE_CHECKING:
    import xgboost as xgb
    from matplotlib.figure import Figure

    from mlops.domain.training.contributions import Contributions

TOP_FEATURES = 20
TOP_EXPLAINED = 12
_LABELS = 0.3
"""Of the width, for the names of features."""


def importance_figure(model: xgb.XGBClassifier, features: Sequence[str], *, about: str = "") -> Figure:
    """Shares of the total gain, the largest on top."""
    figure, axes = begin(
        f"Importance, {len(features)} features", "share of the total gain", "", about=about, left=_LABELS
    )
    top = feature_importance(model, features)[:TOP_FEATURES][::-1]
    axes.barh([part.feature for part in top], [part.share for part in top])
    return figure


def contributions_figure(found: Contributions, *, about: str = "") -> Figure:
    """One dot per row and feature: where it moved the prediction, coloured by the feature's rank among the rows."""
    title = "SHAP values; blue: low, red: high value of the feature"
    about = f"{about}, a sample of n = {len(found.values):,}" if about else ""
    figure, axes = begin(title, "log odds", "", about=about, left=_LABELS)
    top = found.order()[:TOP_EXPLAINED][::-1]
    n = len(found.values)
    heights = np.repeat(np.arange(len(top)), n) + np.tile(np.linspace(-0.3, 0.3, n), len(top))
    colours = [_ranks(found.values[:, index]) for index in top]
    axes.scatter(
        found.shap[:, top].T.reshape(-1), heights, c=np.concatenate(colours), cmap="coolwarm", s=4, linewidths=0
    )
    axes.axvline(0.0, color="grey", linewidth=0.8)
    axes.set_yticks(range(len(top)), [found.features[index] for index in top])
    return figure


def _ranks(values: np.ndarray) -> np.ndarray:
    """From 0 to 1; missing values stay without colour."""
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable") / max(1, len(values) - 1)
    return np.where(np.isnan(values), np.nan, ranks)

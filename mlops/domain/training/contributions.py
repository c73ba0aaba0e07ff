"""What each feature did to single predictions: SHAP values, as XGBoost itself computes them (TreeSHAP).

Called by the train stage. In log odds: a row's contributions and the bias sum to its margin.
Source: Lundberg et al. 2020, doi:10.1038/s42256-019-0138-9.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from mlops.domain.training.feature_names import encoded_names

if TYPE_CHECKING:
    from pathlib import Path

Floats = npt.NDArray[np.floating]

SAMPLE_ROWS = 300
"""Rows that are explained: 0.1 s for 100 trees of depth 6, and a mean known to 6 % of its deviation."""


@dataclass(frozen=True, kw_only=True)
class Contributions:
    """SHAP values of a sample of rows."""

    features: tuple[str, ...]
    values: npt.NDArray[np.float32]
    """(n, f) of the features themselves"""
    shap: npt.NDArray[np.float32]
    """(n, f) log odds"""

    def order(self) -> npt.NDArray[np.intp]:
        """Features by mean absolute contribution, the largest first; equal ones in their own order."""
        return np.argsort(-np.abs(self.shap).mean(axis=0), kind="stable")


def contributions(
    model: xgb.XGBClassifier, x: npt.NDArray[np.float32], features: Sequence[str], *, n_jobs: int = 1
) -> Contributions:
    """Of each row of x : (n, f)."""
    matrix = xgb.DMatrix(x, feature_names=encoded_names(features), nthread=n_jobs)
    found = model.get_booster().predict(matrix, pred_contribs=True)
    return Contributions(features=tuple(features), values=x, shap=found[:, :-1])  # the last column is the bias


def contributions_csv(found: Contributions, path: Path) -> Path:
    """Write `feature,mean_abs_shap,mean_shap,direction` to `path` and give it back, the most important first.

    direction: Pearson's r of the feature's values and its contributions;
    empty where either does not vary.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["feature", "mean_abs_shap", "mean_shap", "direction"])
        for index in found.order():
            shap = found.shap[:, index].astype(np.float64)
            direction = _correlation(found.values[:, index].astype(np.float64), shap)
            row = [f"{np.abs(shap).mean():.6g}", f"{shap.mean():.6g}", "" if direction is None else f"{direction:.3f}"]
            writer.writerow([found.features[index], *row])
    return path


def _correlation(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float | None:
    both = np.isfinite(x)
    x, y = x[both] - x[both].mean() if both.any() else x[both], y[both]
    y = y - y.mean() if len(y) else y
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else None

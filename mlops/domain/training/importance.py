"""Importance of a model's features: over all splits, and as SHAP values of single predictions (TreeSHAP).

Called by the train stage and by the plots. SHAP values are log odds, computed by XGBoost itself: a row's
contributions and the bias sum to its margin. Source: Lundberg et al. 2020, doi:10.1038/s42256-019-0138-9.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlops.domain.training.feature_names import encoded_names

if TYPE_CHECKING:
    from pathlib import Path

    import xgboost as xgb

IMPORTANCE_ARTIFACT = "feature_importance.csv"
"""Its name among a version's artifacts."""
SAMPLE_ROWS = 300
"""Rows that are explained: 0.1 s for 100 trees of depth 6, and a mean known to 6 % of its deviation."""


@dataclass(frozen=True, kw_only=True)
class FeatureImportance:
    """Importance of one feature; all 0 for a feature that no split uses."""

    feature: str
    gain: float
    """Mean loss reduction of its splits."""
    weight: int
    """Number of its splits."""
    share: float
    """Share of the total loss reduction; all features sum to 1, or to 0 for a model without splits."""


def feature_importance(model: xgb.XGBClassifier, features: Sequence[str]) -> list[FeatureImportance]:
    """Importance of every feature, the largest first; equal ones in the order of `features`."""
    booster = model.get_booster()
    weight = booster.get_score(importance_type="weight")
    gain = booster.get_score(importance_type="total_gain")
    total = sum(_number(value) for value in gain.values())
    parts = [
        _part(name, _number(gain.get(own, 0.0)), int(_number(weight.get(own, 0))), total)
        for name, own in zip(features, encoded_names(features), strict=True)
    ]
    return sorted(parts, key=lambda part: -part.share)


def importance_csv(model: xgb.XGBClassifier, features: Sequence[str], path: Path) -> Path:
    """Write `feature,gain,weight,share` to `path` and return it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["feature", "gain", "weight", "share"])
        for part in feature_importance(model, features):
            writer.writerow([part.feature, f"{part.gain:.6g}", part.weight, f"{part.share:.6f}"])
    return path


def read_importance(text: str) -> dict[str, float]:
    """Share of each feature from what `importance_csv` wrote, the most important first; of another file nothing."""
    shares: dict[str, float] = {}
    for row in csv.DictReader(text.splitlines()):
        try:
            shares[str(row["feature"])] = float(str(row["share"]))
        except (KeyError, ValueError):
            continue
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _part(name: str, total_gain: float, weight: int, total: float) -> FeatureImportance:
    return FeatureImportance(
        feature=name,
        gain=total_gain / weight if weight else 0.0,
        weight=weight,
        share=total_gain / total if total else 0.0,
    )


def _number(value: float | list[float]) -> float:
    """Return one number; linear boosters give a list per class."""
    return float(sum(value)) if isinstance(value, list) else float(value)


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
    """Compute the SHAP values of each row of x : (n, f)."""
    from xgboost import DMatrix  # noqa: PLC0415 -- heavy, and tables that were written are read without it

    matrix = DMatrix(x, feature_names=encoded_names(features), nthread=n_jobs)
    found = model.get_booster().predict(matrix, pred_contribs=True)
    return Contributions(features=tuple(features), values=x, shap=found[:, :-1])  # the last column is the bias


def contributions_csv(found: Contributions, path: Path) -> Path:
    """Write `feature,mean_abs_shap,mean_shap,direction` to `path` and return it, the most important first.

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

"""What each feature contributed to a fitted model. Called by the train stage and by the plots."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops.domain.training.feature_names import encoded_names

if TYPE_CHECKING:
    from pathlib import Path

    import xgboost as xgb

IMPORTANCE_ARTIFACT = "feature_importance.csv"
"""Its name among a version's artifacts."""


@dataclass(frozen=True, kw_only=True)
class FeatureImportance:
    """One feature's part; all 0 for a feature that no split uses."""

    feature: str
    gain: float
    """Mean loss reduction of its splits."""
    weight: int
    """Number of its splits."""
    share: float
    """Its part of the total loss reduction; all features sum to 1, or to 0 for a model without splits."""


def feature_importance(model: xgb.XGBClassifier, features: Sequence[str]) -> list[FeatureImportance]:
    """Every feature, the most important first; equal ones in the order of `features`."""
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
    """Write `feature,gain,weight,share` to `path` and give it back."""
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
    """One number; linear boosters give a list per class."""
    return float(sum(value)) if isinstance(value, list) else float(value)

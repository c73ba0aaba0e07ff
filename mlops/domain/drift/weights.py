"""Weights of the features in a check: equal, or by their importance for the champion; pure.

A shift in a feature that the model never looks at hurts nobody. The weights are each feature's share of the model's
total gain; what the model does not read counts nothing. Used by `calibration` and `verdict`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlops.domain.frame import Floats

Weights = Mapping[str, float]
"""By feature, at least 0, not all 0; their sum is of no account."""


def importance_weights(importance: Weights, features: Sequence[str]) -> dict[str, float] | None:
    """Weights of the check's features by importance, summing to 1; None where the model reads none of them.

    importance : by the model's features; one that is not there, or not finite, or below 0, counts nothing
    """
    found = {name: importance.get(name, 0.0) for name in features}
    known = {name: value if np.isfinite(value) and value > 0 else 0.0 for name, value in found.items()}
    total = sum(known.values())
    return {name: value / total for name, value in known.items()} if total > 0 else None


def weighted_mean(values: Mapping[str, Floats], weights: Weights | None) -> Floats:
    """(p,) mean over the features; without weights, or where all are 0, each counts alike. values : (p,) each."""
    columns = list(values.values())
    counted = None if weights is None else np.array([weights.get(name, 0.0) for name in values])
    if counted is None or not counted.sum() > 0:
        return np.asarray(np.mean(columns, axis=0))
    return np.asarray(np.average(columns, axis=0, weights=counted))


def weights_json(weights: Weights | None, version: str | None) -> dict[str, Any]:
    """Return the report's part on weights. version : of the champion whose importance it is"""
    if weights is None:
        return {"by": "equal"}
    return {"by": "importance", "version": version, "values": {name: round(w, 6) for name, w in weights.items()}}

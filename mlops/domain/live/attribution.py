"""Attribution drift: whether the model relies on other features now than in its training; pure.

Called by the score stage with SHAP contributions, which the model file gives (`pred_contribs`).

Source: Lundberg & Lee 2017; the agreement of two orders by discounted cumulative gain is that of Järvelin & Kekäläinen
2002, as SageMaker Clarify uses it, which alerts below 0.90.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mlops.domain.training.metrics import Floats

_NAMED = 3
"""Features that are named in words."""


@dataclass(frozen=True, kw_only=True)
class AttributionShift:
    """How much one feature contributes, as a share of all."""

    feature: str
    training: float
    now: float

    @property
    def change(self) -> float:
        """Share now minus share in training."""
        return self.now - self.training


@dataclass(frozen=True, kw_only=True)
class AttributionDrift:
    """Distance of the contributions now from those of the training."""

    distance: float
    """Total variation of the two shares: half the sum of absolute changes; 0 alike, 1 nothing in common"""
    rank_agreement: float
    """Normalised discounted cumulative gain of the order of now, gains by training; 1: the same order of weight"""
    features: tuple[AttributionShift, ...]
    """By absolute change, the largest first"""
    words: str


def summarise_attributions(features: Sequence[str], contributions: Floats) -> dict[str, float]:
    """Mean absolute contribution per feature, in the model's margin (log odds).

    contributions : (n, f), or (n, f + 1) with XGBoost's bias as the last column, which is left out
    Raises ValueError for no row, or another number of columns.
    """
    n_rows, n_columns = contributions.shape
    if n_columns not in (len(features), len(features) + 1) or not n_rows:
        message = f"contributions of shape {contributions.shape} do not fit {len(features)} features and at least a row"
        raise ValueError(message)
    means = np.abs(np.asarray(contributions[:, : len(features)], dtype=np.float64)).mean(axis=0)
    return dict(zip(features, means.tolist(), strict=True))


def attribution_drift(training: Mapping[str, float], now: Mapping[str, float]) -> AttributionDrift:
    """Compare two summaries; a feature that one of them has not counts as 0 there."""
    names = sorted({*training, *now})
    before, after = (_shares([one.get(name, 0.0) for name in names]) for one in (training, now))
    shifts = [
        AttributionShift(feature=name, training=float(one), now=float(other))
        for name, one, other in zip(names, before, after, strict=True)
    ]
    shifts.sort(key=lambda shift: -abs(shift.change))
    distance = float(np.abs(before - after).sum() / 2)
    moved = ", ".join(f"{one.feature} {one.training:.0%} to {one.now:.0%}" for one in shifts[:_NAMED] if one.change)
    return AttributionDrift(
        distance=distance,
        rank_agreement=_rank_agreement(before, after),
        features=tuple(shifts),
        words=f"{distance:.0%} of the contributions moved to other features" + (f": {moved}" if moved else ""),
    )


def _shares(values: Sequence[float]) -> Floats:
    total = float(sum(values))
    return np.asarray(values, dtype=np.float64) / total if total > 0 else np.zeros(len(values))


def _rank_agreement(before: Floats, after: Floats) -> float:
    """NDCG; 1 where the training's contributions are all 0. Ties go by the features' names."""
    discounts = 1 / np.log2(np.arange(len(before)) + 2)
    best = float(np.sort(before)[::-1] @ discounts)
    return float(before[np.argsort(-after, kind="stable")] @ discounts) / best if best > 0 else 1.0

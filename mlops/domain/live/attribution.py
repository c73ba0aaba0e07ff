"""Attribution drift: whether the model relies on other features now than in its training; pure.

Called by the score stage with SHAP contributions, which the model file gives (`pred_contribs`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlops.domain.training.metrics import Floats


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
    """Normalised discounted cumulative gain of the order now, gains by training; 1: the same order of weight"""
    features: tuple[AttributionShift, ...]
    """By absolute change, the largest first"""
    words: str


def summarise_attributions(features: Sequence[str], contributions: Floats) -> dict[str, float]:
    """Mean absolute contribution per feature, in the model's margin (log odds).

    contributions : (n, f), or (n, f + 1) with XGBoost's bias as the last column, which is left out
    """
    raise NotImplementedError


def attribution_drift(training: Mapping[str, float], now: Mapping[str, float]) -> AttributionDrift:
    """Compare two summaries; a feature that one of them has not counts as 0 there."""
    raise NotImplementedError

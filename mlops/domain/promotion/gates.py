"""Gates that a version must pass by itself, before it is compared with anything.

Pure; called by `mlops.domain.promotion.policy`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops.domain.training.metrics import LOWER_IS_BETTER, constant_log_loss

if TYPE_CHECKING:
    from mlops.domain.policies import PromotionPolicy


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """Result of a version at one gate."""

    metric: str
    required: float
    """The bar: from below, or from above for a metric that is better when lower."""
    found: float | None
    """None where the metric is missing, which fails the gate."""
    passed: bool
    words: str
    """A sentence for a person."""


def apply_gates(policy: PromotionPolicy, metrics: Mapping[str, float]) -> tuple[GateResult, ...]:
    """Return a result per gate that the policy applies; a value at the bar passes, nan does not.

    The four named ones first, then `policy.gates`, on any metric that was logged.
    """
    named = (
        ("accuracy", policy.min_accuracy),
        ("roc_auc", policy.min_roc_auc),
        ("lift_over_majority", policy.min_lift_over_majority),
        ("f1_score", policy.min_f1),
    )
    bars = (*named, *policy.gates.items())
    return tuple(_gate(name, required, metrics) for name, required in bars if required is not None)


def apply_floor(policy: PromotionPolicy, metrics: Mapping[str, float]) -> tuple[GateResult, ...]:
    """Gates that any useful model passes, where the policy asks: better than either constant, and itself none."""
    if policy.floor is None:
        return ()
    known = _earlier_skills(metrics) | dict(metrics)
    score = f"{policy.floor}_skill"
    asked = {
        "accuracy_skill": "it is no more accurate than always naming the majority class of the held-out dates",
        score: "a constant probability, the base rate of the held-out dates, would have been no worse",
        "prediction_range": "it says the same of every row",
    }
    return tuple(_above_zero(name, why, known) for name, why in asked.items() if name in known or name in _SKILLS)


_SKILLS = ("accuracy_skill", "log_loss_skill", "brier_skill")


def _earlier_skills(metrics: Mapping[str, float]) -> dict[str, float]:
    """The skill scores of a version that was trained before they were logged, from what was logged then."""
    share = metrics.get("positive_share", math.nan)
    if not 0.0 < share < 1.0:
        return {}
    losses = {"log_loss": constant_log_loss(share), "brier": share * (1.0 - share)}
    found = {f"{name}_skill": 1.0 - metrics[name] / constant for name, constant in losses.items() if name in metrics}
    if "accuracy" in metrics:
        found["accuracy_skill"] = 1.0 - (1.0 - metrics["accuracy"]) / min(share, 1.0 - share)
    return found


def _above_zero(name: str, why: str, metrics: Mapping[str, float]) -> GateResult:
    found = metrics.get(name)
    if found is None:
        words = f"{name} was not measured, and more than 0 is required"
        return GateResult(metric=name, required=0.0, found=None, passed=False, words=words)
    passed = found > 0.0
    plain = name.removesuffix("_skill")
    beside = f" ({plain} {metrics[plain]:.4f})" if plain in metrics and plain != name else ""
    words = f"{name} {_shown(found, 0.0)}{beside} {'is above 0' if passed else f'is not above 0: {why}'}"
    return GateResult(metric=name, required=0.0, found=found, passed=passed, words=words)


def _gate(name: str, required: float, metrics: Mapping[str, float]) -> GateResult:
    found = metrics.get(name)
    is_lower_better = name in LOWER_IS_BETTER
    if found is None:
        most = "most" if is_lower_better else "least"
        words = f"{name} was not measured, and at {most} {required:.4f} is required"
        return GateResult(metric=name, required=required, found=None, passed=False, words=words)
    passed = found <= required if is_lower_better else found >= required
    missed = "is above the allowed" if is_lower_better else "is below the required"
    met = "is within the allowed" if is_lower_better else "meets the required"
    shown = f"{found:.4f}" if passed else _shown(found, required)
    words = f"{name} {shown} {met if passed else missed} {required:.4f}{_beside(name, metrics)}"
    return GateResult(metric=name, required=required, found=found, passed=passed, words=words)


def _shown(found: float, required: float) -> str:
    """Format to four digits, or as many as it takes not to read as the bar that it misses."""
    return f"{found:.4f}" if f"{found:.4f}" != f"{required:.4f}" else f"{found!r}"


def _beside(name: str, metrics: Mapping[str, float]) -> str:
    baselines = [metrics[key] for key in ("majority_accuracy", "holdout_majority_accuracy") if key in metrics]
    if name not in ("accuracy", "lift_over_majority") or not baselines:
        return ""
    return f" (majority class alone: {max(baselines):.4f})"

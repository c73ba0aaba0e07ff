"""The bars that a version must clear by itself, before it is compared with anything.

Pure; called by `mlops.promotion.policy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops.strategies import PromotionPolicy


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """One gate and how the version did."""

    metric: str
    required: float
    found: float | None
    """None where the metric is missing, which fails the gate."""
    passed: bool
    words: str
    """A sentence for a person."""


def apply_gates(policy: PromotionPolicy, metrics: Mapping[str, float]) -> tuple[GateResult, ...]:
    """One result per gate that the policy applies; a value at the bar passes, nan does not."""
    bars = {
        "accuracy": policy.min_accuracy,
        "roc_auc": policy.min_roc_auc,
        "lift_over_majority": policy.min_lift_over_majority,
        "f1_score": policy.min_f1,
    }
    return tuple(_gate(name, required, metrics) for name, required in bars.items() if required is not None)


def _gate(name: str, required: float, metrics: Mapping[str, float]) -> GateResult:
    found = metrics.get(name)
    if found is None:
        words = f"{name} was not measured, and at least {required:.4f} is required"
        return GateResult(metric=name, required=required, found=None, passed=False, words=words)
    passed = found >= required
    relation = "meets" if passed else "is below"
    words = f"{name} {_shown(found, required)} {relation} the required {required:.4f}{_beside(name, metrics)}"
    return GateResult(metric=name, required=required, found=found, passed=passed, words=words)


def _shown(found: float, required: float) -> str:
    """Four digits, or as many as it takes not to read as the bar that it misses."""
    return f"{found:.4f}" if found >= required or f"{found:.4f}" != f"{required:.4f}" else f"{found!r}"


def _beside(name: str, metrics: Mapping[str, float]) -> str:
    baselines = [metrics[key] for key in ("majority_accuracy", "holdout_majority_accuracy") if key in metrics]
    if name not in ("accuracy", "lift_over_majority") or not baselines:
        return ""
    return f" (majority class alone: {max(baselines):.4f})"

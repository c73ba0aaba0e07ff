"""The verdict of a check from its features, and the retraining that follows from it; pure.

`raw` is the documented rule: the share of features that drifted by PSI, each counted alike, at or above the alert
share. On real prices it fires on most calm days, because pooled rows of one day are not independent; that is measured
in docs/statistics.md. `calibrated` asks for the same share, of the champion's importance where the policy says so, so
that the threshold keeps its meaning, and for a shift that is extreme among all earlier ones (`calibration`).

A retraining may follow where the drift persists and the last retraining is long enough ago (`settle_alarm`); how many
of an episode, `episodes` says. Called by the drift stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

from mlops.domain.drift.calibration import Calibration
from mlops.domain.policies import DriftPolicy

Verdict = Literal["drifted", "stable", "insufficient"]


@dataclass(frozen=True, kw_only=True)
class FeatureVerdict:
    """Result of the statistics for one feature."""

    name: str
    drifted_ks: bool
    drifted_psi: bool
    weight: float = 1.0
    """Weight in the share of the calibrated rule."""


@dataclass(frozen=True, kw_only=True)
class RuleDecision:
    """The verdict of a check with its reason."""

    verdict: Verdict
    share: float
    """Share of the features that drifted by PSI, each counted alike or with its weight."""
    reason: str
    share_of: str = "of the features"
    """Description of what `share` is a share of."""


def raw_verdict(
    features: list[FeatureVerdict], *, alert_share: float, n_current: int, min_current_rows: int
) -> RuleDecision:
    """The documented rule, where every feature counts alike; `insufficient` where the current window is too small to
    say anything.
    """
    alike = [replace(feature, weight=1.0) for feature in features]
    return weighted_verdict(alike, alert_share=alert_share, n_current=n_current, min_current_rows=min_current_rows)


def weighted_verdict(
    features: list[FeatureVerdict], *, alert_share: float, n_current: int, min_current_rows: int
) -> RuleDecision:
    """Apply the documented rule with each feature's weight; where all weights are 0, features count alike."""
    if not any(feature.weight > 0 for feature in features):
        features = [replace(feature, weight=1.0) for feature in features]
    n_drifted = sum(feature.drifted_psi for feature in features)
    total = sum(feature.weight for feature in features)
    share = sum(feature.weight for feature in features if feature.drifted_psi) / total
    is_weighted = any(feature.weight != features[0].weight for feature in features)
    share_of = "of the champion's importance" if is_weighted else "of the features"
    if n_current < min_current_rows:
        return RuleDecision(
            verdict="insufficient",
            share=share,
            reason=f"the current window has {n_current} rows; a verdict needs {min_current_rows}, and no window up to "
            f"data.max_current_days has so many: load more names or dates, raise max_current_days, or lower "
            f"min_current_rows",
            share_of=share_of,
        )
    at_or_above = share >= alert_share
    counted = f"{share:.0%} {share_of}" if is_weighted else f"{share:.0%}"
    return RuleDecision(
        verdict="drifted" if at_or_above else "stable",
        share=share,
        reason=f"{n_drifted} of {len(features)} features ({counted}) moved by PSI; "
        f"the alert threshold is {alert_share:.0%}",
        share_of=share_of,
    )


def calibrated_verdict(counted: RuleDecision, calibration: Calibration, *, alert_share: float) -> RuleDecision:
    """`drifted` where the share reaches its threshold and the shift is extreme at alpha; both are needed.

    `counted`: by the share alone, weighted or not.
    """
    if counted.verdict == "insufficient":
        return counted
    if calibration.p_value is None:
        missing = f"the shift cannot be compared with earlier ones: {calibration.missing}"
        return replace(counted, verdict="insufficient", reason=missing)
    p = f"p {calibration.p_value:.3g} among {calibration.n_placements} earlier windows"
    # A feature moves and a strategy drifts: "stable: 90% drifted" reads as a contradiction.
    share = f"{counted.share:.0%} {counted.share_of} moved by PSI"
    if counted.verdict == "stable":
        reason = f"{share}, below the alert threshold of {alert_share:.0%} ({p})"
        return replace(counted, verdict="stable", reason=reason)
    if calibration.is_extreme:
        reason = f"so large a shift is rare here ({p}); {share}"
        return replace(counted, verdict="drifted", reason=reason)
    reason = f"so large a shift is usual here ({p}, above {calibration.alpha:g}); {share}"
    return replace(counted, verdict="stable", reason=reason)


def difference(raw: RuleDecision, calibrated: RuleDecision) -> str | None:
    """Explain why the two rules differ; None where they agree."""
    if raw.verdict == calibrated.verdict:
        return None
    return f"the raw rule says {raw.verdict}, the calibrated one {calibrated.verdict}: {calibrated.reason}"


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """Whether a retraining follows from the drift, and why not where it could have."""

    retrain: bool
    reason: str


def settle_alarm(
    verdict: Verdict,
    earlier: Sequence[Verdict],
    policy: DriftPolicy,
    *,
    as_of: date,
    last_retrained: date | None,
    cooldown_days: int,
) -> Alarm:
    """Decide whether persistence and cooldown let a retraining follow from a check.

    earlier : verdicts of the checks as of earlier dates, newest first; checks that never ran are not there
    last_retrained : as-of date of the last retraining that came to its end, promoted or not
    cooldown_days : as `Strategy.cooldown_days` settles them

    `drifted` now and in at least `persistence_checks` of the last `persistence_window`, this one included.
    """
    if verdict != "drifted":
        return Alarm(retrain=False, reason=f"the verdict is {verdict}")
    looked_at = [verdict, *earlier[: policy.persistence_window - 1]]
    n_drifted = sum(one == "drifted" for one in looked_at)
    if n_drifted < policy.persistence_checks:
        reason = (
            f"drifted in {n_drifted} of the last {len(looked_at)} checks; a retraining needs "
            f"{policy.persistence_checks} of {policy.persistence_window}"
        )
        return Alarm(retrain=False, reason=reason)
    since = (as_of - last_retrained).days if last_retrained is not None else None
    if since is not None and 0 <= since < cooldown_days:
        reason = f"retrained {since} days ago, as of {last_retrained}; the cooldown is {cooldown_days} days"
        return Alarm(retrain=False, reason=reason)
    return Alarm(retrain=True, reason=f"drifted in {n_drifted} of the last {len(looked_at)} checks")

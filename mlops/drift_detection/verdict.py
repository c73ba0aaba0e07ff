"""From features to a verdict; pure.

`raw` is the documented rule: the share of features that drifted by PSI, at or above the alert share. On
real prices it fires on most calm days, because pooled rows of one day are not independent; that is measured
in docs/statistics.md. `calibrated` asks for the same share, so that the threshold keeps its meaning, and for
a shift that is extreme among all earlier ones (`calibration`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from mlops.drift_detection.calibration import Calibration

Verdict = Literal["drifted", "stable", "insufficient"]


@dataclass(frozen=True, kw_only=True)
class FeatureVerdict:
    """What the statistics say of one feature."""

    name: str
    drifted_ks: bool
    drifted_psi: bool
    weight: float = 1.0
    """How much it counts in the share."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The verdict of a check, in words too."""

    verdict: Verdict
    share: float
    """Of the features by PSI, each counted with its weight."""
    reason: str
    share_of: str = "of the features"
    """What `share` is a share of, in words."""


def raw_verdict(
    features: list[FeatureVerdict], *, alert_share: float, n_current: int, min_current_rows: int
) -> Decision:
    """The documented rule; `insufficient` where the current window is too small to say anything."""
    n_drifted = sum(feature.drifted_psi for feature in features)
    total = sum(feature.weight for feature in features)
    share = sum(feature.weight for feature in features if feature.drifted_psi) / total
    is_weighted = any(feature.weight != features[0].weight for feature in features)
    share_of = "of the champion's importance" if is_weighted else "of the features"
    if n_current < min_current_rows:
        return Decision(
            verdict="insufficient",
            share=share,
            reason=f"the current window has {n_current} rows; a verdict needs {min_current_rows}: "
            f"lengthen current_days, or lower min_current_rows",
            share_of=share_of,
        )
    at_or_above = share >= alert_share
    counted = f"{share:.0%} {share_of}" if is_weighted else f"{share:.0%}"
    return Decision(
        verdict="drifted" if at_or_above else "stable",
        share=share,
        reason=f"{n_drifted} of {len(features)} features ({counted}) drifted by PSI; "
        f"the alert threshold is {alert_share:.0%}",
        share_of=share_of,
    )


def calibrated_verdict(raw: Decision, calibration: Calibration, *, alert_share: float) -> Decision:
    """`drifted` where the raw share reaches its threshold and the shift is extreme at alpha; both are needed."""
    if raw.verdict == "insufficient":
        return raw
    if calibration.p_value is None:
        missing = f"the shift cannot be compared with earlier ones: {calibration.missing}"
        return replace(raw, verdict="insufficient", reason=missing)
    p = f"p {calibration.p_value:.3g} among {calibration.n_placements} earlier windows"
    share = f"{raw.share:.0%} {raw.share_of} drifted by PSI"
    if raw.verdict == "stable":
        reason = f"{share}, below the alert threshold of {alert_share:.0%} ({p})"
        return replace(raw, verdict="stable", reason=reason)
    if calibration.is_extreme:
        reason = f"{share}, and so large a shift is rare: {p}"
        return replace(raw, verdict="drifted", reason=reason)
    reason = f"{share}, but so large a shift is usual: {p}, above {calibration.alpha:g}"
    return replace(raw, verdict="stable", reason=reason)


def difference(raw: Decision, calibrated: Decision) -> str | None:
    """Why the two rules do not say the same; None where they do."""
    if raw.verdict == calibrated.verdict:
        return None
    return f"the raw rule says {raw.verdict}, the calibrated one {calibrated.verdict}: {calibrated.reason}"

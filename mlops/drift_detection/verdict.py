"""From features to a verdict; pure.

`raw` is the documented rule: the share of features that drifted by PSI, at or above the alert share. On
real prices it fires on most calm days, because pooled rows of one day are not independent; that is measured
in docs/statistics.md. `calibrated` asks for the same share, so that the threshold keeps its meaning, and for
a shift that is extreme among all earlier ones (`calibration`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mlops.drift_detection.calibration import Calibration

Verdict = Literal["drifted", "stable", "insufficient"]


@dataclass(frozen=True, kw_only=True)
class FeatureVerdict:
    """What the statistics say of one feature."""

    name: str
    drifted_ks: bool
    drifted_psi: bool


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The verdict of a check, in words too."""

    verdict: Verdict
    share: float
    """Of the features, by PSI."""
    reason: str


def raw_verdict(
    features: list[FeatureVerdict], *, alert_share: float, n_current: int, min_current_rows: int
) -> Decision:
    """The documented rule; `insufficient` where the current window is too small to say anything."""
    n_drifted = sum(feature.drifted_psi for feature in features)
    share = n_drifted / len(features)
    if n_current < min_current_rows:
        return Decision(
            verdict="insufficient",
            share=share,
            reason=f"the current window has {n_current} rows; a verdict needs {min_current_rows}: "
            f"lengthen current_days, or lower min_current_rows",
        )
    at_or_above = share >= alert_share
    return Decision(
        verdict="drifted" if at_or_above else "stable",
        share=share,
        reason=f"{n_drifted} of {len(features)} features ({share:.0%}) drifted by PSI; "
        f"the alert threshold is {alert_share:.0%}",
    )


def calibrated_verdict(raw: Decision, calibration: Calibration, *, alert_share: float) -> Decision:
    """`drifted` where the raw share reaches its threshold and the shift is extreme at alpha; both are needed."""
    if raw.verdict == "insufficient":
        return raw
    if calibration.p_value is None:
        missing = f"the shift cannot be compared with earlier ones: {calibration.missing}"
        return Decision(verdict="insufficient", share=raw.share, reason=missing)
    p = f"p {calibration.p_value:.3g} among {calibration.n_placements} earlier windows"
    share = f"{raw.share:.0%} of the features drifted by PSI"
    if raw.verdict == "stable":
        reason = f"{share}, below the alert threshold of {alert_share:.0%} ({p})"
        return Decision(verdict="stable", share=raw.share, reason=reason)
    if calibration.is_extreme:
        reason = f"{share}, and so large a shift is rare: {p}"
        return Decision(verdict="drifted", share=raw.share, reason=reason)
    reason = f"{share}, but so large a shift is usual: {p}, above {calibration.alpha:g}"
    return Decision(verdict="stable", share=raw.share, reason=reason)


def difference(raw: Decision, calibrated: Decision) -> str | None:
    """Why the two rules do not say the same; None where they do."""
    if raw.verdict == calibrated.verdict:
        return None
    return f"the raw rule says {raw.verdict}, the calibrated one {calibrated.verdict}: {calibrated.reason}"

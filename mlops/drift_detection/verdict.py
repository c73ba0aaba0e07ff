"""From features to a verdict; pure.

`raw` is the documented rule: the share of features that drifted by PSI, at or above the alert share. On
real prices it fires on most calm days, because pooled rows of one day are not independent; that is measured
in docs/statistics.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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

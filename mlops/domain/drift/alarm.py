"""From a verdict to a retraining: does the drift persist, and is the last retraining long enough ago? Pure.

With the defaults (1 of 1 checks, no cooldown) every `drifted` is an alarm. Called by the drift stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from mlops.domain.drift.verdict import Verdict
from mlops.domain.policies import DriftPolicy


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """Whether a retraining follows from the drift, and why not where it could have."""

    retrain: bool
    reason: str


def settle_alarm(
    verdict: Verdict, earlier: Sequence[Verdict], policy: DriftPolicy, *, as_of: date, last_retrained: date | None
) -> Alarm:
    """The alarm of a check.

    earlier : verdicts of the checks as of earlier dates, newest first; checks that never ran are not there
    last_retrained : as-of date of the last retraining that came to its end, promoted or not

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
    if since is not None and 0 <= since < policy.cooldown_days:
        reason = f"retrained {since} days ago, as of {last_retrained}; the cooldown is {policy.cooldown_days} days"
        return Alarm(retrain=False, reason=reason)
    return Alarm(retrain=True, reason=f"drifted in {n_drifted} of the last {len(looked_at)} checks")

"""Replay of earlier checks under another policy, from the few figures that each left; pure.

Rule, alert share, alpha, persistence, cooldown and plan can be changed after the fact. What a feature's PSI must reach,
the windows and the weights cannot: the share was counted with them. Called by the page that edits a policy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Generic, Protocol, TypeVar

from mlops.domain.drift.calibration import least_placements
from mlops.domain.drift.episodes import CheckedDay, plan_retraining
from mlops.domain.drift.verdict import Verdict
from mlops.domain.policies import DriftPolicy


class _CheckFigures(Protocol):
    """Figures that the ledger keeps of a check beside its report."""

    @property
    def as_of(self) -> date | None:
        """Date of the check."""

    @property
    def raw_verdict(self) -> str | None:
        """Verdict of the documented rule at the time."""

    @property
    def share(self) -> float | None:
        """Share of the features that drifted by PSI."""

    @property
    def p_value(self) -> float | None:
        """P-value of the shift among earlier ones; None: it could not be compared."""

    @property
    def alpha(self) -> float | None:
        """The level at the time."""

    @property
    def n_placements(self) -> int | None:
        """Number of earlier shifts that it was, or could have been, compared with."""


Check = TypeVar("Check", bound=_CheckFigures)


@dataclass(frozen=True, kw_only=True)
class Decided(Generic[Check]):
    """A check and what a policy makes of it."""

    check: Check
    verdict: Verdict | None
    """None: the check left too little to say"""
    retrains: bool
    """A retraining would have followed, if each that did came to its end at once"""


@dataclass(frozen=True, kw_only=True)
class PolicyReplay(Generic[Check]):
    """Results of earlier checks under one policy."""

    decided: tuple[Decided[Check], ...]
    """Decisions in the order of the checks"""
    counts: Counter[str] = field(default_factory=Counter)
    """Number of checks by verdict"""
    n_retrainings: int = 0


def verdict_under(check: _CheckFigures, policy: DriftPolicy) -> Verdict | None:
    """Apply the rules of `mlops.domain.drift.verdict` to a check's figures."""
    if check.share is None or check.raw_verdict is None:
        return None
    if check.raw_verdict == "insufficient":
        return "insufficient"  # too few rows, whatever the threshold
    is_at_or_above = check.share >= policy.alert_share
    if policy.rule == "raw":
        return "drifted" if is_at_or_above else "stable"
    if check.p_value is None:
        return None if _lacked_for_its_alpha_alone(check, policy.alpha) else "insufficient"
    if check.n_placements is not None and check.n_placements < least_placements(policy.alpha):
        return "insufficient"
    return "drifted" if is_at_or_above and check.p_value <= policy.alpha else "stable"


def _lacked_for_its_alpha_alone(check: _CheckFigures, alpha: float) -> bool:
    """Too few earlier shifts for the level then, enough for this one: a p was not computed, and could have been."""
    if check.alpha is None or check.n_placements is None:
        return False
    return least_placements(alpha) <= check.n_placements < least_placements(check.alpha)


def replay_checks(
    checks: Sequence[Check], policy: DriftPolicy, *, cooldown_days: int, horizon_dates: int
) -> PolicyReplay[Check]:
    """Decide every check again under the policy. checks : oldest first

    Of several checks of one day the newest counts towards persistence, as in the drift stage. Retrainings that were
    forced meanwhile play no part.
    """
    decided: list[Decided[Check]] = []
    by_day: dict[date, CheckedDay] = {}
    retrained: list[date] = []
    for check in checks:
        verdict = verdict_under(check, policy)
        retrains = False
        if verdict is not None and check.as_of is not None:
            checked = CheckedDay(as_of=check.as_of, verdict=verdict, p_value=check.p_value)
            plan = plan_retraining(
                checked,
                list(by_day.values()),
                retrained,
                policy,
                cooldown_days=cooldown_days,
                horizon_dates=horizon_dates,
            )
            retrains = plan.retrain
            by_day[check.as_of] = checked
            retrained += [check.as_of] if retrains else []
        decided.append(Decided(check=check, verdict=verdict, retrains=retrains))
    return PolicyReplay(
        decided=tuple(decided),
        counts=Counter(one.verdict for one in decided if one.verdict is not None),
        n_retrainings=sum(one.retrains for one in decided),
    )

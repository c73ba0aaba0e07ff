"""Decision whether a version becomes the champion, and its reasons.

Pure; called by `mlops.domain.promotion.evidence`. A "no" is a result with reasons, never an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from mlops.domain.promotion.gates import GateResult, apply_floor, apply_gates
from mlops.domain.promotion.paired import PairedTest, Untestable, paired_test_in_words

if TYPE_CHECKING:
    from mlops.domain.policies import PromotionPolicy

Answer = Literal["promote", "refuse", "keep", "inconclusive", "await_approval", "override"]


MISSED_LOOKS = 3
"""Decisions in which a champion must have missed a gate before that alone replaces it, this one among them."""


@dataclass(frozen=True, kw_only=True)
class MissedGate:
    """Evidence that the champion misses one of its gates."""

    metric: str
    p_value: float
    """P-value of so bad a value from a model that meets the bar."""
    level: float
    """Largest p-value that counts as missed (`mlops.domain.promotion.error_budget`)."""
    looks: int
    """Decisions about challengers of this champion in which it missed the gate, this one among them."""

    @property
    def is_shown(self) -> bool:
        """Whether it is more than noise around a threshold."""
        return self.p_value <= self.level and self.looks >= MISSED_LOOKS

    @property
    def words(self) -> str:
        """Describe the evidence."""
        return (
            f"{self.metric}: p-value {self.p_value:.2g}, at most {self.level:.2g} is asked; missed in {self.looks} "
            f"{'decision' if self.looks == 1 else 'decisions'}, {MISSED_LOOKS} are asked"
        )


@dataclass(frozen=True, kw_only=True)
class Incumbent:
    """The champion that a challenger is compared with."""

    version: str
    unusable: str | None = None
    """Why it cannot be scored: its features are gone, its file is damaged; it could not be served either."""
    metrics: Mapping[str, float] | None = None
    """Metrics on the common dates; None where it was not scored, or these dates are too few."""
    challenger_metrics: Mapping[str, float] | None = None
    """The challenger's on the same dates."""
    age_days: int | None = None
    """Days from the date as of which it was trained to the one of this decision; None where that is not known."""
    test: PairedTest | Untestable | None = None
    missed: tuple[MissedGate, ...] | None = None
    """Evidence of each gate that it misses; None in decisions of earlier versions, where the miss itself was enough."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The answer with its evidence.

    refuse: a gate was missed, or a finding holds it back (`findings` of this package)      inconclusive: nobody knows
    keep: the champion is better, or the challenger is the same model      await_approval: it would be promoted
    override: a person promotes it in spite of what it fails
    """

    decision: Answer
    reasons: tuple[str, ...]
    """Sentences for a person, the deciding ones first."""
    gates: tuple[GateResult, ...]
    champion_gates: tuple[GateResult, ...] = ()
    """The champion's own, on the common dates."""


def decide(
    policy: PromotionPolicy,
    *,
    metrics: Mapping[str, float],
    incumbent: Incumbent | None,
) -> Decision:
    """Decide by the gates first, then against the champion.

    metrics : of the challenger's own held-out dates      incumbent : None where there is no champion
    """
    gates = (*apply_gates(policy, metrics), *apply_floor(policy, metrics))
    theirs = apply_gates(policy, incumbent.metrics) if incumbent and incumbent.metrics is not None else ()
    stops = tuple(gate.words for gate in gates if not gate.passed)
    if stops:
        return Decision(decision="refuse", reasons=stops, gates=gates, champion_gates=theirs)
    cleared = tuple(gate.words for gate in gates) or ("no gate is applied",)
    answer, why = _against(policy, incumbent, theirs)
    reasons = (*why, *cleared) if answer == "promote" else why
    if answer == "promote" and policy.approval == "manual":
        answer, reasons = "await_approval", ("the policy asks for a person's approval", *reasons)
    return Decision(decision=answer, reasons=reasons, gates=gates, champion_gates=theirs)


def overridden(decision: Decision, override: Mapping[str, str] | None) -> Decision:
    """Turn the decision into a promotion where a person asked for it; what the version fails stays in the reasons.

    override : actor and reason; None: nobody asked. A version that is promoted anyway needs none.
    """
    if override is None or decision.decision == "promote":
        return decision
    failed = "; ".join(decision.reasons)
    why = f"promoted by {override['actor']} in spite of: {failed}", f"the reason given: {override['reason']}"
    return replace(decision, decision="override", reasons=why)


def stopped(decision: Decision, stops: Sequence[str]) -> Decision:
    """Hold the decision in Staging where it would promote while something is wrong with the registry."""
    if not stops or decision.decision not in ("promote", "await_approval", "override"):
        return decision
    return replace(decision, decision="inconclusive", reasons=(*stops, *decision.reasons))


def _against(
    policy: PromotionPolicy, incumbent: Incumbent | None, theirs: Sequence[GateResult]
) -> tuple[Answer, tuple[str, ...]]:
    if incumbent is None:
        return "promote", ()
    test = incumbent.test
    shown = (paired_test_in_words(test, incumbent.version),) if isinstance(test, PairedTest) else ()
    without_a_win = _gives_way(policy, incumbent, theirs)
    if without_a_win is not None:
        return "promote", (without_a_win, *shown)
    if isinstance(test, PairedTest):
        return test.verdict, (*shown, *_unshown(incumbent))
    why = test.words if test is not None else "there is nothing to compare on"
    return "inconclusive", (f"whether it is better than champion {incumbent.version} cannot be tested: {why}",)


def _gives_way(policy: PromotionPolicy, incumbent: Incumbent, theirs: Sequence[GateResult]) -> str | None:
    """Reason to replace the champion by a challenger that passes its gates, better or not; None: it must be better."""
    name = f"champion {incumbent.version}"
    if incumbent.unusable is not None:
        return f"{name} cannot be scored on these dates: {incumbent.unusable}"
    if policy.comparison == "gates":
        return f"the policy compares by gates alone, not with {name}"
    missed = [gate for gate in theirs if not gate.passed and gate.found is not None]
    if missed and _clears(policy, incumbent) and _is_truly_missed(incumbent):
        words = "; ".join(gate.words for gate in missed)
        shown = "; ".join(one.words for one in incumbent.missed or () if one.is_shown)
        return f"{name} misses its own gates on these dates: {words}{shown and f' ({shown})'}"
    oldest, age = policy.max_champion_age, incumbent.age_days
    is_worse = incumbent.missed is not None and _verdict(incumbent) == "keep"
    if oldest is not None and age is not None and age > oldest and not is_worse:
        return f"{name} is {age} days old, and the policy allows {oldest}"
    return None


def _clears(policy: PromotionPolicy, incumbent: Incumbent) -> bool:
    """Whether the challenger passes every gate that these dates can measure."""
    if incumbent.challenger_metrics is None:
        return False
    ours = apply_gates(policy, incumbent.challenger_metrics)
    return all(gate.passed or gate.found is None for gate in ours)


def _is_truly_missed(incumbent: Incumbent) -> bool:
    """Whether a gate is missed by more than chance, more than once, by a champion that is not the better of the two."""
    if incumbent.missed is None:
        return True
    test = incumbent.test
    is_no_worse = isinstance(test, PairedTest) and test.verdict != "keep" and test.difference >= 0.0
    return is_no_worse and any(one.is_shown for one in incumbent.missed)


def _verdict(incumbent: Incumbent) -> str | None:
    return incumbent.test.verdict if isinstance(incumbent.test, PairedTest) else None


def _unshown(incumbent: Incumbent) -> tuple[str, ...]:
    """Describe missed gates that replace nobody, beside the test."""
    found = [one.words for one in incumbent.missed or () if not one.is_shown]
    if not found:
        return ()
    return (f"champion {incumbent.version} misses a gate on these dates, which may be chance ({'; '.join(found)})",)

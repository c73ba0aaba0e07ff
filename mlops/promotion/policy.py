"""Whether a version may become the champion, and why.

Pure; called by the promote stage. A "no" is a result with reasons, never an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mlops.promotion.gates import GateResult, apply_gates

if TYPE_CHECKING:
    from mlops.promotion.paired import Comparison
    from mlops.strategies import PromotionPolicy


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The answer with its evidence.

    refuse: a gate was missed      keep: the champion is better      await_approval: it would be promoted
    """

    decision: Literal["promote", "refuse", "keep", "await_approval"]
    reasons: tuple[str, ...]
    """Sentences for a person, the deciding ones first."""
    gates: tuple[GateResult, ...]
    comparison: Comparison | None


def decide(policy: PromotionPolicy, *, metrics: Mapping[str, float], comparison: Comparison | None) -> Decision:
    """Gates first, then the champion.

    comparison : None where there is no champion, or none that can be scored on these dates (its features are
    gone, its file is damaged); such a champion is replaced by a challenger that clears its gates, since it
    could not be served either.
    """
    gates = apply_gates(policy, metrics)
    missed = tuple(gate.words for gate in gates if not gate.passed)
    if missed:
        return Decision(decision="refuse", reasons=missed, gates=gates, comparison=comparison)
    if comparison is not None and not comparison.not_worse:
        return Decision(decision="keep", reasons=(comparison.words,), gates=gates, comparison=comparison)
    reasons = (*((comparison.words,) if comparison is not None else ()), *(gate.words for gate in gates))
    if policy.approval == "manual":
        waits = ("the policy asks for a person's approval", *reasons)
        return Decision(decision="await_approval", reasons=waits, gates=gates, comparison=comparison)
    return Decision(decision="promote", reasons=reasons or ("no gate is applied",), gates=gates, comparison=comparison)

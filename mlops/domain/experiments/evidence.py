"""What an experiment's days come to, and the evidence of its end, from which it is decided again; pure.

Called by the score stage at each look, and by `acis explain`, which replays. The evidence is one JSON object: the facts
as they were at the look, and under `_DERIVED` what follows from them. Its digest covers both.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter

from mlops.domain.experiments.decision import Action, Decision, Evidence, Guardrail, Mode, Stand, decide
from mlops.domain.experiments.records import Experiment, ExperimentPlan
from mlops.domain.experiments.sequence import confidence_sequence
from mlops.domain.training.fingerprint import canonical_json

KIND = "experiment"
"""Of the evidence of a decision."""
_LAYOUT = 1
_DERIVED = ("decision", "reasons", "sequence")
_DECISIONS = {
    Action.PROMOTE: "promote",
    Action.KEEP: "keep",
    Action.ABORT: "keep",
    Action.UNDECIDED: "inconclusive",
    Action.WAIT: "none",
    Action.ADVANCE: "none",
}
"""What is decided about the challenger; `none`: the experiment goes on, and no such evidence is written"""
_PLAN = TypeAdapter(ExperimentPlan)

Differences = Sequence[tuple[date, float]]


@dataclass(frozen=True, kw_only=True)
class MeanDifference:
    """The mean daily difference after so many days, with its interval."""

    n_days: int
    mean: float | None
    low: float | None
    """None: none yet"""
    high: float | None


@dataclass(frozen=True, kw_only=True)
class LookFacts:
    """Everything that a look at an experiment uses beside its plan."""

    as_of: date
    differences: Differences
    stand: Stand
    guardrails: tuple[Guardrail, ...]
    changed: str | None = None
    """`Evidence.changed`"""


def conclude(plan: ExperimentPlan, facts: LookFacts) -> tuple[MeanDifference, Decision]:
    """Give the interval and what follows; the same facts give the same."""
    values = np.array([value for _, value in facts.differences], dtype=np.float64)
    low, high = -math.inf, math.inf
    if len(values):
        bounds = confidence_sequence(values, r=plan.r, alpha=plan.alpha)
        low, high = float(bounds.low[-1]), float(bounds.high[-1])
    evidence = Evidence(
        n_days=len(values),
        low=low,
        high=high,
        mean=float(values.mean()) if len(values) else None,
        guardrails=facts.guardrails,
        changed=facts.changed,
    )
    found = MeanDifference(
        n_days=len(values),
        mean=float(values.mean()) if len(values) else None,
        low=low if math.isfinite(low) else None,
        high=high if math.isfinite(high) else None,
    )
    return found, decide(facts.stand, evidence)


def decision_evidence(
    experiment: Experiment,
    facts: LookFacts,
    *,
    metrics: Mapping[str, float],
    champion: Mapping[str, Any],
    trained_as_of: date | None,
    approval: Literal["automatic", "manual"],
    switch: Mapping[str, Any],
    code: Mapping[str, str | None],
) -> dict[str, Any]:
    """Give the evidence of the decision about a challenger that a look ended its experiment with, and the decision.

    metrics : of the challenger, as its training logged them      champion : version, seq, model_sha256, trained_as_of
    switch : what the hook that is asked before a switch said; without words where it was not asked
    """
    return concluded({
        "kind": KIND,
        "layout": _LAYOUT,
        "experiment": experiment.id,
        "started_as_of": experiment.started_as_of.isoformat(),
        "started_by": experiment.started_by,
        "as_of": facts.as_of.isoformat(),
        "version": experiment.challenger_version,
        "model_sha256": experiment.challenger.sha256,
        "trained_as_of": None if trained_as_of is None else trained_as_of.isoformat(),
        "metrics": {name: float(value) for name, value in metrics.items() if math.isfinite(value)},
        "champion": dict(champion),
        "plan": _PLAN.dump_python(experiment.plan, mode="json"),
        "stand": asdict(facts.stand),
        "differences": [[day.isoformat(), value] for day, value in facts.differences],
        "guardrails": [asdict(one) for one in facts.guardrails],
        "changed": facts.changed,
        "approval": approval,
        "switch": dict(switch),
        "code": dict(code),
    })  # fmt: skip


def concluded(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts with what follows from them, computed anew whatever the evidence says of it."""
    # As a JSON column gives it back, so that the first time and every later one see the same values.
    given: dict[str, Any] = json.loads(
        canonical_json({key: value for key, value in evidence.items() if key not in _DERIVED})
    )
    stand = given["stand"]
    facts = LookFacts(
        as_of=date.fromisoformat(given["as_of"]),
        differences=[(date.fromisoformat(day), float(value)) for day, value in given["differences"]],
        stand=Stand(**stand | {"mode": Mode(stand["mode"]), "steps": tuple(stand["steps"])}),
        guardrails=tuple(Guardrail(**one) for one in given["guardrails"]),
        changed=given.get("changed"),
    )
    found, decision = conclude(_PLAN.validate_python(given["plan"]), facts)
    waits = decision.action is Action.PROMOTE and given["approval"] == "manual"
    reasons = [decision.words, f"experiment {given['experiment']} against champion {given['champion']['version']}"]
    reasons += ["the policy's approval is manual: a person decides"] if waits else []
    reasons += [given["switch"]["words"]] if given["switch"]["words"] else []
    return given | {
        "decision": "await_approval" if waits else _DECISIONS[decision.action],
        "reasons": reasons,
        "sequence": asdict(found),
    }

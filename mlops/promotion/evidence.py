"""What a decision was made from, and the decision as a function of it: so it can be made again from the ledger.

Pure; called by the promote stage, which gathers the `Facts`, and by `acis explain`, which replays. Evidence is one
JSON object: the facts as they were, and under `DERIVED` what follows from them. Its digest covers both.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from mlops.promotion.arrays import decoded, encoded
from mlops.promotion.date_parts import Parts
from mlops.promotion.findings import Finding, held_back
from mlops.promotion.gates import GateResult
from mlops.promotion.paired import PairedTest, Untestable, compare_on_dates
from mlops.promotion.policy import Decision, Incumbent, decide, overridden, stopped
from mlops.strategies import PromotionPolicy
from mlops.training.fingerprint import canonical_json, evidence_digest

LAYOUT = 2
"""Of the evidence; decisions before it hold what was found, but not what it was computed from."""
DERIVED = ("decision", "reasons", "gates", "champion_gates", "test", "untestable")


@dataclass(frozen=True, kw_only=True)
class CommonDates:
    """Both models on the held-out dates that neither was trained on."""

    first: str
    last: str
    n_dates: int
    n_rows: int
    data_fingerprint: str
    """Of the challenger's features, labels and dates of these rows."""
    champion_data_fingerprint: str
    is_enough: bool
    """Whether the champion can be held to its gates on them: at least two label horizons."""
    challenger: Mapping[str, float]
    """Metrics on these dates."""
    champion: Mapping[str, float]
    parts_challenger: Parts | None
    """What each date contributes to the main metric; None where it has no parts here (`why_no_parts`)."""
    parts_champion: Parts | None
    why_no_parts: str | None = None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that a decision uses."""

    kind: str
    as_of: str | None
    """Date of the decision: the challenger's own."""
    version: str
    metrics: Mapping[str, float]
    """Of the challenger, as its training logged them."""
    model_sha256: str | None
    data_fingerprint: str | None
    """Of the challenger's training."""
    holdout: tuple[str | None, str | None]
    champion: Mapping[str, Any]
    """version (None where there is none), seq, model_sha256, trained_as_of, age_days, unusable."""
    policy: PromotionPolicy
    horizon_dates: int
    seed: int
    tuning_trials: int
    """Of this training; 0 where it was not tuned."""
    earlier_challengers: tuple[str, ...]
    """Versions that were tested against this champion before, within the look-back."""
    code: Mapping[str, str | None]
    """version, commit."""
    common: CommonDates | None = None
    """None where nothing was compared."""
    verdict: tuple[str, str] | None = None
    """Decision and reason that need no gates: it is the champion, it is older than it, it cannot be compared."""
    suspicions: tuple[Finding, ...] = ()
    """What was too good to be true; the policy names those that are accepted."""
    findings: tuple[str, ...] = ()
    """What a person should know beside the reasons."""
    stops: tuple[str, ...] = ()
    """Why nothing of the strategy is promoted now: what is wrong with the registry."""
    override: Mapping[str, str] | None = None
    """actor and reason of a person who wants the version in Production whatever it fails; None: it is judged."""


def evidence_of(facts: Facts) -> dict[str, Any]:
    """The facts and what follows from them, as JSON. Metrics that are no finite number are left out."""
    given = asdict(facts)
    given |= {"evidence": LAYOUT, "metrics": _finite(facts.metrics), "policy": asdict(facts.policy)}
    if facts.common is not None:
        common = given["common"]
        common |= {"challenger": _finite(facts.common.challenger), "champion": _finite(facts.common.champion)}
        for name in ("parts_challenger", "parts_champion"):
            parts = getattr(facts.common, name)
            common[name] = None if parts is None else {key: encoded(array) for key, array in parts.items()}
    return concluded(given)


def concluded(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """The same facts with what follows from them, computed anew. What the evidence says of it is not looked at."""
    # As a JSON column gives it back, so that the first time and every later one see the same values.
    facts: dict[str, Any] = json.loads(
        canonical_json({key: value for key, value in evidence.items() if key not in DERIVED})
    )
    test = _test(facts)
    decision = _decision(facts, test)
    return facts | {
        "decision": decision.decision,
        "reasons": [*decision.reasons, *facts["findings"]],
        "gates": _gates(decision.gates),
        "champion_gates": _gates(decision.champion_gates),
        "test": asdict(test) if isinstance(test, PairedTest) else None,
        "untestable": test.words if isinstance(test, Untestable) else None,
    }


@dataclass(frozen=True, kw_only=True)
class Replay:
    """A decision made again from its evidence."""

    digest: str
    """Of what came out now."""
    agrees: bool
    words: str


def replay(evidence: Mapping[str, Any], digest: str) -> Replay | None:
    """Make the decision again; None for evidence that does not hold what it was computed from."""
    if evidence.get("evidence") != LAYOUT:
        return None
    stored = evidence_digest(evidence)
    if stored != digest:
        return Replay(
            digest=stored,
            agrees=False,
            words=f"the evidence was changed: its digest is {stored}, recorded was {digest}",
        )
    again = evidence_digest(concluded(evidence))
    if again == digest:
        words = f"computed again from the ledger alone: the same decision, byte for byte (digest {digest})"
        return Replay(digest=again, agrees=True, words=words)
    words = f"computed again from the ledger alone it differs: digest {again}, recorded was {digest}"
    return Replay(digest=again, agrees=False, words=words)


def _decision(facts: Mapping[str, Any], test: PairedTest | Untestable | None) -> Decision:
    policy = _policy(facts)
    if facts["verdict"] is not None:
        answer, why = facts["verdict"]
        decision = Decision(decision=answer, reasons=(why,), gates=())
    else:
        decision = decide(policy, metrics=facts["metrics"], incumbent=_incumbent(facts, test))
    decision = held_back(decision, [Finding(**one) for one in facts["suspicions"]], policy.accepted_findings)
    # Evidence of earlier versions has neither.
    return stopped(overridden(decision, facts.get("override")), facts.get("stops", ()))


def _incumbent(facts: Mapping[str, Any], test: PairedTest | Untestable | None) -> Incumbent | None:
    champion, common = facts["champion"], facts["common"]
    if champion["version"] is None:
        return None
    is_judged = common is not None and common["is_enough"]
    return Incumbent(
        version=champion["version"],
        unusable=champion.get("unusable"),
        metrics=common["champion"] if is_judged else None,
        challenger_metrics=common["challenger"] if is_judged else None,
        age_days=champion.get("age_days"),
        test=test,
    )


def _test(facts: Mapping[str, Any]) -> PairedTest | Untestable | None:
    common = facts["common"]
    if common is None:
        return None
    if common["parts_challenger"] is None:
        return Untestable(words=common["why_no_parts"])
    policy = _policy(facts)
    return compare_on_dates(
        policy.main_metric,
        challenger={name: decoded(text) for name, text in common["parts_challenger"].items()},
        champion={name: decoded(text) for name, text in common["parts_champion"].items()},
        horizon_dates=facts["horizon_dates"],
        margin=policy.margin,
        confidence=policy.confidence,
        looks=max(1, facts["tuning_trials"]) + len(facts["earlier_challengers"]),
        seed=facts["seed"],
    )


def _policy(facts: Mapping[str, Any]) -> PromotionPolicy:
    """Of the evidence; fields that were taken out since are passed over, new ones have their defaults."""
    known = {field.name for field in fields(PromotionPolicy)}
    values = {name: value for name, value in facts["policy"].items() if name in known}
    # JSON knows no tuples.
    return PromotionPolicy(**values | {name: tuple(one) for name, one in values.items() if isinstance(one, list)})


def _gates(gates: tuple[GateResult, ...]) -> list[dict[str, Any]]:
    return [asdict(gate) for gate in gates]


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}

"""Evidence of a decision, and the decision as a function of it, so that it can be made again from the ledger.

Pure; called by the promote stage, which gathers the `Facts`, and by `acis explain`, which replays. Evidence is one
JSON object: the facts as they were, and under `_DERIVED` what follows from them. Its digest covers both. What each date
contributed stands in it to the last bit, as encoded arrays.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops.domain.experiments import evidence as experiments
from mlops.domain.experiments import rollback
from mlops.domain.policies import PromotionPolicy
from mlops.domain.promotion.date_parts import Parts, has_parts
from mlops.domain.promotion.error_budget import Allowance, allowance, other_looks, paid_already
from mlops.domain.promotion.findings import Finding, held_back
from mlops.domain.promotion.gates import GateResult, apply_gates
from mlops.domain.promotion.paired import PairedTest, Untestable, compare_on_dates, missing_p_value
from mlops.domain.promotion.policy import Decision, Incumbent, MissedGate, decide, overridden, stopped
from mlops.domain.training.fingerprint import canonical_json, evidence_digest

LAYOUT = 4
"""Of the evidence. 1 does not hold what it was computed from; 2 was decided without a floor and an error budget; the
p-values of 3 do not have what blocks miss of overlapping labels."""
_REPLAYABLE = (2, 3, LAYOUT)
_BUDGETED, _SEES_OVERLAP = 3, 4
"""The first layouts with an error budget, and with p-values that see the overlap of labels."""
_DERIVED = ("decision", "reasons", "gates", "champion_gates", "test", "untestable", "missed_gates", "error", "looks")
_SINCE_3 = ("p_value", "level")
"""What a test says since layout 3."""
_ARRAY_LAYOUT = "float64 little-endian, zlib, base64"


@dataclass(frozen=True, kw_only=True)
class CommonDates:
    """Comparison of both models on the held-out dates that neither was trained on."""

    first: str
    last: str
    n_dates: int
    n_rows: int
    data_fingerprint: str
    """Fingerprint of the challenger's features, labels and dates of these rows."""
    champion_data_fingerprint: str
    is_enough: bool
    """Whether the champion can be held to its gates on them: at least two label horizons."""
    challenger: Mapping[str, float]
    """Metrics on these dates."""
    champion: Mapping[str, float]
    parts_challenger: Parts | None
    """Contribution of each date to the main metric; None where it has no parts here (`why_no_parts`)."""
    parts_champion: Parts | None
    why_no_parts: str | None = None
    predictions_challenger: str | None = None
    """SHA-256 of the challenger's probabilities of these rows."""
    predictions_champion: str | None = None
    champion_before: npt.NDArray[np.float64] | None = None
    """(d,) how much each of the champion's earlier dates moved the main metric, ascending (`date_parts.influence`);
    None: these dates are enough, or the challenger was not trained since a change. Evidence speaks of it where it is
    there."""
    gate_parts: Mapping[str, Parts] = field(default_factory=dict)
    """Contribution of each date to the gates that the champion misses, as far as they have parts."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything that a decision uses."""

    kind: str
    as_of: str | None
    """Date of the decision: the challenger's own."""
    version: str
    metrics: Mapping[str, float]
    """Metrics of the challenger, as its training logged them."""
    model_sha256: str | None
    data_fingerprint: str | None
    """Fingerprint of the rows of the challenger's training."""
    holdout: tuple[str | None, str | None]
    champion: Mapping[str, Any]
    """version (None where there is none), seq, model_sha256, trained_as_of, age_days, unusable."""
    policy: PromotionPolicy
    horizon_dates: int
    seed: int
    tuning_trials: int
    """Number of trials of this training; 0 where it was not tuned."""
    earlier_challengers: tuple[Mapping[str, Any], ...]
    """Decisions about challengers of this champion within the look-back, oldest first: version, model_sha256, rows and
    predictions (digests), level, metric and margin of the test, and the gates that the champion missed. Layout 2 has
    their versions."""
    code: Mapping[str, str | None]
    """version, commit."""
    common: CommonDates | None = None
    """None where nothing was compared."""
    verdict: tuple[str, str] | None = None
    """Decision and reason that need no gates: it is the champion, it is older than it, it cannot be compared."""
    suspicions: tuple[Finding, ...] = ()
    """Findings that are too good to be true; the policy names those that are accepted."""
    findings: tuple[str, ...] = ()
    """Facts that a person should know beside the reasons."""
    stops: tuple[str, ...] = ()
    """Why nothing of the strategy is promoted now: what is wrong with the registry."""
    override: Mapping[str, str] | None = None
    """actor and reason of a person who wants the version in Production whatever it fails; None: nobody does."""
    twin_sha256: str | None = None
    """Digest of the challenger's judged twin, whose metrics these are; None: the challenger was judged itself, and the
    evidence does not speak of it."""
    error_spent: float = 0.0
    """Levels that the strategy's decisions of the 365 days before have spent."""


def evidence_of(facts: Facts) -> dict[str, Any]:
    """Return the facts and what follows from them as JSON. Metrics that are no finite number are left out."""
    given = asdict(facts)
    given |= {"evidence": LAYOUT, "metrics": _finite(facts.metrics), "policy": asdict(facts.policy)}
    if facts.twin_sha256 is None:
        del given["twin_sha256"]
    if facts.common is not None:
        common = given["common"]
        common |= {"challenger": _finite(facts.common.challenger), "champion": _finite(facts.common.champion)}
        for name in ("parts_challenger", "parts_champion"):
            parts = getattr(facts.common, name)
            common[name] = None if parts is None else _encoded(parts)
        if facts.common.champion_before is None:
            del common["champion_before"]
        else:
            common["champion_before"] = encoded_array(facts.common.champion_before)
        common["gate_parts"] = {metric: _encoded(parts) for metric, parts in facts.common.gate_parts.items()}
    return concluded(given)


def concluded(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts with what follows from them, computed anew whatever the evidence says of it."""
    # As a JSON column gives it back, so that the first time and every later one see the same values.
    facts: dict[str, Any] = json.loads(
        canonical_json({key: value for key, value in evidence.items() if key not in _DERIVED})
    )
    return facts | (_concluded_without_budget(facts) if facts["evidence"] < _BUDGETED else _concluded(facts))


def _concluded(facts: Mapping[str, Any]) -> dict[str, Any]:
    others, allowed = _other_looks(facts), _allowance(facts)
    test = None
    if facts["verdict"] is None:
        # Where there is a budget, each earlier challenger has paid for its look.
        looks = max(1, facts["tuning_trials"]) + (len(others) if allowed is None else 0)
        test = _test(facts, looks=looks, level=None if allowed is None else allowed.test)
    missed = _missed(facts, allowed)
    decision = _decision(facts, test, missed)
    return {
        **_said(facts, decision, test, counted=_counted(facts, test, others, is_paid=allowed is not None)),
        "missed_gates": [asdict(one) for one in missed],
        "error": None if allowed is None else asdict(allowed),
        "looks": list(others),
    }


def _concluded_without_budget(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Decide as layout 2 did: every earlier version is a look, and a gate that the champion misses is enough."""
    test = _test(facts, looks=max(1, facts["tuning_trials"]) + len(facts["earlier_challengers"]), level=None)
    said = _said(facts, _decision(facts, test, None), test, counted=())
    if said["test"] is not None:
        said["test"] = {name: value for name, value in said["test"].items() if name not in _SINCE_3}
    return said


def _said(
    facts: Mapping[str, Any],
    decision: Decision,
    test: PairedTest | Untestable | None,
    *,
    counted: tuple[str, ...],
) -> dict[str, Any]:
    return {
        "decision": decision.decision,
        "reasons": [*decision.reasons, *counted, *facts["findings"]],
        "gates": _gates(decision.gates),
        "champion_gates": _gates(decision.champion_gates),
        "test": _test_json(test) if isinstance(test, PairedTest) else None,
        "untestable": test.words if isinstance(test, Untestable) else None,
    }


def _test_json(test: PairedTest) -> dict[str, Any]:
    """The test's numbers; those of a test on few dates alone where it was one."""
    return {name: value for name, value in asdict(test).items() if name != "n_dates_before" or value is not None}


@dataclass(frozen=True, kw_only=True)
class Replay:
    """A decision made again from its evidence."""

    digest: str
    """Digest of the decision that was made again."""
    agrees: bool
    words: str


def _concluding(evidence: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], dict[str, Any]] | None:
    """How such evidence is concluded from; None: it does not hold what it was computed from."""
    if evidence.get("kind") == experiments.KIND:
        return experiments.concluded
    if evidence.get("kind") == rollback.KIND:
        return rollback.concluded if evidence.get("layout") == rollback.LAYOUT else None
    return concluded if evidence.get("evidence") in _REPLAYABLE else None


def replay(evidence: Mapping[str, Any], digest: str) -> Replay | None:
    """Make the decision again; None for evidence that does not hold what it was computed from."""
    again_from = _concluding(evidence)
    if again_from is None:
        return None
    stored = evidence_digest(evidence)
    if stored != digest:
        return Replay(
            digest=stored,
            agrees=False,
            words=f"the evidence was changed: its digest is {stored}, recorded was {digest}",
        )
    try:
        again = evidence_digest(again_from(evidence))
    except ValueError as exc:
        return Replay(digest="", agrees=False, words=f"computed again from the ledger alone it differs: {exc}")
    if again == digest:
        words = f"computed again from the ledger alone: the same decision, byte for byte (digest {digest})"
        return Replay(digest=again, agrees=True, words=words)
    words = f"computed again from the ledger alone it differs: digest {again}, recorded was {digest}"
    return Replay(digest=again, agrees=False, words=words)


def _decision(
    facts: Mapping[str, Any], test: PairedTest | Untestable | None, missed: tuple[MissedGate, ...] | None
) -> Decision:
    policy = _policy(facts)
    if facts["verdict"] is not None:
        answer, why = facts["verdict"]
        decision = Decision(decision=answer, reasons=(why,), gates=())
    else:
        decision = decide(policy, metrics=facts["metrics"], incumbent=_incumbent(facts, test, missed))
    decision = held_back(decision, [Finding(**one) for one in facts["suspicions"]], policy.accepted_findings)
    # Evidence of earlier versions has neither.
    return stopped(overridden(decision, facts.get("override")), facts.get("stops", ()))


def _incumbent(
    facts: Mapping[str, Any], test: PairedTest | Untestable | None, missed: tuple[MissedGate, ...] | None
) -> Incumbent | None:
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
        missed=missed,
    )


def _counted(
    facts: Mapping[str, Any], test: PairedTest | Untestable | None, others: tuple[str, ...], *, is_paid: bool
) -> tuple[str, ...]:
    """Describe the looks; nothing where there is one."""
    if not isinstance(test, PairedTest) or (test.looks == 1 and not others):
        return ()
    paid = ", each paid from the year's error" if is_paid and others else ""
    return (f"looks that were counted: {looks_in_words(facts['tuning_trials'], others)}{paid}",)


def looks_in_words(trials: int, others: tuple[str, ...]) -> str:
    """Describe the looks: the training itself or its trials, and earlier challengers that were other models."""
    training = f"{trials} trials of this training" if trials > 1 else "this training"
    if not others:
        return f"{training}, no earlier challenger"
    return f"{training}, and earlier challengers of this champion: versions {', '.join(others)}"


def _look(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Identify the model by its bytes, and by its predictions of which rows."""
    common = facts["common"] or {}
    return {
        "model": facts["model_sha256"],
        "rows": common.get("data_fingerprint"),
        "predictions": common.get("predictions_challenger"),
    }


def _other_looks(facts: Mapping[str, Any]) -> tuple[str, ...]:
    return other_looks(facts["earlier_challengers"], version=facts["version"], **_look(facts))


def _allowance(facts: Mapping[str, Any]) -> Allowance | None:
    """Allowed level of the decision; None where nothing is compared, or the policy keeps no budget."""
    policy, common = _policy(facts), facts["common"]
    is_untested = common is None or common["parts_challenger"] is None or facts["verdict"] is not None
    if policy.yearly_error is None or is_untested:
        return None
    paid = paid_already(facts["earlier_challengers"], **_look(facts), metric=policy.main_metric, margin=policy.margin)
    bars = [policy.min_accuracy, policy.min_roc_auc, policy.min_lift_over_majority, policy.min_f1]
    bars += [bar for name, bar in policy.gates.items() if has_parts(name)]
    has_gates = common["is_enough"] and any(bar is not None for bar in bars)
    return allowance(policy.yearly_error, facts["error_spent"], has_gates=has_gates, paid=paid)


def _missed(facts: Mapping[str, Any], allowed: Allowance | None) -> tuple[MissedGate, ...]:
    """Evidence for each gate that the champion misses, in the gates' order."""
    policy, common = _policy(facts), facts["common"]
    if common is None or not common["is_enough"]:
        return ()
    found = []
    for gate in apply_gates(policy, common["champion"]):
        if gate.passed or gate.found is None:
            continue
        parts = common["gate_parts"].get(gate.metric)
        p_value = 1.0
        if parts is not None:
            p_value = missing_p_value(
                gate.metric,
                _decoded(parts),
                required=gate.required,
                horizon_dates=facts["horizon_dates"],
                confidence=policy.confidence,
                seed=facts["seed"],
                sees_overlap=facts["evidence"] >= _SEES_OVERLAP,
            )
        earlier = sum(
            gate.metric in one.get("missed", ()) for one in facts["earlier_challengers"] if not _is_this(one, facts)
        )
        level = 1.0 - policy.confidence if policy.yearly_error is None else (allowed.gates if allowed else 0.0)
        found.append(MissedGate(metric=gate.metric, p_value=p_value, level=round(level, 9), looks=1 + earlier))
    return tuple(found)


def _is_this(earlier: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Whether an earlier decision saw the same dates, which is no further look at the champion."""
    rows = (facts["common"] or {}).get("data_fingerprint")
    return rows is not None and earlier.get("rows") == rows


def _test(facts: Mapping[str, Any], *, looks: int, level: float | None) -> PairedTest | Untestable | None:
    common = facts["common"]
    if common is None:
        return None
    if common["parts_challenger"] is None:
        return Untestable(words=common["why_no_parts"])
    policy = _policy(facts)
    return compare_on_dates(
        policy.main_metric,
        challenger=_decoded(common["parts_challenger"]),
        champion=_decoded(common["parts_champion"]),
        horizon_dates=facts["horizon_dates"],
        margin=policy.margin,
        confidence=policy.confidence,
        looks=looks,
        level=level,
        seed=facts["seed"],
        sees_overlap=facts["evidence"] >= _SEES_OVERLAP,
        champion_before=decoded_array(before) if (before := common.get("champion_before")) else None,
    )


def _policy(facts: Mapping[str, Any]) -> PromotionPolicy:
    """Read the policy of the evidence; fields that were removed since are ignored, new ones have their defaults."""
    known = {one.name for one in fields(PromotionPolicy)}
    values = {name: value for name, value in facts["policy"].items() if name in known}
    if facts["evidence"] < _BUDGETED:  # decided before there was a floor
        values |= {"floor": None, "yearly_error": None}
    # JSON knows no tuples.
    return PromotionPolicy(**values | {name: tuple(one) for name, one in values.items() if isinstance(one, list)})


def _encoded(parts: Parts) -> dict[str, Any]:
    return {name: encoded_array(array) for name, array in parts.items()}


def _decoded(parts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: decoded_array(text) for name, text in parts.items()}


def _gates(gates: tuple[GateResult, ...]) -> list[dict[str, Any]]:
    return [asdict(gate) for gate in gates]


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


def encoded_array(array: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Encode shape and content as text."""
    content = zlib.compress(np.ascontiguousarray(array, dtype="<f8").tobytes(), 6)
    return {"shape": list(array.shape), "layout": _ARRAY_LAYOUT, "content": base64.b64encode(content).decode("ascii")}


def decoded_array(text: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """Decode the array. Raises ValueError for text that is none."""
    try:
        content = zlib.decompress(base64.b64decode(text["content"], validate=True))
        shape = tuple(int(size) for size in text["shape"])
    except (KeyError, TypeError, zlib.error) as exc:
        message = f"array cannot be read: {exc}"
        raise ValueError(message) from exc
    if len(content) != 8 * math.prod(shape):
        message = f"array of shape {shape} needs {8 * math.prod(shape)} bytes, found {len(content)}"
        raise ValueError(message)
    return np.frombuffer(content, dtype="<f8").reshape(shape).astype(np.float64)

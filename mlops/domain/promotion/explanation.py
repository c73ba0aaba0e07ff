"""Explanation of a decision for a person, from the ledger's record of it.

Pure; called by `acis explain`. Evidence of earlier versions says less, and is explained as far as it goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlops.domain.experiments import evidence as experiments
from mlops.domain.experiments import rollback
from mlops.domain.promotion.bootstrap import INTERVAL_LEVEL
from mlops.domain.promotion.evidence import Replay, looks_in_words
from mlops.domain.promotion.policy import MISSED_LOOKS
from mlops.domain.promotion.records import Promotion

_ANSWERS = {
    "promote": "promoted to Production",
    "refuse": "refused",
    "keep": "not promoted: the champion stays",
    "inconclusive": "not promoted: nobody knows which is better; it stays in Staging as challenger",
    "await_approval": "judged good enough, and awaits a person's approval",
    "override": "promoted by a person in spite of what it fails",
    "rollback": "brought back by a rollback",
    "restore": "registered again, and is the champion as before",
    "manual": "changed by hand in the model registry",
    "transition": "moved by a person",
}


def explanation(promotion: Promotion, again: Replay | None) -> list[str]:
    """Explain a decision in lines; `again`: the decision made once more, None where the evidence does not allow it."""
    evidence = promotion.evidence
    answer = _ANSWERS.get(promotion.decision, promotion.decision)
    when = f"{promotion.created_at:%Y-%m-%d %H:%M:%S} UTC, by {promotion.actor}"
    lines = [
        f"{promotion.strategy}: version {promotion.version} was {answer} ({when})",
        "",
        "Why",
        *(f"  {reason}" for reason in promotion.reasons),
        *_gates("Gates on its own held-out dates", evidence.get("gates")),
        *_gates("The champion's gates on the common dates", evidence.get("champion_gates")),
        *_experiment(evidence),
        *_test(evidence.get("test"), evidence),
        *_error(evidence),
        *_approval(evidence),
        *_rollback(evidence),
        *_ties(promotion),
        "",
    ]
    if again is None:
        lines.append("It cannot be computed again: its evidence does not hold what each date contributed.")
    else:
        lines.append(again.words[0].upper() + again.words[1:])
    return lines


def _gates(title: str, gates: list[Mapping[str, Any]] | None) -> list[str]:
    if not gates:
        return []
    return ["", title, *(f"  {'✓' if gate['passed'] else '✗'} {gate['words']}" for gate in gates)]


def _test(test: Mapping[str, Any] | None, evidence: Mapping[str, Any]) -> list[str]:
    if test is None:
        why = evidence.get("untestable")
        return ["", "The test against the champion", f"  not possible: {why}"] if why else []
    rows = {
        "dates": _dates(evidence["common"]),
        test["metric"]: (
            f"challenger {test['challenger']:.4f}, champion {test['champion']:.4f}; better by "
            f"{test['difference']:+.4f}, {INTERVAL_LEVEL} interval {test['low']:+.4f} to {test['high']:+.4f}"
        ),
        "resamples": (
            f"{test['resamples']} of whole dates, in blocks of {test['block_dates']:.1f} on average (the label looks "
            f"{evidence['horizon_dates']} ahead; automatic length {test['automatic_block_dates']:.1f}), "
            f"spread by {test['spread']:.3f}, seed {evidence['seed']}"
        ),
        "better": (
            f"by at least {test['margin']:g} with probability {test['probability_better']:.4f} "
            f"({test['better_in_blocks']:.4f} in blocks, {test['better_by_date']:.4f} by single dates)"
        ),
        "worse": f"by at least {test['margin']:g} with probability {test['probability_worse']:.4f}",
        "deflated": (
            f"better {test['deflated_better']:.4f}, worse {test['deflated_worse']:.4f}, for {test['looks']} "
            f"{'look' if test['looks'] == 1 else 'looks'}: {_looks(evidence)}"
        ),
        "required": f"{test['confidence']:g}, so {test['verdict']}",
    }
    title = f"The test against champion {evidence['champion']['version']}"
    return ["", title, *(f"  {name:<10} {words}" for name, words in rows.items())]


def _experiment(evidence: Mapping[str, Any]) -> list[str]:
    """Describe the experiment that decided."""
    if evidence.get("kind") != experiments.KIND:
        return []
    plan, found, stand = evidence["plan"], evidence["sequence"], evidence["stand"]
    interval = "none yet" if found["low"] is None else f"{found['low']:+.3g} to {found['high']:+.3g}"
    rows = {
        "days": f"{found['n_days']} that both versions were scored on, after {evidence['started_as_of']}",
        plan["measure"]: (
            f"better by {found['mean'] or 0.0:+.3g} a day, {1 - plan['alpha']:.4g} interval at every look {interval}"
        ),
        "stood": f"{plan['mode']}, at {stand['steps'][stand['step']]:.0%} of the keys, {stand['days_left']} days left",
        "started": f"by {evidence['started_by']}",
    }
    guards = [
        f"  {'✗' if one['n'] >= one['min_n'] and one['value'] > one['bound'] else '✓'} {one['name']} "
        f"{one['value']:.3g}, may be {one['bound']:.3g} ({one['n']} answers)"
        for one in evidence["guardrails"]
    ]
    title = f"Experiment {evidence['experiment']} against champion {evidence['champion']['version']}"
    return ["", title, *(f"  {name:<10} {words}" for name, words in rows.items()), *guards]


def _dates(common: Mapping[str, Any]) -> str:
    return (
        f"{common['n_dates']} that neither was trained on, {common['first']} to {common['last']}, "
        f"{common['n_rows']} rows"
    )


def _looks(evidence: Mapping[str, Any]) -> str:
    # Evidence of layout 2 holds the versions alone, each of them a look.
    others = evidence["looks"] if "looks" in evidence else evidence["earlier_challengers"]
    paid = ", each paid from the year's error" if others and evidence.get("error") else ""
    return looks_in_words(evidence["tuning_trials"], tuple(others)) + paid


def _error(evidence: Mapping[str, Any]) -> list[str]:
    """Describe what the decision could spend of the year's error."""
    error, test = evidence.get("error"), evidence.get("test")
    if not error or not test:
        return []
    yearly, spent = evidence["policy"]["yearly_error"], evidence["error_spent"]
    paid = f", the look of version {error['paid_by']} again, paid for then" if error["paid_by"] else ""
    gates = f", {error['gates']:.2g} for the champion's gates" if error["gates"] else ""
    return [
        "",
        "The year's error",
        f"  budget     {yearly:g} in 365 days for replacing a champion by one as good; {spent:.4f} spent before",
        f"  level      {error['level']:.2g} for this decision{paid}: {error['test']:.2g} for the test{gates}",
        f"  p-value    {test['p_value']:.2g} of not being better by {test['margin']:g}",
        *(
            f"  gate       {gate['metric']}: the champion misses it with p-value {gate['p_value']:.2g}, "
            f"asked is at most {gate['level']:.2g}; look {gate['looks']} at it, of {MISSED_LOOKS} that are asked"
            for gate in evidence.get("missed_gates", ())
        ),
    ]


def _rollback(evidence: Mapping[str, Any]) -> list[str]:
    """Describe what a rollback that nobody asked for was decided by."""
    if evidence.get("kind") != rollback.KIND:
        return []
    champion, measure = evidence["champion"]["version"], rollback.MEASURE_WORDS.get(evidence["measure"])
    lines = ["", f"Former champions beside champion {champion}, as of {evidence['as_of']}"]
    for one in evidence["bounds"]:
        interval = "no interval yet" if one["low"] is None else f"{one['low']:+.3g} to {one['high']:+.3g}"
        lines.append(f"  version {one['version']}: {measure} higher by {interval} a day, after {one['n_days']} days")
    for one in evidence["former"]:
        lines += [
            f"  {given['name']} beside version {one['version']}: {given['value']:.3g} of at most {given['bound']:.3g}, "
            f"{given['n']} answers"
            for given in one["guardrails"]
            if given["n"] >= given["min_n"]
        ]
        lines += [f"  version {one['version']} could not: {one['unusable']}"] if one["unusable"] else []
    lines.append(f"  level {evidence['level']:.3g} for each that is watched, {evidence['alpha']:g} in all")
    if evidence["switch"]:
        lines.append(f"  {evidence['switch']['words']}")
    return lines


def _approval(evidence: Mapping[str, Any]) -> list[str]:
    if evidence.get("kind") != "approval":
        return []
    answered = evidence["answers"]
    words = f"It answers run {answered}, whose evidence has digest {evidence['approved_digest']}"
    return ["", f"{words}; `acis explain {answered}` shows it."]


def _ties(promotion: Promotion) -> list[str]:
    evidence = promotion.evidence
    code = evidence.get("code") or {}
    ties = {
        "model": evidence.get("model_sha256"),
        "training data": evidence.get("data_fingerprint"),
        "common rows": (evidence.get("common") or {}).get("data_fingerprint"),
        "code": ", ".join(f"{name} {value}" for name, value in code.items() if value) or None,
        "evidence": promotion.evidence_digest,
    }
    return ["", "Tied to", *(f"  {name:<13} {value}" for name, value in ties.items() if value)]

"""Whether the champion gives its place back to a former one, as a function of facts that the ledger keeps; pure.

Called by the score stage, and by `acis explain`, which decides again from the same facts. The rules in their order:

    1. a former champion is shown better where the confidence sequence of its daily difference to the champion, at
       level alpha / k of k that are watched, lies above 0: with no difference, one of k ever is with probability alpha
       at most. Where its days contradict that since (`sign_shown`), it is not
    2. a broken guardrail of the champion beside a former one is no matter of chance. One that says which of the two is
       at fault, on the same rows (`ACTING`), acts like 1; for any other a person is asked
    3. the place goes to the best of those that are shown better, else to the newest former champion; never to one that
       cannot be used (`FormerChampion.unusable`), nor without being shown better to one that a rollback took it from
    4. within the cooldown after an automatic rollback, and where nobody can take the place, a person is asked
    5. a hook that says no is asked again at the next scoring
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from mlops.domain.experiments.decision import Guardrail, sign_shown
from mlops.domain.experiments.sequence import confidence_sequence
from mlops.domain.training.fingerprint import canonical_json

KIND = "automatic_rollback"
"""Of the evidence of a rollback that nobody asked for."""
LAYOUT = 1
ACTING = frozenset({"calibration", "missing features"})
"""Guardrails with a sign, of both versions on the same rows. A share of positive calls differs as much where the former
version is the broken one; error rate and latency are of the minutes that each served, and those differ."""
_WHO = ("version", "model_sha256", "made_by")
"""What tells former champions apart"""
_DERIVED = ("bounds", "action", "to", "target", "words", "level")


class RollbackAction(StrEnum):
    """What follows."""

    NONE = "none"
    """Nothing speaks against the champion"""
    OFF = "off"
    """Something does, and the policy lets nothing follow"""
    ASK = "ask"
    """A person decides"""
    WAIT = "wait"
    """The hook says no; it is asked again"""
    ROLLBACK = "rollback"


@dataclass(frozen=True, kw_only=True)
class FormerChampion:
    """A former champion, the newest first, and what is known of it beside the champion."""

    version: str
    model_sha256: str | None
    made_by: str | None
    is_watched: bool = False
    """It has gone on predicting"""
    r: float | None = None
    """Variance of the mixture (`sequence.mixture_variance`), fixed before the first difference; None: not yet"""
    differences: tuple[tuple[str, float], ...] = ()
    """Date and daily difference, former less champion, since the champion's promotion, in order"""
    guardrails: tuple[Guardrail, ...] = ()
    """Of the champion beside it"""
    unusable: str | None = None
    """Why it cannot be the champion, in words: it missed its gates, its digest is not recorded, its file is damaged"""
    was_left: bool = False
    """A rollback took the place from it since it was promoted last"""


@dataclass(frozen=True, kw_only=True)
class RollbackFacts:
    """Everything that the decision uses."""

    strategy: str
    as_of: str
    champion: Mapping[str, Any]
    """version, seq, model_sha256, promotion_id"""
    measure: str | None
    """Of the differences; None: there are none, and `why_not` says why"""
    why_not: str | None
    mode: str
    """`off`, `ask` or `automatic`"""
    alpha: float
    cooldown_days: int
    days_since_rollback: int | None
    """Trading dates since the last automatic one; None: there was none"""
    former: Sequence[FormerChampion]
    switch: Mapping[str, Any] | None = None
    """What the hook said (`SwitchAnswer`); None: it was not asked yet"""


def evidence_of(facts: RollbackFacts) -> dict[str, Any]:
    """Give the facts with what follows from them as JSON: `action`, `to` (a version or None), `words` and `bounds`.

    `target` is who `to` is: its version, model_sha256 and made_by, as a number may be another model's by now.
    """
    return concluded({"kind": KIND, "layout": LAYOUT, **asdict(facts)})


def concluded(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Give the facts with what follows from them, computed anew whatever the evidence says of it."""
    facts: dict[str, Any] = json.loads(
        canonical_json({key: value for key, value in evidence.items() if key not in _DERIVED})
    )
    level = facts["alpha"] / max(1, sum(one["is_watched"] for one in facts["former"]))
    bounds = [_bounds(one, level) for one in facts["former"] if one["is_watched"]]
    action, target, words = _decided(facts, bounds)
    found = {"level": level, "bounds": bounds, "action": str(action), "words": words}
    who = None if target is None else dict(zip(_WHO, identity_of(target), strict=True))
    return json.loads(  # type: ignore[no-any-return]  # an object
        canonical_json({**facts, **found, "to": None if who is None else who["version"], "target": who})
    )


def identity_of(former: Mapping[str, Any]) -> tuple[str | None, ...]:
    """Give what a former champion of the evidence is known by: a registry that was made anew counts from 1 again."""
    return tuple(former[name] for name in _WHO)


def _bounds(former: Mapping[str, Any], level: float) -> dict[str, Any]:
    values = np.array([value for _, value in former["differences"]], dtype=np.float64)
    found: dict[str, Any] = {**dict(zip(_WHO, identity_of(former), strict=True)), "n_days": len(values)}
    if not len(values):
        return {**found, "mean": None, "low": None, "high": None}
    low, high = (float(ends[-1]) for ends in confidence_sequence(values, r=former["r"], alpha=level))
    is_bounded = math.isfinite(low) and math.isfinite(high)
    ends = (low, high) if is_bounded else (None, None)
    return {**found, "mean": float(values.mean()), "low": ends[0], "high": ends[1]}


def _decided(
    facts: Mapping[str, Any], bounds: Sequence[Mapping[str, Any]]
) -> tuple[RollbackAction, Mapping[str, Any] | None, str]:
    """What follows, the former champion that it leads to, and why."""
    better = {
        identity_of(one): one
        for one in bounds
        if one["low"] is not None and sign_shown(low=one["low"], high=one["high"], mean=one["mean"]) > 0
    }
    broken = _broken(facts)
    causes = [*(_shown_better(one, facts) for one in better.values()), *(_breaks(*one, facts) for one in broken)]
    if not causes:
        return RollbackAction.NONE, None, _nothing(facts, bounds)
    why, (target, passed_over) = "; ".join(causes), _target(facts, better)
    if facts["mode"] == "off":
        return RollbackAction.OFF, target, f"{why}. Nothing follows, since experiments.rollback is off"
    if target is None:
        none = "; ".join(passed_over) or "there is none"
        return RollbackAction.ASK, None, f"{why}. No former champion can take the place: {none}. A person decides"
    held = _held(facts, acts=bool(better) or any(one.name in ACTING for _, one in broken))
    if facts["mode"] == "ask" or held:
        to = target["version"]
        command = f'`acis rollback {facts["strategy"]} --to {to} --reason "..."`'
        return RollbackAction.ASK, target, f"{why}. A person decides{held}: {command} brings version {to} back"
    switch = facts["switch"]
    if switch is not None and not switch["allowed"]:
        return RollbackAction.WAIT, target, f"{why}. It waits: {switch['words']}"
    return RollbackAction.ROLLBACK, target, why


def _held(facts: Mapping[str, Any], *, acts: bool) -> str:
    """Why it is a person's whatever the mode, as the end of a clause; empty: it is not."""
    if not acts:
        return ", since that alone does not say that the champion is the one at fault"
    since, cooldown = facts["days_since_rollback"], facts["cooldown_days"]
    if since is not None and since < cooldown:
        return f", since the last automatic rollback was {since} trading days ago, of {cooldown}"
    return ""


def _target(
    facts: Mapping[str, Any], better: Mapping[tuple[str | None, ...], Mapping[str, Any]]
) -> tuple[Mapping[str, Any] | None, list[str]]:
    """The former champion that takes the place, and why others do not."""
    former = facts["former"]
    shown = sorted(
        (one for one in former if identity_of(one) in better), key=lambda one: -better[identity_of(one)]["mean"]
    )
    passed_over = []
    for one in (*shown, *(one for one in former if identity_of(one) not in better)):
        if one["unusable"] is not None:
            passed_over.append(f"version {one['version']}: {one['unusable']}")
        elif one["was_left"] and identity_of(one) not in better:
            passed_over.append(f"version {one['version']}: a rollback took the place from it")
        else:
            return one, passed_over
    return None, passed_over


MEASURE_WORDS: Mapping[str, str] = {"mark": "daily mark", "increment": "score of each day's returns"}


def _shown_better(one: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    k = sum(former["is_watched"] for former in facts["former"])
    level = f"level {facts['alpha']:g}" + (f" / {k}" if k > 1 else "")
    return (
        f"champion {facts['champion']['version']} is shown worse than former champion {one['version']}, whose "
        f"{MEASURE_WORDS[facts['measure']]} is higher by {one['low']:.3g} to {one['high']:.3g} a day after "
        f"{one['n_days']} days ({level})"
    )


def _broken(facts: Mapping[str, Any]) -> list[tuple[str, Guardrail]]:
    """Give each broken guardrail with the version beside which it is."""
    pairs = [(one["version"], Guardrail(**given)) for one in facts["former"] for given in one["guardrails"]]
    return [(version, guardrail) for version, guardrail in pairs if guardrail.is_broken]


def _breaks(version: str, guardrail: Guardrail, facts: Mapping[str, Any]) -> str:
    return (
        f"champion {facts['champion']['version']} breaks a guardrail beside version {version}: {guardrail.name} is "
        f"{guardrail.value:.3g}, and may be {guardrail.bound:.3g}"
    )


def _nothing(facts: Mapping[str, Any], bounds: Sequence[Mapping[str, Any]]) -> str:
    if not bounds:
        return "no former champion is watched"
    if facts["why_not"] is not None:
        return f"not tested: {facts['why_not']}"
    said = ", ".join(
        f"version {one['version']} after {one['n_days']} days"
        + (", in which the difference changed" if one["low"] is not None and one["low"] > one["high"] else "")
        for one in bounds
    )
    return f"no former champion is shown better: {said}"

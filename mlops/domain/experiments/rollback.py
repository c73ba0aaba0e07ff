"""Whether the champion gives its place back to a former one, as a function of facts that the ledger keeps; pure.

Called by the score stage, and by `acis explain`, which decides again from the same facts. The rules in their order:

    1. a former champion is shown better where the confidence sequence of its daily difference to the champion, at
       level alpha / k of k that are watched, lies above 0: with no difference, one of k ever is with probability alpha
       at most. Where its days contradict that since (`sign_shown`), it is not
    2. a broken guardrail of the champion beside a former one is no matter of chance
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
_DERIVED = ("bounds", "action", "to", "words", "level")


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
    r: float = 1.0
    """Variance of the mixture (`sequence.mixture_variance`), fixed before the first difference"""
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
    """Give the facts with what follows from them as JSON: `action`, `to` (a version or None), `words` and `bounds`."""
    return concluded({"kind": KIND, "layout": LAYOUT, **asdict(facts)})


def concluded(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Give the facts with what follows from them, computed anew whatever the evidence says of it."""
    facts: dict[str, Any] = json.loads(
        canonical_json({key: value for key, value in evidence.items() if key not in _DERIVED})
    )
    level = facts["alpha"] / max(1, sum(one["is_watched"] for one in facts["former"]))
    bounds = [_bounds(one, level) for one in facts["former"] if one["is_watched"]]
    action, to, words = _decided(facts, bounds)
    return json.loads(  # type: ignore[no-any-return]  # an object
        canonical_json({**facts, "level": level, "bounds": bounds, "action": str(action), "to": to, "words": words})
    )


def _bounds(former: Mapping[str, Any], level: float) -> dict[str, Any]:
    values = np.array([value for _, value in former["differences"]], dtype=np.float64)
    found: dict[str, Any] = {"version": former["version"], "n_days": len(values)}
    if not len(values):
        return {**found, "mean": None, "low": None, "high": None}
    low, high = (float(ends[-1]) for ends in confidence_sequence(values, r=former["r"], alpha=level))
    is_bounded = math.isfinite(low) and math.isfinite(high)
    ends = (low, high) if is_bounded else (None, None)
    return {**found, "mean": float(values.mean()), "low": ends[0], "high": ends[1]}


def _decided(facts: Mapping[str, Any], bounds: Sequence[Mapping[str, Any]]) -> tuple[RollbackAction, str | None, str]:
    better = {
        one["version"]: one
        for one in bounds
        if one["low"] is not None and sign_shown(low=one["low"], high=one["high"], mean=one["mean"]) > 0
    }
    causes = [*(_shown_better(one, facts) for one in better.values()), *_broken(facts)]
    if not causes:
        return RollbackAction.NONE, None, _nothing(facts, bounds)
    why, (to, passed_over) = "; ".join(causes), _target(facts, better)
    if facts["mode"] == "off":
        return RollbackAction.OFF, to, f"{why}. Nothing follows, since experiments.rollback is off"
    if to is None:
        none = "; ".join(passed_over) or "there is none"
        return RollbackAction.ASK, None, f"{why}. No former champion can take the place: {none}. A person decides"
    since, cooldown = facts["days_since_rollback"], facts["cooldown_days"]
    is_cooling = since is not None and since < cooldown
    if facts["mode"] == "ask" or is_cooling:
        held = f", since the last automatic rollback was {since} trading days ago, of {cooldown}" if is_cooling else ""
        command = f'`acis rollback {facts["strategy"]} --to {to} --reason "..."`'
        return RollbackAction.ASK, to, f"{why}. A person decides{held}: {command} brings version {to} back"
    switch = facts["switch"]
    if switch is not None and not switch["allowed"]:
        return RollbackAction.WAIT, to, f"{why}. It waits: {switch['words']}"
    return RollbackAction.ROLLBACK, to, why


def _target(facts: Mapping[str, Any], better: Mapping[str, Mapping[str, Any]]) -> tuple[str | None, list[str]]:
    """The version that takes the place, and why others do not."""
    former = facts["former"]
    shown = sorted((one for one in former if one["version"] in better), key=lambda one: -better[one["version"]]["mean"])
    passed_over = []
    for one in (*shown, *(one for one in former if one["version"] not in better)):
        if one["unusable"] is not None:
            passed_over.append(f"version {one['version']}: {one['unusable']}")
        elif one["was_left"] and one["version"] not in better:
            passed_over.append(f"version {one['version']}: a rollback took the place from it")
        else:
            return one["version"], passed_over
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


def _broken(facts: Mapping[str, Any]) -> list[str]:
    pairs = [(one["version"], Guardrail(**given)) for one in facts["former"] for given in one["guardrails"]]
    return [
        f"champion {facts['champion']['version']} breaks a guardrail beside version {version}: {guardrail.name} is "
        f"{guardrail.value:.3g}, and may be {guardrail.bound:.3g}"
        for version, guardrail in pairs
        if guardrail.is_broken
    ]


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

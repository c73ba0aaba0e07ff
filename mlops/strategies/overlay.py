"""A strategy's policy as the file has it, with the edits that a person made since laid over it; pure.

Callers: `mlops.strategies.book`, which reads the edits from the ledger, and the page, which shows each value's origin.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mlops.domain.errors import InvalidPolicyEdit, InvalidStrategyFile
from mlops.strategies.file import POLICIES, Settled, checked, snapshot

if TYPE_CHECKING:
    from mlops.domain.policies import Strategy
    from mlops.ledger.people.auditing import PolicyEdit

_SET_BY = "set by"


def in_force(edits: Iterable[PolicyEdit]) -> dict[str, PolicyEdit]:
    """The newest edit of each path, unless it takes the path's edits back. edits : oldest first"""
    newest = {edit.path: edit for edit in edits}
    return {path: edit for path, edit in newest.items() if edit.value is not None}


def overlaid(settled: Settled, edits: Iterable[PolicyEdit]) -> Settled:
    """The policy with the edits, checked by the file's own rules. Raises InvalidPolicyEdit, naming the edit."""
    held = in_force(edits)
    if not held:
        return settled
    try:
        strategy = _with(settled.strategy, held)
    except InvalidStrategyFile as exc:
        raise _explained(settled.strategy, held, exc) from exc
    return Settled(
        strategy=strategy, origins={**settled.origins, **{path: _origin_of(edit) for path, edit in held.items()}}
    )


def _origin_of(edit: PolicyEdit) -> str:
    """Who set the value, when and why."""
    return f"{_SET_BY} {edit.actor} on {edit.created_at:%Y-%m-%d %H:%M} UTC: {edit.reason}"


def is_edit(origin: str) -> bool:
    """Whether a value is from an edit, by its origin's words."""
    return origin.startswith(f"{_SET_BY} ")


def was_and_is(before: Strategy, after: Strategy, paths: Iterable[str]) -> dict[str, str]:
    """Each path's value before and after an edit, as the audit shows it: `0.3 → 0.4`; a path that is gone has none."""

    def shown(strategy: Strategy, path: str) -> str:
        try:
            return str(value_at(snapshot(strategy), path))
        except InvalidPolicyEdit:
            return "nothing"

    return {path: f"{shown(before, path)} → {shown(after, path)}" for path in paths}


def value_at(values: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401 -- any JSON value
    """The value of a snapshot at `drift.alert_share`. Raises InvalidPolicyEdit where there is none."""
    found: Any = values
    for part in path.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise InvalidPolicyEdit(
                f"a policy has no {path!r}; paths are as drift.alert_share, see mlops/domain/policies.py"
            )
        found = found[part]
    return found


def _with(strategy: Strategy, held: Mapping[str, PolicyEdit]) -> Strategy:
    values = snapshot(strategy)
    for path, edit in held.items():
        _put(values, path, edit.value)
    return checked(values)


def _put(values: dict[str, Any], path: str, value: Any) -> None:  # noqa: ANN401 -- any JSON value
    policy, _, rest = path.partition(".")
    if policy not in POLICIES or not rest:
        raise InvalidPolicyEdit(f"{path!r} names no value of a policy; paths begin with one of: {', '.join(POLICIES)}")
    place = values[policy]
    *tables, key = rest.split(".")
    for table in tables:
        # Only tables whose keys are free (`params`, `gates`) have a third part.
        if not isinstance(place.get(table), dict):
            raise InvalidPolicyEdit(f"a policy has no {path!r}: {table!r} holds no further values")
        place = place[table]
    place[key] = value


def _explained(strategy: Strategy, held: Mapping[str, PolicyEdit], exc: InvalidStrategyFile) -> InvalidPolicyEdit:
    """The error with the edits that do not fit even alone, else with all of them: together they do not."""
    faults: dict[str, str] = {}
    for path, edit in held.items():
        try:
            _with(strategy, {path: edit})
        except InvalidStrategyFile as alone:
            faults[path] = str(alone)
    faults = faults or dict.fromkeys(held, str(exc))
    path, words = next(iter(faults.items()))
    named = "; ".join(f"{one} = {json.dumps(held[one].value)} ({_origin_of(held[one])})" for one in faults)
    return InvalidPolicyEdit(
        f"the policy of {strategy.name!r} does not fit with what was set: {named}: {words}; "
        f"take it back with `acis policy {strategy.name} --unset {path}` or on the strategy's page"
    )

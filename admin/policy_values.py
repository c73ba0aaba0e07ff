"""A strategy's policy as a page shows and edits it: values, where each is from, and edits that can be taken back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from admin.responses import NotValid
from mlops.domain.errors import InvalidPolicyEdit, InvalidStrategyFile
from mlops.strategies.file import POLICIES, Settled, checked, snapshot, value_schema
from mlops.strategies.overlay import in_force, was_and_is

if TYPE_CHECKING:
    from admin.request_context import RequestContext
    from mlops.domain.policies import Strategy
    from mlops.ledger.people.auditing import PolicyEdit

DEFAULT = "the program's default"


@dataclass(frozen=True, kw_only=True)
class ValueInForce:
    """What holds for a strategy's next run."""

    settled: Settled
    """Where the edits do not fit: the file's policy alone"""
    fault: str
    """Why the edits do not fit; empty: they do"""
    edits: tuple[PolicyEdit, ...]
    """All of them, newest first"""

    @property
    def strategy(self) -> Strategy:
        """The policy itself."""
        return self.settled.strategy

    @property
    def held(self) -> dict[str, PolicyEdit]:
        """Edits that hold now, by path."""
        return in_force(reversed(self.edits))

    def origin(self, path: str) -> str:
        """Where the value of a path is from, in words."""
        return self.settled.origins.get(path, DEFAULT)

    @staticmethod
    def hint(path: str) -> str:
        """What the value of a path is, in words."""
        return str(value_schema(path)["description"]).replace("`", "")

    @staticmethod
    def limits(path: str) -> dict[str, float]:
        """The least and the most that a field of a form takes; where a bound itself is refused, the policy says so."""
        found = value_schema(path)
        bounds = {"min": ("minimum", "exclusiveMinimum"), "max": ("maximum", "exclusiveMaximum")}
        return {name: found[key] for name, keys in bounds.items() for key in keys if key in found}

    @property
    def values(self) -> dict[str, dict[str, Any]]:
        """Every value, by table and key."""
        found = snapshot(self.strategy)
        return {policy: found[policy] for policy in POLICIES}


def standing(context: RequestContext, name: str) -> ValueInForce:
    """Raises UnknownStrategy, LedgerUnavailable."""
    policies = context.services.policies
    edits = tuple(reversed(context.ledger.policy_edits(name)))
    try:
        return ValueInForce(settled=policies.settled(name), fault="", edits=edits)
    except InvalidPolicyEdit as exc:
        return ValueInForce(settled=policies.strategies.settled(name), fault=str(exc), edits=edits)


def changed(strategy: Strategy, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What of the values asked for is not so already. asked : by path of two parts, as drift.alert_share"""
    values = snapshot(strategy)
    return {path: value for path, value in asked.items() if _at(values, path) != value}


def with_values(strategy: Strategy, asked: Mapping[str, Any]) -> Strategy:
    """The strategy as it would be. Raises NotValid in the words of the strategies file."""
    values = snapshot(strategy)
    for path, value in asked.items():
        policy, _, key = path.partition(".")
        values[policy][key] = value
    try:
        return checked(values)
    except InvalidStrategyFile as exc:
        raise NotValid(f"{exc}; nothing was changed") from exc


def edit(context: RequestContext, name: str, asked: Mapping[str, Any], *, reason: str) -> dict[str, Any]:
    """Append what differs from the policy now; valid from the next run. Raises NotValid, InvalidPolicyEdit."""
    now = standing(context, name)
    values = changed(now.strategy, asked)
    context.note(reason=reason, **values)
    if not values:
        raise NotValid(f"nothing is different from the policy of {name} as it is; nothing was changed")
    after = with_values(now.strategy, values)
    context.note(**was_and_is(now.strategy, after, values))
    context.services.policies.edit(name, values, actor=context.person.actor, reason=stated(reason))
    return values


def take_back(context: RequestContext, name: str, path: str, *, reason: str) -> None:
    """The file's value holds again. Raises NotValid where there is no edit of the path, InvalidPolicyEdit."""
    context.note(path=path, reason=reason)
    now = standing(context, name)
    if path not in now.held:
        raise NotValid(f"no edit of {path} holds for {name}; nothing was changed")
    settled = context.services.policies.edit(name, {path: None}, actor=context.person.actor, reason=stated(reason))
    context.note(**was_and_is(now.strategy, settled.strategy, [path]))


def stated(reason: str) -> str:
    """A reason, which every edit is kept with. Raises NotValid for none."""
    if not reason.strip():
        raise NotValid("an edit is kept with its reason; say why, in a few words")
    return reason.strip()


def _at(values: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401 -- any JSON value
    policy, _, key = path.partition(".")
    return values[policy][key]

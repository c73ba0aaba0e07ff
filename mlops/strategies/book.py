"""The policies that runs are judged by: the strategies file, with the ledger's edits laid over it.

`Services.policies`. Nothing is kept: an edit is valid from the next run on, whichever process opens it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from mlops.domain.errors import InvalidPolicyEdit, UnknownStrategy
from mlops.domain.policies import Strategy
from mlops.ledger.people.auditing import PolicyEdit
from mlops.strategies.file import Settled, snapshot
from mlops.strategies.overlay import overlaid, value_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlops.strategies.file import Strategies


class PolicyLedger(Protocol):
    """What is asked of the ledger."""

    def policy_edits(self, strategy: str | None = None) -> Sequence[PolicyEdit]:
        """All edits, oldest first."""
        ...

    def edit_policy(self, strategy: str, path: str, value: Any, *, actor: str, reason: str) -> None:  # noqa: ANN401 -- any JSON value
        """Append an edit."""
        ...


@dataclass(frozen=True, kw_only=True)
class Unfit:
    """A strategy whose edits do not fit, or no longer."""

    name: str
    error: InvalidPolicyEdit


@dataclass(frozen=True)
class SettledBook:
    """Policies that were read once, for many runs at a time."""

    found: Mapping[str, Settled | Unfit]

    def settled(self, name: str) -> Settled:
        """Raises UnknownStrategy, InvalidPolicyEdit."""
        if name not in self.found:
            raise UnknownStrategy.named(name, self.found)
        one = self.found[name]
        if isinstance(one, Unfit):
            raise one.error
        return one


class PolicyBook(Mapping[str, Strategy]):
    """Strategies with their edits. A name gives UnknownStrategy, InvalidPolicyEdit or LedgerUnavailable."""

    def __init__(self, strategies: Strategies, ledger: PolicyLedger) -> None:
        self.strategies = strategies
        self._ledger = ledger

    def __getitem__(self, name: str) -> Strategy:
        return self.settled(name).strategy

    def __contains__(self, name: object) -> bool:
        # Mapping's own asks for the value, whose error is no KeyError.
        return name in self.strategies

    def __iter__(self) -> Iterator[str]:
        return iter(self.strategies)

    def __len__(self) -> int:
        return len(self.strategies)

    def settled(self, name: str) -> Settled:
        """A strategy with each value's origin; one query."""
        return overlaid(self.strategies.settled(name), self._ledger.policy_edits(name))

    def all_settled(self) -> dict[str, Settled | Unfit]:
        """Every strategy, those that do not fit with their error; one query for all."""
        by_name: dict[str, list[PolicyEdit]] = defaultdict(list)
        for edit in self._ledger.policy_edits():
            by_name[edit.strategy].append(edit)
        found: dict[str, Settled | Unfit] = {}
        for name in self.strategies:
            try:
                found[name] = overlaid(self.strategies.settled(name), by_name[name])
            except InvalidPolicyEdit as exc:
                found[name] = Unfit(name=name, error=exc)
        return found

    def tried(self, name: str, values: Mapping[str, Any], *, actor: str, reason: str) -> Settled:
        """The policy as it would be with these values; None takes a path's edits back. Raises InvalidPolicyEdit.

        Nothing is written. Also where what is there does not fit: that is how it is mended.
        """
        base = self.strategies.settled(name)
        edits = list(self._ledger.policy_edits(name))
        known = {edit.path for edit in edits}
        for path, value in values.items():
            if value is None and path not in known:
                value_at(snapshot(base.strategy), path)
            edits.append(
                PolicyEdit(
                    strategy=name, path=path, value=value, actor=actor, reason=reason, created_at=datetime.now(UTC)
                )
            )
        return overlaid(base, edits)

    def edit(self, name: str, values: Mapping[str, Any], *, actor: str, reason: str) -> Settled:
        """Append the edits, once they are known to fit. Raises InvalidPolicyEdit, UnknownStrategy."""
        settled = self.tried(name, values, actor=actor, reason=reason)
        for path, value in values.items():
            self._ledger.edit_policy(name, path, value, actor=actor, reason=reason)
        return settled

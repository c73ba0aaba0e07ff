"""Edits of a strategy's policy that override the strategies file; append-only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select

from mlops.ledger import tables
from mlops.ledger.columns import now
from mlops.ledger.engine import Repository

_policy = tables.policy.c


@dataclass(frozen=True, kw_only=True)
class PolicyEdit:
    """One value that a person set."""

    strategy: str
    path: str
    """`drift.alert_share`"""
    value: Any
    """JSON; None takes the edit back, so that the file's value holds again."""
    actor: str
    reason: str
    created_at: datetime


class Policies(Repository):
    """The newest edit of a path holds."""

    def edit_policy(self, strategy: str, path: str, value: Any, *, actor: str, reason: str) -> None:  # noqa: ANN401 -- any JSON value
        """Append an edit."""
        with self.database.transaction("ledger.edit_policy") as connection:
            connection.execute(
                insert(tables.policy).values(
                    strategy=strategy, path=path, value=value, actor=actor, reason=reason, created_at=now()
                )
            )

    def newest_policy_edit(self) -> int:
        """A number that grows with every edit; 0 before the first."""
        with self.database.reading() as connection:
            return int(connection.execute(select(func.coalesce(func.max(_policy.id), 0))).scalar_one())

    def policy_edits(self, strategy: str | None = None) -> list[PolicyEdit]:
        """All edits, oldest first: applied in this order, the newest wins."""
        query = select(tables.policy).order_by(_policy.id)
        if strategy is not None:
            query = query.where(_policy.strategy == strategy)
        with self.database.reading() as connection:
            rows = connection.execute(query).all()
        return [
            PolicyEdit(
                strategy=row.strategy,
                path=row.path,
                value=row.value,
                actor=row.actor,
                reason=row.reason,
                created_at=row.created_at,
            )
            for row in rows
        ]

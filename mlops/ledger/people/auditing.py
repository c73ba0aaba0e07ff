"""Records of what people did: the audit, whose refusals are counted by the hour, and the edits of policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Integer, func, insert, literal, select, update

from mlops.ledger import tables
from mlops.ledger.columns import Json, now, within
from mlops.ledger.engine import Repository

_audit = tables.audit.c

GROUPED_S = 3600.0
"""The same refusal again within so long counts in the line of the first."""


@dataclass(frozen=True, kw_only=True)
class AuditLine:
    """Something that somebody did, or tried to."""

    id: int
    actor: str
    action: str
    """`run.cancel`, `sign_in.refused`."""
    subject: str
    created_at: datetime
    address: str | None
    """None: noted by the ledger itself."""
    detail: Mapping[str, Any]


class Auditing(Repository):
    """The page notes every action; a few the ledger notes itself, in the action's own transaction."""

    def audit(self, actor: str, action: str, subject: str, *, address: str | None = None, **detail: object) -> None:
        """Add a row."""
        with self.database.transaction("ledger.audit") as connection:
            connection.execute(
                insert(tables.audit).values(
                    actor=actor,
                    action=action,
                    subject=subject[:255],
                    created_at=now(),
                    address=address,
                    detail=detail or None,
                )
            )

    def audit_lines(
        self, *, actor: str = "", action: str = "", subject: str = "", before: int | None = None, limit: int = 50
    ) -> list[AuditLine]:
        """Newest first; `before`: the id of the last line of the page before. `action` may be its first word."""
        query = select(tables.audit).order_by(_audit.id.desc()).limit(limit)
        if actor:
            query = query.where(_audit.actor == actor)
        if action:
            query = query.where((_audit.action == action) | _audit.action.startswith(f"{action}.", autoescape=True))
        if subject:
            query = query.where(_audit.subject == subject)
        if before is not None:
            query = query.where(_audit.id < before)
        with self.database.reading() as connection:
            return [
                AuditLine(
                    id=row.id,
                    actor=row.actor,
                    action=row.action,
                    subject=row.subject,
                    created_at=row.created_at,
                    address=row.address,
                    detail=row.detail or {},
                )
                for row in connection.execute(query)
            ]

    def audit_refusal(
        self, actor: str, action: str, subject: str, *, address: str | None, times: int = 1, **detail: object
    ) -> None:
        """Count a refusal in the line of the same one within the hour, or add its line; `refused` in detail says why.

        The line then has `times`, and when it was refused last. Two processes at once may add a line each.
        """
        same = (
            select(_audit.id)
            .where(
                _audit.action == action,
                within(_audit.created_at, GROUPED_S),
                _audit.actor == actor,
                _audit.subject == subject[:255],
                _audit.address.is_not_distinct_from(address),
                _audit.detail.op("-")("times").op("-")("last_at") == literal(detail, Json),
            )
            .order_by(_audit.id.desc())
            .limit(1)
            .scalar_subquery()
        )
        counted = func.coalesce(_audit.detail["times"].astext.cast(Integer), 1) + times
        told = _audit.detail.op("||")(func.jsonb_build_object("times", counted, "last_at", now()))
        with self.database.transaction("ledger.audit_refusal") as connection:
            if connection.execute(update(tables.audit).where(_audit.id == same).values(detail=told)).rowcount:
                return
            connection.execute(
                insert(tables.audit).values(
                    actor=actor,
                    action=action,
                    subject=subject[:255],
                    created_at=now(),
                    address=address,
                    detail=detail if times == 1 else {**detail, "times": times},
                )
            )


# ---- Edits of a strategy's policy that override the strategies file; append-only

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

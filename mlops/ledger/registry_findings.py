"""What is wrong with the model registry as a whole: a champion that it lost, a number that it gave to another model.

An open finding stops the promotions of its strategy. Noted by the promote stage and the reconciler; settled by a
person (`acis registry accept`), and a lost champion also by being seen again.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from sqlalchemy import ColumnElement, Update, select, update
from sqlalchemy.dialects.postgresql import insert

from mlops.domain.records import FindingKind, RegistryFinding
from mlops.ledger import tables
from mlops.ledger.columns import now
from mlops.ledger.repository import LedgerPart

_finding = tables.registry_finding.c

ACCEPTED = "accepted"
"""Kind of the row that an acceptance leaves: what the ledger knew by a number before it was of another registry."""


class RegistryFindings(LedgerPart):
    """Open until they are settled; one row for each thing that was found."""

    def note_registry_finding(self, strategy: str, kind: FindingKind, key: str, words: str) -> bool:
        """Open the finding; True where it was not open. What a person has settled stays settled."""
        values = {"words": words, "found_at": now(), "settled_at": None}
        insertion = insert(tables.registry_finding).values(strategy=strategy, kind=kind, key=key, **values)
        opened = insertion.on_conflict_do_update(
            index_elements=[_finding.strategy, _finding.kind, _finding.key],
            set_=values,
            where=_finding.settled_at.is_not(None) & _finding.settled_by.is_(None),
        )
        with self.database.transaction("ledger.note_registry_finding") as connection:
            return connection.execute(opened.returning(_finding.id)).one_or_none() is not None

    def registry_findings(self, strategy: str = "") -> list[RegistryFinding]:
        """The open ones, oldest first."""
        query = select(tables.registry_finding).where(_finding.settled_at.is_(None)).order_by(_finding.id)
        if strategy:
            query = query.where(_finding.strategy == strategy)
        with self.database.reading() as connection:
            return [
                RegistryFinding(strategy=row.strategy, kind=row.kind, words=row.words, found_at=row.found_at)
                for row in connection.execute(query)
            ]

    def champion_seen(self, strategy: str) -> bool:
        """Settle what says that the champion is missing; True where something did."""
        missing = (_finding.strategy == strategy, _finding.kind == "champion_missing", _finding.settled_at.is_(None))
        with self.database.transaction("ledger.champion_seen") as connection:
            return connection.execute(_settled(*missing).values(reason="seen again")).rowcount > 0

    def accept_registry(self, strategy: str, *, actor: str, reason: str) -> int:
        """A person says that the registry which is there now is the true one: settle all; how many. Audited."""
        is_open = (_finding.strategy == strategy, _finding.settled_at.is_(None))
        with self.database.transaction("ledger.accept_registry") as connection:
            words = list(connection.scalars(select(_finding.words).where(*is_open).order_by(_finding.id)))
            connection.execute(_settled(*is_open).values(settled_by=actor, reason=reason))
            key = f"{datetime.now(UTC).isoformat()} {uuid4()}"
            accepted = {"strategy": strategy, "kind": ACCEPTED, "key": key, "words": reason, "reason": reason}
            connection.execute(
                insert(tables.registry_finding).values(**accepted, found_at=now(), settled_at=now(), settled_by=actor)
            )
            connection.execute(
                insert(tables.audit).values(
                    actor=actor,
                    action="registry.accept",
                    subject=strategy,
                    created_at=now(),
                    detail={"reason": reason, "settled": words},
                )
            )
        return len(words)


def _settled(*conditions: ColumnElement[bool]) -> Update:
    return update(tables.registry_finding).where(*conditions).values(settled_at=now())

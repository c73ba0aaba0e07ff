"""What the ledger knows of the registry: what is wrong with it, and how many bytes it holds.

An open finding stops the promotions of its strategy, but for one about a version to roll back to. Noted by the promote
stage and the reconciler; settled by a person (`acis registry accept`), a lost champion and a damaged file also by being
seen again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from sqlalchemy import ColumnElement, Update, func, select, update
from sqlalchemy.dialects.postgresql import insert

from mlops.domain.records import FindingKind, RegistryFinding
from mlops.ledger import tables
from mlops.ledger.auditing import add_audit_line
from mlops.ledger.columns import now, within
from mlops.ledger.engine import Repository

_finding = tables.registry_finding.c

ACCEPTED = "accepted"
"""Kind of the row that an acceptance leaves: what the ledger knew by a number before it was of another registry."""


CHANGED_BY_HAND = "changed_by_hand"
DAMAGED_TARGET: FindingKind = "damaged_target"
"""A former champion that cannot be rolled back to; stops nothing."""
_TOLD = 20
"""Versions of one episode that are told one by one."""


@dataclass(frozen=True, kw_only=True)
class ChangeByHand:
    """A change that somebody made in the registry's own pages, and what became of it."""

    strategy: str
    words: str
    """What was found, what was done, and what a person may do."""
    n_times: int
    first_at: datetime
    last_at: datetime


class RegistryFindings(Repository):
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
        """The open ones that stop promotions, oldest first."""
        return self._open_findings(strategy, _finding.kind != DAMAGED_TARGET)

    def damaged_targets(self, strategy: str = "") -> list[RegistryFinding]:
        """Former champions that cannot be rolled back to, oldest finding first."""
        return self._open_findings(strategy, _finding.kind == DAMAGED_TARGET)

    def settle_targets(self, strategy: str, *, still_damaged: Collection[str]) -> int:
        """Settle the findings of damaged rollback targets but those with these keys; how many."""
        open_ones = (_finding.strategy == strategy, _finding.kind == DAMAGED_TARGET, _finding.settled_at.is_(None))
        others = _finding.key.not_in(list(still_damaged))
        with self.database.transaction("ledger.settle_targets") as connection:
            return connection.execute(_settled(*open_ones, others).values(reason="whole, or no target")).rowcount

    def _open_findings(self, strategy: str, condition: ColumnElement[bool]) -> list[RegistryFinding]:
        query = select(tables.registry_finding).where(_finding.settled_at.is_(None), condition).order_by(_finding.id)
        if strategy:
            query = query.where(_finding.strategy == strategy)
        with self.database.reading() as connection:
            return [
                RegistryFinding(strategy=row.strategy, kind=row.kind, words=row.words, found_at=row.found_at)
                for row in connection.execute(query)
            ]

    def note_changed_by_hand(
        self, strategy: str, words: str, *, done: str, shown: str | None, champion: str | None, episode_s: float
    ) -> bool:
        """Count a change that somebody made in the registry's own pages; audited, and True, where it was not told yet.

        Changes of one strategy that follow one another within `episode_s` are one row, with the words of the last:
        who repeats one every second makes no flood. It stops nothing, since it was settled as it was found.
        done : `reverted` or `adopted`; with `shown`, the version, that by which two changes are the same
        """
        what = f"{done} {shown or 'none'}"
        open_one = select(_finding.id, _finding.reason).where(
            _finding.strategy == strategy, _finding.kind == CHANGED_BY_HAND, within(_finding.settled_at, episode_s)
        )
        with self.database.transaction("ledger.note_changed_by_hand") as connection:
            row = connection.execute(open_one.order_by(_finding.id.desc()).limit(1).with_for_update()).one_or_none()
            told = [] if row is None else row.reason.split(", ")
            is_new = what not in told and len(told) < _TOLD
            if is_new:
                detail = {"shown": shown, "champion": champion}
                add_audit_line(connection, "reconciler", f"registry.{done}", strategy, detail=detail)
            if row is None:
                key = datetime.now(UTC).isoformat()
                values = {"strategy": strategy, "kind": CHANGED_BY_HAND, "key": key, "words": words, "reason": what}
                connection.execute(insert(tables.registry_finding).values(**values, found_at=now(), settled_at=now()))
                return True
            again = update(tables.registry_finding).where(_finding.id == row.id)
            connection.execute(
                again.values(
                    words=words,
                    settled_at=now(),
                    n_times=_finding.n_times + 1,
                    reason=", ".join([*told, what]) if is_new else row.reason,
                )
            )
        return is_new

    def reword_change(self, strategy: str, words: str) -> None:
        """Say of a strategy's newest change what was found out since it was noted."""
        changes = (_finding.strategy == strategy, _finding.kind == CHANGED_BY_HAND)
        newest = select(func.max(_finding.id)).where(*changes).scalar_subquery()
        with self.database.transaction("ledger.reword_change") as connection:
            connection.execute(update(tables.registry_finding).where(_finding.id == newest).values(words=words))

    def changes_by_hand(self, *, within_s: float) -> list[ChangeByHand]:
        """What was changed in the registry's own pages lately, the newest first, one for each episode."""
        query = (
            select(tables.registry_finding)
            .where(_finding.kind == CHANGED_BY_HAND, within(_finding.settled_at, within_s))
            .order_by(_finding.id.desc())
        )
        with self.database.reading() as connection:
            return [
                ChangeByHand(
                    strategy=row.strategy,
                    words=row.words,
                    n_times=row.n_times,
                    first_at=row.found_at,
                    last_at=row.settled_at,
                )
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
            add_audit_line(connection, actor, "registry.accept", strategy, detail={"reason": reason, "settled": words})
        return len(words)


def _settled(*conditions: ColumnElement[bool]) -> Update:
    return update(tables.registry_finding).where(*conditions).values(settled_at=now())


# ---- How many bytes the registry's runs hold, measured once each; kept, so that nothing is measured again

_size = tables.artifact_size.c


class ArtifactSizes(Repository):
    """Written by whoever walks the registry, outside any request."""

    def unmeasured(self, registry_run_ids: Sequence[str]) -> list[str]:
        """Those of the runs whose size is not known, in their order."""
        with self.database.reading() as connection:
            known = set(
                connection.scalars(
                    select(_size.registry_run_id).where(_size.registry_run_id.in_(list(registry_run_ids)))
                )
            )
        return [run_id for run_id in registry_run_ids if run_id not in known]

    def measured(self, sizes: Mapping[str, tuple[int, datetime]]) -> None:
        """Bytes and start of runs."""
        if not sizes:
            return
        rows = [
            {"registry_run_id": run_id, "bytes": size, "started_at": started_at, "measured_at": now()}
            for run_id, (size, started_at) in sizes.items()
        ]
        with self.database.transaction("ledger.measured") as connection:
            for row in rows:
                insertion = insert(tables.artifact_size).values(row)
                connection.execute(
                    insertion.on_conflict_do_update(
                        index_elements=[_size.registry_run_id],
                        set_={"bytes": row["bytes"], "measured_at": now()},
                    )
                )

    def bytes_by_month(self) -> dict[str, int]:
        """`2026-11` → bytes of the runs that began in it, oldest first."""
        month = func.to_char(_size.started_at, "YYYY-MM")
        query = select(month.label("month"), func.sum(_size.bytes).label("total")).group_by(month).order_by(month)
        with self.database.reading() as connection:
            return {row.month: int(row.total) for row in connection.execute(query)}

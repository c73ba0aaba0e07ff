"""Which ledger this is, and what it knows of having been set back: by a restore, or by a failover that lost a second.

Its position is a number that counts up with each pass of the reconciler, with a random mark. The result backend holds a
copy: one that is ahead of the ledger's own, or that has another mark for the same number, or another timeline of the
server, says that the ledger forgot something. Then the time to which it was set back is noted here until everything
that others hold of the time after it was looked through.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self

from sqlalchemy import Executable, exc, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from mlops.domain.errors import LedgerError
from mlops.domain.records import Executor, Forgotten, LedgerIdentity, OutcomeMessage, StageState
from mlops.ledger import tables
from mlops.ledger.auditing import add_audit_line
from mlops.ledger.columns import AnyRow, mapped, now
from mlops.ledger.engine import Repository
from mlops.ledger.stages import to_be_rung

_position = tables.position.c
_quarantine = tables.quarantine.c
_stage = tables.stage.c
_experiment = tables.experiment.c
_NAME = "ledger"

Kept = Literal["version", "run", "checkpoint"]
KEPT: tuple[Kept, ...] = ("version", "run", "checkpoint")


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a ledger is."""

    number: int
    mark: str
    timeline: int | None
    """Of the server; None where it has none, or does not say."""
    noted_at: datetime

    def went_back_from(self, seen: Position) -> bool:
        """Something that was in the ledger when `seen` was noted is not any more."""
        if self.timeline is not None and seen.timeline is not None and self.timeline != seen.timeline:
            return True
        return self.number < seen.number or (self.number == seen.number and self.mark != seen.mark)

    def to_json(self) -> dict[str, Any]:
        """For the copy."""
        return {**vars(self), "noted_at": self.noted_at.isoformat()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Raises ValueError, TypeError, KeyError for anything else."""
        return cls(**{**document, "noted_at": datetime.fromisoformat(document["noted_at"])})


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """Something that the ledger does not know, made after the time to which it was set back."""

    kind: Kept
    name: str
    run_id: str | None
    reason: str
    found_at: datetime
    settled_at: datetime | None = None
    settled_by: str | None = None
    settled_as: str | None = None


class NotQuarantined(LedgerError):
    """There is nothing of that name in quarantine."""


class SettingBack(Repository):
    """The ledger's position, and the quarantine."""

    def position(self) -> Position | None:
        """Where the ledger is; None: it was never noted."""
        with self.database.reading() as connection:
            row = connection.execute(select(tables.position).where(_position.name == _NAME)).one_or_none()
        return None if row is None else _position_of(row, self._timeline())

    def note_position(self, *, after: Position | None) -> Position | None:
        """The next position after the one that was read; None where the ledger is not there any more.

        Then it was set back between the two, or another reconciler counted: nothing is copied before it was compared.
        """
        values = {"mark": secrets.token_hex(8), "noted_at": now()}
        statement: Executable
        if after is None:
            adding = insert(tables.position).values(name=_NAME, number=1, **values)
            statement = adding.on_conflict_do_nothing().returning(tables.position)
        else:
            here = (_position.name == _NAME, _position.number == after.number, _position.mark == after.mark)
            counting = update(tables.position).where(*here).values(number=_position.number + 1, **values)
            statement = counting.returning(tables.position)
        with self.database.transaction("ledger.note_position") as connection:
            row = connection.execute(statement).one_or_none()
        return None if row is None else _position_of(row, self._timeline())

    def was_set_back(self, *, to: datetime) -> None:
        """Everything that others hold of the time since then is to be looked through; messages are sent again.

        Experiments are paused: somebody may have ended one in the forgotten time.
        """
        with self.database.transaction("ledger.was_set_back") as connection:
            row = connection.execute(
                select(_position.outcomes_since, _position.registry_since).where(_position.name == _NAME)
            ).one_or_none()
            values = {"outcomes_since": to, "registry_since": to}
            last = {"set_back_to": to, "set_back_at": now()}
            if row is None:
                connection.execute(
                    insert(tables.position).values(
                        name=_NAME, number=1, mark=secrets.token_hex(8), noted_at=now(), **values, **last
                    )
                )
            else:
                earlier = {
                    name: min(to, getattr(row, name)) if getattr(row, name) is not None else to for name in values
                }
                connection.execute(update(tables.position).where(_position.name == _NAME).values(**earlier, **last))
            connection.execute(
                update(tables.stage)
                .where(_stage.state == StageState.QUEUED, _stage.executor == Executor.CELERY)
                .values(**to_be_rung())
            )
            pausing = update(tables.experiment).where(_experiment.ended_at.is_(None)).values(paused=True)
            for row in connection.execute(pausing.returning(_experiment.id, _experiment.strategy)).all():
                detail = {"experiment": row.id, "reason": f"the ledger was set back to {to:%Y-%m-%d %H:%M:%S} UTC"}
                add_audit_line(connection, "reconciler", "experiment.pause", row.strategy, detail=detail)

    def forgotten(self) -> Forgotten:
        """What is still to be looked through."""
        columns = (_position.outcomes_since, _position.registry_since, _position.set_back_to, _position.set_back_at)
        with self.database.reading() as connection:
            row = connection.execute(select(*columns).where(_position.name == _NAME)).one_or_none()
        return Forgotten() if row is None else mapped(Forgotten, row)

    def looked_through(self, what: Literal["outcomes", "registry"], *, forgotten: Forgotten) -> None:
        """Nothing is left to do there, unless the ledger was set back again since `forgotten` was read."""
        since = f"{what}_since"
        is_the_same = (
            _position[since].is_not_distinct_from(getattr(forgotten, since)),
            _position.set_back_at.is_not_distinct_from(forgotten.set_back_at),
        )
        with self.database.transaction("ledger.looked_through") as connection:
            connection.execute(
                update(tables.position).where(_position.name == _NAME, *is_the_same).values({since: None})
            )

    def quarantine(self, found: Iterable[Quarantined]) -> list[Quarantined]:
        """Put them there; those that were not there yet, and were never released."""
        new = []
        with self.database.transaction("ledger.quarantine") as connection:
            for one in found:
                adding = insert(tables.quarantine).values(
                    kind=one.kind, name=one.name, run_id=one.run_id, reason=one.reason, found_at=now()
                )
                added = adding.on_conflict_do_nothing().returning(_quarantine.name)
                if connection.execute(added).one_or_none() is not None:
                    new.append(one)
        return new

    def quarantined(self, *, all_of_them: bool = False) -> list[Quarantined]:
        """What is there, oldest first; `all_of_them`: what was released or deleted too."""
        query = select(tables.quarantine).order_by(_quarantine.found_at, _quarantine.kind, _quarantine.name)
        if not all_of_them:
            query = query.where(_quarantine.settled_at.is_(None))
        with self.database.reading() as connection:
            return [mapped(Quarantined, row) for row in connection.execute(query)]

    def is_quarantined(self, kind: Kept, name: str) -> bool:
        """It is there, and nobody has released it."""
        query = select(func.count()).where(
            _quarantine.kind == kind, _quarantine.name == name, _quarantine.settled_at.is_(None)
        )
        with self.database.reading() as connection:
            return bool(connection.scalar(query))

    def settle_quarantined(self, kind: str, name: str, *, actor: str, settled: Literal["released", "deleted"]) -> None:
        """A person decided about it. Raises NotQuarantined."""
        with self.database.transaction("ledger.settle_quarantined") as connection:
            done = connection.execute(
                update(tables.quarantine)
                .where(_quarantine.kind == kind, _quarantine.name == name, _quarantine.settled_at.is_(None))
                .values(settled_at=now(), settled_by=actor, settled_as=settled)
            )
            if done.rowcount == 0:
                raise NotQuarantined(f"no {kind} {name!r} is in quarantine; `acis quarantine` lists what is")
            add_audit_line(connection, actor, f"quarantine.{settled}", f"{kind} {name}")

    def outcomes_of(self, run_ids: Collection[str]) -> dict[str, OutcomeMessage]:
        """Of those of the runs that have ended, by run."""
        if not run_ids:
            return {}
        outbox, run = tables.outbox.c, tables.run.c
        query = (
            select(outbox.run_id, outbox.state, run.outcome)
            .join(tables.run, run.run_id == outbox.run_id)
            .where(outbox.run_id.in_(run_ids), run.state.not_in(("queued", "running")))
        )
        with self.database.reading() as connection:
            return {
                row.run_id: OutcomeMessage(run_id=row.run_id, state=row.state, body=row.outcome)
                for row in connection.execute(query)
            }

    def _timeline(self) -> int | None:
        """The first eight digits of a segment's name: a standby is promoted onto a timeline of its own."""
        query = text("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)")
        try:
            with self.database.reading() as connection:
                return int(str(connection.scalar(query)), 16)
        except exc.DBAPIError:  # some hosted servers have no such function, or keep it to themselves
            return None


def _position_of(row: AnyRow, timeline: int | None) -> Position:
    return Position(number=row.number, mark=row.mark, noted_at=row.noted_at, timeline=timeline)


# ---- Which ledger this is: by it a registry tells its own ledger from another stack's


class Identity(Repository):
    """One row."""

    def identity(self) -> LedgerIdentity:
        """Of this ledger. Raises LedgerUnavailable."""
        query = select(tables.identity.c.ledger_id, tables.identity.c.made_at)
        with self.database.reading() as connection:
            found = connection.execute(query).one_or_none()
        if found is None:
            self._make()
            with self.database.reading() as connection:
                found = connection.execute(query).one()
        url = self.database.url
        place = f"{url.host}:{url.port}/{url.database}" if url.host else str(url.database)
        return LedgerIdentity(ledger_id=found.ledger_id, address=place, made_at=found.made_at)

    def _make(self) -> None:
        made = insert(tables.identity).values(only=True, ledger_id=secrets.token_hex(16), made_at=now())
        with self.database.transaction("ledger.identity") as connection:
            connection.execute(made.on_conflict_do_nothing())  # another process may be first

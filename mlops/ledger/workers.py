"""Which workers live, and which are asked to stop."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, case, delete, exists, false, func, not_, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from mlops.domain.records import UNIQUE_LENGTH, Executor, StageState, WorkerBeat, place_of
from mlops.ledger import tables
from mlops.ledger.columns import after, now, within
from mlops.ledger.engine import SILENT_SHARE, Repository

_stage = tables.stage.c
_worker = tables.worker.c


class Workers(Repository):
    """Signs of life and the drain flag."""

    def worker_seen(self, beat: WorkerBeat) -> None:
        """A sign of life. A process that took an old one's place ends that one and its leases, and has not its flag."""
        values = {
            "role": beat.role,
            "queues": list(beat.queues),
            "device": beat.device,
            "pid": beat.pid,
            "host": beat.host,
            "concurrency": beat.concurrency,
            "seen_at": now(),
        }
        same_process = and_(_worker.pid == beat.pid, _worker.host == beat.host)
        with self.database.statement("ledger.worker_seen") as connection:
            connection.execute(
                insert(tables.worker)
                .values(name=beat.name, **values)
                .on_conflict_do_update(
                    index_elements=[_worker.name],
                    set_={**values, "draining": case((same_process, _worker.draining), else_=false())},
                )
            )
        if beat.uptime_s is not None:
            self._end_leases_of_before(beat.name, uptime_s=beat.uptime_s)

    def _end_leases_of_before(self, name: str, *, uptime_s: float) -> None:
        """End what an earlier process in this place held: it died, so that nobody need wait until its leases run out.

        Where it lives after all (two hosts of one name, a clock that was set), it has renewed them lately, or answered
        since this one started, and keeps them.
        """
        silent = _stage.lease_until < after(self.lease_s * (1 - SILENT_SHARE))
        lives = exists().where(_worker.name == _stage.worker, _worker.seen_at > after(-uptime_s))
        of_before = or_(_stage.worker == name, and_(_had_place_of(name, _stage.worker), not_(lives)))
        with self.database.statement("ledger.end_leases_of_before") as connection:
            connection.execute(
                update(tables.stage)
                .where(_stage.state == StageState.RUNNING, _stage.executor == Executor.CELERY, of_before)
                .where(_stage.claimed_at < after(-uptime_s), silent, _stage.lease_until < _stage.deadline_at)
                .where(_stage.lease_until > now())
                .values(lease_until=now())
            )
            gone = and_(_had_place_of(name, _worker.name), _worker.seen_at <= after(-uptime_s))
            connection.execute(delete(tables.worker).where(gone))

    def workers(self, *, within_s: float = 60.0) -> list[WorkerBeat]:
        """Workers seen within so many seconds, by name."""
        query = select(tables.worker).where(within(_worker.seen_at, within_s)).order_by(_worker.name)
        with self.database.reading() as connection:
            rows = connection.execute(query).all()
        return [
            WorkerBeat(
                name=row.name,
                role=row.role,
                queues=tuple(row.queues),
                device=row.device,
                pid=row.pid,
                host=row.host,
                concurrency=row.concurrency,
                seen_at=row.seen_at,
            )
            for row in rows
        ]

    def set_draining(self, name: str, *, draining: bool = True) -> bool:
        """Ask a worker's stages to stop at their next border; False where no such worker was ever seen."""
        with self.database.transaction("ledger.set_draining") as connection:
            asked = connection.execute(update(tables.worker).where(_worker.name == name).values(draining=draining))
        return asked.rowcount == 1


def _had_place_of(name: str, other: ColumnElement[str | None]) -> ColumnElement[bool]:
    """The other is another process that was started as this one, on a host of the same name."""
    place = place_of(name)
    unique = and_(other.startswith(f"{place}.", autoescape=True), func.length(other) == len(place) + UNIQUE_LENGTH)
    return and_(or_(other == place, unique), other != name)

"""The timetable that beat reads, and what became of its slots."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Update, and_, case, delete, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from mlops.domain.records import AHEAD_S, LIVE, Executor, Kind, RunState, ScheduleEntry
from mlops.ledger import tables
from mlops.ledger.columns import after, now
from mlops.ledger.engine import Repository

_run = tables.run.c
_schedule = tables.schedule.c
_MOMENT = timedelta(seconds=1)


class Timetable(Repository):
    """Any number of beats may read and write it: a slot is unique among runs, and time only goes forward."""

    def sync_schedule(self, entries: Sequence[ScheduleEntry]) -> None:
        """Make the timetable equal to `entries`, keeping `last_slot`; an entry's own is used where it is new.

        A line that is resumed, or that got another time, begins now: what fell due before was not missed.
        """
        with self.database.transaction("ledger.sync_schedule") as connection:
            connection.execute(delete(tables.schedule).where(_schedule.key.not_in([entry.key for entry in entries])))
            for entry in entries:
                values = {
                    "strategy": entry.strategy,
                    "kind": entry.kind,
                    "cron": entry.cron,
                    "offset_s": entry.offset_s,
                    "grace_s": entry.grace_s,
                    "enabled": entry.enabled,
                }
                is_resumed = and_(_schedule.enabled.is_(False), literal(entry.enabled))
                is_another_time = and_(
                    _schedule.cron != entry.cron, _schedule.last_slot.is_not(None), literal(entry.enabled)
                )
                begins = case((or_(is_resumed, is_another_time), now()), else_=_schedule.last_slot)
                connection.execute(
                    insert(tables.schedule)
                    .values(key=entry.key, last_slot=entry.last_slot, **values)
                    .on_conflict_do_update(index_elements=[_schedule.key], set_={**values, "last_slot": begins})
                )

    def schedule(self) -> list[ScheduleEntry]:
        """The timetable, by key."""
        with self.database.reading() as connection:
            rows = connection.execute(select(tables.schedule).order_by(_schedule.key)).all()
        return [
            ScheduleEntry(
                key=row.key,
                strategy=row.strategy,
                kind=Kind(row.kind),
                cron=row.cron,
                offset_s=row.offset_s,
                grace_s=row.grace_s,
                enabled=row.enabled,
                last_slot=row.last_slot,
            )
            for row in rows
        ]

    def timetable_begins(self, key: str, at: datetime) -> None:
        """Say from when on an entry has slots, unless somebody has said it: nothing was missed before."""
        with self.database.transaction("ledger.timetable_begins") as connection:
            connection.execute(
                update(tables.schedule).where(_schedule.key == key, _schedule.last_slot.is_(None)).values(last_slot=at)
            )

    def set_back(self, key: str, found: datetime) -> datetime | None:
        """To the last slot that has come, an entry whose last one, `found`, was opened by a clock that was ahead.

        The runs of slots that have not come keep all but their slot, so that it is opened at its time. Gives the last
        slot now; None where somebody else has set it back.
        """
        with self.database.transaction("ledger.set_back") as connection:
            is_it = and_(_schedule.key == key, _schedule.last_slot == found)
            entry = connection.execute(
                select(_schedule.strategy, _schedule.kind, now().label("now")).where(is_it).with_for_update()
            ).one_or_none()
            if entry is None:
                return None
            until = _slot_name(entry.now.replace(microsecond=0))
            of_entry = and_(
                _run.namespace == LIVE,
                _run.strategy == entry.strategy,
                _run.kind == entry.kind,
                _run.slot.like("____-__-__T%"),  # a demo's slots are no times
            )
            # What was skipped then has not been missed, though its time may have come since.
            is_untrue = or_(_run.slot > until, and_(_run.state == RunState.SKIPPED, _run.created_at > after(AHEAD_S)))
            first_untrue = connection.scalar(select(func.min(_run.slot)).where(of_entry, is_untrue))
            words = _run.reason.concat(", for slot ").concat(_run.slot).concat(" of a clock that was ahead")
            connection.execute(update(tables.run).where(of_entry, is_untrue).values(slot=None, reason=words))
            came = connection.scalar(select(func.max(_run.slot)).where(of_entry))
            if came is not None:
                last = datetime.fromisoformat(came)
            else:  # before the first slot that ever fell due, which may have come by now
                begins = entry.now if first_untrue is None else datetime.fromisoformat(first_untrue) - _MOMENT
                last = min(entry.now, begins)
            note = f"set back from {_slot_name(found)}: the clock was ahead"
            connection.execute(update(tables.schedule).where(is_it).values(last_slot=last, last_note=note))
            return last

    def slot_opened(self, key: str, slot: datetime) -> None:
        """Note that a run was opened for the slot; never moves `last_slot` backwards."""
        with self.database.transaction("ledger.slot_opened") as connection:
            connection.execute(_moved(key, slot, note=None))

    def slots_skipped(self, key: str, slots: Sequence[datetime], *, note: str) -> None:
        """Each becomes a run in state `skipped`, unless a run has that slot; never moves `last_slot` backwards."""
        with self.database.transaction("ledger.slots_skipped") as connection:
            entry = connection.execute(
                select(_schedule.strategy, _schedule.kind).where(_schedule.key == key)
            ).one_or_none()
            if entry is None or not slots:
                return  # taken off the timetable since the caller read it
            connection.execute(_moved(key, max(slots), note=note))
            skipped = insert(tables.run).values(created_at=now(), finished_at=now())
            connection.execute(
                skipped.on_conflict_do_nothing(),
                [skipped_run(entry.strategy, entry.kind, _slot_name(slot), note) for slot in slots],
            )


def _moved(key: str, slot: datetime, *, note: str | None) -> Update:
    is_later = or_(_schedule.last_slot.is_(None), _schedule.last_slot < slot)
    return update(tables.schedule).where(_schedule.key == key, is_later).values(last_slot=slot, last_note=note)


def skipped_run(strategy: str, kind: str, slot: str, note: str) -> dict[str, Any]:
    """Columns of a run that was never opened, beside its times."""
    run_id = str(uuid.uuid4())
    outcome = {"run_id": run_id, "strategy": strategy, "kind": kind, "state": RunState.SKIPPED, "reason": note}
    return {
        "run_id": run_id,
        "namespace": LIVE,
        "strategy": strategy,
        "kind": kind,
        "state": RunState.SKIPPED,
        "executor": Executor.CELERY,
        "slot": slot,
        "reason": note,
        "requested_by": "schedule",
        "policy": {},
        "params": {},
        "outcome": outcome,
    }


def _slot_name(slot: datetime) -> str:
    """The slot as `RunRequest.slot` has it: `2026-11-23T03:00:00+00:00`."""
    return slot.astimezone(UTC).isoformat()

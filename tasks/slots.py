"""When a timetable entry's slots fall due: for beat and the reconciler, and for a page that shows the next ones.

A slot is the nominal cron time, never the arrival time.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from celery.schedules import ParseException, crontab
from celery.utils.time import ffwd

from mlops.errors import ConfigurationError
from mlops.ledger.records import ScheduleEntry


def parse_cron(expression: str) -> crontab:
    """A crontab in UTC from five fields. Raises ConfigurationError."""
    fields = expression.split()
    try:
        minute, hour, day, month, weekday = fields
        return crontab(
            minute=minute, hour=hour, day_of_month=day, month_of_year=month, day_of_week=weekday, nowfun=_utc_now
        )
    except (ParseException, ValueError) as exc:
        fields_are = "minute hour day month weekday (Sunday is 0)"
        message = f"cron expression {expression!r} is not valid; it has five fields: {fields_are}"
        raise ConfigurationError(message) from exc


@lru_cache(maxsize=4096)  # hundreds of strategies share a cron and the time of their last slot
def next_slot(expression: str, after: datetime) -> datetime:
    """First nominal time later than `after`."""
    begin, delta, _ = parse_cron(expression).remaining_delta(after.astimezone(UTC), ffwd=ffwd)
    following: datetime = begin + delta
    return following.replace(second=0, microsecond=0)


def due_slots(entry: ScheduleEntry, now: datetime) -> Iterator[tuple[datetime, bool]]:
    """Slots since the last one, oldest first, as (nominal time, within grace); only the newest may be opened late.

    A slot is due `offset_s` after its nominal time. Of several missed ones the older are skipped: one check
    as of now says what all of them would have said.
    """
    if entry.last_slot is None or not entry.enabled:
        return
    due: list[datetime] = []
    slot = next_slot(entry.cron, entry.last_slot)
    while slot + timedelta(seconds=entry.offset_s) <= now:
        due.append(slot)
        slot = next_slot(entry.cron, slot)
    for slot in due:
        late_s = (now - slot).total_seconds() - entry.offset_s
        yield slot, slot == due[-1] and late_s <= entry.grace_s


def next_due(entry: ScheduleEntry, now: datetime) -> datetime | None:
    """When the next slot will be opened; None for a paused entry."""
    if not entry.enabled:
        return None
    return next_slot(entry.cron, entry.last_slot or now) + timedelta(seconds=entry.offset_s)


def _utc_now() -> datetime:
    return datetime.now(UTC)

"""When a timetable entry's slots fall due: for beat and the reconciler, and for a page that shows the next ones.

A slot is the nominal cron time, never the arrival time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from celery.schedules import ParseException, crontab
from celery.utils.time import ffwd

from mlops.domain.errors import ConfigurationError
from mlops.domain.records import ScheduleEntry

#: Missed slots that are put on record one by one; a line of every minute misses so many in eight hours.
MOST = 500


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


def due_slots(entry: ScheduleEntry, now: datetime) -> list[tuple[datetime, bool]]:
    """Slots since the last one, oldest first, as (nominal time, to be opened); only the newest may be opened late.

    A slot is due `offset_s` after its nominal time. Of several missed ones the older are skipped: one check
    as of now says what all of them would have said. After a long time the newest `MOST` alone are named.
    """
    if entry.last_slot is None or not entry.enabled:
        return []
    until = now - timedelta(seconds=entry.offset_s)
    due = _slots_between(entry.cron, entry.last_slot, until)
    if len(due) == MOST and next_slot(entry.cron, due[-1]) <= until:
        # About as many of the newest.
        due = _slots_between(entry.cron, max(due[-1], until - (due[-1] - due[0])), until)
    in_grace = bool(due) and (until - due[-1]).total_seconds() <= entry.grace_s
    return [(slot, in_grace and slot == due[-1]) for slot in due]


def _slots_between(cron: str, after: datetime, until: datetime) -> list[datetime]:
    """At most `MOST`, oldest first."""
    found: list[datetime] = []
    slot = next_slot(cron, after)
    while slot <= until and len(found) < MOST:
        found.append(slot)
        slot = next_slot(cron, slot)
    return found


def next_due(entry: ScheduleEntry, now: datetime) -> datetime | None:
    """When the next slot will be opened; None for a paused entry."""
    if not entry.enabled:
        return None
    return next_slot(entry.cron, entry.last_slot or now) + timedelta(seconds=entry.offset_s)


def _utc_now() -> datetime:
    return datetime.now(UTC)

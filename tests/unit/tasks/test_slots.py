"""When slots fall due: next times by arithmetic, missed ones late or skipped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.domain.cron import cron_fault
from mlops.domain.errors import ConfigurationError
from mlops.domain.records import Kind, ScheduleEntry
from tasks.slots import MOST, due_slots, next_due, next_slot

HOUR = 3600.0


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


def entry(last: datetime | None, *, cron: str = "0 3 * * *", offset_s: float = 0.0, **changes: object) -> ScheduleEntry:
    return ScheduleEntry(
        **{
            "key": "growth:drift_check", "strategy": "growth", "kind": Kind.PIPELINE, "cron": cron,
            "offset_s": offset_s, "grace_s": 12 * HOUR, "last_slot": last, **changes,
        }  # type: ignore[arg-type]
    )  # fmt: skip


moments = st.datetimes(datetime(2019, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 -- bounds


@given(moments)
def test_the_next_daily_slot_is_the_first_three_oclock_after(now: datetime) -> None:
    today = now.replace(hour=3, minute=0, second=0, microsecond=0)
    assert next_slot("0 3 * * *", now) == (
        today if now.replace(second=0, microsecond=0) < today else today + timedelta(1)
    )


@given(moments)
def test_the_next_weekly_slot_is_the_first_sunday_at_four_after(now: datetime) -> None:
    slot = next_slot("0 4 * * 0", now)
    minute = now.replace(second=0, microsecond=0)
    assert (slot.isoweekday(), slot.hour, slot.minute, slot.second) == (7, 4, 0, 0)
    assert timedelta(0) < slot - minute <= timedelta(days=7)


@given(moments, st.sampled_from([5, 10, 15, 20, 30]))
def test_the_next_slot_of_a_step_is_its_next_multiple(now: datetime, step: int) -> None:
    minute = now.replace(second=0, microsecond=0)
    expected = minute + timedelta(minutes=step - now.minute % step)
    assert next_slot(f"*/{step} * * * *", now) == expected


@given(moments, st.sampled_from(["0 3 * * *", "30 3,15 * * *", "0 4 * * 0", "0 0 1 * *", "*/20 8-17 * * 1-5"]))
def test_slots_follow_each_other_without_a_repeat(now: datetime, cron: str) -> None:
    slots = [now]
    for _ in range(5):
        slots.append(next_slot(cron, slots[-1]))
    assert slots == sorted(set(slots))


@pytest.mark.parametrize(
    ("cron", "after", "slot"),
    [
        ("0 3 * * *", utc(2020, 2, 28, 3), utc(2020, 2, 29, 3)),
        ("0 3 * * *", utc(2020, 12, 31, 3), utc(2021, 1, 1, 3)),
        ("0 4 * * 0", utc(2020, 3, 1, 4), utc(2020, 3, 8, 4)),
        ("0 3 1 * *", utc(2020, 1, 31, 3), utc(2020, 2, 1, 3)),
        ("0 3 31 * *", utc(2020, 3, 31, 3), utc(2020, 5, 31, 3)),
        ("0 3 29 2 *", utc(2020, 2, 29, 3), utc(2024, 2, 29, 3)),
    ],
)
def test_the_calendars_corners(cron: str, after: datetime, slot: datetime) -> None:
    assert next_slot(cron, after) == slot


def test_clocks_that_change_for_summer_change_nothing() -> None:
    # 29 March 2020, 02:00 does not exist in Berlin; 03:00 UTC does.
    berlin_winter = timezone(timedelta(hours=1))
    assert next_slot("0 3 * * *", datetime(2020, 3, 29, 1, tzinfo=berlin_winter)) == utc(2020, 3, 29, 3)


@pytest.mark.parametrize(
    "cron",
    ["", "0 3 * *", "0 3 * * * *", "60 3 * * *", "0 25 * * *", "often", "0 3 * * someday", "0 3 * * 7", "0 3 31 2 *"],
)
def test_a_cron_that_is_none_is_refused_in_words(cron: str) -> None:
    with pytest.raises(ConfigurationError, match="minute hour day month weekday"):
        next_slot(cron, utc(2020, 1, 1))


@pytest.mark.parametrize(
    "cron",
    [
        "0 3 * * *", "30 3,15 * * *", "0 4 * * 0", "0 0 1 * *", "*/20 8-17 * * 1-5", "0 22-2 * * sat-mon",
        "5-59/10 * 31 jan,Mar *", "0 3 29 feb *", "0 3 * * SUN", " 0  3 * * * ",
    ],
)  # fmt: skip
def test_a_cron_that_the_strategies_file_may_have_has_times(cron: str) -> None:
    assert cron_fault(cron) is None
    assert next_slot(cron, utc(2020, 1, 1)) > utc(2020, 1, 1)


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("0 3 * *", "4 fields instead of 5"),
        ("0 3 * * * *", "6 fields"),
        ("60 3 * * *", "minute '60' is not 0 to 59"),
        ("0 24 * * *", "hour '24' is not 0 to 23"),
        ("0 3 0 * *", "day '0' is not 1 to 31"),
        ("0 3 * 13 *", "month '13' is not 1 to 12 or jan to dec"),
        ("0 3 * * 7", "weekday '7' is not 0 to 6 or sun to sat"),
        ("0 3 * sun *", "month 'sun'"),
        ("0 three * * *", "hour 'three'"),
        ("0 3,, * * *", "hour ''"),
        ("0 */0 * * *", "hour '*/0'"),
        ("0 3/2 * * *", "hour '3/2'"),
        ("-1 3 * * *", "minute '-1'"),
        ("0 3 31 2 *", "no month of '2' has a day '31'"),
    ],
)
def test_a_cron_that_has_no_times_is_told_its_fault(cron: str, words: str) -> None:
    assert words in str(cron_fault(cron))


items = st.one_of(
    st.just("*"), st.integers(0, 61).map(str), st.sampled_from(["sun", "jan", "*/2", "1-5", "6-1", "1-9/3", "*/", ""])
)
expressions = st.lists(st.lists(items, min_size=1, max_size=2).map(",".join), min_size=4, max_size=6).map(" ".join)


@given(expressions)
def test_whatever_the_file_may_have_beat_can_read(cron: str) -> None:
    if cron_fault(cron) is None:
        next_slot(cron, utc(2020, 1, 1))


# --------------------------------------------------------------------------- due slots

LAST = utc(2020, 3, 1, 3)


def due(now: datetime, **changes: object) -> list[tuple[datetime, bool]]:
    return due_slots(entry(LAST, **changes), now)  # type: ignore[arg-type]


def test_nothing_is_due_before_its_time() -> None:
    assert due(utc(2020, 3, 2, 2, 59)) == []


def test_a_slot_is_due_at_its_time() -> None:
    assert due(utc(2020, 3, 2, 3)) == [(utc(2020, 3, 2, 3), True)]


def test_the_spread_delays_the_opening_and_not_the_slots_name() -> None:
    assert due(utc(2020, 3, 2, 3, 4, 59), offset_s=300.0) == []
    assert due(utc(2020, 3, 2, 3, 5), offset_s=300.0) == [(utc(2020, 3, 2, 3), True)]


@pytest.mark.parametrize(("hours", "in_grace"), [(11.9, True), (12.0, True), (12.1, False)])
def test_a_missed_slot_is_opened_late_within_its_grace(hours: float, *, in_grace: bool) -> None:
    now = utc(2020, 3, 2, 3) + timedelta(hours=hours)
    assert due(now) == [(utc(2020, 3, 2, 3), in_grace)]


def test_the_grace_counts_from_when_the_slot_would_have_been_opened() -> None:
    now = utc(2020, 3, 2, 3, 5) + timedelta(hours=12)
    assert due(now, offset_s=300.0) == [(utc(2020, 3, 2, 3), True)]


def test_of_several_missed_slots_only_the_newest_is_opened() -> None:
    assert due(utc(2020, 3, 5, 9)) == [
        (utc(2020, 3, 2, 3), False),
        (utc(2020, 3, 3, 3), False),
        (utc(2020, 3, 4, 3), False),
        (utc(2020, 3, 5, 3), True),
    ]


def test_of_slots_closer_than_the_grace_still_only_the_newest_is_opened() -> None:
    assert due(utc(2020, 3, 1, 5), cron="0 * * * *") == [(utc(2020, 3, 1, 4), False), (utc(2020, 3, 1, 5), True)]


def test_a_paused_entry_and_one_that_never_began_owe_nothing() -> None:
    assert due(utc(2020, 3, 5), enabled=False) == []
    assert due_slots(entry(None), utc(2020, 3, 5)) == []


def test_of_a_week_of_minutes_only_the_newest_are_named() -> None:
    now = utc(2020, 3, 9)
    found = due(now, cron="* * * * *")
    assert len(found) <= MOST
    assert found[-1] == (now, True)
    assert [later - earlier for (earlier, _), (later, _) in pairwise(found)] == [timedelta(minutes=1)] * (
        len(found) - 1
    )
    assert not any(is_opened for _, is_opened in found[:-1])


def test_the_next_opening_is_the_slot_and_its_spread() -> None:
    now = utc(2020, 3, 1, 12)
    assert next_due(entry(LAST, offset_s=300.0), now) == utc(2020, 3, 2, 3, 5)
    assert next_due(entry(None), now) == utc(2020, 3, 2, 3)
    assert next_due(entry(LAST, enabled=False), now) is None

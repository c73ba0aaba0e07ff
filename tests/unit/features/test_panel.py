"""Which dates of a panel count, and what a source shows of them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

import pyarrow as pa
import pytest

from mlops.domain.panel import counted_dates, date_facts, newest_counted, panel_of
from mlops.domain.ports import Window
from tests.support.features import InMemoryFeatures

MONDAY = date(2024, 1, 1)
WEEKDAYS = [MONDAY + timedelta(days=i) for i in range(200) if (MONDAY + timedelta(days=i)).weekday() < 5]
LAST = WEEKDAYS[-1]
ALL = Window(start=date(2023, 1, 1), end=date(2026, 1, 1))
TODAY = date(2025, 1, 1)


def counts(days: Iterable[date], n: int = 20) -> dict[date, int]:
    return dict.fromkeys(days, n)


def left_out(rows: dict[date, int], min_share: float = 0.5) -> list[date]:
    return [one.day for one in panel_of(dict(sorted(rows.items())), min_share=min_share).left_out]


@pytest.mark.parametrize(
    "day",
    [
        LAST + timedelta(days=84),  # a misdated row, months later
        LAST + timedelta(days=1),  # the next session has begun
        WEEKDAYS[40] + timedelta(days=5),  # a Saturday
        MONDAY - timedelta(days=3650),
    ],
)
def test_a_date_with_one_row_of_twenty_does_not_count(day: date) -> None:
    assert left_out(counts(WEEKDAYS) | {day: 1}) == [day]


def test_half_of_the_neighbours_rows_is_enough_and_the_share_is_the_policys() -> None:
    rows = counts(WEEKDAYS) | {WEEKDAYS[-1]: 10, WEEKDAYS[50]: 9}
    assert left_out(rows) == [WEEKDAYS[50]]
    assert left_out(rows, 0.4) == []
    assert left_out(rows, 0.6) == [WEEKDAYS[50], WEEKDAYS[-1]]
    assert left_out(rows | {WEEKDAYS[3]: 1}, 0.0) == []


def test_a_week_of_misdated_rows_does_not_count_either() -> None:
    later = [LAST + timedelta(days=30 + i) for i in range(5)]
    assert left_out(counts(WEEKDAYS) | counts(later, 1)) == later


@pytest.mark.parametrize(("before", "after"), [(2, 20), (20, 2)])
def test_a_panel_may_grow_and_shrink(before: int, after: int) -> None:
    assert left_out(counts(WEEKDAYS[:70], before) | counts(WEEKDAYS[70:], after)) == []


def test_a_doubled_date_does_not_make_its_neighbours_incomplete() -> None:
    assert left_out(counts(WEEKDAYS) | {WEEKDAYS[60]: 60}) == []


def test_a_full_saturday_is_no_trading_day_of_a_panel_that_trades_on_weekdays() -> None:
    saturday = WEEKDAYS[60] + timedelta(days=5 - WEEKDAYS[60].weekday())
    found = panel_of(dict(sorted((counts(WEEKDAYS) | {saturday: 20}).items())), min_share=0.5)
    assert [(one.day, one.reason) for one in found.left_out] == [(saturday, "no_trading_day")]
    assert len(found.rows) == len(WEEKDAYS)


def test_a_panel_that_trades_every_day_keeps_its_weekends_and_a_weekly_one_a_thursday_before_a_holiday() -> None:
    every_day = [MONDAY + timedelta(days=i) for i in range(200)]
    fridays = [MONDAY + timedelta(days=4 + 7 * i) for i in range(60)]
    thursday = fridays[30] - timedelta(days=1)
    assert left_out(counts(every_day)) == []
    assert left_out(counts([*fridays[:30], thursday, *fridays[31:]])) == []


def source(rows: dict[date, int]) -> InMemoryFeatures:
    keys = [(day, f"T{i:02}") for day, n in sorted(rows.items()) for i in range(n)]
    return InMemoryFeatures(
        pa.table(
            {
                "ticker": [ticker for _, ticker in keys],
                "date": pa.array([day for day, _ in keys], pa.date32()),
                "strategy": ["growth"] * len(keys),
                "x": [float(i) for i in range(len(keys))],
                "target_return": [0.0] * len(keys),
            }
        )
    )


@pytest.mark.parametrize("day", [LAST + timedelta(days=1), LAST + timedelta(days=84), TODAY + timedelta(days=30)])
def test_the_newest_date_is_the_newest_that_counts(day: date) -> None:
    found = newest_counted(source(counts(WEEKDAYS) | {day: 1}), "growth", min_share=0.5, today=TODAY)
    assert found == LAST


def test_a_whole_panel_of_the_future_does_not_count() -> None:
    rows = source(counts(WEEKDAYS))
    assert newest_counted(rows, "growth", min_share=0.5, today=WEEKDAYS[-3]) == WEEKDAYS[-3]
    assert newest_counted(rows, "growth", min_share=0.5, today=MONDAY - timedelta(days=1)) is None


def test_rows_of_dates_that_do_not_count_are_in_no_answer() -> None:
    saturday = WEEKDAYS[4] + timedelta(days=1)
    rows = source(counts(WEEKDAYS) | {saturday: 1})
    counted = counted_dates(rows, "growth", ALL, min_share=0.5)
    assert counted.dates("growth", ALL) == WEEKDAYS
    assert counted.count("growth", ALL) == 20 * len(WEEKDAYS)
    for columns in (["x"], ["date", "x"]):
        read = counted.read("growth", ALL, columns)
        batches = list(counted.read_batches("growth", ALL, columns))
        assert read.column_names == columns
        assert read.num_rows == 20 * len(WEEKDAYS)
        assert pa.Table.from_batches(batches).to_pylist() == read.to_pylist()
    with pytest.raises(ValueError, match="not of 'value'"):
        counted.count("value", ALL)


def facts(rows: dict[date, int], as_of: date) -> dict[str, str]:
    window = Window(start=ALL.start, end=as_of)
    counted = counted_dates(source(rows), "growth", window, min_share=0.5)
    return {fact.code: fact.words for fact in date_facts(counted, as_of=as_of, today=TODAY)}


def test_what_is_left_out_is_said_with_its_dates_and_rows() -> None:
    saturday = WEEKDAYS[4] + timedelta(days=1)
    found = facts(counts(WEEKDAYS) | {saturday: 1}, LAST)
    assert found == {
        "dates_left_out": f"1 date does not count and 1 row is left out with it: {saturday} (1 row where its "
        f"neighbours have 20)"
    }


def test_rows_after_the_as_of_date_are_said_where_they_do_not_count_and_not_in_a_replay() -> None:
    rows = counts(WEEKDAYS) | {LAST + timedelta(days=1): 1}
    assert facts(rows, LAST)["dates_left_out"].startswith(f"after {LAST}, 1 date does not count")
    assert facts(rows, WEEKDAYS[-30]) == {}


def test_rows_of_the_future_are_said() -> None:
    later = TODAY + timedelta(days=1)
    assert facts(counts(WEEKDAYS) | {later: 1}, LAST) == {
        "future_dates": f"the newest row is dated {later}, after today, {TODAY}; rows of the future play no part"
    }


def test_a_hole_in_the_feed_is_said_and_a_holiday_is_not() -> None:
    assert (
        facts(counts([*WEEKDAYS[:50], *WEEKDAYS[57:]]), LAST) == {}
    )  # from a Friday to the Wednesday of 12 days later
    assert facts(counts([*WEEKDAYS[:50], *WEEKDAYS[80:]]), LAST) == {
        "missing_dates": f"there are no rows between {WEEKDAYS[49]} and {WEEKDAYS[80]}, 45 days"
    }


@pytest.mark.parametrize(("step", "age", "is_stale"), [(1, 4, False), (1, 5, True), (7, 10, False), (7, 11, True)])
def test_a_newest_date_is_stale_beyond_the_panels_usual_gap(step: int, age: int, is_stale: bool) -> None:
    days = [MONDAY + timedelta(days=step * i) for i in range(50)]
    assert panel_of(counts(days), min_share=0.5).is_stale(days[-1] + timedelta(days=age), max_days=4) is is_stale

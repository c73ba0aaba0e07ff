"""When a panel's next date is expected, by how it went on so far."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from mlops.domain.panel import Panel

FRIDAY = date(2026, 11, 27)


def panel(*days: date) -> Panel:
    return Panel(rows=dict.fromkeys(sorted(days), 10))


def every(step: int, n: int, *, last: date = FRIDAY, weekdays: int = 7) -> Panel:
    days = (last - timedelta(days=step * place) for place in range(n))
    return panel(*(day for day in days if day.weekday() < weekdays))


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        (every(1, 90, weekdays=5), date(2026, 11, 30)),  # Monday after a Friday
        (every(1, 90, last=date(2026, 11, 26), weekdays=5), FRIDAY),
        (every(1, 90), date(2026, 11, 28)),  # traded on each day
        (every(7, 12), date(2026, 12, 4)),  # weekly, on Fridays
    ],
)
def test_the_next_date_is_the_first_usual_weekday_after_the_usual_gap(dates: Panel, expected: date) -> None:
    assert dates.next_expected == expected


def test_a_row_on_one_saturday_makes_no_saturday_usual() -> None:
    days = every(1, 90, weekdays=5).rows
    assert panel(*days, date(2026, 11, 21)).next_expected == date(2026, 11, 30)


def test_of_few_dates_nothing_is_expected() -> None:
    assert every(1, 4).next_expected is None
    assert Panel(rows={}).next_expected is None

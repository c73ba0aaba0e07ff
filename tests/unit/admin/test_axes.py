"""Places and paths of pictures on an axis."""

from __future__ import annotations

import math
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin.pictures.axes import TimeAxis, ValueAxis, area, around, curve, step_label

DAY = date(2026, 1, 1)


def test_a_day_stands_in_the_middle_of_its_place_and_one_beyond_the_end_at_it() -> None:
    axis = TimeAxis(first=DAY, last=DAY + timedelta(days=9))
    assert (axis.at(DAY), axis.begin(DAY), axis.width(DAY, DAY)) == (5.0, 0.0, 10.0)
    assert axis.at(DAY - timedelta(days=400)) == axis.at(DAY)
    assert axis.width(DAY, DAY + timedelta(days=99)) == 100.0


@pytest.mark.parametrize(
    ("days", "labels"),
    [
        (14, ["5 Jan", "12 Jan"]),
        (90, ["Jan 2026", "Feb", "Mar"]),
        (365, ["Jan 2026", "Apr", "Jul", "Oct"]),
        (366, ["Jan 2026", "Apr", "Jul", "Oct", "Jan 2027"]),
        (4 * 365, ["2026", "2027", "2028", "2029"]),
    ],
)
def test_labels_are_as_many_as_a_phone_has_room_for(days: int, labels: list[str]) -> None:
    axis = TimeAxis(first=DAY, last=DAY + timedelta(days=days - 1))
    assert [tick.label for tick in axis.ticks] == labels


@given(first=st.dates(date(1990, 1, 1), date(2100, 1, 1)), n=st.integers(14, 20_000))
def test_there_are_six_labels_at_most_and_each_lies_within(first: date, n: int) -> None:
    ticks = TimeAxis(first=first, last=first + timedelta(days=n)).ticks
    assert len(ticks) <= 6
    assert all(0 <= tick.at <= 100 for tick in ticks)


def test_values_go_up_and_their_steps_are_round() -> None:
    axis = ValueAxis(low=0.42, high=0.81)
    assert (axis.up(0.81), axis.up(0.42), axis.up(9.0)) == (0.0, 100.0, 0.0)
    assert axis.steps == [0.5, 0.6, 0.7, 0.8]
    assert [step_label(step, "%") for step in axis.steps] == ["50 %", "60 %", "70 %", "80 %"]


@given(st.lists(st.floats(-1e6, 1e6) | st.none() | st.just(math.nan), max_size=5))
def test_an_axis_around_values_shows_all_of_them(values: list[float | None]) -> None:
    axis = around(values, least=0.1)
    assert axis.high > axis.low
    assert len(axis.steps) <= 6
    assert all(axis.low <= value <= axis.high for value in values if value is not None and math.isfinite(value))


def test_a_curve_is_broken_where_a_value_is_missing() -> None:
    values = ValueAxis(low=0.0, high=1.0)
    assert (
        curve([(0, 0.0), (50, 1.0), (60, None), (100, 0.5)], values)
        == "M0.0 100.00L500.0 0.00M1000.0 50.00L1000.0 50.00"
    )
    assert curve([(0, None), (50, math.nan)], values) == ""


def test_an_area_goes_along_the_upper_ends_and_back_along_the_lower() -> None:
    values = ValueAxis(low=0.0, high=1.0)
    found = area([(0, 0.0), (100, 0.25)], [(0, 0.5), (100, 0.75)], values)
    assert found == "M0.0 50.00L1000.0 25.00L1000.0 75.00L0.0 100.00Z"

"""Axes of pictures that are drawn as SVG on the server; `parts/plots.html` draws with them. Pure.

Places are per cent of a picture's width or height, so that it fits any window without a script and never moves what
stands around it. Curves are paths in a box of 1000 by 100 that is stretched over the same place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

WIDTH, HEIGHT = 1000, 100
"""Units of the box that curves are drawn in."""
_MONTH_STEPS = (1, 2, 3, 6, 12, 24, 60, 120)
_MOST_TICKS = 5
"""As many labels as a phone has room for."""


class Tick(NamedTuple):
    """A line across a picture."""

    at: float
    """Per cent of the width from the left, or of the height from the top."""
    label: str


@dataclass(frozen=True, kw_only=True)
class TimeAxis:
    """The days from `first` to `last`, from left to right; each has a place of its own width."""

    first: date
    last: date

    @property
    def n_days(self) -> int:
        """Both ends counted."""
        return (self.last - self.first).days + 1

    def at(self, day: date) -> float:
        """The middle of the day's place, per cent from the left; days beyond an end stand at it."""
        return round((self._place(day) + 0.5) / self.n_days * 100, 3)

    def begin(self, day: date) -> float:
        """Where the day's place begins."""
        return round(self._place(day) / self.n_days * 100, 3)

    def width(self, first: date, last: date) -> float:
        """From the beginning of `first` to the end of `last`."""
        return round(max(0, self._place(last) - self._place(first) + 1) / self.n_days * 100, 3)

    def has(self, day: date) -> bool:
        """Whether the picture shows the day."""
        return self.first <= day <= self.last

    @property
    def ticks(self) -> list[Tick]:
        """First days of months with the year where it is new; of less than two months, Mondays."""
        if self.n_days <= 62:
            step = 7 * math.ceil(self.n_days / 7 / _MOST_TICKS)
            monday = self.first + timedelta(days=-self.first.weekday() % 7)
            days = [monday + timedelta(days=n) for n in range(0, (self.last - monday).days + 1, step)]
            return [Tick(self.begin(day), f"{day.day} {day:%b}") for day in days]
        months = list(_months(self.first, self.last))
        step = next((n for n in _MONTH_STEPS if len(months) / n <= _MOST_TICKS), _MONTH_STEPS[-1])
        shown = [day for day in months if (day.year * 12 + day.month - 1) % step == 0]
        years = (None, *(day.year for day in shown))
        return [
            Tick(self.begin(day), f"{day:%b %Y}" if day.year != before and step < 12 else f"{day:%Y}" if step >= 12
                 else f"{day:%b}")
            for before, day in zip(years, shown, strict=False)
        ]  # fmt: skip

    def _place(self, day: date) -> int:
        return (min(max(day, self.first), self.last) - self.first).days


@dataclass(frozen=True, kw_only=True)
class ValueAxis:
    """The numbers from `low` to `high`; upwards as `up`, to the right as `at`."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Per cent from the left; what lies beyond an end stands at it."""
        if self.high <= self.low:
            return 50.0
        return round((min(max(value, self.low), self.high) - self.low) / (self.high - self.low) * 100, 3)

    def up(self, value: float) -> float:
        """Per cent from the top."""
        return round(100 - self.at(value), 3)

    @property
    def steps(self) -> list[float]:
        """Three or so round numbers within."""
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        power = 10.0 ** math.floor(math.log10(span / 3))
        step = next(n * power for n in (1, 2, 2.5, 5, 10) if span / (n * power) <= 4)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(n * step, 10) for n in range(first, last + 1)]


def around(
    values: Iterable[float | None], *, least: float = 0.0, within: tuple[float, float] | None = None
) -> ValueAxis:
    """An axis that shows all of the values with some room, and no less than `least` of numbers.

    within : the numbers that there can be, e.g. 0 to 1 of a probability
    """
    found = [value for value in values if value is not None and math.isfinite(value)] or [0.0]
    low, high = min(found), max(found)
    room = max((high - low) * 0.08, (least - (high - low)) / 2)
    low, high = low - room, high + room
    if within is not None:
        low, high = max(low, within[0]), min(high, within[1])
    return ValueAxis(low=low, high=high if high > low else low + 1.0)


# ---- Curves: what a path's `d` says

Point = tuple[float, float | None]
"""Per cent from the left, and the value; None: the curve is broken here."""


def curve(points: Iterable[Point], values: ValueAxis) -> str:
    """A line from point to point, broken where a value is missing; empty without one."""
    return "".join(f"M{_line(part, values)}" for part in _parts(points))


def area(low: Sequence[Point], high: Sequence[Point], values: ValueAxis) -> str:
    """What lies between two curves of the same places; broken where either is missing."""
    pairs = [(x, None if a is None or b is None else (a, b)) for (x, a), (_, b) in zip(low, high, strict=True)]
    found = []
    for is_there, group in groupby(pairs, key=lambda pair: pair[1] is not None):
        part = list(group)
        if is_there:
            upper = _line([(x, pair[1]) for x, pair in part if pair], values)
            lower = _line([(x, pair[0]) for x, pair in reversed(part) if pair], values)
            found.append(f"M{upper}L{lower}Z")
    return "".join(found)


def _parts(points: Iterable[Point]) -> Iterator[list[tuple[float, float]]]:
    for is_there, group in groupby(points, key=lambda point: point[1] is not None and math.isfinite(point[1])):
        if is_there:
            yield [(x, y) for x, y in group if y is not None]


def _line(points: Sequence[tuple[float, float]], values: ValueAxis) -> str:
    places = [f"{x * WIDTH / 100:.1f} {values.up(y) * HEIGHT / 100:.2f}" for x, y in points]
    # A single point is a line of no length, which has round ends.
    return "L".join(places if len(places) > 1 else places * 2)


def _months(first: date, last: date) -> Iterator[date]:
    day = date(first.year, first.month, 1)
    while day <= last:
        if day >= first:
            yield day
        day = date(day.year + day.month // 12, day.month % 12 + 1, 1)


# ---- Filters of the templates: rows with a day and a number each


def day_curve(rows: Iterable[Any], axis: TimeAxis, values: ValueAxis, *, day: str, value: str) -> str:
    """The path of the rows' values over their days. day, value : names of attributes, e.g. `check.share`"""
    day_of, value_of = attrgetter(day), attrgetter(value)
    return curve(((axis.at(day_of(row)), value_of(row)) for row in rows), values)


def day_area(rows: Iterable[Any], axis: TimeAxis, values: ValueAxis, *, day: str, low: str, high: str) -> str:
    """The path of what lies between two of the rows' values."""
    everything = list(rows)
    day_of, low_of, high_of = attrgetter(day), attrgetter(low), attrgetter(high)
    places = [axis.at(day_of(row)) for row in everything]
    lows = [(x, low_of(row)) for x, row in zip(places, everything, strict=True)]
    highs = [(x, high_of(row)) for x, row in zip(places, everything, strict=True)]
    return area(lows, highs, values)


def value_curve(rows: Iterable[Any], across: ValueAxis, up: ValueAxis, *, x: str, y: str) -> str:
    """The path of one attribute of the rows over another."""
    return curve(((across.at(getattr(row, x)), getattr(row, y)) for row in rows), up)


def step_label(value: float, unit: str = "") -> str:
    """A step of an axis as short as it is: `0.65`, `40 %`, `2`, `2 bp`."""
    return f"{value * 100:g} %" if unit == "%" else f"{value:g} {unit}".rstrip()


FILTERS: dict[str, Callable[..., Any]] = {
    "day_curve": day_curve,
    "day_area": day_area,
    "value_curve": value_curve,
    "step_label": step_label,
}

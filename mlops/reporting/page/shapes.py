"""Outlines of the page's pictures, made from numbers; pure.

Every picture is an area, a line or a row of bars over a linear scale: two dozen lines of arithmetic. A chart
library would draw axes and text too, but as SVG text that shrinks on a phone and in colours that ignore a dark
screen; here the text is HTML beside the picture, and the colours are the style sheet's. docs/decisions/0014.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from typing import Any

# ---- Numbers and dates as the page writes them; pure

NOTHING = "–"


def figure(value: float | None, digits: int = 3) -> str:
    """To so many significant digits, a true minus; a dash for what is undefined."""
    if value is None:
        return NOTHING
    return f"{value:.{digits}g}".replace("-", "−")


def signed(value: float | None) -> str:
    """Format a number with its sign: +1.2."""
    if value is None:
        return NOTHING
    return ("+" if value > 0 else "") + figure(round(value, 2), 3)


def probability(value: float | None) -> str:
    """A p: two digits, never a bare 0."""
    if value is None:
        return NOTHING
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}"


def percent(value: float | None) -> str:
    """A share: 12 %, below a tenth 1.2 %."""
    if value is None:
        return NOTHING
    return f"{value:.0%}".replace("%", " %") if value == 0 or value >= 0.0995 else f"{value:.1%}".replace("%", " %")


def count(value: float | None) -> str:
    """12,345."""
    return NOTHING if value is None else f"{value:,.0f}"


def day(value: date | str | None) -> str:
    """16 March 2020."""
    if value is None:
        return NOTHING
    if isinstance(value, str):
        value = date.fromisoformat(value[:10])
    return f"{value.day} {value:%B %Y}"


def window(bounds: dict[str, str]) -> str:
    """'18 November 2019 to 15 February 2020 (90 days)' of a window whose first day is excluded."""
    after, to = date.fromisoformat(bounds["after"]), date.fromisoformat(bounds["to"])
    days = (to - after).days
    return f"{day(after + timedelta(days=1))} to {day(to)} ({days} day{'s' if days != 1 else ''})"


# ---- PSI by feature over the last checks, as a table whose colours say how rare a feature's shift is; pure
#
# PSI has the same size on calm and on turbulent days where rows are not independent, so its bands would colour nearly
# every cell. A feature's distance over the critical value of its check says how far it moved of what is rare.

#: Checks and features of the heat map: what a page's width, and a reader, can hold.
CHECKS, ROWS = 30, 40
#: Borders of the colours, as distance over critical value: 1 is rare where every feature moves so far.
LEVELS = (0.5, 1.0, 1.5, 2.0)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """PSI of one feature at one check."""

    level: int | None
    """0 to 4, by the distance over the critical value; None: the check was not compared with earlier ones"""
    label: str
    """PSI; a point where the check lacks it"""


@dataclass(frozen=True, kw_only=True)
class History:
    """The last checks, oldest first."""

    months: tuple[tuple[str, int], ...]
    """Label, number of checks"""
    days: tuple[date, ...]
    verdicts: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    n_left_out: int
    """Features that are in the table alone"""


def history(document: Mapping[str, Any], earlier: Iterable[Mapping[str, Any]], order: Sequence[str]) -> History | None:
    """Make a column per as-of date from the newest report of each; None where there is nothing to compare with.

    order: names of the features, the most interesting first.
    """
    own_day = _day_of(document)
    # Newest first as the ledger has them, so the first of a date is its newest.
    by_day: dict[date, Mapping[str, Any]] = {own_day: document}
    for report in earlier:
        day = _day_of(report)
        if day < own_day:
            by_day.setdefault(day, report)
    days = tuple(sorted(by_day)[-CHECKS:])
    if len(days) < 2:
        return None
    return History(
        months=tuple(_month(list(group)) for _, group in groupby(days, key=lambda day: (day.year, day.month))),
        days=days,
        verdicts=tuple(by_day[day]["verdict"]["verdict"] for day in days),
        rows=tuple((name, tuple(_cell(by_day[day], name) for day in days)) for name in order[:ROWS]),
        n_left_out=max(0, len(order) - ROWS),
    )


def _day_of(document: Mapping[str, Any]) -> date:
    """Return the as-of date of a report."""
    return date.fromisoformat(document["windows"]["as_of"])


def _month(days: Sequence[date]) -> tuple[str, int]:
    """Label and number of columns; under three there is no room for the year."""
    return f"{days[0]:%b %Y}" if len(days) > 2 else f"{days[0]:%b}", len(days)


def _cell(document: Mapping[str, Any], name: str) -> Cell:
    value = (document.get("psi", {}).get(name) or {}).get("psi_value")
    if value is None:
        return Cell(level=None, label="·")
    label = f"{value:.2f}".lstrip("0") if value < 0.995 else f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
    return Cell(level=_level(document.get("calibration") or {}, name), label=label)


def _level(calibration: Mapping[str, Any], name: str) -> int | None:
    distance, critical = (calibration.get("distances") or {}).get(name), calibration.get("critical")
    return bisect_right(LEVELS, distance / critical) if distance is not None and critical else None


#: Width and height of every picture's own coordinates; the page stretches it to the room that there is.
WIDTH, HEIGHT = 400, 200


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Values between `low` and `high` as shares between 0 and 1, cut off beyond."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Place of the value, from 0 to 1."""
        width = self.high - self.low
        if not width > 0 or not math.isfinite(width):
            return 0.5
        return min(1.0, max(0.0, (value - self.low) / width))

    def percent(self, value: float) -> str:
        """Place of the value for a style: 12.5%."""
        return f"{100 * self.share(value):.4g}%"

    def x(self, value: float) -> float:
        """Place of the value from the left."""
        return _tidy(WIDTH * self.share(value))

    def y(self, value: float) -> float:
        """Place of the value from the top."""
        return _tidy(HEIGHT * (1 - self.share(value)))

    def ticks(self, about: int = 4) -> list[float]:
        """Round values, about so many."""
        width = self.high - self.low
        if not width > 0 or not math.isfinite(width):
            return [self.low]
        magnitude = 10.0 ** math.floor(math.log10(width / about))
        step = next(magnitude * factor for factor in (1, 2, 2.5, 5, 10) if width / (magnitude * factor) <= about)
        first = math.ceil(self.low / step - 1e-9)
        count = math.floor(self.high / step + 1e-9) - first + 1
        return [round((first + i) * step, 12) for i in range(count)]


def steps(shares: Sequence[float], *, top: float) -> str:
    """Outline of a histogram whose bars fill the width; `top` reaches the upper edge."""
    if not shares:
        return ""
    bar = _tidy(WIDTH / len(shares))
    scale = Scale(low=0.0, high=top or 1.0)
    columns = "".join(f"V{round(scale.y(share))}h{bar:g}" for share in shares)
    return f"M0 {HEIGHT}{columns}V{HEIGHT}z"


def line(points: Sequence[tuple[float, float]]) -> str:
    """A line through points in picture coordinates."""
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points) if points else ""


def area(points: Sequence[tuple[float, float]], *, base: float) -> str:
    """The area between a line and a horizontal one."""
    if not points:
        return ""
    return f"{line([(points[0][0], base), *points, (points[-1][0], base)])}z"


def _tidy(value: float) -> float:
    return round(value, 1)

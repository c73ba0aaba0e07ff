"""PSI by feature over the last checks, as a table whose colours say how rare a feature's shift is; pure.

PSI has the same size on calm and on turbulent days where rows are not independent, so its bands would colour nearly
every cell. A feature's distance over the critical value of its check says how far it moved of what is rare.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Any

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
    own_day = day_of(document)
    # Newest first as the ledger has them, so the first of a date is its newest.
    by_day: dict[date, Mapping[str, Any]] = {own_day: document}
    for report in earlier:
        day = day_of(report)
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


def day_of(document: Mapping[str, Any]) -> date:
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

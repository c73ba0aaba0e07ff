"""PSI by feature over the last checks, as a table whose cells have colours; pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Any

#: Checks and features of the heat map: what a page's width, and a reader, can hold.
CHECKS, ROWS = 30, 40
#: Borders of the colours: the two documented bands, and three more, since PSI has no upper end.
LEVELS = (0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One feature at one check."""

    level: int | None
    """0 to 4; None: not in that check, or undefined"""
    label: str


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
    """One column per as-of date, the newest report of each; None where there is nothing to compare with.

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
    """As-of date of a report."""
    return date.fromisoformat(document["windows"]["as_of"])


def _month(days: Sequence[date]) -> tuple[str, int]:
    """Label and number of columns; under three there is no room for the year."""
    return f"{days[0]:%b %Y}" if len(days) > 2 else f"{days[0]:%b}", len(days)


def _cell(document: Mapping[str, Any], name: str) -> Cell:
    value = (document.get("psi", {}).get(name) or {}).get("psi_value")
    if value is None:
        return Cell(level=None, label="·")
    label = f"{value:.2f}".lstrip("0") if value < 0.995 else f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
    return Cell(level=bisect_right(LEVELS, value), label=label)

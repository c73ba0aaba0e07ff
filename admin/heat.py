"""Strategies and days as a table whose cells have colours; pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops.ledger.check_lines import CheckLine

LEVELS = (0.1, 0.3, 0.5, 0.75)
"""Shares of drifted features at which the colour changes; 0.3 is the documented alert threshold."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A strategy's newest check of a day."""

    check: CheckLine
    level: int
    """0 to 4, by the share of drifted features"""
    label: str
    """The share in percent, without its sign"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A strategy; its cells stand in the order of the days, None where it was not checked."""

    strategy: str
    cells: tuple[Cell | None, ...]


def rows(strategies: Sequence[str], days: Sequence[date], checks: Iterable[CheckLine]) -> list[Row]:
    """One row per strategy. checks : oldest first, so that the newest of a day holds"""
    found: dict[str, dict[date, CheckLine]] = defaultdict(dict)
    for check in checks:
        if check.as_of is not None:
            found[check.strategy][check.as_of] = check
    return [Row(strategy=name, cells=tuple(_cell(found[name].get(day)) for day in days)) for name in strategies]


def months(days: Sequence[date]) -> list[tuple[str, int]]:
    """Label of each month with its number of days."""
    parts = [list(group) for _, group in groupby(days, key=lambda day: (day.year, day.month))]
    # Under three columns there is no room for the year.
    return [(f"{part[0]:%b %Y}" if len(part) > 2 else f"{part[0]:%b}", len(part)) for part in parts]


def _cell(check: CheckLine | None) -> Cell | None:
    if check is None:
        return None
    share = check.share or 0.0
    label = "?" if check.share is None else f"{share * 100:.0f}"
    return Cell(check=check, level=bisect_right(LEVELS, share), label=label)

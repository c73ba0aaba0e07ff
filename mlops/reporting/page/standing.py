"""Rank of today's shift among all earlier ones: over time, and as a histogram; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from mlops.reporting.page import shapes, words
from mlops.reporting.page.shapes import Scale

#: Bars of the histogram.
_BARS = 40
_TICKS = 5


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A label at its place along an axis."""

    at: str
    label: str


@dataclass(frozen=True, kw_only=True)
class ShiftRank:
    """Today's statistic among its placements. Places are CSS percentages along the axes."""

    over_time: str
    """Outline of the placements' line"""
    histogram: str
    days: tuple[Tick, ...]
    heights: tuple[Tick, ...]
    """Ticks of the statistic; the histogram has it along its horizontal axis"""
    today: str
    """Place of today's statistic along its axis"""
    critical: str
    statistic: float
    critical_value: float
    p: float
    alpha: float
    n_placements: int
    n_blocks: int
    n_at_or_above: int
    first: str
    last: str


def standing(document: Mapping[str, Any]) -> ShiftRank | None:
    """Rank the check's shift; None where it was not compared with earlier ones."""
    calibration = document.get("calibration") or {}
    placements = calibration.get("placements") or {}
    earlier: Sequence[float] = placements.get("statistics") or ()
    days = [date.fromisoformat(text) for text in placements.get("last_dates") or ()]
    statistic, critical = calibration.get("statistic"), calibration.get("critical")
    if not earlier or statistic is None or critical is None:
        return None
    as_of = date.fromisoformat(document["windows"]["as_of"])
    upward = Scale(low=0.0, high=1.08 * max(*earlier, statistic, critical) or 1.0)
    along = Scale(low=float(days[0].toordinal()), high=float(as_of.toordinal()))
    points = [(along.x(day.toordinal()), upward.y(value)) for day, value in zip(days, earlier, strict=True)]
    bars = [0] * _BARS
    for value in earlier:
        bars[min(_BARS - 1, int(_BARS * upward.share(value)))] += 1
    return ShiftRank(
        over_time=shapes.line(points),
        histogram=shapes.steps(bars, top=max(bars)),
        days=tuple(_day_ticks(along)),
        heights=tuple(Tick(at=upward.percent(value), label=words.figure(value)) for value in upward.ticks()),
        today=upward.percent(statistic),
        critical=upward.percent(critical),
        statistic=statistic,
        critical_value=critical,
        p=calibration["p_value"],
        alpha=calibration["alpha"],
        n_placements=len(earlier),
        n_blocks=calibration["n_blocks"],
        n_at_or_above=round(calibration["p_value"] * (1 + len(earlier))) - 1,
        first=words.day(days[0]),
        last=words.day(days[-1]),
    )


def _day_ticks(along: Scale) -> list[Tick]:
    first, last = int(along.low), int(along.high)
    spread = max(1, (last - first) // (_TICKS - 1))
    shown = [date.fromordinal(first + spread * step) for step in range(_TICKS - 1)]
    return [Tick(at=along.percent(day.toordinal()), label=f"{day:%b %Y}") for day in shown]

"""Strategies and days as a table whose cells have colours; pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import TYPE_CHECKING

from markupsafe import Markup

from mlops.ledger.queries.checks import CheckPoint

if TYPE_CHECKING:
    from mlops.ledger.queries.checks import CheckLine, FailedCheck

USUAL, RATHER_USUAL = 0.5, 0.2
"""p at and above which a shift has the two lightest colours; the next border is the alpha of the check."""
FAILED = "x"
"""Label of a run that failed before it had checked."""
VERY_RARE = 0.2
"""The darkest colour: p of at most so much of alpha."""
ALPHA = 0.05
"""Of checks that have a p and say no alpha: the default of the policy."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A strategy's newest check of a day, or the run that failed to make one."""

    run_id: str
    check: CheckLine | None
    """None: the run failed before it had checked"""
    level: int | None
    """0 to 4, the rarer the shift the higher, 3 and 4 being rare enough for `drifted`; None: the check has no p"""
    label: str
    """p"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A strategy; its cells stand in the order of the days, None where it was not checked."""

    strategy: str
    cells: tuple[Cell | None, ...]


def rows(
    strategies: Sequence[str], days: Sequence[date], checks: Iterable[CheckLine], failed: Iterable[FailedCheck] = ()
) -> list[Row]:
    """One row per strategy, in each cell the newest check of the day, else the newest failure.

    checks, failed : oldest first
    """
    found: dict[str, dict[date, Cell]] = defaultdict(dict)
    for one in failed:
        found[one.strategy][one.day] = Cell(run_id=one.run_id, check=None, level=None, label=FAILED)
    for check in checks:
        if check.as_of is not None:
            found[check.strategy][check.as_of] = _cell(check)
    return [Row(strategy=name, cells=tuple(found[name].get(day) for day in days)) for name in strategies]


def months(days: Sequence[date]) -> list[tuple[str, int]]:
    """Label of each month with its number of days."""
    parts = [list(group) for _, group in groupby(days, key=lambda day: (day.year, day.month))]
    # Under three columns there is no room for the year.
    return [(f"{part[0]:%b %Y}" if len(part) > 2 else f"{part[0]:%b}", len(part)) for part in parts]


def rounded(p: float) -> str:
    """A probability as short as a cell: `1`, `.30`, `.004`, `<.001`."""
    if p >= 0.995:
        return "1"
    if p < 0.0005:
        return "<.001"
    return (f"{p:.2f}" if p >= 0.01 else f"{p:.3f}").removeprefix("0")


def rarity(p: float, alpha: float) -> int:
    """0 to 4: how rare so large a shift is; 3 and more where p is at most alpha."""
    if p <= alpha:
        return 4 if p <= alpha * VERY_RARE else 3
    return 2 if p < RATHER_USUAL else 1 if p < USUAL else 0


def _cell(check: CheckLine) -> Cell:
    if check.p_value is None:
        return Cell(run_id=check.run_id, check=check, level=None, label="–")
    alpha = ALPHA if check.alpha is None else check.alpha
    level = rarity(check.p_value, alpha)
    return Cell(run_id=check.run_id, check=check, level=level, label=rounded(check.p_value))


# ---- The last checks of a strategy as small bars, newest at the right; a filter of the templates
#
# A bar is as high as the shift is rare: p on a logarithmic scale. One path for each verdict: fifty strategies have
# 1,500 bars.

STEP, HEIGHT = 5, 20
"""Units of the picture: from bar to bar, and of the highest bar."""
_RAREST = 0.001
"""A p that has the highest bar; 1 has the lowest, and 0.05 one of 43 %."""
_CLASSES = {"drifted": "drifted", "stable": "stable"}


def spark(checks: Sequence[CheckPoint]) -> Markup:
    """An SVG that says in words what it shows; empty without checks. checks : oldest first"""
    if not checks:
        return Markup("")
    parts: dict[str, list[str]] = defaultdict(list)
    for place, check in enumerate(checks):
        name = _CLASSES.get(check.verdict or "", "unknown")
        height = max(1.0, rarity_height(check.p_value, check.verdict) * HEIGHT)
        parts[name].append(f"M{place * STEP + 2} {HEIGHT}v-{height:.1f}")
    n_drifted = sum(check.verdict == "drifted" for check in checks)
    newest = checks[-1].p_value
    words = f"Drifted in {n_drifted} of the last {len(checks)} checks; " + (
        "the newest has no p" if newest is None else f"p of the newest {rounded(newest)}"
    )
    paths = "".join(f'<path class="{name}" d="{"".join(found)}"/>' for name, found in parts.items())
    # Of numbers and our own words alone: nothing in it needs escaping.
    return Markup(  # noqa: S704
        f'<svg class="spark" viewBox="0 0 {len(checks) * STEP} {HEIGHT}" role="img" aria-label="{words}">{paths}</svg>'
    )


def rarity_height(p: float | None, verdict: str | None) -> float:
    """Height of a check's bar, 0 to 1: whole for a p of a thousandth and less, nothing for 1, on a logarithmic scale.

    A check without p, by the rule that asks for the share alone, is whole where it drifted.
    """
    if p is None:
        return float(verdict == "drifted")
    return math.log(max(p, _RAREST)) / math.log(_RAREST)

"""Which daily number compares two versions of a strategy, by what its label asks; pure.

    target_return > 0                       when to be long: the mark; of many names the increment, which is the next
                                            return
    target_return_5d <= -0.02               a return, and no position: the increment, with the sign of the question
    target_volatility_20d > volatility_20d  how far prices move: the increment, which is the next date's absolute
                                            return, in units of the level that the label compares with
    any other                               nothing: a day says nothing of it by itself, use the held-out test

Both are one number a day that no other day shares a part of, so that the sequence holds for them
(`mlops.domain.experiments.sequence`). A label that looks ahead is not: it repeats itself for its whole horizon.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlops.domain.experiments.daily_scores import MIN_NAMES, increment_difference, mark_difference
from mlops.domain.experiments.records import Measure
from mlops.domain.labels import is_return, label_numbers, parse_label
from mlops.domain.policies import TARGET_PREFIX
from mlops.domain.sampling import group_starts
from mlops.domain.training.trading import is_long_label

if TYPE_CHECKING:
    import pyarrow as pa

Vector = npt.NDArray[np.float64]

MANY_NAMES = 20
"""Of a date, from which on the increment is compared where the label has both."""


@dataclass(frozen=True, kw_only=True)
class DayPart:
    """How a label's own part in a day is made of the next date's return."""

    sign: float
    """-1 where the label asks for little"""
    is_absolute: bool
    """Of a volatility: the size of the return counts"""
    level: str | None
    """Column that the label compares with, by which the part is divided"""

    def of(self, next_return: Vector, rows: pa.Table) -> Vector:
        """(n,) parts of the rows' next date, nan where not known. rows : with the label's columns"""
        found = np.abs(next_return) if self.is_absolute else next_return
        if self.level is not None:
            level = label_numbers(rows, self.level)
            found = np.divide(found, level, out=np.full(len(found), np.nan), where=np.isfinite(level) & (level > 0))
        return np.asarray(self.sign * found)


def day_part(label: str) -> DayPart | None:
    """Give the next date's part of a label; None where a day's return says nothing of it."""
    asked = parse_label(label)
    sign = {">": 1.0, ">=": 1.0, "<": -1.0, "<=": -1.0}.get(asked.op)
    is_volatility = asked.column.startswith(TARGET_PREFIX) and "volatility" in asked.column
    if sign is None or not (is_volatility or is_return(asked.column)):
        return None
    level = asked.operand if is_volatility and isinstance(asked.operand, str) else None
    return DayPart(sign=sign, is_absolute=is_volatility, level=level)


def measures_of(label: str, *, n_names: float) -> tuple[Measure, ...]:
    """Give the measures by which two versions of a label can be compared, the one to take first; empty: none.

    n_names : of a date. With many the increment comes first: it tells two versions apart about as soon as the mark
    (docs/statistics.md), and hangs on every name's probability, not on which side of one half it lies.
    """
    mark = (Measure.MARK,) if is_long_label(label) else ()
    increment = (Measure.INCREMENT,) if day_part(label) is not None and n_names >= MIN_NAMES else ()
    return (*increment, *mark) if n_names >= MANY_NAMES else (*mark, *increment)


def differences_by_day(
    measure: Measure,
    days: npt.NDArray[np.datetime64],
    challenger: Vector,
    champion: Vector,
    part: Vector | None,
    *,
    horizon_dates: int,
) -> tuple[npt.NDArray[np.datetime64], Vector]:
    """Compute the measure of each day. Returns (d,) days on which it is known, ascending, and (d,) differences.

    days : (n,) ascending, of n pairs of predictions      challenger, champion : (n,) probabilities
    part : (n,) for the mark the next date's simple return, for the increment that of `DayPart`; None: not known
    """
    if part is None or not len(days):
        return days[:0], np.empty(0)
    starts = group_starts(days.astype(np.int64))
    found = np.empty(len(starts))
    for place, (start, end) in enumerate(zip(starts, np.append(starts[1:], len(days)), strict=True)):
        on = slice(int(start), int(end))
        if measure is Measure.MARK:
            found[place] = mark_difference(challenger[on], champion[on], part[on])
        else:
            found[place] = increment_difference(challenger[on], champion[on], part[on], horizon_dates=horizon_dates)
    known = np.isfinite(found)
    return days[starts][known], found[known]

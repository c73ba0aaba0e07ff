"""Dates of a strategy's past on which a check is made as if they were today; pure.

Every date with enough history before it is as likely as any other, by a seed. Periods that are known to hold a
break may be left out, by name. What is left is the past as it was: who calls it free of drift must know why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from mlops.domain.errors import InsufficientData
from mlops.domain.policies import DataPolicy, DriftPolicy
from mlops.domain.windows import drift_windows


@dataclass(frozen=True, kw_only=True)
class Period:
    """Dates from `start` to `end`, both included."""

    start: date
    end: date


def eligible_dates(
    dates: npt.NDArray[np.datetime64], *, data: DataPolicy, drift: DriftPolicy, without: Sequence[Period] = ()
) -> list[date]:
    """Dates whose windows hold rows, whose history is as long as the policy's least, and that touch no left-out period.

    dates : (n,) datetime64[D] of the rows, in any order. Raises InsufficientData where there is none.
    """
    days: list[date] = [day.astype(object) for day in np.unique(dates)]
    if not days:
        raise InsufficientData("there are no rows to make a check on; load the strategy's features")
    needed = data.current_days + data.reference_days + drift.min_calibration_days
    known = set(days)
    late = [day for day in days if (day - days[0]).days >= needed]
    whole = [day for day in late if _holds_rows(day, known, data)]
    free = [day for day in whole if not any(_touches(day, period, data) for period in without)]
    if free:
        return free
    words = f"the rows reach from {days[0]} to {days[-1]}, {(days[-1] - days[0]).days} days"
    if not late:
        message = (
            f"{words}; a check needs {needed}: {drift.min_calibration_days} of history, {data.reference_days} of "
            f"reference, {data.current_days} current; load more history, or shorten the policy's windows"
        )
        raise InsufficientData(message)
    raise InsufficientData(f"{words}, and no date is left: every one touches a left-out period, or a gap in the rows")


def chosen_placebos(eligible: Sequence[date], n: int, rng: np.random.Generator) -> list[date]:
    """`n` of the dates by chance, or all where there are no more; ascending."""
    if n >= len(eligible):
        return sorted(eligible)
    return sorted(eligible[i] for i in rng.choice(len(eligible), size=n, replace=False))


def disjoint_checks(days: Sequence[date], data: DataPolicy) -> int:
    """The most checks of these that share no date of their windows: how many independent looks they are, at least."""
    n, free_from = 0, date.min
    for day in sorted(days):
        reference, _ = drift_windows(day, data)
        if reference.start >= free_from:
            n, free_from = n + 1, day
    return n


def _holds_rows(day: date, known: set[date], data: DataPolicy) -> bool:
    reference, _ = drift_windows(day, data)
    return any(reference.start + timedelta(days=i) in known for i in range(1, data.reference_days + 1))


def _touches(day: date, period: Period, data: DataPolicy) -> bool:
    reference, _ = drift_windows(day, data)
    return reference.start < period.end and period.start <= day

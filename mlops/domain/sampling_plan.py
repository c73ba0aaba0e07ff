"""Which windows of a check are read as a sample, and how far that can move a statistic; pure.

Called by `retraining.drift_windows`. What a check costs is then what `max_reference_rows` cost, however long the
window; the source still has to go over its rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops.domain.ports import Window
from mlops.domain.sampling import RowSample, dkw_bound, shares_of_dates, shares_of_window

#: Probability with which the reported bound holds.
CONFIDENCE = 0.95
#: A date keeps so many times the rows that the calibration takes of it, so that it has them whatever the hash does:
#: with 192 expected, fewer than 48 have a probability below 1e-23 (Chernoff, exp(-192 * 0.75^2 / 2)).
_AMPLE = 4


@dataclass(frozen=True, kw_only=True)
class SampledWindow:
    """One window of which a sample is read."""

    rows: Mapping[date, int]
    """That each date has"""
    shares: Mapping[date, float]
    """Of them that are read"""
    even_share: float | None
    """The share of all dates but those with so few rows that theirs was raised; None: as many rows of each date"""

    @property
    def n_rows(self) -> int:
        """In the source."""
        return sum(self.rows.values())

    @property
    def extra_rows(self) -> float:
        """Rows expected beyond the even share, of dates with few."""
        return sum((share - (self.even_share or share)) * self.rows[day] for day, share in self.shares.items())

    def bound(self, n_kept: int) -> float | None:
        """How far the distribution function of the rows kept is from that of all; None where dates count unevenly.

        The bound for the evenly sampled rows, and the share of the others, which can be anywhere.
        """
        if self.even_share is None or n_kept == 0:
            return None
        extra = min(self.extra_rows, n_kept - 1)
        return min(1.0, dkw_bound(n_kept - round(extra), confidence=CONFIDENCE) + extra / n_kept)


@dataclass(frozen=True, kw_only=True)
class SamplingPlan:
    """What of a check's windows is sampled; None: all rows are read."""

    reference: SampledWindow | None
    history: SampledWindow | None

    @property
    def sample(self) -> RowSample | None:
        """For one read of all windows; dates after the reference are kept whole."""
        planned = [window.shares for window in (self.history, self.reference) if window is not None]
        return (
            RowSample(shares={day: share for shares in planned for day, share in shares.items()}) if planned else None
        )

    def short_dates(self, dates: npt.NDArray[np.datetime64], *, rows_per_date: int) -> list[date]:
        """Dates of which fewer rows were read than the calibration takes, although there are more.

        That is so where tickers repeat on a date: rows with the same key are kept or left together.
        """
        days, counts = np.unique(dates.astype("datetime64[D]"), return_counts=True)
        read = dict(zip(days.astype(object), counts.tolist(), strict=True))
        return [
            day
            for window in (self.history, self.reference)
            if window is not None
            for day in window.shares
            if read.get(day, 0) < min(rows_per_date, window.rows[day])
        ]


def plan_sampling(
    rows: Mapping[date, int], *, reference: Window, history: Window, limit: int | None, rows_per_date: int
) -> SamplingPlan:
    """Sample each of the two windows that has more rows than `limit`; None: never.

    rows : rows of each date in both      rows_per_date : what the calibration takes of a date
    """
    if limit is None:
        return SamplingPlan(reference=None, history=None)
    ample = _AMPLE * rows_per_date
    of_reference, of_history = _of(rows, reference), _of(rows, history)
    n_reference, n_history = sum(of_reference.values()), sum(of_history.values())
    return SamplingPlan(
        reference=None
        if n_reference <= limit
        else SampledWindow(
            rows=of_reference,
            shares=shares_of_window(of_reference, limit, least=ample),
            even_share=limit / n_reference,
        ),
        history=None
        if n_history <= limit
        else SampledWindow(rows=of_history, shares=shares_of_dates(of_history, ample), even_share=None),
    )


def sampling_json(plan: SamplingPlan, *, n_reference: int, n_history: int) -> dict[str, Any] | None:
    """The report's part; None where all rows were read. n_reference, n_history : rows read"""
    taken = {
        name: {"n_rows": window.n_rows, "n_kept": kept, "share": kept / window.n_rows}
        for name, window, kept in (("reference", plan.reference, n_reference), ("history", plan.history, n_history))
        if window is not None
    }
    if not taken:
        return None
    bound = plan.reference.bound(n_reference) if plan.reference is not None else None
    return {
        "by": "hash of ticker and date",
        **taken,
        "ks_error_bound": bound,
        "confidence": CONFIDENCE if bound is not None else None,
    }


def _of(rows: Mapping[date, int], window: Window) -> dict[date, int]:
    return {day: n for day, n in rows.items() if window.start < day <= window.end}

"""Which rows of a large window are read: the same ones every time, on every machine, from every store; pure.

    mark(text) = 1 + (first 4 bytes of SHA-256 of the text's UTF-8) mod (P - 1),   P = 2^31 - 1, a prime
    a row is kept where mark(ticker) * mark(date) mod P < share of its date * P,   date as 2020-01-31

Marks are nonzero, so the product runs over 1 … P - 1 alike; any three rows fall independently of each other.
Every step is an integer below 2^63, so that PostgreSQL states it in the query and rows that are not kept never
cross the wire. SHA-256 is there in each store and allowed everywhere, unlike MD5 and the stores' own hashes.
Used by the feature sources; planned by `mlops.stages.drift_windows`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlops.domain.ports import Window

PRIME = 2**31 - 1
_EPOCH = date(1970, 1, 1)


@lru_cache(maxsize=2**12)
def mark(text: str) -> int:
    """A number from 1 to P - 1 that belongs to the text for ever."""
    return 1 + int.from_bytes(sha256(text.encode()).digest()[:4], "big") % (PRIME - 1)


@dataclass(frozen=True, kw_only=True)
class RowSample:
    """Which share of each date's rows is kept; a date that is not named is kept whole."""

    shares: Mapping[date, float]

    def limit(self, day: date) -> int:
        """Rows of the date are kept whose product of marks is below."""
        return min(PRIME, math.ceil(self.shares.get(day, 1.0) * PRIME))

    def keeps(self, ticker: str | None, day: date) -> bool:
        """Whether the row is kept; no ticker counts as an empty one."""
        return mark(ticker or "") * mark(day.isoformat()) % PRIME < self.limit(day)

    def by_day(self, window: Window) -> tuple[list[int], list[int]]:
        """Mark and limit of each calendar day of the window, from the day after its start on."""
        days = [window.start + timedelta(days=i) for i in range(1, (window.end - window.start).days + 1)]
        return [mark(day.isoformat()) for day in days], [self.limit(day) for day in days]


class RowMarks:
    """The product of marks for many rows; each ticker is hashed once, however many batches have it."""

    def __init__(self) -> None:
        self._tickers = pa.array([], pa.string())
        self._marks = np.empty(0, dtype=np.int64)

    def of(self, tickers: pa.Array, days: npt.NDArray[np.datetime64]) -> npt.NDArray[np.int64]:
        """(n,) from 1 to P - 1, as if drawn at random. tickers : (n,) of text      days : (n,) datetime64[D]"""
        distinct, place = _distinct_days(days)
        of_day = np.array([mark(day.isoformat()) for day in distinct], dtype=np.int64)
        return np.asarray(self._marks_of(tickers) * of_day[place] % PRIME, dtype=np.int64)

    def _marks_of(self, tickers: pa.Array) -> npt.NDArray[np.int64]:
        texts = tickers.cast(pa.string()).fill_null("")
        place = pc.index_in(texts, value_set=self._tickers)
        if place.null_count:
            new = pc.unique(texts.filter(place.is_null()))
            self._tickers = pa.concat_arrays([self._tickers, new])
            self._marks = np.append(self._marks, np.array([mark(text) for text in new.to_pylist()], dtype=np.int64))
            place = pc.index_in(texts, value_set=self._tickers)
        return np.asarray(self._marks[place.to_numpy(zero_copy_only=False)], dtype=np.int64)


class RowMask:
    """A sample's rule for many rows at once."""

    def __init__(self, sample: RowSample) -> None:
        self._sample = sample
        self._marks = RowMarks()

    def of(self, tickers: pa.Array, days: npt.NDArray[np.datetime64]) -> npt.NDArray[np.bool_]:
        """(n,) which rows are kept. tickers : (n,) of text      days : (n,) datetime64[D]"""
        distinct, place = _distinct_days(days)
        limits = np.array([self._sample.limit(day) for day in distinct], dtype=np.int64)
        return np.asarray(self._marks.of(tickers, days) < limits[place], dtype=np.bool_)


def smallest_marks(marks: npt.NDArray[np.integer], n: int) -> npt.NDArray[np.intp]:
    """Indices, ascending, of the n rows with the smallest marks: a sample that no order of rows or names decides."""
    if len(marks) <= n:
        return np.arange(len(marks))
    # A stable sort: rows with the same key have the same mark.
    return np.sort(np.argsort(marks, kind="stable")[:n])


def smallest_marks_by_date(
    marks: npt.NDArray[np.integer], dates: npt.NDArray[np.datetime64], n: int
) -> npt.NDArray[np.intp]:
    """Indices, ascending, of n rows spread over all dates as evenly as their rows allow."""
    if len(marks) <= n:
        return np.arange(len(marks))
    order = np.lexsort((marks, dates))
    return np.sort(order[np.lexsort((marks[order], rank_within(dates[order])))[:n]])


def group_starts(groups: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Index of each group's first row. groups : (n,) ascending"""
    return np.flatnonzero(np.append(len(groups) > 0, groups[1:] != groups[:-1])[: len(groups)])


def rank_within(groups: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """(n,) how many rows of the same group come before each. groups : (n,) ascending"""
    starts = group_starts(groups)
    sizes = np.diff(starts, append=len(groups))
    return np.asarray(np.arange(len(groups)) - np.repeat(starts, sizes), dtype=np.int64)


def _distinct_days(days: npt.NDArray[np.datetime64]) -> tuple[list[date], npt.NDArray[np.intp]]:
    """Each day once, ascending, and (n,) which of them each row has."""
    numbers = days.astype("datetime64[D]").astype(np.int64)
    if np.all(numbers[1:] >= numbers[:-1]):
        # Rows mostly come in order of their dates, and a million need no sort then.
        starts = group_starts(numbers)
        distinct = numbers[starts]
        place = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(numbers)))
    else:
        distinct, place = np.unique(numbers, return_inverse=True)
    return [_EPOCH + timedelta(days=int(number)) for number in distinct], place


def shares_of_window(rows: Mapping[date, int], limit: int, *, least: int) -> dict[date, float]:
    """The share of each date's rows with which a window comes to about `limit` rows; empty where it has no more.

    rows : rows of each date      least : about so many of a date are kept at least, or all that it has
    """
    total = sum(rows.values())
    if total <= limit:
        return {}
    return {day: min(1.0, max(limit / total, least / n)) for day, n in rows.items()}


def shares_of_dates(rows: Mapping[date, int], per_date: int) -> dict[date, float]:
    """The share of each date's rows with which it comes to about `per_date`; dates without more are not there."""
    return {day: per_date / n for day, n in rows.items() if n > per_date}


def dkw_bound(n: int, *, confidence: float = 0.95) -> float:
    """How far the distribution function of n random rows is from that of all at most, with that probability.

        eps = sqrt(ln(2 / (1 - confidence)) / (2 n))

    Holds at every value at once, for one feature without missing values, where each row was drawn independently: of
    rows that a stable hash chose that is an assumption. The KS distance from any third sample
    then differs by no more. Source: Massart 1990, the tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality.
    """
    return min(1.0, math.sqrt(math.log(2 / (1 - confidence)) / (2 * n)))


# ---- Which windows of a check are read as a sample, and how far that can move a statistic; pure
#
# Planned by `mlops.stages.drift_windows`. What a check costs is then what `max_reference_rows` cost, however long the
# window; the source still has to go over its rows.

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

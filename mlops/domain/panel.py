"""Which dates of a strategy's panel count, and a feature source that shows those alone.

A date counts where it has a share of the rows that its neighbours have, is not in the future, and is a day on which
the panel trades. Horizon, embargo, held-out dates, calibration and "the newest date" are counted in such dates; what
is left out is said, never dropped in silence. Called by the stages. Why so: docs/decisions/0031.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from mlops.domain.ports import Column, DateFaults, FeatureSource, Window

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops.domain.sampling import RowSample

#: Dates on either side that a date is compared with: a month of trading.
NEIGHBOURS = 20
#: Calendar days in which the newest date that counts is looked for first; they hold twice the neighbours.
_NEAR_DAYS = 90
#: A weekday is no trading day where it has less than this share of the dates of the commonest one.
_RARE_WEEKDAY = 0.1
#: Below so many dates on the commonest weekday nothing is said about rare ones.
_LEAST_WEEKS = 20
#: A panel is daily where so many weekdays have at least half of the dates of the commonest.
_DAILY = 4
_SHOWN = 3
#: With fewer dates nothing is said about the next one.
_LEAST_EXPECTING = 5

#: A pause of so many calendar days beyond the usual gap is no holiday: longer than China's new year.
_HOLE_DAYS = 14

Reason = Literal["incomplete", "no_trading_day"]
_FactCode = Literal["dates_left_out", "future_dates", "missing_dates", "undated_rows", "not_midnight"]


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A date that does not count."""

    day: date
    n_rows: int
    expected: float
    """Rows of its neighbours"""
    reason: Reason

    @property
    def words(self) -> str:
        """For a list."""
        if self.reason == "incomplete":
            return f"{self.day} ({_rows(self.n_rows)} where its neighbours have {self.expected:g})"
        return f"{self.day} (a {self.day:%A}, on which the panel does not trade)"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """The dates of a window."""

    rows: Mapping[date, int]
    """Of each date that counts, ascending"""
    left_out: tuple[LeftOut, ...] = ()
    """Ascending"""

    @property
    def newest(self) -> date | None:
        """That counts."""
        return max(self.rows, default=None)

    @property
    def usual_gap_days(self) -> int:
        """Median calendar days from one date to the next: 1 for a daily panel, 7 for a weekly one."""
        days = np.array(list(self.rows), dtype="datetime64[D]").astype(np.int64)
        return int(np.median(np.diff(days))) if len(days) > 1 else 1

    @property
    def next_expected(self) -> date | None:
        """The day on which the panel goes on, if it does so as ever; None where too few dates say how it does.

        The first day, no sooner after the newest date than the usual gap, of a weekday that has half as many dates as
        the commonest. What a calendar of holidays knows, it does not.
        """
        newest = self.newest
        if newest is None or len(self.rows) < _LEAST_EXPECTING:
            return None
        n_dates = np.bincount([day.weekday() for day in self.rows], minlength=7)
        usual = 2 * n_dates >= n_dates.max()
        first = newest + timedelta(days=self.usual_gap_days)
        return next(day for day in (first + timedelta(days=n) for n in range(7)) if usual[day.weekday()])

    def is_stale(self, as_of: date, *, max_days: int) -> bool:
        """The newest date lies more than `max_days` before `as_of`, beyond the usual gap between two dates."""
        newest = self.newest
        return newest is not None and (as_of - newest).days > max_days + self.usual_gap_days - 1

    @property
    def longest_pause(self) -> tuple[date, date] | None:
        """The dates around it; None where it may be a holiday."""
        days = list(self.rows)
        pauses = [((later - day).days, day, later) for day, later in itertools.pairwise(days)]
        longest = max(pauses, default=None)
        if longest is None or longest[0] <= _HOLE_DAYS + self.usual_gap_days:
            return None
        return longest[1:]

    def words(self, window: Window) -> str:
        """What is left out of a window, the newest first; empty where nothing is."""
        found = [one for one in reversed(self.left_out) if window.start < one.day <= window.end]
        if not found:
            return ""
        n_rows = sum(one.n_rows for one in found)
        rows = f"{_rows(n_rows)} {'is' if n_rows == 1 else 'are'} left out with {'it' if len(found) == 1 else 'them'}"
        more = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        listed = ", ".join(one.words for one in found[:_SHOWN])
        dates = "1 date does" if len(found) == 1 else f"{len(found)} dates do"
        return f"{dates} not count and {rows}: {listed}{more}"


def panel_of(rows: Mapping[date, int], *, min_share: float) -> Panel:
    """The dates of a window that count. rows : rows of each date, ascending by date

    A date is compared with the median of the 20 dates before it, of the 20 after it, and of both, as far as there are
    so many; the least of them decides, so that a panel may grow or shrink. min_share 0: no date is incomplete.
    """
    left_out = [*_incomplete(rows, min_share)]
    gone = {one.day for one in left_out}
    resting = _resting_weekdays([day for day in rows if day not in gone])
    left_out += [
        LeftOut(day=day, n_rows=n, expected=float(n), reason="no_trading_day")
        for day, n in rows.items()
        if day not in gone and day.weekday() in resting
    ]
    gone = {one.day for one in left_out}
    return Panel(
        rows={day: n for day, n in rows.items() if day not in gone},
        left_out=tuple(sorted(left_out, key=lambda one: one.day)),
    )


def newest_counted(source: FeatureSource, strategy: str, *, min_share: float, today: date) -> date | None:
    """The newest date that counts and is not in the future; None where there is none. Raises what reading raises."""
    newest = source.latest_date(strategy, until=today)
    if newest is None:
        return None
    for start in (newest - timedelta(days=_NEAR_DAYS), date.min):
        found = panel_of(source.rows_by_date(strategy, Window(start=start, end=newest)), min_share=min_share)
        # A date far from all others has no neighbours near it.
        if found.newest is not None and len(found.rows) > NEIGHBOURS:
            return found.newest
    return found.newest


def left_out_date(source: FeatureSource, strategy: str, day: date, *, min_share: float, today: date) -> LeftOut | None:
    """Why a date with rows does not count beside its neighbours; None where it counts, or has none. Raises what reading
    raises.
    """
    near = timedelta(days=_NEAR_DAYS)
    window = Window(start=day - near, end=max(day, min(day + near, today)))
    found = panel_of(source.rows_by_date(strategy, window), min_share=min_share)
    return next((one for one in found.left_out if one.day == day), None)


@dataclass(frozen=True, kw_only=True)
class DateFact:
    """Something about a strategy's dates that a person should know."""

    code: _FactCode
    words: str


def date_facts(source: CountedDates, *, as_of: date, today: date) -> tuple[DateFact, ...]:
    """What is left out of the source's window and why, and what is wrong with its dates. Raises what reading raises."""
    facts: list[DateFact] = []
    if words := source.panel.words(source.window):
        facts.append(DateFact(code="dates_left_out", words=words))
    facts += _later_facts(source, as_of=as_of, today=today)
    if hole := source.panel.longest_pause:
        first, last = hole
        words = f"there are no rows between {first} and {last}, {(last - first).days} days"
        facts.append(DateFact(code="missing_dates", words=words))
    faults = source.date_faults(source.strategy, source.window)
    if faults.n_undated:
        rows = "1 row has" if faults.n_undated == 1 else f"{faults.n_undated} rows have"
        words = f"{rows} no day in column date (such as {faults.undated!r}) and play no part"
        facts.append(DateFact(code="undated_rows", words=words))
    if faults.n_not_midnight:
        words = (
            f"{faults.n_not_midnight} timestamps in column date are not at midnight (such as {faults.not_midnight}); "
            f"their day is that of the clock in ACIS_FEATURE_TIME_ZONE: set the zone, or cast to a date in the view"
        )
        facts.append(DateFact(code="not_midnight", words=words))
    return tuple(facts)


def _later_facts(source: CountedDates, *, as_of: date, today: date) -> Iterator[DateFact]:
    """Rows after the as-of date that are none of a later state of the data, as in a replay."""
    newest = source.latest_date(source.strategy)
    if newest is not None and newest > today:
        words = f"the newest row is dated {newest}, after today, {today}; rows of the future play no part"
        yield DateFact(code="future_dates", words=words)
        newest = source.latest_date(source.strategy, until=today)
    if newest is None or newest <= as_of:
        return
    window = Window(start=as_of - timedelta(days=_NEAR_DAYS), end=newest)
    found = panel_of(source.source.rows_by_date(source.strategy, window), min_share=source.min_share)
    if found.newest is not None and found.newest <= as_of:
        words = f"after {as_of}, {found.words(Window(start=as_of, end=newest))}"
        yield DateFact(code="dates_left_out", words=words)


@dataclass(frozen=True, kw_only=True)
class CountedDates:
    """`mlops.domain.ports.FeatureSource` of one strategy and window, in which dates that do not count have no rows."""

    source: FeatureSource
    strategy: str
    window: Window
    panel: Panel
    min_share: float
    _gone: npt.NDArray[np.datetime64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        gone = np.array([one.day for one in self.panel.left_out], dtype="datetime64[D]")
        object.__setattr__(self, "_gone", gone)

    def columns(self) -> tuple[Column, ...]:
        """The source's."""
        return self.source.columns()

    def latest_date(self, strategy: str | None = None, *, until: date | None = None) -> date | None:
        """The source's, whether it counts or not."""
        return self.source.latest_date(strategy, until=until)

    def dates(self, strategy: str, window: Window) -> list[date]:
        """Dates that count, ascending."""
        return list(self.rows_by_date(strategy, window))

    def count(self, strategy: str, window: Window) -> int:
        """Rows of the dates that count."""
        return sum(self.rows_by_date(strategy, window).values())

    def rows_by_date(self, strategy: str, window: Window) -> dict[date, int]:
        """Rows of each date that counts, ascending."""
        self._check(strategy, window)
        return {day: n for day, n in self.panel.rows.items() if window.start < day <= window.end}

    def date_faults(self, strategy: str, window: Window) -> DateFaults:
        """The source's."""
        return self.source.date_faults(strategy, window)

    @contextmanager
    def snapshot(self) -> Iterator[FeatureSource]:
        """The same dates over one state of the source."""
        with self.source.snapshot() as one:
            yield CountedDates(
                source=one, strategy=self.strategy, window=self.window, panel=self.panel, min_share=self.min_share
            )

    def read(
        self, strategy: str, window: Window, columns: Sequence[str], *, sample: RowSample | None = None
    ) -> pa.Table:
        """Rows of the dates that count."""
        self._check(strategy, window)
        if not self._leaves_out(window):
            return self.source.read(strategy, window, columns, sample=sample)
        wanted = list(dict.fromkeys([*columns, "date"]))
        table = self.source.read(strategy, window, wanted, sample=sample)
        return table.filter(self._counted(table)).select(list(columns))

    def read_batches(self, strategy: str, window: Window, columns: Sequence[str]) -> Generator[pa.RecordBatch]:
        """The same rows in batches."""
        self._check(strategy, window)
        if not self._leaves_out(window):
            yield from self.source.read_batches(strategy, window, columns)
            return
        wanted = list(dict.fromkeys([*columns, "date"]))
        for batch in self.source.read_batches(strategy, window, wanted):
            yield batch.filter(self._counted(batch)).select(list(columns))

    def _leaves_out(self, window: Window) -> bool:
        return any(window.start < one.day <= window.end for one in self.panel.left_out)

    def _counted(self, rows: pa.Table | pa.RecordBatch) -> pa.Array:
        import pyarrow as pa  # noqa: PLC0415 -- where dates are left out

        days = np.asarray(rows.column("date").to_numpy(zero_copy_only=False), dtype="datetime64[D]")
        return pa.array(~np.isin(days, self._gone))

    def _check(self, strategy: str, window: Window) -> None:
        if strategy != self.strategy or window.start < self.window.start or window.end > self.window.end:
            message = f"the dates of {self.strategy!r} were counted in {self.window}, not of {strategy!r} in {window}"
            raise ValueError(message)


def counted_dates(source: FeatureSource, strategy: str, window: Window, *, min_share: float) -> CountedDates:
    """The source with the dates of a window that count. Raises what reading raises."""
    panel = panel_of(source.rows_by_date(strategy, window), min_share=min_share)
    return CountedDates(source=source, strategy=strategy, window=window, panel=panel, min_share=min_share)


def _rows(n: int) -> str:
    return "1 row" if n == 1 else f"{n} rows"


def _incomplete(rows: Mapping[date, int], min_share: float) -> Iterator[LeftOut]:
    days, counts = list(rows), np.array(list(rows.values()), dtype=np.float64)
    # No neighbours have more than the fullest date: most panels end here.
    for i in np.flatnonzero(counts < min_share * counts.max(initial=0)):
        expected = _expected(counts, int(i))
        if counts[i] < min_share * expected:
            yield LeftOut(day=days[i], n_rows=int(counts[i]), expected=expected, reason="incomplete")


def _expected(counts: npt.NDArray[np.float64], i: int) -> float:
    """Rows that the neighbours of a date have."""
    earlier, later = counts[max(0, i - NEIGHBOURS) : i], counts[i + 1 : i + 1 + NEIGHBOURS]
    sides = [side for side in (earlier, later) if len(side) == NEIGHBOURS]
    return min((float(np.median(side)) for side in (*sides, np.concatenate([earlier, later])) if len(side)), default=0)


def _resting_weekdays(days: Sequence[date]) -> set[int]:
    """Weekdays on which a daily panel does not trade, although it has rows on one now and then."""
    n_dates = np.bincount([day.weekday() for day in days], minlength=7) if days else np.zeros(7, dtype=np.int64)
    commonest = int(n_dates.max())
    if commonest < _LEAST_WEEKS or np.count_nonzero(2 * n_dates >= commonest) < _DAILY:
        return set()
    return {weekday for weekday in range(7) if 0 < n_dates[weekday] < _RARE_WEEKDAY * commonest}

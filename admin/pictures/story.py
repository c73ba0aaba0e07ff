"""What became of one strategy, as bands and marks on the days of its data; pure.

The axis is the date as of which something was done. What has none of its own (a rollback, an answer to a question)
stands at the newest date that the strategy's data had by then.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, NamedTuple

from admin.heat import rarity_height
from admin.pictures.axes import TimeAxis
from mlops.domain.run_states import FAILURES

if TYPE_CHECKING:
    from mlops.domain.promotion.records import Promotion
    from mlops.ledger.queries.checks import CheckLine
    from mlops.ledger.queries.run_lists import RunLine

Days = Literal["90", "365", "all"]
_DATED = frozenset({"promote", "override", "keep", "inconclusive", "refuse", "await_approval"})
"""Decisions that a training's run made: as of its own date."""

# ---- Dates of what has none


class DataClock:
    """How far the strategy's data went at a time."""

    def __init__(self, seen: Iterable[tuple[datetime, date]]) -> None:
        """Whatever was done and named a date; seen : when, and as of which date"""
        ordered = sorted(seen)
        self._times = [at for at, _ in ordered]
        self._days = list(accumulate((day for _, day in ordered), max))

    def day(self, at: datetime) -> date:
        """The newest date by then; before the first, the day of the calendar."""
        place = bisect_right(self._times, at)
        return self._days[place - 1] if place else at.date()


# ---- Champions as bands


@dataclass(frozen=True, kw_only=True)
class Band:
    """How long a version was the champion."""

    version: str
    first: date
    last: date | None
    """None: it is the champion."""
    run_id: str | None
    """The run that made it the champion."""


def champion_bands(decisions: Sequence[Promotion], champion: str | None, clock: DataClock) -> list[Band]:
    """Champions in the order in which they were. decisions : oldest first; champion : the version that is it now"""
    after = [*(one.previous_version for one in decisions[1:]), champion][: len(decisions)]
    bands: list[Band] = []
    for decision, version in zip(decisions, after, strict=True):
        if version == decision.previous_version:
            continue
        day = decided_on(decision, clock)
        if bands and bands[-1].last is None:
            day = max(day, bands[-1].first)
            bands[-1] = _ended(bands[-1], day)
        if version is not None:
            bands.append(Band(version=version, first=day, last=None, run_id=decision.run_id))
    return bands


def decided_on(decision: Promotion, clock: DataClock) -> date:
    """The day at which a decision stands."""
    if decision.decision in _DATED and decision.as_of is not None:
        return decision.as_of
    return clock.day(decision.created_at)


def _ended(band: Band, day: date) -> Band:
    return Band(
        version=band.version, first=band.first, last=max(band.first, day - timedelta(days=1)), run_id=band.run_id
    )


# ---- Trainings, and decisions about versions, as marks


class _Look(NamedTuple):
    tone: str
    shape: str
    row: int
    """0: a version came into production; 1: it did not; 2: there is none."""


_LOOKS: Mapping[str, _Look] = {
    "promoted": _Look("good", "up", 0),
    "override": _Look("warn", "up", 0),
    "restore": _Look("good", "up", 0),
    "manual": _Look("warn", "up", 0),
    "rollback": _Look("warn", "back", 0),
    "awaits approval": _Look("warn", "ring", 1),
    "kept": _Look("calm", "ring", 1),
    "refused": _Look("calm", "cross", 1),
    "transition": _Look("calm", "dot", 1),
    "trained": _Look("calm", "dot", 1),
    "failed": _Look("bad", "cross", 2),
}
_OUTCOMES = {
    "promote": "promoted",
    "keep": "kept",
    "inconclusive": "kept",
    "refuse": "refused",
    "await_approval": "awaits approval",
}


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Something that happened to a version of the strategy."""

    day: date
    outcome: str
    """A key of the looks: `promoted`, `kept`, `refused`, `rollback`, `trained`, `failed`, …"""
    version: str | None
    run_id: str | None
    reason: str

    @property
    def look(self) -> _Look:
        """How it is drawn."""
        return _LOOKS[self.outcome]

    @property
    def words(self) -> str:
        """All of it in a line."""
        what = f"version {self.version} {self.outcome}" if self.version else self.outcome
        return f"{self.day}: {what}" + (f": {self.reason}" if self.reason else "")


def marks(runs: Iterable[RunLine], decisions: Iterable[Promotion], clock: DataClock) -> list[Mark]:
    """One for each run that trained, failed or decided, and for each decision that no run made; oldest first."""
    of_run: dict[str, Promotion] = {}
    found: list[Mark] = []
    for decision in decisions:
        if decision.run_id is not None:
            of_run[decision.run_id] = decision
        else:
            found.append(_decided(decision, clock))
    for run in runs:
        made = of_run.pop(run.run_id, None)
        if made is not None:
            found.append(_decided(made, clock))
        elif run.state in FAILURES:
            found.append(_of_run(run, "failed", run.error or "", clock))
        elif run.version is not None:
            found.append(_of_run(run, "trained", "", clock))
    found += [_decided(decision, clock) for decision in of_run.values()]
    return sorted(found, key=lambda mark: mark.day)


def _decided(decision: Promotion, clock: DataClock) -> Mark:
    outcome = _OUTCOMES.get(decision.decision, decision.decision)
    return Mark(
        day=decided_on(decision, clock),
        outcome=outcome if outcome in _LOOKS else "transition",
        version=decision.version,
        run_id=decision.run_id,
        reason=decision.reasons[0] if decision.reasons else "",
    )


def _of_run(run: RunLine, outcome: str, reason: str, clock: DataClock) -> Mark:
    return Mark(
        day=run.as_of or clock.day(run.created_at),
        outcome=outcome,
        version=run.version,
        run_id=run.run_id,
        reason=reason,
    )


# ---- Drift checks as bars


@dataclass(frozen=True, kw_only=True)
class CheckBar:
    """A day's newest check."""

    check: CheckLine
    height: float
    """0 to 1: how rare the shift is, p on a logarithmic scale"""

    @property
    def words(self) -> str:
        """All of it in a line."""
        check = self.check
        p = "no p" if check.p_value is None else f"p {check.p_value:.3g}"
        share = "" if check.share is None else f", {check.share:.0%} of the features moved"
        return f"{check.as_of}: {check.verdict or 'no verdict'}, {p}{share}"


def check_bars(checks: Iterable[CheckLine]) -> list[CheckBar]:
    """One a day. checks : oldest first"""
    by_day = {check.as_of: check for check in checks if check.as_of is not None}
    return [CheckBar(check=check, height=rarity_height(check.p_value, check.verdict)) for check in by_day.values()]


# ---- The axis


def axis_of(days: Days, known: Iterable[date], otherwise: date) -> TimeAxis:
    """The known days, or the last 90 or 365 days of them; a fortnight at least, that nothing is a single stroke.

    otherwise : the last day where none is known
    """
    found = sorted(known)
    first, last = (found[0], found[-1]) if found else (otherwise, otherwise)
    if days != "all":
        first = max(first, last - timedelta(days=int(days) - 1))
    return TimeAxis(first=min(first, last - timedelta(days=13)), last=last)

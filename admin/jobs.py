"""The timetable as a page shows it: every strategy's two jobs by its policy, with what beat knows of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from cron_descriptor import ExpressionDescriptor, Options
from cron_descriptor.Exception import FormatException

from mlops.domain.cron import cron_fault
from mlops.domain.policies import ScheduledJob
from mlops.domain.records import Kind, ScheduleEntry
from mlops.strategies.book import Unfit
from tasks.slots import next_due, next_slot

if TYPE_CHECKING:
    from admin.request_context import RequestContext
    from mlops.domain.policies import Strategy

# ---- A cron expression in words, and its next times, as beat understands it

_LAST_CLOCK = re.compile(r"(\d\d:\d\d)(?!.*\d\d:\d\d)")


@lru_cache(maxsize=1024)
def in_words(expression: str) -> str:
    """`At 03:00 UTC, only on Sunday`; an empty expression is never, one that is not valid stays as it is."""
    if not expression:
        return "Never"
    if cron_fault(expression):
        return expression
    minute, hour, day, month, weekday = expression.split()
    if day == "*" or weekday == "*":
        return _described(expression)
    # Other crons run where either fits; ours, Celery's, where both do.
    on_weekday = _described(f"{minute} {hour} * * {weekday}").rpartition(", ")[2]
    return f"{_described(f'{minute} {hour} {day} {month} *')}, and of these {on_weekday}"


def next_times(expression: str, after: datetime, *, n: int = 5) -> list[datetime]:
    """The next nominal times later than `after`, in UTC."""
    times = [next_slot(expression, after)]
    while len(times) < n:
        times.append(next_slot(expression, times[-1]))
    return times


def _described(expression: str) -> str:
    options = Options()
    options.use_24hour_time_format = True
    try:
        words: str = ExpressionDescriptor(expression, options).get_description()
    except FormatException:
        return expression
    return _LAST_CLOCK.sub(r"\1 UTC", words)


Word = ScheduledJob
JOBS: dict[Word, tuple[Kind, str]] = {
    "drift_check": (Kind.PIPELINE, "Drift check, and retraining where it drifted"),
    "retrain": (Kind.RETRAIN, "Retraining, whatever the drift"),
}
_LATE_S = 120.0
"""Beat and the reconciler look more often than this."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One line of the timetable."""

    strategy: str
    word: Word
    cron: str
    """Empty: not scheduled"""
    is_paused: bool
    entry: ScheduleEntry | None
    """As beat has it; None: not scheduled, or not taken over yet"""
    fault: str
    """Why the strategy's edits do not fit; then nothing of it is opened"""
    next_at: datetime | None

    @property
    def key(self) -> str:
        """As the timetable names it: `growth:drift_check`."""
        return f"{self.strategy}:{self.word}"

    @property
    def kind(self) -> Kind:
        """Of the runs that it opens."""
        return JOBS[self.word][0]

    @property
    def title(self) -> str:
        """What it does."""
        return JOBS[self.word][1]

    @property
    def in_words(self) -> str:
        """Its times."""
        return in_words(self.cron) if self.cron else "Not scheduled"

    @property
    def is_taken_over(self) -> bool:
        """Beat has it as the policy says."""
        if self.entry is None:
            return not self.cron
        return self.entry.cron == self.cron and self.entry.enabled is not self.is_paused

    def is_late(self, now: datetime) -> bool:
        """It should have been opened by now."""
        return self.next_at is not None and (now - self.next_at).total_seconds() > _LATE_S

    def state(self, now: datetime) -> str:
        """In a word."""
        if self.fault:
            return "policy does not fit"
        if not self.cron:
            return "not scheduled"
        if self.is_paused:
            return "paused"
        return "late" if self.is_late(now) else "on"


def jobs(context: RequestContext) -> list[Job]:
    """Every strategy's; two queries however many there are."""
    entries = {entry.key: entry for entry in context.ledger.schedule()}
    found: list[Job] = []
    for name, settled in context.services.policies.all_settled().items():
        if isinstance(settled, Unfit):
            found += _jobs(context.services.strategies[name], entries, context.now, fault=str(settled.error))
        else:
            found += _jobs(settled.strategy, entries, context.now)
    return found


def job(context: RequestContext, strategy: Strategy, word: Word, *, fault: str = "") -> Job:
    """One of them."""
    entries = {entry.key: entry for entry in context.ledger.schedule() if entry.strategy == strategy.name}
    return next(one for one in _jobs(strategy, entries, context.now, fault=fault) if one.word == word)


def _jobs(strategy: Strategy, entries: dict[str, ScheduleEntry], now: datetime, *, fault: str = "") -> list[Job]:
    policy = strategy.schedule
    crons: dict[Word, str] = {"drift_check": policy.drift_check, "retrain": policy.retrain}
    found = []
    for word, cron in crons.items():
        one = Job(
            strategy=strategy.name,
            word=word,
            cron=cron,
            is_paused=word in policy.paused,
            entry=entries.get(f"{strategy.name}:{word}"),
            fault=fault,
            next_at=None,
        )
        found.append(replace(one, next_at=_next_at(one, now)))
    return found


def _next_at(one: Job, now: datetime) -> datetime | None:
    """By beat's line where it has it so, else by the policy: beat begins with it now."""
    if not one.cron or one.is_paused or one.fault:
        return None
    if one.entry is not None and one.is_taken_over:
        return next_due(one.entry, now)
    return next_slot(one.cron, now) + timedelta(seconds=one.entry.offset_s if one.entry else 0)

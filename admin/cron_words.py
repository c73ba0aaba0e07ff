"""A cron expression in words, and its next times, as beat understands it."""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache

from cron_descriptor import ExpressionDescriptor, Options
from cron_descriptor.Exception import FormatException

from mlops.domain.cron import cron_fault
from tasks.slots import next_slot

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

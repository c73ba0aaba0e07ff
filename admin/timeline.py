"""A run's attempts as bars on one line of time; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from mlops.ledger.attempts import Attempt

WIDTH = 1000.0
"""Of the picture, in its own units."""
LEAST = 2.0
"""A bar that took no time is still seen."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """An attempt: how long it waited and how long it worked."""

    attempt: Attempt
    wait_s: float
    work_s: float | None
    """None: it has not begun."""
    wait_x: float
    wait_width: float
    work_x: float
    work_width: float


def bars(attempts: Sequence[Attempt], *, now: datetime) -> list[Bar]:
    """One for each attempt, on a scale from the first one's wait to the last one's end."""
    if not attempts:
        return []
    begin = min(attempt.queued_at for attempt in attempts)
    end = max(attempt.ended_at or now for attempt in attempts)
    scale = WIDTH / max((end - begin).total_seconds(), 0.001)

    def x(at: datetime) -> float:
        return round(max(0.0, (at - begin).total_seconds()) * scale, 1)

    found = []
    for attempt in attempts:
        claimed, ended = attempt.claimed_at or now, attempt.ended_at or now
        found.append(
            Bar(
                attempt=attempt,
                wait_s=max(0.0, (claimed - attempt.queued_at).total_seconds()),
                work_s=None if attempt.claimed_at is None else max(0.0, (ended - claimed).total_seconds()),
                wait_x=x(attempt.queued_at),
                wait_width=max(0.0, x(claimed) - x(attempt.queued_at)),
                work_x=min(x(claimed), WIDTH - LEAST),
                work_width=0.0 if attempt.claimed_at is None else max(LEAST, x(ended) - x(claimed)),
            )
        )
    return found

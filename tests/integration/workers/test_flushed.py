"""Outcomes after Redis lost everything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from celery import Celery

from tasks.broker import Seen, set_mark
from tasks.outcomes import MARK, UNSYNCED_S, restore_flushed_outcomes

DAY_S = 86_400.0


class Remembering:
    """The ledger's side: how often it was asked."""

    def __init__(self) -> None:
        self.asked_within_s: list[float] = []
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def redeliver_outcomes(self, *, within_s: float) -> int:
        self.asked_within_s.append(within_s)
        return 3


def test_an_emptied_result_backend_is_filled_again_once(redis_url: str) -> None:
    app = Celery(broker=redis_url, backend=redis_url, set_as_current=False)
    app.conf.result_expires, app.conf.result_failure_expires = 7 * DAY_S, 30 * DAY_S
    ledger = Remembering()
    # A backend that was never filled looks like one that was emptied.
    assert restore_flushed_outcomes(app, ledger) == 3  # type: ignore[arg-type]
    assert restore_flushed_outcomes(app, ledger) == 0  # type: ignore[arg-type]
    app.backend.client.flushall()
    assert restore_flushed_outcomes(app, ledger) == 3  # type: ignore[arg-type]
    assert ledger.asked_within_s == [30 * DAY_S + UNSYNCED_S] * 2  # failures are kept longest
    app.backend.client.set(MARK, "not ours")
    assert restore_flushed_outcomes(app, ledger) == 3  # type: ignore[arg-type]
    app.close()


def test_after_a_restart_what_came_since_the_mark_is_delivered_again(redis_url: str) -> None:
    app = Celery(broker=redis_url, backend=redis_url, set_as_current=False)
    ledger = Remembering()
    restore_flushed_outcomes(app, ledger)  # type: ignore[arg-type]
    ledger.time += timedelta(seconds=30)
    restore_flushed_outcomes(app, ledger)  # type: ignore[arg-type]
    # As the snapshot of a server that is another process now has it: the mark of the last pass before it.
    another = Seen(server="another process", change="none", marked_at=None)
    set_mark(app.backend.client, MARK, another, at=ledger.time)
    ledger.asked_within_s.clear()
    ledger.time += timedelta(hours=3)
    assert restore_flushed_outcomes(app, ledger) == 3  # type: ignore[arg-type]
    assert restore_flushed_outcomes(app, ledger) == 0  # type: ignore[arg-type]
    assert ledger.asked_within_s == [3 * 3600 + UNSYNCED_S]
    app.close()


def test_a_backend_that_is_down_is_looked_at_next_time() -> None:
    app = Celery(backend="redis://127.0.0.1:1/0", set_as_current=False)
    ledger = Remembering()
    assert restore_flushed_outcomes(app, ledger) == 0  # type: ignore[arg-type]
    assert ledger.asked_within_s == []


def test_a_mark_of_a_clock_that_was_ahead_tells_no_time(redis_url: str) -> None:
    app = Celery(broker=redis_url, backend=redis_url, set_as_current=False)
    app.conf.result_expires = app.conf.result_failure_expires = 7 * DAY_S
    ledger = Remembering()
    earlier = Seen(server="the process before", change="restarted", marked_at=None)
    set_mark(app.backend.client, MARK, earlier, at=ledger.time + timedelta(hours=2))
    assert restore_flushed_outcomes(app, ledger) == 3  # type: ignore[arg-type]
    assert ledger.asked_within_s == [7 * DAY_S + UNSYNCED_S]

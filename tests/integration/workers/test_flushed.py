"""Outcomes after Redis lost everything."""

from __future__ import annotations

from celery import Celery

from tasks.outcomes import MARK, UNSYNCED_S, restore_flushed_outcomes


class Remembering:
    """The ledger's side: how often it was asked."""

    def __init__(self) -> None:
        self.asked_within_s: list[float] = []

    def redeliver_outcomes(self, *, within_s: float) -> int:
        self.asked_within_s.append(within_s)
        return 3


def test_an_emptied_result_backend_is_filled_again_once(redis_url: str) -> None:
    app = Celery(broker=redis_url, backend=redis_url, set_as_current=False)
    app.conf.result_expires = 7 * 86400
    ledger = Remembering()
    # A backend that was never filled looks like one that was emptied.
    assert restore_flushed_outcomes(app, ledger) == 3  # type: ignore[arg-type]
    assert restore_flushed_outcomes(app, ledger) == 0  # type: ignore[arg-type]
    app.backend.client.flushall()
    assert restore_flushed_outcomes(app, ledger) == 3  # type: ignore[arg-type]
    assert ledger.asked_within_s == [7 * 86400.0] * 2
    app.backend.client.set(MARK, "another process")
    assert restore_flushed_outcomes(app, ledger) == 3  # type: ignore[arg-type]
    assert restore_flushed_outcomes(app, ledger) == 0  # type: ignore[arg-type]
    assert ledger.asked_within_s[2:] == [UNSYNCED_S]  # a restart may have lost the newest
    app.close()


def test_a_backend_that_is_down_is_looked_at_next_time() -> None:
    app = Celery(backend="redis://127.0.0.1:1/0", set_as_current=False)
    ledger = Remembering()
    assert restore_flushed_outcomes(app, ledger) == 0  # type: ignore[arg-type]
    assert ledger.asked_within_s == []

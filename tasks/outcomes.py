"""Takes finished runs' outcomes from the ledger's outbox to the Celery result backend.

`AsyncResult(run_id).get()` gives the outcome's body for a run that ended well or was refused, and raises
`RunFailed` with the error in words for one that failed, was cancelled or is dead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from celery.exceptions import BackendError
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from mlops.domain.errors import TemporaryError
from mlops.failpoints import external_write
from tasks.broker import look, set_mark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery import Celery

    from mlops.domain.ports import Ledger
    from mlops.domain.records import OutcomeMessage

log = structlog.get_logger(__name__)

MARK = "acis:outcomes-are-here"
"""Key in the result backend."""
UNSYNCED_S = 10.0
"""Before the mark was set: what was stored beside it may not have been written with it."""


class RunFailed(Exception):
    """A run ended failed, cancelled or dead; the message says why."""


def deliver_outcomes(app: Celery, ledger: Ledger, *, limit: int = 100) -> int:
    """Store all pending outcomes, and note that; how many. Called by the reconciler. Safe to run twice."""
    try:
        delivered = store_outcomes(app, ledger.pending_outcomes(limit=limit))
    except TemporaryError as exc:
        log.warning("outcome.not_delivered", error=str(exc), next="the next pass delivers it")
        return 0
    note_delivered(ledger, delivered)
    return len(delivered)


def store_outcomes(app: Celery, messages: Sequence[OutcomeMessage]) -> list[str]:
    """Ids of the runs whose outcomes are in the result backend now; the others stay in the outbox."""
    stored: list[str] = []
    try:
        for message in messages:
            with external_write("outcome.store"):
                _store(app, message)
            stored.append(message.run_id)
    except (OperationalError, RedisError, BackendError) as exc:
        log.warning("outcome.not_delivered", error=str(exc), next="the reconciler delivers it")
    return stored


def note_delivered(ledger: Ledger, run_ids: list[str]) -> None:
    """Take them out of the outbox; where that fails they are stored a second time."""
    try:
        if run_ids:
            ledger.outcomes_delivered(run_ids)
    except TemporaryError as exc:
        log.warning("outcome.not_noted", error=str(exc), next="the reconciler stores it again")


def _store(app: Celery, message: OutcomeMessage) -> None:
    if message.state == "SUCCESS":
        app.backend.store_result(message.run_id, message.body, "SUCCESS")
        return
    error = RunFailed(str(message.body.get("error") or message.body.get("state")))
    app.backend.mark_as_failure(message.run_id, error, store_result=True, call_errbacks=False)


def restore_flushed_outcomes(app: Celery, ledger: Ledger) -> int:
    """Make outcomes pending again that the result backend may have lost; how many. Called by the reconciler.

    All that would still be kept where it was emptied; those since the mark was set where it was restarted.
    """
    redis = getattr(app.backend, "client", None)
    if redis is None:
        return 0
    try:
        now = ledger.now()
        seen = look(redis, MARK)
        n_pending = 0
        if seen.change != "none":
            # A mark of a clock that was ahead says nothing of how long ago it was set.
            is_known = seen.marked_at is not None and seen.marked_at <= now
            since_s = (now - seen.marked_at).total_seconds() if seen.marked_at and is_known else _kept_s(app)
            n_pending = ledger.redeliver_outcomes(within_s=since_s + UNSYNCED_S)
        set_mark(redis, MARK, seen, at=now)
    except RedisError as exc:
        log.warning("outcome.backend_not_looked_at", error=str(exc))
        return 0
    if n_pending:
        log.warning(
            "outcome.backend_changed", backend_was=seen.change, outcomes=n_pending, next="they are delivered again"
        )
    return n_pending


def _kept_s(app: Celery) -> float:
    """How long the longest kept outcome is kept."""
    kept = (app.conf.result_expires, app.conf.get("result_failure_expires"))
    return float(max(app.backend.prepare_expires(value, type=int) or 0 for value in kept))

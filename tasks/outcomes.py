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

from mlops.errors import TemporaryError
from mlops.failpoints import external_write
from tasks.redis_mark import change_since_mark, set_mark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery import Celery

    from mlops.ledger.records import OutcomeMessage
    from mlops.ports import Ledger

log = structlog.get_logger(__name__)

MARK = "acis:outcomes-are-here"
"""Key in the result backend."""
UNSYNCED_S = 60.0
"""Before a restart: what the append-only file did not have yet, a second by default, and the restart's own length."""


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

    All that would still be kept where it was emptied; the newest ones where it was restarted.
    """
    redis = getattr(app.backend, "client", None)
    if redis is None:
        return 0
    try:
        change = change_since_mark(redis, MARK)
        if change == "none":
            return 0
        within_s = float(app.conf.result_expires) if change == "emptied" else UNSYNCED_S
        n_pending = ledger.redeliver_outcomes(within_s=within_s)
        set_mark(redis, MARK)
    except RedisError as exc:
        log.warning("outcome.backend_not_looked_at", error=str(exc))
        return 0
    if n_pending:
        log.warning("outcome.backend_changed", backend_was=change, outcomes=n_pending, next="they are delivered again")
    return n_pending

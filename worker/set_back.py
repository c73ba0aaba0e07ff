"""Notices that the ledger was set back in time, and corrects what the result backend holds of the time after it.

A step of the reconciler's pass. The ledger's position (`mlops.ledger.set_back`) is copied into the result backend at
each pass: a ledger that is behind the copy, or on another timeline, is another ledger than the one that was copied.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from mlops.ledger.set_back import Position
from tasks.outcomes import RunFailed

if TYPE_CHECKING:
    from celery import Celery

    from mlops.bootstrap import Services
    from mlops.domain.records import OutcomeMessage

log = structlog.get_logger(__name__)

COPY = "acis:ledger-position"
"""Key in the result backend."""
_STARTS = ("drift.check", "model.train", "model.promote")
"""Tasks that open a run under their own id, when they are given a strategy."""
_AT_ONCE = 500


def notice_set_back(app: Celery, services: Services) -> None:
    """Compare the ledger with its copy, note what is to be looked through, and copy it anew.

    Raises LedgerUnavailable.
    """
    redis = getattr(app.backend, "client", None)
    if redis is None:
        return
    try:
        copied = _copied(redis.get(COPY))
        here = services.ledger.position()
        if copied is not None and (here is None or here.went_back_from(copied)):
            # Everything before the newest position that the ledger still knows was committed before the copy of it.
            to = min(copied.noted_at, here.noted_at) if here is not None else copied.noted_at
            log.warning(
                "ledger.set_back",
                to=to.isoformat(),
                number=here.number if here else 0,
                was=copied.number,
                action="what the ledger forgot is looked through; `acis quarantine` lists what it does not know",
            )
            services.ledger.was_set_back(to=to)
        noted = services.ledger.note_position(after=here)
        if noted is not None:  # else it was set back since it was read: the next pass compares it with the same copy
            redis.set(COPY, json.dumps(noted.to_json()))
    except RedisError as exc:
        log.info("ledger.position_not_copied", error=str(exc), next="the next pass does it")


def _copied(text: str | bytes | None) -> Position | None:
    try:
        return None if text is None else Position.from_json(json.loads(text))
    except (ValueError, TypeError, KeyError):
        return None  # another version's


def correct_outcomes(app: Celery, services: Services) -> None:
    """Make the result backend say what the ledger says, where the ledger was set back. Raises LedgerUnavailable.

    Outcomes of ended runs are stored again. One of a run that goes on is taken away. A start by name that the ledger
    does not know is sent again under its own id where its run had not ended; where it had, its caller is told that the
    run is forgotten.
    """
    forgotten = services.ledger.forgotten()
    since = forgotten.outcomes_since
    backend: Any = app.backend
    redis = getattr(backend, "client", None)
    if since is None or redis is None:
        return
    prefix = _text(backend.task_keyprefix)
    counts = {"corrected": 0, "taken_back": 0, "sent_again": 0, "forgotten": 0}
    try:
        cursor = 0
        while True:
            cursor, keys = redis.scan(cursor, match=f"{prefix}*", count=_AT_ONCE)
            _correct(app, services, prefix, [_text(key) for key in keys], since, counts)
            if cursor == 0:
                break
    except (RedisError, OperationalError) as exc:
        log.warning("ledger.outcomes_not_corrected", error=str(exc), next="the next pass does it")
        return
    kept = (app.conf.result_expires, app.conf.get("result_failure_expires"))
    services.ledger.redeliver_outcomes(
        within_s=max(float(backend.prepare_expires(value, type=int) or 0) for value in kept)
    )
    services.ledger.looked_through("outcomes", forgotten=forgotten)
    log.warning("ledger.outcomes_corrected", since=since.isoformat(), **counts)


def _correct(
    app: Celery, services: Services, prefix: str, keys: list[str], since: datetime, counts: dict[str, int]
) -> None:
    backend: Any = app.backend
    redis = backend.client
    ids = [key.removeprefix(prefix) for key in keys]
    unknown, outcomes = services.ledger.unknown_runs(ids), services.ledger.outcomes_of(ids)
    for key, run_id in zip(keys, ids, strict=True):
        meta = _meta(redis.get(key))
        has_ended = meta.get("status") in ("SUCCESS", "FAILURE")
        if run_id not in unknown:
            # Celery never writes over a success: what contradicts the ledger is taken away before it is stored again.
            told = outcomes.get(run_id)
            if has_ended and (told is None or not _agrees(meta, told)):
                backend.forget(run_id)
                counts["taken_back" if told is None else "corrected"] += 1
        elif not has_ended and _is_start(meta):
            app.send_task(meta["name"], kwargs=meta["kwargs"], task_id=run_id, queue="control", retry=False)
            counts["sent_again"] += 1
        elif has_ended and _is_outcome(meta, run_id) and str(meta.get("date_done") or "") >= since.isoformat()[:19]:
            words = (
                f"the ledger was set back to {since:%Y-%m-%d %H:%M:%S} UTC, before this run ended, and does not know "
                "it any more; ask again"
            )
            backend.forget(run_id)
            backend.mark_as_failure(run_id, RunFailed(words), store_result=True, call_errbacks=False)
            counts["forgotten"] += 1


def _meta(text: str | bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _agrees(meta: dict[str, Any], told: OutcomeMessage) -> bool:
    return meta.get("status") == told.state and (told.state == "FAILURE" or meta.get("result") == told.body)


def _is_start(meta: dict[str, Any]) -> bool:
    kwargs = meta.get("kwargs")
    return meta.get("name") in _STARTS and isinstance(kwargs, dict) and "strategy" in kwargs


def _is_outcome(meta: dict[str, Any], run_id: str) -> bool:
    """What the outbox stores under a run's id, and nobody else's task."""
    result = meta.get("result")
    if not isinstance(result, dict):
        return False
    return result.get("run_id") == run_id or result.get("exc_type") == RunFailed.__name__


def _text(key: str | bytes) -> str:
    return key.decode() if isinstance(key, bytes) else key

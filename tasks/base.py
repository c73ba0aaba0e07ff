"""Our own task decorator, and what every stage task does: claim, work, finish.

The options are a closed list, so a misspelt one fails at import. Names are written out: they are on the wire.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, NoReturn

import structlog
from celery import Task, maybe_signature, shared_task
from celery.exceptions import Reject
from kombu.exceptions import OperationalError

from mlops import tracing
from mlops.bootstrap import Services
from mlops.domain.errors import AcisError, LedgerUnavailable, PermanentError, TemporaryError
from mlops.domain.records import Finished, Grant, RunRequest, Stage
from mlops.domain.run_states import TERMINAL
from mlops.ledger.leases import new_key
from mlops.runs.checkpoints import StageCheckpoints
from mlops.runs.executor import ended_badly, execute
from mlops.runs.lease import Holder, suspended_too
from mlops.runs.request import submit
from tasks.broker import COMES_BACK
from tasks.drain import is_draining
from tasks.outcomes import note_delivered, store_outcomes
from tasks.payloads import StageMessage, StartMessage
from tasks.progress import ProgressTeller
from tasks.services import process_services
from tasks.write_behind import WriteBehind

log = structlog.get_logger(__name__)

#: A start message that finds no database is tried again after this pause, and given up after a day.
START_RETRY_S = 15
_START_RETRIES = 24 * 3600 // START_RETRY_S


#: Between tries of a claim while the database does not answer; then the reconciler rings again.
CLAIM_PAUSES_S = (0.5, 1.0, 2.0, 4.0)


#: Of a message: what Celery would do once the task has returned, which for a start is before its run has begun.
_FOLLOWERS = {"chain": "the rest of a chain", "chord": "a chord", "callbacks": "a link", "errbacks": "a link_error"}


class StageFailed(AcisError):
    """A stage ended failed or dead; the message is its last error."""


class FollowersRefused(PermanentError):
    """A start has something that Celery would call when the run is accepted, and not when it has ended."""


class StageTask(Task[Any, Any]):
    """Base of the tasks whose messages the ledger asked for."""

    Request = "tasks.request:StageRequest"
    # Acknowledged by StageRequest: a stage's message at once, a start when its run is in the ledger.
    acks_late = True
    acks_on_failure = True
    # A start whose child died goes back to the queue: it is safe to repeat. A stage's message is acknowledged by then.
    reject_on_worker_lost = True
    typing = False


def task(
    *,
    name: str,
    time_limit: int,
    soft_time_limit: int,
    kind: Literal["stage", "plain"],
) -> Callable[[Callable[..., Any]], Task[Any, Any]]:
    """Register a task under `name`; limits in seconds. `stage` tasks run stages of the ledger, `plain` ones do not."""
    base = StageTask if kind == "stage" else Task
    return shared_task(
        name=name,
        bind=True,
        base=base,
        time_limit=time_limit,
        soft_time_limit=soft_time_limit,
        ignore_result=kind == "plain",
        max_retries=_START_RETRIES,
        # Expected failures: their message is logged, not a traceback.
        throws=(AcisError,),
    )


def perform_or_start(
    task_self: Task[Any, Any], stage: Stage, start_message: type[StartMessage], arguments: dict[str, Any]
) -> dict[str, Any] | None:
    """Do the stage of an accepted run (`run_id`), or open a run (`strategy`). Raises InvalidMessage."""
    if "run_id" in arguments:
        return perform(task_self, stage, StageMessage.read(task_self.name, arguments))
    asked = start_message.read(task_self.name, arguments)
    return start(task_self, lambda services: asked.request(services.policies, run_id=task_self.request.id))


def perform(task_self: Task[Any, Any], stage: Stage, message: StageMessage) -> dict[str, Any] | None:
    """Claim the stage, do it, write its end, send the next message.

    Safe to run twice: the second message finds nothing to claim and stores no result.
    """
    services = process_services()
    if is_draining():
        _pass_on(task_self, message)
        return None
    holder = Holder(
        worker=str(task_self.request.hostname),
        lease_s=services.settings.lease_s,
        renew_s=services.settings.renew_s,
        is_draining=is_draining,
    )
    with tracing.traced("claim", run_id=message.run_id, stage=stage, worker=holder.worker):
        claimed = _claimed(task_self, services, stage, message)
    if claimed is None:
        log.info("stage.nothing_to_claim", run_id=message.run_id, stage=stage.value)
        task_self.request.ignore_result = True
        return None
    grant, asked_at = claimed
    with ProgressTeller(task_self.app, grant.run_id, stage) as teller:
        finished = execute(
            grant,
            services.stages,
            services.ledger,
            holder,
            asked_at=asked_at,
            on_progress=teller.report,
            checkpoints=StageCheckpoints(
                services.checkpoints, services.ledger, grant, every_s=services.settings.checkpoint_every_s
            ),
        )
    if finished is None:
        task_self.request.ignore_result = True
        return None
    follow_up(task_self, services, finished)
    return _stage_result(grant.run_id, stage, finished)


def _claimed(
    task_self: Task[Any, Any], services: Services, stage: Stage, message: StageMessage
) -> tuple[Grant, float] | None:
    """The grant and when it was asked for, or None. A database that is away for a moment is waited for.

    Each try has the same key, so that a grant whose answer was lost costs neither a lease's length nor an attempt.
    """
    request, key = task_self.request, new_key()
    for pause_s in (*CLAIM_PAUSES_S, None):
        asked_at = suspended_too()
        try:
            grant = services.ledger.claim(
                message.run_id,
                stage,
                worker=str(request.hostname),
                publish_no=message.publish_no,
                task_id=request.id,
                queue=(request.delivery_info or {}).get("routing_key"),
                key=key,
            )
            return None if grant is None else (grant, asked_at)
        except LedgerUnavailable as exc:
            if pause_s is None or is_draining():
                raise
            log.warning("stage.claim_waits", run_id=message.run_id, error=str(exc), again_after_s=pause_s)
            time.sleep(pause_s)
    return None


def _pass_on(task_self: Task[Any, Any], message: StageMessage) -> None:
    """Send the same message again for another worker; where that fails, the reconciler sends it within minutes."""
    request = task_self.request
    request.ignore_result = True
    log.info("stage.passed_on", run_id=message.run_id, task=task_self.name)
    try:
        task_self.app.send_task(
            task_self.name,
            kwargs=message.model_dump(),
            task_id=request.id,
            root_id=request.root_id,
            parent_id=request.parent_id,
            queue=(request.delivery_info or {})["routing_key"],
            priority=COMES_BACK,
            soft_time_limit=(request.timelimit or (None, None))[1],
            time_limit=(request.timelimit or (None, None))[0],
            **tracing.carried(None),
            retry=False,
            ignore_result=True,
        )
    except OperationalError as exc:
        log.warning("stage.not_passed_on", run_id=message.run_id, error=str(exc), next="the reconciler sends it")


def start(task_self: Task[Any, Any], asked: Callable[[Services], RunRequest]) -> dict[str, Any] | None:
    """Accept a run under the task's own id; its outcome is stored under that id later.

    asked : makes the request, for which it may read the ledger: while that is away, all of this is tried again

    Safe to run twice: the same id is the same run. Where another run of the kind is active, the task's own
    result names it: `{"run_id": …, "created": false, "state": …}`. Raises FollowersRefused.
    """
    _refuse_followers(task_self)
    try:
        services = process_services()
        return _opened(task_self, services, asked(services))
    except TemporaryError as exc:
        log.warning("run.not_accepted_yet", task=task_self.name, error=str(exc), retry_s=START_RETRY_S)
        _ask_later(task_self, exc)


def _refuse_followers(task_self: Task[Any, Any]) -> None:
    """A chain, a chord or a link would go on with None for a result while the run still waits for a worker."""
    found = [words for name, words in _FOLLOWERS.items() if getattr(task_self.request, name, None)]
    if found:
        message = (
            f"{task_self.name} opens a run and returns before it has ended, so {' and '.join(found)} cannot follow it; "
            "send it alone, wait for its result, which is the run's outcome, and send then what comes next"
        )
        refused = FollowersRefused(message)
        if getattr(task_self.request, "chord", None):
            _fail_chord(task_self, refused)
        raise refused


def _fail_chord(task_self: Task[Any, Any], refused: FollowersRefused) -> None:
    """Let the chord's body fail with the same words; Celery does it by a script in Redis, which no role may run."""
    chord: Any = task_self.request.chord  # an object, whatever the stubs say
    body = maybe_signature(chord, app=task_self.app)
    try:
        raise refused
    except FollowersRefused:
        task_self.app.backend.chord_error_from_stack(body, exc=refused)
    task_self.request.chord = None


def _ask_later(task_self: Task[Any, Any], cause: TemporaryError) -> NoReturn:
    """Put the message back, to come again after a pause."""
    try:
        raise task_self.retry(exc=cause, countdown=START_RETRY_S) from cause
    except Reject as refused:
        # Redis takes no message now. Celery would drop this one.
        raise Reject(str(refused), requeue=True) from cause


def _opened(task_self: Task[Any, Any], services: Services, request: RunRequest) -> dict[str, Any] | None:
    accepted = submit(services, request)
    log.info("run.accepted", run_id=accepted.run_id, created=accepted.created, strategy=request.strategy)
    if accepted.run_id != task_self.request.id:
        return {"run_id": accepted.run_id, "created": False, "state": accepted.state.value}
    task_self.request.ignore_result = True
    if accepted.state in TERMINAL:
        # Celery has just stored STARTED over the outcome: this message came a second time, after the run's end.
        _restore_outcome(task_self, services, accepted.run_id)
    return None


def _restore_outcome(task_self: Task[Any, Any], services: Services, run_id: str) -> None:
    outcome = services.ledger.redeliver_outcome(run_id)
    if outcome is not None:
        note_delivered(services.ledger, store_outcomes(task_self.app, [outcome]))


def follow_up(task_self: Task[Any, Any], services: Services, finished: Finished) -> None:
    """Send the next stage's message, or deliver the run's outcome; what fails here the reconciler does."""
    if finished.publication is not None:
        services.dispatcher.publish(finished.publication)
    if finished.outcome is not None:
        for run_id in store_outcomes(task_self.app, [finished.outcome]):
            _delivered().add(run_id)


@cache
def _delivered() -> WriteBehind[str]:
    """Of this process."""
    return WriteBehind(lambda run_ids: note_delivered(process_services().ledger, run_ids))


def _stage_result(run_id: str, stage: Stage, finished: Finished) -> dict[str, Any]:
    if ended_badly(finished):
        raise StageFailed(finished.error)
    return {
        "run_id": run_id,
        "stage": stage.value,
        "stage_state": finished.stage_state.value,
        "run_state": finished.run_state.value,
        "result": finished.result,
        "error": finished.error,
    }

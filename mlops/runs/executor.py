"""Executes a granted stage: work under a kept lease, then one fenced write of how it ended.

Called by the Celery tasks and by the inline scripts alike, so a stage behaves the same in both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from mlops import tracing
from mlops.domain.errors import LeaseLost, LedgerError, PermanentError, StageCancelled, TemporaryError, VolumeFull
from mlops.domain.ports import Ledger
from mlops.domain.records import Finished, Grant, RunState, Stage, StageOutcome, StageState
from mlops.runs.checkpoints import StageCheckpoints
from mlops.runs.lease import Drained, Holder, LeaseKeeper, OnProgress
from mlops.volumes import in_words, says_full

log = structlog.get_logger(__name__)

Work = Callable[[Grant, LeaseKeeper], StageOutcome]
"""What a stage does."""

#: A crash that is not understood is tried again after this pause.
RETRY_AFTER_CRASH_S = 10.0
#: `dead` is not among them: a requeue goes on where the last attempt was.
_NEVER_RESUMED = (StageState.SUCCEEDED, StageState.FAILED, StageState.CANCELLED)


def execute(
    grant: Grant,
    stages: Mapping[Stage, Work],
    ledger: Ledger,
    holder: Holder,
    *,
    asked_at: float | None = None,
    on_progress: OnProgress | None = None,
    checkpoints: StageCheckpoints | None = None,
) -> Finished | None:
    """Do the stage's work and write its end; None when that could not be written: the lease decides then.

    asked_at: by `suspended_too`, before the claim was sent: a process that was stopped since has an old lease.
    Nothing that the work raises leaves this function, MemoryError included: a MemoryError that reaches
    Celery ends the worker's main process.
    """
    structlog.contextvars.bind_contextvars(run_id=grant.run_id, stage=grant.stage.value, strategy=grant.strategy)
    log.info("stage.started", attempt=grant.attempt, token=grant.token)
    try:
        keeper = LeaseKeeper(ledger, grant, holder, asked_at=asked_at, on_progress=on_progress, checkpoints=checkpoints)
        finished = _work_and_write(grant, stages[grant.stage], ledger, keeper)
        if checkpoints is not None and finished.stage_state in _NEVER_RESUMED:
            checkpoints.forget()
        return finished
    except LeaseLost as exc:
        log.warning("stage.lease_lost", error=str(exc))
        return None
    except LedgerError as exc:
        log.warning("stage.end_refused", error=str(exc), next="the run's own state stands, or the lease runs out")
        return None
    except TemporaryError as exc:
        log.warning("stage.end_not_written", error=str(exc), next="the lease runs out and the stage is run again")
        return None
    finally:
        structlog.contextvars.unbind_contextvars("run_id", "stage", "strategy")


def _work_and_write(grant: Grant, work: Work, ledger: Ledger, keeper: LeaseKeeper) -> Finished:
    try:
        span = tracing.traced(
            f"stage {grant.stage}",
            parent=grant.traceparent,
            run_id=grant.run_id,
            strategy=grant.strategy,
            attempt=grant.attempt,
        )
        with keeper, span:
            outcome = work(grant, keeper)
            keeper.check_before_write()
    except LeaseLost:
        raise
    except Drained as exc:
        log.info("stage.drained")
        return ledger.release(grant, cause=str(exc))
    except StageCancelled:
        log.info("stage.cancelled")
        return ledger.finish(grant, StageOutcome(result={}, run_state=RunState.CANCELLED))
    except TemporaryError as exc:
        log.warning("stage.waits", error=str(exc), delay_s=exc.delay_s)
        return ledger.fail(grant, error=str(exc), retry=True, delay_s=exc.delay_s, counts=False)
    except PermanentError as exc:
        log.warning("stage.failed", error=str(exc))
        return ledger.fail(grant, error=str(exc), retry=False)
    except Exception as exc:  # noqa: BLE001 -- logged there, unless a volume was full
        return _after_crash(grant, exc, ledger, "stage.crashed")
    return _write(grant, outcome, ledger)


def _write(grant: Grant, outcome: StageOutcome, ledger: Ledger) -> Finished:
    try:
        with tracing.traced("commit", parent=grant.traceparent, run_id=grant.run_id):
            finished = ledger.finish(grant, outcome)
    except (LedgerError, TemporaryError):
        raise
    except Exception as exc:  # noqa: BLE001 -- as above
        # A result that cannot be stored, say: without these words the run would die of a silent worker.
        return _after_crash(grant, exc, ledger, "stage.end_crashed")
    log.info("stage.finished", run_state=finished.run_state.value)
    return finished


def _after_crash(grant: Grant, exc: Exception, ledger: Ledger, event: str) -> Finished:
    """A volume without room is an outage like a server's: the stage waits and no attempt is used up."""
    if says_full(exc):
        full = VolumeFull(in_words(exc))
        log.warning("stage.waits", error=str(full), delay_s=full.delay_s)
        return ledger.fail(grant, error=str(full), retry=True, delay_s=full.delay_s, counts=False)
    log.error(event, exc_info=exc)
    return ledger.fail(grant, error=_in_words(exc), retry=True, delay_s=RETRY_AFTER_CRASH_S)


def ended_badly(finished: Finished) -> bool:
    """The stage neither finished nor waits for another try."""
    return finished.stage_state in (StageState.FAILED, StageState.DEAD)


def _in_words(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__

"""Work that does not get on: stages that wait too long, runs whose attempts are used up, outcomes nobody got."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlops.diagnosis.answer import Answer
from mlops.domain.records import RunState

if TYPE_CHECKING:
    from mlops.bootstrap import Services

#: A stage that waits for so long waits for a worker, or for the reconciler.
LONG_WAIT_S = 900.0
_SHOWN = 3


def backlog(services: Services) -> Iterator[Answer]:
    """Raises LedgerUnavailable."""
    ledger = services.ledger
    dead = ledger.runs(states=[RunState.DEAD], limit=100)
    if dead:
        newest = ", ".join(f"{run.run_id} ({run.strategy})" for run in dead[:_SHOWN])
        yield Answer(
            subject="dead runs",
            level="warning",
            found=f"{len(dead)}{' or more' if len(dead) == 100 else ''} runs have used up their attempts: {newest}",
            mend="acis runs --dead says why; acis requeue RUN_ID brings one back",
        )
    waiting = ledger.longest_wait_s()
    if waiting is not None and waiting > LONG_WAIT_S:
        yield Answer(
            subject="waiting stages",
            level="warning",
            found=f"the oldest stage that is due has waited for {waiting / 60:.0f} min",
            mend="look whether its queue is served (workers, above) and whether the reconciler runs",
        )
    elif not dead:
        yield Answer(subject="backlog", level="ok", found="no run is dead, and no stage waits for long")


def undelivered(services: Services) -> Iterator[Answer]:
    """Raises LedgerUnavailable."""
    n_pending = services.ledger.n_pending_outcomes(older_than_s=LONG_WAIT_S)
    if n_pending:
        yield Answer(
            subject="outcomes",
            level="warning",
            found=f"{n_pending} outcomes have waited for the result backend for {LONG_WAIT_S / 60:.0f} min and more",
            mend="the reconciler delivers them; it must run, and CELERY_RESULT_BACKEND must answer",
        )

"""Runs a request in this process: the same stages, the same ledger, no broker.

The run's first stage is claimed by the process that opened it; when the process dies, the reconciler or the
next inline run fails the run, and nobody publishes it. Callers: the documented scripts and the command line.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial

import structlog

from mlops.domain.errors import LeaseLost
from mlops.domain.ports import Progress
from mlops.domain.records import Accepted, Executor, RunRequest, RunView, Stage, StageState, StageView
from mlops.domain.run_states import TERMINAL
from mlops.runs.executor import execute
from mlops.runs.lease import Holder, suspended_too
from mlops.runs.services import RunServices

log = structlog.get_logger(__name__)

OnStage = Callable[[RunView, StageView], None]
"""Called after each stage, and whenever its progress or state was seen to change."""

#: A stage of an inline run waits this long for servers that do not answer, its work not counted; then the run is
#: given up. A queued one waits for ever.
PATIENCE_S = 120.0
#: A stage that waits is claimed again this often.
POLL_S = 0.5


def run_inline(
    services: RunServices, request: RunRequest, *, on_accept: Callable[[Accepted], None], on_stage: OnStage
) -> RunView:
    """Accept and execute; the terminal run. Where one is active already, follow that one.

    Raises LedgerUnavailable when it cannot be accepted, LeaseLost when the run is given up but not ours to end.
    """
    if request.executor is not Executor.INLINE:
        message = f"an inline run needs executor 'inline', found {request.executor}"
        raise ValueError(message)
    # Where no reconciler is, a dead inline run would be the active one for ever.
    services.ledger.fail_lost_inline()
    accepted = services.ledger.accept(request)
    on_accept(accepted)
    if not accepted.created:
        return follow(services, accepted.run_id, on_stage=on_stage)
    return _work(services, accepted.run_id, on_stage=on_stage)


def follow(services: RunServices, run_id: str, *, on_stage: OnStage, poll_s: float = POLL_S) -> RunView:
    """Watch a run that others execute until it is terminal; one whose process died inline is failed."""
    seen: dict[Stage, StageView] = {}
    lease_s = services.settings.lease_s
    look_for_lost_at = time.monotonic() + lease_s
    while True:
        if time.monotonic() >= look_for_lost_at:
            services.ledger.fail_lost_inline()
            look_for_lost_at = time.monotonic() + lease_s
        view = services.ledger.run(run_id)
        for stage in view.stages:
            if seen.get(stage.stage) != stage:
                seen[stage.stage] = stage
                on_stage(view, stage)
        if view.state in TERMINAL:
            return view
        time.sleep(poll_s)


def _work(services: RunServices, run_id: str, *, on_stage: OnStage) -> RunView:
    worker = f"inline@{socket.gethostname()}:{os.getpid()}"
    # Pauses alone are counted: a training that worked for an hour has not waited for anybody.
    waited_s = 0.0
    while True:
        view = services.ledger.run(run_id)
        if view.state in TERMINAL:
            return view
        stage = view.stages[-1]
        on_stage(view, stage)
        asked_at = suspended_too()
        grant = services.ledger.claim(run_id, stage.stage, worker=worker)
        if grant is not None:
            execute(
                grant,
                services.stages,
                services.ledger,
                Holder(worker=worker, lease_s=services.settings.lease_s, renew_s=services.settings.renew_s),
                asked_at=asked_at,
                on_progress=partial(_show, on_stage, view, stage),
            )
            view = services.ledger.run(run_id)
            ended = next(item for item in view.stages if item.stage is stage.stage)
            on_stage(view, ended)
            if ended.state not in (StageState.QUEUED, StageState.RUNNING):
                waited_s = 0.0
                continue
        if waited_s > PATIENCE_S:
            return _give_up(services, run_id, worker)
        time.sleep(POLL_S)
        waited_s += POLL_S


def _show(on_stage: OnStage, view: RunView, stage: StageView, progress: Progress) -> None:
    """The stage as the ledger will show it within a second."""
    known = {key: value for key, value in asdict(progress).items() if value is not None}
    on_stage(view, replace(stage, state=StageState.RUNNING, progress=known))


def _give_up(services: RunServices, run_id: str, worker: str) -> RunView:
    """End a run that waits for a server; the terminal run."""
    log.warning("run.given_up", run_id=run_id, waited_s=PATIENCE_S, action="start it again when the server answers")
    services.ledger.cancel(run_id, actor=f"{worker}, which waited {PATIENCE_S:.0f} s")
    view = services.ledger.run(run_id)
    if view.state not in TERMINAL:
        message = f"run {run_id} is {view.state} under a lease that is no longer ours; the reconciler ends it"
        raise LeaseLost(message)
    return view

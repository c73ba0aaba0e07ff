"""Runs a request in this process, or watches one that others execute: the same stages, the same ledger, no broker.

The run's first stage is claimed by the process that opened it; when the process dies, the reconciler or the
next inline run fails the run, and nobody publishes it. Callers: the documented scripts and the command line.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import TypeVar

import structlog

from mlops.domain.errors import LeaseLost, LedgerUnavailable
from mlops.domain.ports import Progress
from mlops.domain.records import Accepted, Executor, RunRequest, RunView, Stage, StageState, StageView
from mlops.domain.run_states import TERMINAL
from mlops.ledger.leases import new_key
from mlops.runs.executor import execute
from mlops.runs.lease import Holder, suspended_too
from mlops.runs.services import RunServices

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

OnStage = Callable[[RunView, StageView], None]
"""Called after each stage, and whenever its progress or state was seen to change."""

#: A stage of an inline run waits this long for servers that do not answer, its work not counted; then the run is
#: given up. A queued one waits for ever.
PATIENCE_S = 120.0
#: A stage that waits is claimed again this often.
POLL_S = 0.5
#: Before anything was accepted a wrong address is likelier than a restart, and whoever asked can ask again.
FIRST_PATIENCE_S = 30.0
_PAUSE_S = 2.0


def _to_the_log(words: str) -> None:
    log.warning("ledger.waits", found=words)


def patiently(
    work: Callable[[], Result], *, patience_s: float, say: Callable[[str], None], else_words: str = ""
) -> Result:
    """Result of work that is safe to repeat, tried again while PostgreSQL is away.

    say : told once that it waits, for what and how long, and once that it goes on
    else_words : what becomes of the run where this is given up
    Raises LedgerUnavailable after `patience_s`.
    """
    began: float | None = None
    while True:
        try:
            result = work()
        except LedgerUnavailable as exc:
            if began is None:
                began = time.monotonic()
                if patience_s > 0:
                    say(f"Waiting up to {patience_s:.0f} s (ACIS_PATIENCE_S): {exc}")
            if time.monotonic() - began >= patience_s:
                raise LedgerUnavailable(f"{exc}{else_words}") from exc
            time.sleep(_PAUSE_S)
        else:
            if began is not None:
                say(f"PostgreSQL is back after {time.monotonic() - began:.0f} s.")
            return result


def accept_once(services: RunServices, request: RunRequest, *, say: Callable[[str], None]) -> Accepted:
    """The ledger's answer; where it got lost and was asked for again, what was created is still said to be.

    Raises LedgerUnavailable where PostgreSQL is away for FIRST_PATIENCE_S, or the setting where that is less.
    """
    own = request if request.run_id is not None else replace(request, run_id=str(uuid.uuid4()))
    patience_s = min(FIRST_PATIENCE_S, services.settings.patience_s)
    accepted = patiently(lambda: services.ledger.accept(own), patience_s=patience_s, say=say)
    is_ours = own is not request and accepted.run_id == own.run_id
    return replace(accepted, created=accepted.created or is_ours)


def run_inline(
    services: RunServices,
    request: RunRequest,
    *,
    on_accept: Callable[[Accepted], None],
    on_stage: OnStage,
    say: Callable[[str], None] = _to_the_log,
) -> RunView:
    """Accept and execute; the terminal run. Where one is active already, follow that one.

    Raises LedgerUnavailable when it cannot be accepted, LeaseLost when the run is given up but not ours to end.
    """
    if request.executor is not Executor.INLINE:
        message = f"an inline run needs executor 'inline', found {request.executor}"
        raise ValueError(message)
    # Where no reconciler is, a dead inline run would be the active one for ever.
    patience_s = min(FIRST_PATIENCE_S, services.settings.patience_s)
    patiently(services.ledger.fail_lost_inline, patience_s=patience_s, say=say)
    accepted = accept_once(services, request, say=say)
    on_accept(accepted)
    if not accepted.created:
        return follow(services, accepted.run_id, on_stage=on_stage, say=say)
    return _work(services, accepted.run_id, on_stage=on_stage, say=say)


def follow(
    services: RunServices,
    run_id: str,
    *,
    on_stage: OnStage,
    poll_s: float = POLL_S,
    say: Callable[[str], None] = _to_the_log,
) -> RunView:
    """Watch a run that others execute until it is terminal; one whose process died inline is failed.

    Raises LedgerUnavailable where PostgreSQL is away for longer than the setting `patience_s`; the run goes on.
    """
    seen: dict[Stage, StageView] = {}
    lease_s = services.settings.lease_s
    look_for_lost_at = time.monotonic() + lease_s

    def look() -> RunView:
        nonlocal look_for_lost_at
        if time.monotonic() >= look_for_lost_at:
            services.ledger.fail_lost_inline()
            look_for_lost_at = time.monotonic() + lease_s
        return services.ledger.run(run_id)

    patience_s = services.settings.patience_s
    goes_on = f"; run {run_id} goes on without this command: `acis runs {run_id}` shows it"
    while True:
        view = patiently(look, patience_s=patience_s, say=say, else_words=goes_on)
        for stage in view.stages:
            if seen.get(stage.stage) != stage:
                seen[stage.stage] = stage
                on_stage(view, stage)
        if view.state in TERMINAL:
            return view
        time.sleep(poll_s)


def _work(services: RunServices, run_id: str, *, on_stage: OnStage, say: Callable[[str], None]) -> RunView:
    worker = f"inline@{socket.gethostname()}:{os.getpid()}"
    patience_s = services.settings.patience_s
    # Pauses alone are counted: a training that worked for an hour has not waited for anybody.
    waited_s = 0.0
    while True:
        view = patiently(lambda: services.ledger.run(run_id), patience_s=patience_s, say=say)
        if view.state in TERMINAL:
            return view
        stage = view.stages[-1]
        on_stage(view, stage)
        asked_at = suspended_too()
        claim = partial(services.ledger.claim, run_id, stage.stage, worker=worker, key=new_key())
        grant = patiently(claim, patience_s=patience_s, say=say)
        if grant is not None:
            execute(
                grant,
                services.stages,
                services.ledger,
                Holder(worker=worker, lease_s=services.settings.lease_s, renew_s=services.settings.renew_s),
                asked_at=asked_at,
                on_progress=partial(_show, on_stage, view, stage),
            )
            view = patiently(lambda: services.ledger.run(run_id), patience_s=patience_s, say=say)
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

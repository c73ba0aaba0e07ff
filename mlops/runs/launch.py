"""Runs a request here, or on the workers, and watches it to its end: what every command does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from mlops.domain.records import Accepted, Executor, Kind, RunRequest, RunView
from mlops.invocation import command_line_actor
from mlops.reporting.narrative import error_of, is_error
from mlops.reporting.terminal import StageDisplay, err, print_json
from mlops.runs.inline import FIRST_PATIENCE_S, OnStage, accept_once, follow, patiently, run_inline
from mlops.runs.request import run_request, submit
from mlops.runs.services import RunServices


def launch(
    services: RunServices,
    request: RunRequest,
    *,
    queue: bool,
    on_accept: Callable[[Accepted], None],
    on_stage: OnStage,
) -> RunView:
    """The terminal run. With `queue` the workers execute it, else this process does. The audit says who asked.

    A PostgreSQL that is away is waited for, and standard error says so.
    """

    def opened(accepted: Accepted) -> None:
        audit = partial(
            services.ledger.audit,
            request.requested_by,
            f"run.{request.kind}",
            accepted.run_id,
            strategy=request.strategy,
            reason=request.reason,
            joined=not accepted.created,
        )
        patiently(audit, patience_s=services.settings.patience_s, say=_say)
        on_accept(accepted)

    if not queue:
        inline = replace(request, executor=Executor.INLINE)
        return run_inline(services, inline, on_accept=opened, on_stage=on_stage, say=_say)
    queued, accept = replace(request, executor=Executor.CELERY), partial(accept_once, services, say=_say)
    accepted = submit(services, queued, on_accept=opened, accept=accept)
    return follow(services, accepted.run_id, on_stage=on_stage, say=_say)


def _say(words: str) -> None:
    err.print(words, markup=False)


def command_run(
    services: RunServices,
    strategy: str,
    kind: Kind,
    display: StageDisplay,
    *,
    queue: bool = False,
    reason: str = "asked for on the command line",
    batch_id: str | None = None,
    **options: Any,  # noqa: ANN401 -- RunOptions checks them
) -> RunView:
    """The terminal run of what a command or a documented function asks for. Raises as `run_request` and `launch` do."""
    asked = partial(
        run_request, services.policies, strategy, kind, reason=reason, requested_by=command_line_actor(), **options
    )
    patience_s = min(FIRST_PATIENCE_S, services.settings.patience_s)
    request = patiently(asked, patience_s=patience_s, say=_say)
    request = replace(request, batch_id=batch_id)
    return launch(services, request, queue=queue, on_accept=display.accepted, on_stage=display.stage)


def shown(run: Callable[[StageDisplay], RunView], *, json: bool) -> RunView:
    """The terminal run, shown while it works; at its end as JSON, or its error in words."""
    display = StageDisplay(quiet=json)
    with display.live():
        view = run(display)
    if json:
        print_json(view)
    elif is_error(view):
        err.print(f"Error: {error_of(view)}", style="red", markup=False)
    return view

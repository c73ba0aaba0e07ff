"""Runs a request here, or on the workers, and watches it to its end: what every command does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mlops.domain.records import Accepted, Executor, Kind, RunRequest, RunView
from mlops.invocation import command_line_actor
from mlops.reporting.narrative import error_of, is_error
from mlops.reporting.terminal import StageDisplay, err, print_json
from mlops.runs.inline import OnStage, follow, run_inline
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
    """The terminal run. With `queue` the workers execute it, else this process does. The audit says who asked."""

    def opened(accepted: Accepted) -> None:
        services.ledger.audit(
            request.requested_by,
            f"run.{request.kind}",
            accepted.run_id,
            strategy=request.strategy,
            reason=request.reason,
            joined=not accepted.created,
        )
        on_accept(accepted)

    if not queue:
        return run_inline(services, replace(request, executor=Executor.INLINE), on_accept=opened, on_stage=on_stage)
    accepted = submit(services, replace(request, executor=Executor.CELERY), on_accept=opened)
    return follow(services, accepted.run_id, on_stage=on_stage)


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
    request = run_request(
        services.policies, strategy, kind, reason=reason, requested_by=command_line_actor(), **options
    )
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

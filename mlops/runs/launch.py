"""Starts a run inline or on the workers, and watches it to its end: what every command does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mlops.bootstrap import Services
from mlops.domain.records import Accepted, Executor, RunRequest, RunView
from mlops.runs.inline import OnStage, follow, run_inline


def launch(
    services: Services,
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
    dispatcher = services.dispatcher
    accepted = services.ledger.accept(replace(request, executor=Executor.CELERY))
    opened(accepted)
    if accepted.publication is not None:
        dispatcher.publish(accepted.publication)
    return follow(services, accepted.run_id, on_stage=on_stage)

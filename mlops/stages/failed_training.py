"""A training that fails leaves a run in the registry that says why. Called by the train stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from mlops.domain.errors import AcisError, LeaseLost, StageCancelled, TemporaryError
from mlops.domain.ports import FailedTraining

if TYPE_CHECKING:
    from datetime import date

    from mlops.domain.policies import Strategy
    from mlops.domain.ports import ModelRegistry
    from mlops.domain.records import Grant
    from mlops.runs.lease import LeaseKeeper

log = structlog.get_logger(__name__)


@contextmanager
def failure_logged(
    registry: ModelRegistry, keeper: LeaseKeeper, grant: Grant, strategy: Strategy, *, as_of: date
) -> Iterator[None]:
    """Log what the block raises, and let it go on. Not what only means that the stage waits, stops or is not ours."""
    try:
        yield
    except (TemporaryError, StageCancelled, LeaseLost):
        raise
    except Exception as exc:
        failed = FailedTraining(
            ledger_run_id=grant.run_id,
            run_name=run_name(strategy, grant, as_of=as_of),
            reason=f"{type(exc).__name__}: {exc}",
            params={**strategy.training.params, "seed": strategy.training.seed, "label": strategy.training.label},
            tags={
                "strategy": strategy.name,
                "training_date": as_of.isoformat(),
                "kind": grant.kind.value,
                "attempt": str(grant.attempt),
            },
        )
        try:
            keeper.check_before_write()
            registry.log_failure(failed)
        except AcisError as unlogged:
            # The ledger has the reason all the same; the first error is the one to show.
            log.warning("train.failure_not_logged", error=str(unlogged), action="none: the run's page has the reason")
        raise


def run_name(strategy: Strategy, grant: Grant, *, as_of: date) -> str:
    """Name of the registry's run: strategy, date and kind."""
    return f"{strategy.name} {as_of} {grant.kind.value}"

"""The score stage: predictions against what came of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops.domain.records import Grant, RunState, StageOutcome

if TYPE_CHECKING:
    from mlops.runs.lease import LeaseKeeper
    from mlops.stages.table import AllServices


def score_predictions(grant: Grant, services: AllServices, keeper: LeaseKeeper) -> StageOutcome:
    """What is known of each day, and the report beside it."""
    del services, keeper
    return StageOutcome(result={"reasons": [grant.run_id]}, run_state=RunState.REFUSED)

"""The predict stage: the champion's predictions of one date's universe, written once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops.domain.records import Grant, RunState, StageOutcome

if TYPE_CHECKING:
    from mlops.runs.lease import LeaseKeeper
    from mlops.stages.table import DriftServices


def predict_universe(grant: Grant, services: DriftServices, keeper: LeaseKeeper) -> StageOutcome:
    """The predictions are in the ledger, or it is refused with the reason."""
    del services, keeper
    return StageOutcome(result={"as_of": None, "version": None, "reasons": [grant.run_id]}, run_state=RunState.REFUSED)

"""The table of stages: what each does, given the services."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from mlops.domain.records import Grant, Stage, StageOutcome
from mlops.stages.services import DriftServices, PromotionServices, TrainServices

if TYPE_CHECKING:
    from mlops.runs.executor import Work
    from mlops.runs.lease import LeaseKeeper


class AllServices(DriftServices, TrainServices, PromotionServices, Protocol):
    """What all stages together work with."""


def stages(services: AllServices) -> Mapping[Stage, Work]:
    """Work of each stage. A stage's libraries are imported when it first runs: the worker's main process,
    which forks, must not touch OpenMP, and a control worker needs neither pandas nor mlflow.
    """

    def drift(grant: Grant, keeper: LeaseKeeper) -> StageOutcome:
        from mlops.stages.drift import check_drift  # noqa: PLC0415

        return check_drift(grant, services, keeper)

    def train(grant: Grant, keeper: LeaseKeeper) -> StageOutcome:
        from mlops.stages.train import train  # noqa: PLC0415

        return train(grant, services, keeper)

    def promote(grant: Grant, keeper: LeaseKeeper) -> StageOutcome:
        from mlops.stages.promote import promote  # noqa: PLC0415

        return promote(grant, services, keeper)

    return {Stage.DRIFT: drift, Stage.TRAIN: train, Stage.PROMOTE: promote}

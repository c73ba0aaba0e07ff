"""The table of stages: what each does, given the services."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from mlops.domain.records import Grant, Stage, StageOutcome
from mlops.registry.services import CoreServices, RegistryServices

if TYPE_CHECKING:
    from datetime import date, datetime

    from mlops.domain.ports import FeatureSource
    from mlops.ledger.studies import Studies
    from mlops.runs.executor import Work
    from mlops.runs.lease import LeaseKeeper
    from mlops.stages.champion import ChampionModels, ProfileStore

# ---- What each stage takes of a process's services; `mlops.bootstrap` composes them


class StageServices(CoreServices, Protocol):
    """What every stage works with."""

    @property
    def source(self) -> FeatureSource:
        """The feature view."""
        ...

    def feature_day(self) -> date:
        """The day that it is in the features' time zone."""
        ...


class DriftServices(StageServices, Protocol):
    """What a drift check works with: the champion as a model, and its training's profile."""

    @property
    def champions(self) -> ChampionModels:
        """Champions as models, each loaded once."""
        ...

    @property
    def profiles(self) -> ProfileStore:
        """Drift profiles of registered versions."""
        ...

    def now(self) -> datetime:
        """Wall clock in UTC, for what is shown."""
        ...


class TrainServices(StageServices, Protocol):
    """What a training works with: the trials of its search, kept outside of the process."""

    @property
    def studies(self) -> Studies:
        """What searches for parameters have tried."""
        ...


class PromotionServices(StageServices, RegistryServices, Protocol):
    """What a promotion works with: all that looks after the registry, and the features to compare on."""


class ScoreServices(StageServices, RegistryServices, Protocol):
    """What a scoring works with: the policies, by which decay opens a retraining, and what a promotion does."""

    def ask_task(self, name: str, arguments: Mapping[str, Any], timeout_s: float) -> object:
        """Result of a Celery task of the user's. Raises AcisError where there is none in time."""
        ...


class AllServices(DriftServices, TrainServices, PromotionServices, ScoreServices, Protocol):
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

    def predict(grant: Grant, keeper: LeaseKeeper) -> StageOutcome:
        from mlops.stages.live.predict import predict_universe  # noqa: PLC0415

        return predict_universe(grant, services, keeper)

    def score(grant: Grant, keeper: LeaseKeeper) -> StageOutcome:
        from mlops.stages.live.score import score_predictions  # noqa: PLC0415

        return score_predictions(grant, services, keeper)

    return {
        Stage.DRIFT: drift,
        Stage.TRAIN: train,
        Stage.PROMOTE: promote,
        Stage.PREDICT: predict,
        Stage.SCORE: score,
    }

"""Starts an experiment of a challenger beside the champion, and says beforehand how long it will take.

Called by `acis experiment`, the page and HTTP. What a day's look does with it is `mlops.stages.live.look`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from mlops.domain.experiments.decision import Mode
from mlops.domain.experiments.records import Experiment, ExperimentPlan, Measure
from mlops.runs.services import RunServices

if TYPE_CHECKING:
    from mlops.domain.experiments.duration import Duration
    from mlops.domain.ports import FeatureSource, ModelVersion
    from mlops.domain.promotion.records import Champion

_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class ExperimentOptions(BaseModel):
    """What a caller may ask for with an experiment; what is left out is as the strategy's policy has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode = Mode.SHADOW
    share: Annotated[_Share | None, Field(description="Share of the keys that the challenger answers; of A/B.")] = None
    steps: Annotated[tuple[_Share, ...] | None, Field(description="Shares of a canary, ascending.")] = None
    keys: Annotated[tuple[str, ...], Field(description="Keys that the challenger answers whatever its share.")] = ()
    alpha: Annotated[float | None, Field(gt=0, le=0.5, description="Probability of a false decision.")] = None
    sharpe: Annotated[
        float | None, Field(gt=0, le=100, description="Annual Sharpe ratio of the difference that is looked for.")
    ] = None
    deadline_days: Annotated[int | None, Field(ge=5, le=2_520, description="Trading days until it ends.")] = None
    min_days_on_step: Annotated[int | None, Field(ge=1, le=252, description="Scored days on each step.")] = None
    measure: Annotated[Measure | None, Field(description="Daily number; left out, the label decides.")] = None


@dataclass(frozen=True, kw_only=True)
class DailyDifferences:
    """What two versions' predictions of the same dates differed by, day by day: the shape that a plan is made of."""

    measure: Measure
    dates: tuple[date, ...]
    values: npt.NDArray[np.float64]
    """(n,) challenger less champion, in order"""
    origin: str
    """Where they are from, in words"""


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What an experiment would be, before it starts."""

    strategy: str
    champion_version: str
    challenger_version: str
    plan: ExperimentPlan
    duration: Duration
    n_differences: int
    """Days by which the duration was told"""
    origin: str
    """Which days, in words"""
    words: tuple[str, ...]
    """Sentences for a person: how long, why this measure and by how much it shortens the wait, what is safe"""


class ExperimentServices(RunServices, Protocol):
    """What starting an experiment works with: both versions as models, on dates that neither knows."""

    @property
    def source(self) -> FeatureSource:
        """The feature view."""
        ...

    def feature_day(self) -> date:
        """The day that it is in the features' time zone."""
        ...

    def daily_differences(
        self, strategy: str, champion: Champion, challenger: ModelVersion
    ) -> dict[Measure, DailyDifferences]:
        """Differences of two versions by each measure that the label allows. Raises DataError, RegistryError."""
        ...


def preview(
    services: ExperimentServices, strategy: str, challenger_version: str, options: ExperimentOptions | None = None
) -> Preview:
    """Say what an experiment would be and how long it would take; nothing is written.

    Raises as `start` does, except that a running experiment is no hindrance.
    """
    raise NotImplementedError


def start(
    services: ExperimentServices,
    strategy: str,
    challenger_version: str,
    options: ExperimentOptions | None = None,
    *,
    by: str,
    reason: str,
) -> Experiment:
    """Start an experiment of a version beside the champion; its plan is written once.

    Raises UnknownStrategy, ConfigurationError for options that cannot be, NoChampion, VersionNotFound,
    UnusableModelFile, InvalidTransition (it is the champion, missed a gate, or was trained after the newest date),
    ExperimentRunning, ChampionMoved.
    """
    raise NotImplementedError

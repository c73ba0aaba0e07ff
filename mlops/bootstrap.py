"""From settings to services: here and in `mlops.registry.opening`, adapters are chosen.

Everything is opened on first use, so a drift check never imports mlflow and a start task never pandas.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from config.log_setup import leave_logging_to_the_caller
from config.settings import Settings, load_settings
from mlops.addresses import without_credentials
from mlops.domain.errors import NothingConfigured
from mlops.registry.opening import ModelServices, needed
from mlops.stages.table import stages

if TYPE_CHECKING:
    from mlops.domain.experiments.records import Measure
    from mlops.domain.policies import Strategy
    from mlops.domain.ports import Dispatcher, FeatureSource, ModelVersion
    from mlops.domain.promotion.records import Champion, ModelIdentity
    from mlops.domain.records import Stage
    from mlops.ledger.studies import Studies
    from mlops.runs.executor import Work
    from mlops.runs.experiments import DailyDifferences
    from mlops.stages.champion import ChampionModels, ProfileStore


class Services(ModelServices):
    """The system's adapters in one process. Not for use across a fork."""

    def __init__(self, settings: Settings, *, open_dispatcher: Callable[[Services], Dispatcher] | None = None) -> None:
        super().__init__(settings)
        self._open_dispatcher = open_dispatcher

    @cached_property
    def source(self) -> FeatureSource:
        """The feature view. Raises NothingConfigured."""
        from mlops.features.source import open_source  # noqa: PLC0415 -- opened on first use

        url = needed(self.settings.feature_url, "DATABASE_URL")
        return open_source(url, relation=self.settings.feature_relation, time_zone=self.settings.feature_time_zone)

    @property
    def stages(self) -> Mapping[Stage, Work]:
        """What each stage does."""
        return stages(self)

    @cached_property
    def champions(self) -> ChampionModels:
        """Champions as models, each loaded once. Raises NothingConfigured."""
        from mlops.stages.champion import ChampionModels  # noqa: PLC0415 -- opened on first use

        return ChampionModels(self.registry)

    @cached_property
    def profiles(self) -> ProfileStore:
        """Drift profiles of registered versions; the registry is asked for what is not kept here."""
        from mlops.stages.champion import ProfileStore  # noqa: PLC0415 -- loads Arrow

        uri = self.settings.mlflow_tracking_uri
        origin = without_credentials(uri.get_secret_value()) if uri else ""
        return ProfileStore(self.settings.var_dir / "profiles", lambda: self.registry, origin=origin)

    @cached_property
    def studies(self) -> Studies:
        """What tunings have tried, beside the ledger. Raises NothingConfigured."""
        from mlops.ledger.studies import Studies  # noqa: PLC0415 -- loads Optuna

        return Studies(needed(self.settings.database_url, "DATABASE_URL"))

    @cached_property
    def dispatcher(self) -> Dispatcher:
        """Sends publications to the workers. Raises NothingConfigured."""
        needed(self.settings.celery_broker_url, "CELERY_BROKER_URL")
        if self._open_dispatcher is None:
            raise NothingConfigured("this process sends no messages; connect with `tasks.services.connect` to do so")
        return self._open_dispatcher(self)

    def ask_task(self, name: str, arguments: Mapping[str, Any], timeout_s: float) -> object:
        """Result of a Celery task of the user's. Raises AcisError where there is none in time."""
        return self.dispatcher.ask(name, arguments, timeout_s)

    def daily_differences(
        self, strategy: Strategy, champion: Champion, challenger: ModelVersion, identity: ModelIdentity
    ) -> Mapping[Measure, DailyDifferences]:
        """Differences of two versions on held-out dates (`mlops.stages.live.held_out_differences`)."""
        from mlops.stages.live.held_out_differences import daily_differences  # noqa: PLC0415 -- loads XGBoost

        return daily_differences(self, strategy, champion, challenger, identity)

    def reading_from(self, source: FeatureSource) -> Services:
        """The same services over another feature source; the ledger is one and the same. Raises NothingConfigured."""
        twin = copy.copy(self)
        vars(twin).update(ledger=self.ledger, source=source)
        return twin

    def now(self) -> datetime:
        """Wall clock in UTC, for what is shown; the ledger has its own."""
        return datetime.now(UTC)

    def feature_day(self) -> date:
        """The day that it is in the features' time zone, for `as_of = "today"`; no later one counts."""
        return self.now().astimezone(ZoneInfo(self.settings.feature_time_zone)).date()


def connect(
    settings: Settings | None = None, *, open_dispatcher: Callable[[Services], Dispatcher] | None = None
) -> Services:
    """Services for these settings, or for those of the environment.

    open_dispatcher : how messages are sent to the workers; `tasks.services.connect` gives Celery
    """
    leave_logging_to_the_caller()
    return Services(settings or load_settings(), open_dispatcher=open_dispatcher)

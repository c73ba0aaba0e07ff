"""From settings to services: the only place where adapters are chosen.

Everything is opened on first use, so a drift check never imports mlflow and a start task never pandas.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from functools import cached_property
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pydantic import SecretStr

from config.log_setup import leave_logging_to_the_caller
from config.settings import Settings, load_settings
from mlops.domain.errors import NothingConfigured
from mlops.stages.table import stages
from mlops.strategies.file import Strategies, load_strategies

if TYPE_CHECKING:
    from mlops.domain.ports import Dispatcher, FeatureSource, ModelRegistry
    from mlops.domain.records import Stage
    from mlops.ledger.ledger import SqlLedger
    from mlops.ledger.studies import Studies
    from mlops.registry.checkpoint_store import CheckpointStore
    from mlops.runs.executor import Work
    from mlops.stages.champion import ChampionModels, ProfileStore
    from mlops.strategies.book import PolicyBook

_TWO_WAYS = "start everything with `make run`, or set {} to a server of yours"


class Services:
    """The system's adapters in one process. Not for use across a fork."""

    def __init__(self, settings: Settings, *, open_dispatcher: Callable[[Services], Dispatcher] | None = None) -> None:
        self.settings = settings
        self._open_dispatcher = open_dispatcher

    @cached_property
    def strategies(self) -> Strategies:
        """The strategies file. Raises InvalidStrategyFile."""
        return load_strategies(self.settings.strategies_file)

    @property
    def policies(self) -> PolicyBook:
        """The strategies with what was edited since: what runs are judged by. Raises NothingConfigured."""
        from mlops.strategies.book import PolicyBook  # noqa: PLC0415 -- loads the ledger

        return PolicyBook(self.strategies, self.ledger)

    @cached_property
    def ledger(self) -> SqlLedger:
        """The ledger. Raises NothingConfigured."""
        from mlops.ledger.ledger import open_ledger  # noqa: PLC0415 -- opened on first use

        return open_ledger(_needed(self.settings.database_url, "DATABASE_URL"), lease_s=self.settings.lease_s)

    @cached_property
    def source(self) -> FeatureSource:
        """The feature view. Raises NothingConfigured."""
        from mlops.features.source import open_source  # noqa: PLC0415 -- opened on first use

        url = _needed(self.settings.feature_url, "DATABASE_URL")
        return open_source(url, relation=self.settings.feature_relation, time_zone=self.settings.feature_time_zone)

    @cached_property
    def registry(self) -> ModelRegistry:
        """The model registry; importing its library takes seconds. Raises NothingConfigured."""
        from mlops.registry.registry import MlflowRegistry  # noqa: PLC0415 -- opened on first use

        uri = _needed(self.settings.mlflow_tracking_uri, "MLFLOW_TRACKING_URI")
        owner = self.ledger.identity if self.settings.database_url else None
        return MlflowRegistry(uri, owner=owner, admin_url=self.settings.admin_url)

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
        origin = uri.get_secret_value() if uri else ""
        return ProfileStore(self.settings.var_dir / "profiles", lambda: self.registry, origin=origin)

    @cached_property
    def checkpoints(self) -> CheckpointStore:
        """Boosters of unfinished trainings."""
        from mlops.registry.checkpoint_store import CheckpointStore  # noqa: PLC0415 -- loads fsspec

        place, endpoint = self.settings.checkpoint_place, self.settings.mlflow_s3_endpoint_url
        options = {"endpoint_url": endpoint} if endpoint and place.startswith("s3:") else {}
        return CheckpointStore(place, options)

    @cached_property
    def studies(self) -> Studies:
        """What tunings have tried, beside the ledger. Raises NothingConfigured."""
        from mlops.ledger.studies import Studies  # noqa: PLC0415 -- loads Optuna

        return Studies(_needed(self.settings.database_url, "DATABASE_URL"))

    @cached_property
    def dispatcher(self) -> Dispatcher:
        """Sends publications to the workers. Raises NothingConfigured."""
        _needed(self.settings.celery_broker_url, "CELERY_BROKER_URL")
        if self._open_dispatcher is None:
            raise NothingConfigured("this process sends no messages; connect with `tasks.services.connect` to do so")
        return self._open_dispatcher(self)

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


def _needed(value: SecretStr | None, variable: str) -> str:
    if value is None:
        message = f"{variable} is not set and no server is running; {_TWO_WAYS.format(variable)}"
        raise NothingConfigured(message)
    return value.get_secret_value()

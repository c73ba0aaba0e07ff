"""From settings to the services that know models: strategies, ledger, registry, and the models kept beside it.

`mlops.bootstrap` adds the others; a backend that only asks the champion has these alone. Each is opened on first use.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from mlops.domain.errors import NothingConfigured
from mlops.strategies.file import Strategies, load_strategies

if TYPE_CHECKING:
    from pydantic import SecretStr

    from config.settings import Settings
    from mlops.domain.ports import ModelRegistry
    from mlops.ledger.ledger import SqlLedger
    from mlops.registry.checkpoint_store import CheckpointStore
    from mlops.strategies.book import PolicyBook

_TWO_WAYS = "start everything with `make run`, or set {} to a server of yours"


class ModelServices:
    """`mlops.registry.services.RegistryServices` of one process. Not for use across a fork."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

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

        return open_ledger(needed(self.settings.database_url, "DATABASE_URL"), lease_s=self.settings.lease_s)

    @cached_property
    def registry(self) -> ModelRegistry:
        """The model registry; importing its library takes seconds. Raises NothingConfigured."""
        from mlops.registry.registry import MlflowRegistry  # noqa: PLC0415 -- opened on first use

        uri = needed(self.settings.mlflow_tracking_uri, "MLFLOW_TRACKING_URI")
        owner = self.ledger.identity if self.settings.database_url else None
        return MlflowRegistry(uri, owner=owner, admin_url=self.settings.admin_url)

    @cached_property
    def checkpoints(self) -> CheckpointStore:
        """Boosters of unfinished trainings, and champions' models."""
        from mlops.registry.checkpoint_store import CheckpointStore  # noqa: PLC0415 -- loads fsspec

        return CheckpointStore(self.settings.checkpoint_place, endpoint=self.settings.mlflow_s3_endpoint_url)


def needed(value: SecretStr | None, variable: str) -> str:
    """Return a setting's value. Raises NothingConfigured."""
    if value is None:
        message = f"{variable} is not set and no server is running; {_TWO_WAYS.format(variable)}"
        raise NothingConfigured(message)
    return value.get_secret_value()

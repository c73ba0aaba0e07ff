"""What parts of the system take of the services of a process; `mlops.bootstrap` composes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from config.settings import Settings
    from mlops.domain.ports import ModelRegistry
    from mlops.ledger.ledger import SqlLedger
    from mlops.registry.checkpoint_store import CheckpointStore
    from mlops.strategies.book import PolicyBook
    from mlops.strategies.file import Strategies


class CoreServices(Protocol):
    """The ledger that decides and the registry that shows."""

    @property
    def settings(self) -> Settings:
        """Settings of the process."""
        ...

    @property
    def ledger(self) -> SqlLedger:
        """The ledger."""
        ...

    @property
    def registry(self) -> ModelRegistry:
        """The model registry."""
        ...


class RegistryServices(CoreServices, Protocol):
    """What looks after the registry works with: the policies, and the copies of champions beside it."""

    @property
    def strategies(self) -> Strategies:
        """The strategies file."""
        ...

    @property
    def policies(self) -> PolicyBook:
        """The strategies with their edits."""
        ...

    @property
    def checkpoints(self) -> CheckpointStore:
        """Copies of champions' model files."""
        ...

"""What looks after the registry takes of a process's services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from config.settings import Settings
    from mlops.domain.ports import ModelRegistry
    from mlops.ledger.ledger import SqlLedger
    from mlops.registry.checkpoint_store import CheckpointStore
    from mlops.strategies.book import PolicyBook
    from mlops.strategies.file import Strategies


class Services(Protocol):
    """The ledger that decides, the registry that shows, and the copies of champions beside both."""

    @property
    def settings(self) -> Settings:
        """Settings of the process."""
        ...

    @property
    def strategies(self) -> Strategies:
        """The strategies file."""
        ...

    @property
    def policies(self) -> PolicyBook:
        """The strategies with their edits."""
        ...

    @property
    def ledger(self) -> SqlLedger:
        """The ledger."""
        ...

    @property
    def registry(self) -> ModelRegistry:
        """The model registry."""
        ...

    @property
    def checkpoints(self) -> CheckpointStore:
        """Copies of champions' model files."""
        ...

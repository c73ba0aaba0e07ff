"""What starting and following runs takes of a process's services; `mlops.bootstrap` composes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from config.settings import Settings
    from mlops.domain.ports import Dispatcher, ModelRegistry
    from mlops.domain.records import Stage
    from mlops.ledger.ledger import SqlLedger
    from mlops.runs.executor import Work
    from mlops.strategies.book import PolicyBook


class Services(Protocol):
    """The ledger that accepts a run, and the two ways of executing it: here, or on the workers."""

    @property
    def settings(self) -> Settings:
        """Settings of the process."""
        ...

    @property
    def policies(self) -> PolicyBook:
        """The policies that runs are judged by."""
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
    def stages(self) -> Mapping[Stage, Work]:
        """What each stage does, in this process."""
        ...

    @property
    def dispatcher(self) -> Dispatcher:
        """Sends publications to the workers."""
        ...

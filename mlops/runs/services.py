"""What starting and following runs takes of a process's services; `mlops.bootstrap` composes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from mlops.registry.services import CoreServices

if TYPE_CHECKING:
    from mlops.domain.ports import Dispatcher
    from mlops.domain.records import Stage
    from mlops.runs.executor import Work
    from mlops.strategies.book import PolicyBook


class RunServices(CoreServices, Protocol):
    """The policies that runs are judged by, and the two ways of executing one: here, or on the workers."""

    @property
    def policies(self) -> PolicyBook:
        """The policies that runs are judged by."""
        ...

    @property
    def stages(self) -> Mapping[Stage, Work]:
        """What each stage does, in this process."""
        ...

    @property
    def dispatcher(self) -> Dispatcher:
        """Sends publications to the workers."""
        ...

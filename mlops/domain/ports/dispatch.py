"""Ports that send the workers their messages and tell a person."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from mlops.domain.records import Publication


class Dispatcher(Protocol):
    """Turns publications into messages."""

    def publish(self, publication: Publication) -> bool:
        """Send it; False where the broker does not answer (the reconciler will send it)."""
        ...

    def ask(self, name: str, arguments: Mapping[str, Any], timeout_s: float) -> object:
        """Result of a task of the user's, sent by name. Raises AcisError where there is none in time."""
        ...

    def flush(self) -> None:
        """Note in the ledger now what was sent, where that waits."""
        ...


Alert = Callable[[str, Mapping[str, Any]], None]
"""Called with a stable event word and its fields where a person should know."""

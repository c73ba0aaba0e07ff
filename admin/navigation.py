"""What the page consists of, in the order in which it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from admin.auth.principal import Person

PREFIX = "/admin"
"""Everything is below this path."""


@dataclass(frozen=True)
class Entry:
    """A page in the navigation; shown once a route of that path is declared."""

    title: str
    path: str
    for_operators: bool = False

    def is_shown_to(self, person: Person | None) -> bool:
        """Whoever may not read it does not see it."""
        return not self.for_operators or (person is not None and person.is_operator)


ENTRIES = (
    Entry("Overview", f"{PREFIX}/"),
    Entry("Live performance", f"{PREFIX}/live"),
    Entry("Experiments", f"{PREFIX}/experiments"),
    Entry("Data drift", f"{PREFIX}/drift"),
    Entry("Model training", f"{PREFIX}/training"),
    Entry("Model registry", f"{PREFIX}/registry"),
    Entry("Scheduled jobs", f"{PREFIX}/schedule"),
    Entry("Runs", f"{PREFIX}/runs"),
    Entry("Workers and queues", f"{PREFIX}/workers"),
    Entry("MLflow status", f"{PREFIX}/mlflow"),
    Entry("Audit", f"{PREFIX}/audit"),
    Entry("Users", f"{PREFIX}/users", for_operators=True),
)
ACCOUNT = Entry("Account", f"{PREFIX}/account")


def is_current(entry: Entry, path: str) -> bool:
    """The entry under which a page stands: its own path, or one below it; a strategy's story is the overview's."""
    if entry.path == f"{PREFIX}/":
        return path == entry.path or path.startswith(f"{PREFIX}/strategies/")
    return path == entry.path or path.startswith(f"{entry.path}/")

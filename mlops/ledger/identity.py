"""Which ledger this is: by it a registry tells its own ledger from another stack's."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from mlops.ledger import tables
from mlops.ledger.columns import now
from mlops.ledger.part import LedgerPart


@dataclass(frozen=True, kw_only=True)
class LedgerIdentity:
    """A ledger, wherever its database moves."""

    ledger_id: str
    """Random, made at the first question; a restored backup keeps it, an emptied database gets another one."""
    address: str
    """Where it is now, without credentials; for people."""
    made_at: datetime
    """By its own clock; a restored backup keeps this too."""

    def __str__(self) -> str:
        return f"ledger {self.ledger_id[:8]} ({self.address})"


class Identity(LedgerPart):
    """One row."""

    def identity(self) -> LedgerIdentity:
        """Of this ledger. Raises LedgerUnavailable."""
        query = select(tables.identity.c.ledger_id, tables.identity.c.made_at)
        with self.database.reading() as connection:
            found = connection.execute(query).one_or_none()
        if found is None:
            self._make()
            with self.database.reading() as connection:
                found = connection.execute(query).one()
        url = self.database.url
        place = f"{url.host}:{url.port}/{url.database}" if url.host else str(url.database)
        return LedgerIdentity(ledger_id=found.ledger_id, address=place, made_at=found.made_at)

    def _make(self) -> None:
        made = self.database.insert(tables.identity).values(only=True, ledger_id=secrets.token_hex(16), made_at=now())
        with self.database.transaction("ledger.identity") as connection:
            connection.execute(made.on_conflict_do_nothing())  # another process may be first

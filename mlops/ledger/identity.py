"""Which ledger this is: by it a registry tells its own ledger from another stack's."""

from __future__ import annotations

import secrets

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from mlops.domain.records import LedgerIdentity
from mlops.ledger import tables
from mlops.ledger.columns import now
from mlops.ledger.repository import LedgerPart


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
        made = insert(tables.identity).values(only=True, ledger_id=secrets.token_hex(16), made_at=now())
        with self.database.transaction("ledger.identity") as connection:
            connection.execute(made.on_conflict_do_nothing())  # another process may be first

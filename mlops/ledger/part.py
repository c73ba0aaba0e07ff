"""What every part of the ledger holds."""

from __future__ import annotations

from mlops.ledger.engine import Database


class LedgerPart:
    """A part of `SqlLedger`: a few methods about one subject, on the shared database."""

    def __init__(self, database: Database, *, lease_s: float = 60.0) -> None:
        self.database = database
        self.lease_s = lease_s
        """Seconds without a renewal after which a stage may be taken by another worker."""

"""What every part of the ledger holds."""

from __future__ import annotations

from mlops.ledger.engine import Database

SILENT_SHARE = 1 / 3
"""What a worker held that was started anew since is taken when it was not renewed for this share of a lease: 20 s of
60 s, two renewals."""


class LedgerPart:
    """A part of `SqlLedger`: a few methods about one subject, on the shared database."""

    def __init__(self, database: Database, *, lease_s: float = 60.0) -> None:
        self.database = database
        self.lease_s = lease_s
        """Seconds without a renewal after which a stage may be taken by another worker."""

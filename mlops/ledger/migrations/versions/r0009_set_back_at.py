"""When the ledger was last set back, and to when, so that what arrives late is still looked for."""

from __future__ import annotations

import sqlalchemy as sa

from mlops.ledger.columns import Timestamp
from mlops.ledger.migrations import steps

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Two columns that code of the version before leaves alone."""
    steps.add_column("mlops_position", sa.Column("set_back_to", Timestamp))
    steps.add_column("mlops_position", sa.Column("set_back_at", Timestamp))

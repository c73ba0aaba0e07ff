"""A table for the ledger's own id; its row is made by the first that asks."""

from __future__ import annotations

import sqlalchemy as sa

from mlops.ledger.columns import Timestamp
from mlops.ledger.migrations import steps

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing that runs knows it yet."""
    steps.create_table(
        "mlops_identity",
        sa.Column("only", sa.Boolean(), nullable=False),
        sa.Column("ledger_id", sa.String(32), nullable=False),
        sa.Column("made_at", Timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("only", name="pk_mlops_identity"),
    )

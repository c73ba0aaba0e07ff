"""What a ledger needs that may be set back in time: a key of each grant, its own position, and a quarantine."""

from __future__ import annotations

import sqlalchemy as sa

from mlops.ledger.columns import Timestamp
from mlops.ledger.migrations import steps

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A column that code of the version before leaves alone, and two tables."""
    steps.add_column("mlops_stage", sa.Column("grant_key", sa.String(length=32)))
    steps.create_table(
        "mlops_position",
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("mark", sa.String(length=32), nullable=False),
        sa.Column("noted_at", Timestamp, nullable=False),
        sa.Column("outcomes_since", Timestamp),
        sa.Column("registry_since", Timestamp),
        sa.PrimaryKeyConstraint("name", name="pk_mlops_position"),
    )
    steps.create_table(
        "mlops_quarantine",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("run_id", sa.String(length=155)),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("found_at", Timestamp, nullable=False),
        sa.Column("settled_at", Timestamp),
        sa.Column("settled_by", sa.Text()),
        sa.Column("settled_as", sa.String(length=16)),
        sa.PrimaryKeyConstraint("kind", "name", name="pk_mlops_quarantine"),
    )

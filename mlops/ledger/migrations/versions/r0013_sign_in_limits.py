"""Wrong passwords, counted for every process of the page, and what remembered browsers are signed with."""

from __future__ import annotations

import sqlalchemy as sa

from mlops.ledger.columns import Timestamp
from mlops.ledger.migrations import steps

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A table and a column that code of the version before does not know."""
    steps.create_table(
        "mlops_sign_in_limit",
        sa.Column("key", sa.String(160), nullable=False),
        sa.Column("user_name", sa.String(63)),
        sa.Column("is_kept", sa.Boolean(), nullable=False),
        sa.Column("level", sa.Float(), nullable=False),
        sa.Column("closed_until", Timestamp),
        sa.Column("seen_at", Timestamp, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_mlops_sign_in_limit"),
    )
    steps.add_column("mlops_user", sa.Column("device_key", sa.String(64)))

"""Which runs were started together, in place of a stretch of time in which one person started some."""

from __future__ import annotations

import sqlalchemy as sa

from mlops.ledger.migrations import steps

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A column that code of the version before leaves alone, and the index of those that have it."""
    steps.add_column("mlops_run", sa.Column("batch_id", sa.String(32)))
    steps.create_index("ix_mlops_run_batch", "mlops_run", ["batch_id", "created_at"], where="batch_id IS NOT NULL")

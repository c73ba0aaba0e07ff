"""Starts that were answered with a run that was active already, so that one that comes again gets the same answer."""

from __future__ import annotations

import sqlalchemy as sa

from mlops.ledger.columns import Timestamp
from mlops.ledger.migrations import steps

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """An empty table; a row goes with the run that it names."""
    steps.create_table(
        "mlops_answered_start",
        sa.Column("task_id", sa.String(length=155), nullable=False),
        sa.Column("run_id", sa.String(length=155), nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["mlops_run.run_id"], name="fk_mlops_answered_start_run_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("task_id", name="pk_mlops_answered_start"),
    )
    steps.create_index("ix_mlops_answered_start_run_id", "mlops_answered_start", ["run_id"])

"""Where the registry shows a drift report. Reports of earlier versions count as shown: nobody waits for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mlops.ledger.columns import Timestamp

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Two columns and the index of what is still to be shown."""
    op.add_column("mlops_drift_report", sa.Column("logged_at", Timestamp))
    op.add_column("mlops_drift_report", sa.Column("registry_run_id", sa.String(length=64)))
    op.execute("UPDATE mlops_drift_report SET logged_at = created_at")
    op.create_index(
        "ix_mlops_drift_report_unlogged",
        "mlops_drift_report",
        ["id"],
        postgresql_where=sa.text("logged_at IS NULL"),
        sqlite_where=sa.text("logged_at IS NULL"),
    )

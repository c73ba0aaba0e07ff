"""Where the registry shows a drift report. Reports of earlier versions count as shown: nobody waits for them."""

from __future__ import annotations

import sqlalchemy as sa

from mlops.ledger.columns import Timestamp
from mlops.ledger.migrations import steps

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Two columns and the index of what is still to be shown."""
    steps.add_column("mlops_drift_report", sa.Column("logged_at", Timestamp))
    steps.add_column("mlops_drift_report", sa.Column("registry_run_id", sa.String(length=64)))
    steps.update_rows("mlops_drift_report", key="id", setting="logged_at = r.created_at", where="r.logged_at IS NULL")
    steps.create_index(
        "ix_mlops_drift_report_unlogged",
        "mlops_drift_report",
        ["id"],
        where="logged_at IS NULL",
    )

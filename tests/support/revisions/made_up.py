"""A migration of a version to come, with a step of every kind; `mlops.ledger.schema.REVISIONS` is given this folder."""

from __future__ import annotations

import sqlalchemy as sa

from mlops.ledger.migrations import steps
from mlops.ledger.schema import REVISIONS

revision = "made_up"
down_revision = max(path.stem[1:5] for path in REVISIONS[0].glob("r*.py"))  # today's newest
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Columns, rows, a new index and another one under a known name, of tables that are in use."""
    steps.add_column("mlops_stage", sa.Column("made_up", sa.String(16)))
    steps.add_column("mlops_drift_report", sa.Column("made_up", sa.String(16)))
    steps.create_index("ix_mlops_run_made_up", "mlops_run", ["strategy", "finished_at"])
    steps.replace_index("ix_mlops_run_made_up", "mlops_run", ["strategy"])
    steps.update_rows(
        "mlops_drift_report",
        key="id",
        setting="made_up = s.state",
        source="mlops_stage AS s",
        where="r.made_up IS NULL AND s.run_id = r.run_id",
    )

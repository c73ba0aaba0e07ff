"""Which trace a run belongs to (W3C traceparent), so that a message that is sent again goes on with it."""

from __future__ import annotations

import sqlalchemy as sa

from mlops.ledger.migrations import steps

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A column that code of the version before leaves alone."""
    steps.add_column("mlops_stage", sa.Column("traceparent", sa.String(55)))

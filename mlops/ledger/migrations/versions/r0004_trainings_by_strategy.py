"""An index by which a strategy's trainings are found, newest first, among all that ever ran."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A partial index: of the stages a few in a hundred are trainings."""
    has_trained = sa.text("stage = 'train' AND state = 'succeeded'")
    op.create_index(
        "ix_mlops_stage_trained",
        "mlops_stage",
        ["strategy", "finished_at"],
        postgresql_where=has_trained,
        sqlite_where=has_trained,
    )

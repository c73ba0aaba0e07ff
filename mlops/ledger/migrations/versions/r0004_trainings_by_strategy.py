"""An index by which a strategy's trainings are found, newest first, among all that ever ran."""

from __future__ import annotations

from mlops.ledger.migrations import steps

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A partial index: of the stages a few in a hundred are trainings."""
    steps.create_index(
        "ix_mlops_stage_trained",
        "mlops_stage",
        ["strategy", "finished_at"],
        where="stage = 'train' AND state = 'succeeded'",
    )

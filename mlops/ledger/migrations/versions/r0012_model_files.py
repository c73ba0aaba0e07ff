"""The digests of model files, in place of a tag in the registry; and how often a change by hand was taken back."""

from __future__ import annotations

import sqlalchemy as sa

from mlops.ledger.columns import Timestamp
from mlops.ledger.migrations import steps

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A table that code of the version before does not know, and a column that it leaves alone."""
    steps.create_table(
        "mlops_model_file",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("model_name", sa.String(255), nullable=False),
        sa.Column("version", sa.String(63)),
        sa.Column("made_by", sa.String(155), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("recorded_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("recorded_at", Timestamp, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_mlops_model_file"),
    )
    steps.create_index("ix_mlops_model_file_made_by", "mlops_model_file", ["made_by"])
    steps.create_index("ix_mlops_model_file_version", "mlops_model_file", ["model_name", "version"])
    steps.add_column("mlops_registry_finding", sa.Column("n_times", sa.Integer(), nullable=False, server_default="1"))

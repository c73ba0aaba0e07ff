"""Predictions, what came of them, and what is said about them."""

from __future__ import annotations

import sqlalchemy as sa

from mlops.ledger.columns import Json, Timestamp
from mlops.ledger.migrations import steps

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Tables that code of the version before does not know."""
    steps.create_table(
        "mlops_prediction_batch",
        sa.Column("batch_id", sa.String(64), nullable=False),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("n_rows", sa.Integer(), nullable=False),
        sa.Column("newest", sa.Date()),
        sa.Column("written_at", Timestamp, nullable=False),
        sa.PrimaryKeyConstraint("batch_id", name="pk_mlops_prediction_batch"),
    )
    steps.create_index("ix_mlops_prediction_batch_newest", "mlops_prediction_batch", ["newest"])
    steps.create_table(
        "mlops_prediction",
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("strategy", sa.String(63), nullable=False),
        sa.Column("version", sa.String(16), nullable=False),
        sa.Column("model_sha256", sa.String(64), nullable=False),
        sa.Column("variant", sa.String(16), nullable=False),
        sa.Column("ticker", sa.Text(), nullable=False),
        sa.Column("as_of", sa.Date(), nullable=False),
        sa.Column("predicted_at", Timestamp, nullable=False),
        sa.Column("probability", sa.Float(), nullable=False),
        sa.Column("row_digest", sa.LargeBinary(), nullable=False),
        sa.Column("batch_id", sa.String(64), nullable=False),
        partition_by="RANGE (as_of)",
    )
    # A partitioned table's index cannot be built beside writers; the table is new, so nobody writes to it yet.
    steps.create_index("ix_mlops_prediction_strategy", "mlops_prediction", ["namespace", "strategy", "as_of"])
    steps.create_table(
        "mlops_live_score",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("strategy", sa.String(63), nullable=False),
        sa.Column("version", sa.String(16), nullable=False),
        sa.Column("model_sha256", sa.String(64), nullable=False),
        sa.Column("variant", sa.String(16), nullable=False),
        sa.Column("as_of", sa.Date(), nullable=False),
        sa.Column("n_predictions", sa.Integer(), nullable=False),
        sa.Column("n_labelled", sa.Integer(), nullable=False),
        sa.Column("score", Json, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("run_id", sa.String(155)),
        sa.Column("known_at", Timestamp, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_mlops_live_score"),
    )
    steps.create_index("ix_mlops_live_score_strategy", "mlops_live_score", ["namespace", "strategy", "as_of"])
    steps.create_table(
        "mlops_live_report",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.String(155), nullable=False),
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("strategy", sa.String(63), nullable=False),
        sa.Column("as_of", sa.Date(), nullable=False),
        sa.Column("document", Json, nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_mlops_live_report"),
        sa.UniqueConstraint("run_id", name="uq_mlops_live_report_run_id"),
    )
    steps.create_index("ix_mlops_live_report_strategy", "mlops_live_report", ["namespace", "strategy", "as_of"])
    steps.create_table(
        "mlops_watermark",
        sa.Column("strategy", sa.String(63), nullable=False),
        sa.Column("newest", sa.Date()),
        sa.Column("late_date", sa.Date()),
        sa.Column("late_words", sa.Text()),
        sa.Column("late_since", Timestamp),
        sa.Column("seen_at", Timestamp, nullable=False),
        sa.PrimaryKeyConstraint("strategy", name="pk_mlops_watermark"),
    )

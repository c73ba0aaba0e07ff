"""Experiments, their looks, and what whoever serves has answered."""

from __future__ import annotations

import sqlalchemy as sa

from mlops.ledger.columns import Json, Timestamp
from mlops.ledger.migrations import steps

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Tables that code of the version before does not know: a champion that it swaps ends no experiment.

    One whose champion's seq is another is not served, and ends at its next look.
    """
    steps.create_table(
        "mlops_experiment",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("strategy", sa.String(63), nullable=False),
        sa.Column("plan", Json, nullable=False),
        sa.Column("champion_version", sa.String(63), nullable=False),
        sa.Column("champion_seq", sa.BigInteger(), nullable=False),
        sa.Column("champion_sha256", sa.String(64)),
        sa.Column("champion_made_by", sa.String(155)),
        sa.Column("challenger_version", sa.String(63), nullable=False),
        sa.Column("challenger_sha256", sa.String(64)),
        sa.Column("challenger_made_by", sa.String(155)),
        sa.Column("started_as_of", sa.Date(), nullable=False),
        sa.Column("started_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("started_at", Timestamp, nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("step_since", sa.Date(), nullable=False),
        sa.Column("held", sa.Boolean(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("ended_as", sa.String(16)),
        sa.Column("end_words", sa.Text()),
        sa.Column("ended_by", sa.Text()),
        sa.Column("ended_at", Timestamp),
        sa.Column("promotion_id", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_mlops_experiment"),
        sa.ForeignKeyConstraint(["promotion_id"], ["mlops_promotion.id"], name="fk_mlops_experiment_promotion_id"),
    )
    steps.create_index(
        "uq_mlops_experiment_running",
        "mlops_experiment",
        ["namespace", "strategy"],
        unique=True,
        where="ended_at IS NULL",
    )
    steps.create_index("ix_mlops_experiment_strategy", "mlops_experiment", ["namespace", "strategy", "id"])
    steps.create_table(
        "mlops_experiment_look",
        sa.Column("experiment_id", sa.BigInteger(), nullable=False),
        sa.Column("as_of", sa.Date(), nullable=False),
        sa.Column("n_days", sa.Integer(), nullable=False),
        sa.Column("mean", sa.Float()),
        sa.Column("low", sa.Float()),
        sa.Column("high", sa.Float()),
        sa.Column("share", sa.Float(), nullable=False),
        sa.Column("guardrails", Json, nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("differences", Json, nullable=False),
        sa.Column("run_id", sa.String(155)),
        sa.Column("looked_at", Timestamp, nullable=False),
        sa.PrimaryKeyConstraint("experiment_id", "as_of", name="pk_mlops_experiment_look"),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["mlops_experiment.id"], name="fk_mlops_experiment_look_experiment_id"
        ),
    )
    steps.create_table(
        "mlops_answer_count",
        sa.Column("strategy", sa.String(63), nullable=False),
        sa.Column("minute", Timestamp, nullable=False),
        sa.Column("variant", sa.String(16), nullable=False),
        sa.Column("version", sa.String(63), nullable=False),
        sa.Column("model_sha256", sa.String(64), nullable=False),
        sa.Column("writer", sa.String(64), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("n_errors", sa.Integer(), nullable=False),
        sa.Column("n_positive", sa.Integer(), nullable=False),
        sa.Column("n_missing_rows", sa.Integer(), nullable=False),
        sa.Column("latency_ms", sa.ARRAY(sa.Integer()), nullable=False),
        sa.PrimaryKeyConstraint(
            "strategy", "minute", "variant", "version", "model_sha256", "writer", name="pk_mlops_answer_count"
        ),
    )
    steps.create_index("ix_mlops_answer_count_minute", "mlops_answer_count", ["minute"])

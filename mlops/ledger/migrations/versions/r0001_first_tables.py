"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa

from mlops.ledger.columns import Json, Timestamp
from mlops.ledger.migrations import steps

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """All of them."""
    steps.create_table(
        "mlops_audit",
        sa.Column("id", _ID, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.String(length=63), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_mlops_audit"),
    )
    steps.create_index("ix_mlops_audit_subject", "mlops_audit", ["subject"])
    steps.create_table(
        "mlops_policy",
        sa.Column("id", _ID, nullable=False),
        sa.Column("strategy", sa.String(length=63), nullable=False),
        sa.Column("path", sa.String(length=127), nullable=False),
        sa.Column("value", Json),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_mlops_policy"),
    )
    steps.create_index("ix_mlops_policy_strategy", "mlops_policy", ["strategy"])
    steps.create_table(
        "mlops_run",
        sa.Column("run_id", sa.String(length=155), nullable=False),
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("strategy", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("executor", sa.String(length=8), nullable=False),
        sa.Column("slot", sa.String(length=64)),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("as_of", sa.Date()),
        sa.Column("policy", Json, nullable=False),
        sa.Column("params", Json, nullable=False),
        sa.Column("outcome", Json),
        sa.Column("cancel_requested", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("finished_at", Timestamp),
        sa.PrimaryKeyConstraint("run_id", name="pk_mlops_run"),
        sa.UniqueConstraint("namespace", "strategy", "kind", "slot", name="uq_mlops_run_namespace_strategy_kind_slot"),
    )
    steps.create_index("ix_mlops_run_created", "mlops_run", ["namespace", "created_at"])
    steps.create_index("ix_mlops_run_strategy_created", "mlops_run", ["namespace", "strategy", "created_at"])
    steps.create_index(
        "uq_mlops_run_active",
        "mlops_run",
        ["namespace", "strategy", "kind"],
        unique=True,
        where="state IN ('queued', 'running') AND kind <> 'rollback'",
    )
    steps.create_table(
        "mlops_schedule",
        sa.Column("key", sa.String(length=127), nullable=False),
        sa.Column("strategy", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("cron", sa.String(length=127), nullable=False),
        sa.Column("offset_s", sa.Float(), nullable=False),
        sa.Column("grace_s", sa.Float(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("last_slot", Timestamp),
        sa.Column("last_note", sa.Text()),
        sa.PrimaryKeyConstraint("key", name="pk_mlops_schedule"),
    )
    steps.create_table(
        "mlops_worker",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("role", sa.String(length=63), nullable=False),
        sa.Column("queues", Json, nullable=False),
        sa.Column("device", sa.String(length=8), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("draining", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("seen_at", Timestamp, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_mlops_worker"),
    )
    steps.create_table(
        "mlops_drift_report",
        sa.Column("id", _ID, nullable=False),
        sa.Column("run_id", sa.String(length=155), nullable=False),
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("strategy", sa.String(length=63), nullable=False),
        sa.Column("as_of", sa.Date()),
        sa.Column("report", Json, nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["mlops_run.run_id"], name="fk_mlops_drift_report_run_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_mlops_drift_report"),
        sa.UniqueConstraint("run_id", name="uq_mlops_drift_report_run_id"),
    )
    steps.create_index("ix_mlops_drift_report_as_of", "mlops_drift_report", ["namespace", "strategy", "as_of"])
    steps.create_table(
        "mlops_outbox",
        sa.Column("id", _ID, nullable=False),
        sa.Column("run_id", sa.String(length=155), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("delivered_at", Timestamp),
        sa.ForeignKeyConstraint(["run_id"], ["mlops_run.run_id"], name="fk_mlops_outbox_run_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_mlops_outbox"),
        sa.UniqueConstraint("run_id", name="uq_mlops_outbox_run_id"),
    )
    steps.create_index(
        "ix_mlops_outbox_undelivered",
        "mlops_outbox",
        ["id"],
        where="delivered_at IS NULL",
    )
    steps.create_table(
        "mlops_promotion",
        sa.Column("id", _ID, nullable=False),
        sa.Column("run_id", sa.String(length=155)),
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("strategy", sa.String(length=63), nullable=False),
        sa.Column("model_name", sa.String(length=255), nullable=False),
        sa.Column("version", sa.String(length=63), nullable=False),
        sa.Column("decision", sa.String(length=20), nullable=False),
        sa.Column("reasons", Json, nullable=False),
        sa.Column("evidence", Json, nullable=False),
        sa.Column("evidence_digest", sa.String(length=128), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("target_stage", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("previous_version", sa.String(length=63)),
        sa.Column("as_of", sa.Date()),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("projected_at", Timestamp),
        sa.ForeignKeyConstraint(["run_id"], ["mlops_run.run_id"], name="fk_mlops_promotion_run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_mlops_promotion"),
        sa.UniqueConstraint("run_id", name="uq_mlops_promotion_run_id"),
    )
    steps.create_index("ix_mlops_promotion_strategy", "mlops_promotion", ["namespace", "strategy", "id"])
    steps.create_index(
        "ix_mlops_promotion_unprojected",
        "mlops_promotion",
        ["id"],
        where="projected_at IS NULL",
    )
    steps.create_table(
        "mlops_stage",
        sa.Column("run_id", sa.String(length=155), nullable=False),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("strategy", sa.String(length=63), nullable=False),
        sa.Column("executor", sa.String(length=8), nullable=False),
        sa.Column("device", sa.String(length=8), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("deadline_s", sa.Float(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lease_until", Timestamp),
        sa.Column("deadline_at", Timestamp),
        sa.Column("worker", sa.String(length=255)),
        sa.Column("claimed_task_id", sa.String(length=155)),
        sa.Column("publish_no", sa.Integer(), nullable=False),
        sa.Column("published_at", Timestamp),
        sa.Column("ring_at", Timestamp, nullable=False),
        sa.Column("ring_backoff_s", sa.Float(), nullable=False),
        sa.Column("queue", sa.String(length=63)),
        sa.Column("task_id", sa.String(length=155)),
        sa.Column("parent_task_id", sa.String(length=155)),
        sa.Column("not_before", Timestamp),
        sa.Column("queued_at", Timestamp, nullable=False),
        sa.Column("started_at", Timestamp),
        sa.Column("finished_at", Timestamp),
        sa.Column("progress", Json),
        sa.Column("checkpoint", Json),
        sa.Column("result", Json),
        sa.Column("error", sa.Text()),
        sa.ForeignKeyConstraint(["run_id"], ["mlops_run.run_id"], name="fk_mlops_stage_run_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "stage", name="pk_mlops_stage"),
    )
    steps.create_index(
        "ix_mlops_stage_lease",
        "mlops_stage",
        ["lease_until"],
        where="state = 'running'",
    )
    steps.create_index(
        "ix_mlops_stage_ring",
        "mlops_stage",
        ["ring_at"],
        where="state = 'queued'",
    )
    steps.create_table(
        "mlops_champion",
        sa.Column("namespace", sa.String(length=63), nullable=False),
        sa.Column("strategy", sa.String(length=63), nullable=False),
        sa.Column("version", sa.String(length=63)),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("as_of", sa.Date()),
        sa.Column("promotion_id", sa.BigInteger()),
        sa.Column("changed_at", Timestamp, nullable=False),
        sa.ForeignKeyConstraint(["promotion_id"], ["mlops_promotion.id"], name="fk_mlops_champion_promotion_id"),
        sa.PrimaryKeyConstraint("namespace", "strategy", name="pk_mlops_champion"),
    )

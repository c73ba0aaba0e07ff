"""The tables as the first release has them."""

from __future__ import annotations

import sqlalchemy as sa

from mlops.ledger.columns import Json, Timestamp
from mlops.ledger.migrations import steps

revision = "0009"  # those before it were never released
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """All of them, and their indexes."""
    _runs()
    _decisions()
    _page()
    _upkeep()


def _runs() -> None:
    steps.create_table(
        "mlops_run",
        sa.Column("run_id", sa.String(155), nullable=False),
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("strategy", sa.String(63), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("executor", sa.String(8), nullable=False),
        sa.Column("slot", sa.String(64)),
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
    steps.create_index("ix_mlops_run_kind_created", "mlops_run", ["namespace", "kind", "created_at"])
    steps.create_index("ix_mlops_run_open", "mlops_run", ["created_at"], where="state IN ('queued', 'running')")
    steps.create_index("ix_mlops_run_state_created", "mlops_run", ["namespace", "state", "created_at"])
    steps.create_index("ix_mlops_run_strategy_created", "mlops_run", ["namespace", "strategy", "created_at"])
    steps.create_index(
        "uq_mlops_run_active",
        "mlops_run",
        ["namespace", "strategy", "kind"],
        unique=True,
        where="state IN ('queued', 'running') AND kind NOT IN ('rollback', 'compare')",
    )
    steps.create_table(
        "mlops_stage",
        sa.Column("run_id", sa.String(155), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("strategy", sa.String(63), nullable=False),
        sa.Column("executor", sa.String(8), nullable=False),
        sa.Column("device", sa.String(8), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("deadline_s", sa.Float(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("grant_key", sa.String(32)),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lease_until", Timestamp),
        sa.Column("deadline_at", Timestamp),
        sa.Column("worker", sa.String(255)),
        sa.Column("claimed_task_id", sa.String(155)),
        sa.Column("publish_no", sa.Integer(), nullable=False),
        sa.Column("published_at", Timestamp),
        sa.Column("ring_at", Timestamp, nullable=False),
        sa.Column("ring_backoff_s", sa.Float(), nullable=False),
        sa.Column("queue", sa.String(63)),
        sa.Column("task_id", sa.String(155)),
        sa.Column("parent_task_id", sa.String(155)),
        sa.Column("not_before", Timestamp),
        sa.Column("queued_at", Timestamp, nullable=False),
        sa.Column("started_at", Timestamp),
        sa.Column("claimed_at", Timestamp),
        sa.Column("finished_at", Timestamp),
        sa.Column("progress", Json),
        sa.Column("checkpoint", Json),
        sa.Column("result", Json),
        sa.Column("error", sa.Text()),
        sa.PrimaryKeyConstraint("run_id", "stage", name="pk_mlops_stage"),
        sa.ForeignKeyConstraint(["run_id"], ["mlops_run.run_id"], name="fk_mlops_stage_run_id", ondelete="CASCADE"),
    )
    steps.create_index("ix_mlops_stage_finished", "mlops_stage", ["stage", "finished_at"], where="state = 'succeeded'")
    steps.create_index("ix_mlops_stage_lease", "mlops_stage", ["lease_until"], where="state = 'running'")
    steps.create_index("ix_mlops_stage_ring", "mlops_stage", ["ring_at"], where="state = 'queued'")
    steps.create_index(
        "ix_mlops_stage_trained",
        "mlops_stage",
        ["strategy", "finished_at"],
        where="stage = 'train' AND state = 'succeeded'",
    )
    steps.create_table(
        "mlops_answered_start",
        sa.Column("task_id", sa.String(155), nullable=False),
        sa.Column("run_id", sa.String(155), nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.PrimaryKeyConstraint("task_id", name="pk_mlops_answered_start"),
        sa.ForeignKeyConstraint(
            ["run_id"], ["mlops_run.run_id"], name="fk_mlops_answered_start_run_id", ondelete="CASCADE"
        ),
    )
    steps.create_index("ix_mlops_answered_start_run_id", "mlops_answered_start", ["run_id"])
    steps.create_table(
        "mlops_attempt",
        sa.Column("run_id", sa.String(155), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(255)),
        sa.Column("task_id", sa.String(155)),
        sa.Column("queued_at", Timestamp, nullable=False),
        sa.Column("claimed_at", Timestamp, nullable=False),
        sa.Column("ended_at", Timestamp, nullable=False),
        sa.Column("error", sa.Text()),
        sa.PrimaryKeyConstraint("run_id", "stage", "token", name="pk_mlops_attempt"),
        sa.ForeignKeyConstraint(["run_id"], ["mlops_run.run_id"], name="fk_mlops_attempt_run_id", ondelete="CASCADE"),
    )
    steps.create_table(
        "mlops_outbox",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.String(155), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("delivered_at", Timestamp),
        sa.PrimaryKeyConstraint("id", name="pk_mlops_outbox"),
        sa.ForeignKeyConstraint(["run_id"], ["mlops_run.run_id"], name="fk_mlops_outbox_run_id", ondelete="CASCADE"),
        sa.UniqueConstraint("run_id", name="uq_mlops_outbox_run_id"),
    )
    steps.create_index("ix_mlops_outbox_undelivered", "mlops_outbox", ["id"], where="delivered_at IS NULL")


def _decisions() -> None:
    steps.create_table(
        "mlops_drift_report",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.String(155), nullable=False),
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("strategy", sa.String(63), nullable=False),
        sa.Column("as_of", sa.Date()),
        sa.Column("report", Json, nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("verdict", sa.String(16)),
        sa.Column("rule", sa.String(16)),
        sa.Column("raw_verdict", sa.String(16)),
        sa.Column("share", sa.Float()),
        sa.Column("alert_share", sa.Float()),
        sa.Column("p_value", sa.Float()),
        sa.Column("alpha", sa.Float()),
        sa.Column("n_placements", sa.Integer()),
        sa.Column("logged_at", Timestamp),
        sa.Column("registry_run_id", sa.String(64)),
        sa.PrimaryKeyConstraint("id", name="pk_mlops_drift_report"),
        sa.ForeignKeyConstraint(
            ["run_id"], ["mlops_run.run_id"], name="fk_mlops_drift_report_run_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("run_id", name="uq_mlops_drift_report_run_id"),
    )
    steps.create_index("ix_mlops_drift_report_as_of", "mlops_drift_report", ["namespace", "strategy", "as_of"])
    steps.create_index("ix_mlops_drift_report_newest", "mlops_drift_report", ["namespace", "id"])
    steps.create_index("ix_mlops_drift_report_unlogged", "mlops_drift_report", ["id"], where="logged_at IS NULL")
    steps.create_table(
        "mlops_promotion",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.String(155)),
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("strategy", sa.String(63), nullable=False),
        sa.Column("model_name", sa.String(255), nullable=False),
        sa.Column("version", sa.String(63), nullable=False),
        sa.Column("decision", sa.String(20), nullable=False),
        sa.Column("reasons", Json, nullable=False),
        sa.Column("evidence", Json, nullable=False),
        sa.Column("evidence_digest", sa.String(128), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("target_stage", sa.String(16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("previous_version", sa.String(63)),
        sa.Column("as_of", sa.Date()),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("projected_at", Timestamp),
        sa.Column("model_sha256", sa.String(64)),
        sa.Column("made_by", sa.String(155)),
        sa.Column("trained_as_of", sa.Date()),
        sa.PrimaryKeyConstraint("id", name="pk_mlops_promotion"),
        sa.ForeignKeyConstraint(["run_id"], ["mlops_run.run_id"], name="fk_mlops_promotion_run_id"),
        sa.UniqueConstraint("run_id", name="uq_mlops_promotion_run_id"),
    )
    steps.create_index("ix_mlops_promotion_awaiting", "mlops_promotion", ["id"], where="decision = 'await_approval'")
    steps.create_index("ix_mlops_promotion_strategy", "mlops_promotion", ["namespace", "strategy", "id"])
    steps.create_index("ix_mlops_promotion_unprojected", "mlops_promotion", ["id"], where="projected_at IS NULL")
    steps.create_table(
        "mlops_champion",
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("strategy", sa.String(63), nullable=False),
        sa.Column("version", sa.String(63)),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("as_of", sa.Date()),
        sa.Column("promotion_id", sa.BigInteger()),
        sa.Column("changed_at", Timestamp, nullable=False),
        sa.PrimaryKeyConstraint("namespace", "strategy", name="pk_mlops_champion"),
        sa.ForeignKeyConstraint(["promotion_id"], ["mlops_promotion.id"], name="fk_mlops_champion_promotion_id"),
    )
    steps.create_table(
        "mlops_registry_finding",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("strategy", sa.String(63), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("key", sa.String(320), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("found_at", Timestamp, nullable=False),
        sa.Column("settled_at", Timestamp),
        sa.Column("settled_by", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_mlops_registry_finding"),
        sa.UniqueConstraint("strategy", "kind", "key", name="uq_mlops_registry_finding_strategy_kind_key"),
    )


def _page() -> None:
    steps.create_table(
        "mlops_policy",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("strategy", sa.String(63), nullable=False),
        sa.Column("path", sa.String(127), nullable=False),
        sa.Column("value", Json),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_mlops_policy"),
    )
    steps.create_index("ix_mlops_policy_strategy", "mlops_policy", ["strategy"])
    steps.create_table(
        "mlops_audit",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.String(63), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("address", sa.String(64)),
        sa.Column("detail", Json),
        sa.PrimaryKeyConstraint("id", name="pk_mlops_audit"),
    )
    steps.create_index("ix_mlops_audit_action", "mlops_audit", ["action", "created_at"])
    steps.create_index("ix_mlops_audit_actor", "mlops_audit", ["actor", "id"])
    steps.create_index("ix_mlops_audit_subject", "mlops_audit", ["subject"])
    steps.create_table(
        "mlops_user",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("disabled_at", Timestamp),
        sa.PrimaryKeyConstraint("name", name="pk_mlops_user"),
    )
    steps.create_table(
        "mlops_session",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("user_name", sa.String(63), nullable=False),
        sa.Column("csrf", sa.String(64), nullable=False),
        sa.Column("address", sa.String(64)),
        sa.Column("agent", sa.String(255)),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("seen_at", Timestamp, nullable=False),
        sa.Column("expires_at", Timestamp, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_mlops_session"),
        sa.ForeignKeyConstraint(
            ["user_name"], ["mlops_user.name"], name="fk_mlops_session_user_name", ondelete="CASCADE"
        ),
    )
    steps.create_index("ix_mlops_session_user_name", "mlops_session", ["user_name"])
    steps.create_table(
        "mlops_token",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("user_name", sa.String(63), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("used_at", Timestamp),
        sa.Column("expires_at", Timestamp),
        sa.Column("revoked_at", Timestamp),
        sa.PrimaryKeyConstraint("id", name="pk_mlops_token"),
        sa.ForeignKeyConstraint(
            ["user_name"], ["mlops_user.name"], name="fk_mlops_token_user_name", ondelete="CASCADE"
        ),
    )
    steps.create_index("ix_mlops_token_user_name", "mlops_token", ["user_name"])
    steps.create_table(
        "mlops_artifact_size",
        sa.Column("registry_run_id", sa.String(64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("started_at", Timestamp, nullable=False),
        sa.Column("measured_at", Timestamp, nullable=False),
        sa.PrimaryKeyConstraint("registry_run_id", name="pk_mlops_artifact_size"),
    )
    steps.create_index("ix_mlops_artifact_size_started", "mlops_artifact_size", ["started_at", "bytes"])


def _upkeep() -> None:
    steps.create_table(
        "mlops_schedule",
        sa.Column("key", sa.String(127), nullable=False),
        sa.Column("strategy", sa.String(63), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("cron", sa.String(127), nullable=False),
        sa.Column("offset_s", sa.Float(), nullable=False),
        sa.Column("grace_s", sa.Float(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("last_slot", Timestamp),
        sa.Column("last_note", sa.Text()),
        sa.PrimaryKeyConstraint("key", name="pk_mlops_schedule"),
    )
    steps.create_table(
        "mlops_worker",
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("role", sa.String(63), nullable=False),
        sa.Column("queues", Json, nullable=False),
        sa.Column("device", sa.String(8), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("draining", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("seen_at", Timestamp, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_mlops_worker"),
    )
    steps.create_table(
        "mlops_identity",
        sa.Column("only", sa.Boolean(), nullable=False),
        sa.Column("ledger_id", sa.String(32), nullable=False),
        sa.Column("made_at", Timestamp, nullable=False),
        sa.PrimaryKeyConstraint("only", name="pk_mlops_identity"),
    )
    steps.create_table(
        "mlops_position",
        sa.Column("name", sa.String(16), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("mark", sa.String(32), nullable=False),
        sa.Column("noted_at", Timestamp, nullable=False),
        sa.Column("outcomes_since", Timestamp),
        sa.Column("registry_since", Timestamp),
        sa.Column("set_back_to", Timestamp),
        sa.Column("set_back_at", Timestamp),
        sa.PrimaryKeyConstraint("name", name="pk_mlops_position"),
    )
    steps.create_table(
        "mlops_quarantine",
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("run_id", sa.String(155)),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("found_at", Timestamp, nullable=False),
        sa.Column("settled_at", Timestamp),
        sa.Column("settled_by", sa.Text()),
        sa.Column("settled_as", sa.String(16)),
        sa.PrimaryKeyConstraint("kind", "name", name="pk_mlops_quarantine"),
    )

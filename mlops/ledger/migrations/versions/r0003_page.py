"""What the page needs: users, sessions and tokens, attempts, reports in short, sizes of artifacts, and indexes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mlops.ledger.columns import Json, Timestamp
from mlops.ledger.migrations import steps

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_IN_SHORT_POSTGRESQL = """
    verdict = s.result->>'verdict', rule = s.result->>'rule', raw_verdict = s.result->>'raw_verdict',
    share = (s.result->>'drift_ratio')::float, alert_share = (s.result->>'alert_threshold')::float,
    p_value = (s.result->>'p_value')::float, alpha = (u.policy->'drift'->>'alpha')::float,
    n_placements = (s.result->>'n_placements')::int"""
_IN_SHORT_SQLITE = """
    verdict = json_extract(s.result, '$.verdict'), rule = json_extract(s.result, '$.rule'),
    raw_verdict = json_extract(s.result, '$.raw_verdict'),
    share = json_extract(s.result, '$.drift_ratio'), alert_share = json_extract(s.result, '$.alert_threshold'),
    p_value = json_extract(s.result, '$.p_value'), alpha = json_extract(u.policy, '$.drift.alpha'),
    n_placements = json_extract(s.result, '$.n_placements')"""


def upgrade() -> None:
    """New tables, new columns, and the short form of reports that are there already."""
    _indexes()
    _attempts()
    _reports()
    steps.add_column("mlops_audit", sa.Column("address", sa.String(length=64)))
    steps.add_column("mlops_audit", sa.Column("detail", Json))
    steps.create_index("ix_mlops_audit_actor", "mlops_audit", ["actor", "id"])
    steps.create_index("ix_mlops_audit_action", "mlops_audit", ["action", "created_at"])
    _people()
    steps.create_table(
        "mlops_artifact_size",
        sa.Column("registry_run_id", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("started_at", Timestamp, nullable=False),
        sa.Column("measured_at", Timestamp, nullable=False),
        sa.PrimaryKeyConstraint("registry_run_id", name="pk_mlops_artifact_size"),
    )
    steps.create_index("ix_mlops_artifact_size_started", "mlops_artifact_size", ["started_at", "bytes"])


def _indexes() -> None:
    steps.replace_index(
        "uq_mlops_run_active",
        "mlops_run",
        ["namespace", "strategy", "kind"],
        unique=True,
        where="state IN ('queued', 'running') AND kind NOT IN ('rollback', 'compare')",
    )
    steps.create_index("ix_mlops_run_state_created", "mlops_run", ["namespace", "state", "created_at"])
    steps.create_index("ix_mlops_run_kind_created", "mlops_run", ["namespace", "kind", "created_at"])
    steps.create_index("ix_mlops_run_open", "mlops_run", ["created_at"], where="state IN ('queued', 'running')")
    steps.create_index("ix_mlops_stage_finished", "mlops_stage", ["stage", "finished_at"], where="state = 'succeeded'")
    steps.create_index("ix_mlops_promotion_awaiting", "mlops_promotion", ["id"], where="decision = 'await_approval'")


def _attempts() -> None:
    steps.add_column("mlops_stage", sa.Column("claimed_at", Timestamp))
    steps.create_table(
        "mlops_attempt",
        sa.Column("run_id", sa.String(length=155), nullable=False),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(length=255)),
        sa.Column("task_id", sa.String(length=155)),
        sa.Column("queued_at", Timestamp, nullable=False),
        sa.Column("claimed_at", Timestamp, nullable=False),
        sa.Column("ended_at", Timestamp, nullable=False),
        sa.Column("error", sa.Text()),
        sa.ForeignKeyConstraint(["run_id"], ["mlops_run.run_id"], name="fk_mlops_attempt_run_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "stage", "token", name="pk_mlops_attempt"),
    )


def _reports() -> None:
    for column in (
        sa.Column("verdict", sa.String(length=16)),
        sa.Column("rule", sa.String(length=16)),
        sa.Column("raw_verdict", sa.String(length=16)),
        sa.Column("share", sa.Float()),
        sa.Column("alert_share", sa.Float()),
        sa.Column("p_value", sa.Float()),
        sa.Column("alpha", sa.Float()),
        sa.Column("n_placements", sa.Integer()),
    ):
        steps.add_column("mlops_drift_report", column)
    steps.create_index("ix_mlops_drift_report_newest", "mlops_drift_report", ["namespace", "id"])
    # From the stage's result and the run's policy, which are small; a whole report is some hundred kilobytes.
    steps.update_rows(
        "mlops_drift_report",
        key="id",
        setting=_IN_SHORT_POSTGRESQL if op.get_bind().dialect.name == "postgresql" else _IN_SHORT_SQLITE,
        source="mlops_stage AS s, mlops_run AS u",
        where="r.verdict IS NULL AND s.run_id = r.run_id AND s.stage = 'drift' AND u.run_id = r.run_id",
    )


def _people() -> None:
    steps.create_table(
        "mlops_user",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("disabled_at", Timestamp),
        sa.PrimaryKeyConstraint("name", name="pk_mlops_user"),
    )
    steps.create_table(
        "mlops_session",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("user_name", sa.String(length=63), nullable=False),
        sa.Column("csrf", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=64)),
        sa.Column("agent", sa.String(length=255)),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("seen_at", Timestamp, nullable=False),
        sa.Column("expires_at", Timestamp, nullable=False),
        sa.ForeignKeyConstraint(
            ["user_name"], ["mlops_user.name"], name="fk_mlops_session_user_name", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("digest", name="pk_mlops_session"),
    )
    steps.create_index("ix_mlops_session_user_name", "mlops_session", ["user_name"])
    steps.create_table(
        "mlops_token",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("user_name", sa.String(length=63), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("created_at", Timestamp, nullable=False),
        sa.Column("used_at", Timestamp),
        sa.Column("expires_at", Timestamp),
        sa.Column("revoked_at", Timestamp),
        sa.ForeignKeyConstraint(
            ["user_name"], ["mlops_user.name"], name="fk_mlops_token_user_name", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_mlops_token"),
    )
    steps.create_index("ix_mlops_token_user_name", "mlops_token", ["user_name"])

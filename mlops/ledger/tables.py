"""The ledger's tables. What changes here needs a migration in `mlops/ledger/migrations/versions`."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from mlops.ledger.columns import Json, Timestamp

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_Id = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER counts up by itself on SQLite

run = Table(
    "mlops_run",
    metadata,
    Column("run_id", String(155), primary_key=True),  # 155: the length of a Celery task id
    Column("namespace", String(63), nullable=False),
    Column("strategy", String(63), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("state", String(20), nullable=False),
    Column("executor", String(8), nullable=False),
    Column("slot", String(64)),
    Column("reason", Text, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("as_of", Date),
    Column("policy", Json, nullable=False),
    Column("params", Json, nullable=False),
    Column("outcome", Json),
    Column("cancel_requested", Boolean, nullable=False, server_default=false()),
    Column("created_at", Timestamp, nullable=False),
    Column("finished_at", Timestamp),
    UniqueConstraint("namespace", "strategy", "kind", "slot"),
)
_active = text("state IN ('queued', 'running') AND kind <> 'rollback'")
Index(
    "uq_mlops_run_active",
    run.c.namespace,
    run.c.strategy,
    run.c.kind,
    unique=True,
    postgresql_where=_active,
    sqlite_where=_active,
)
Index("ix_mlops_run_strategy_created", run.c.namespace, run.c.strategy, run.c.created_at)
Index("ix_mlops_run_created", run.c.namespace, run.c.created_at)

stage = Table(
    "mlops_stage",
    metadata,
    Column("run_id", String(155), ForeignKey("mlops_run.run_id", ondelete="CASCADE"), primary_key=True),
    Column("stage", String(16), primary_key=True),
    Column("state", String(20), nullable=False),
    # copied from the run, so that the reconciler and a claim read one table
    Column("strategy", String(63), nullable=False),
    Column("executor", String(8), nullable=False),
    Column("device", String(8), nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("deadline_s", Float, nullable=False),
    # who holds it
    Column("token", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("lease_until", Timestamp),
    Column("deadline_at", Timestamp),
    Column("worker", String(255)),
    Column("claimed_task_id", String(155)),
    # its bell
    Column("publish_no", Integer, nullable=False),
    Column("published_at", Timestamp),  # NULL: the message of `publish_no` is not known to be sent
    Column("ring_at", Timestamp, nullable=False),  # from when on the reconciler may send another message
    Column("ring_backoff_s", Float, nullable=False),
    Column("queue", String(63)),
    Column("task_id", String(155)),
    Column("parent_task_id", String(155)),
    Column("not_before", Timestamp),
    # what it did
    Column("queued_at", Timestamp, nullable=False),
    Column("started_at", Timestamp),
    Column("finished_at", Timestamp),
    Column("progress", Json),
    Column("checkpoint", Json),
    Column("result", Json),
    Column("error", Text),
)
_queued = text("state = 'queued'")
_running = text("state = 'running'")
Index("ix_mlops_stage_ring", stage.c.ring_at, postgresql_where=_queued, sqlite_where=_queued)
Index("ix_mlops_stage_lease", stage.c.lease_until, postgresql_where=_running, sqlite_where=_running)

drift_report = Table(
    "mlops_drift_report",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("run_id", String(155), ForeignKey("mlops_run.run_id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("namespace", String(63), nullable=False),
    Column("strategy", String(63), nullable=False),
    Column("as_of", Date),
    Column("report", Json, nullable=False),
    Column("created_at", Timestamp, nullable=False),
    # where the registry shows it; NULL: not yet
    Column("logged_at", Timestamp),
    Column("registry_run_id", String(64)),
)
_unlogged = text("logged_at IS NULL")
Index("ix_mlops_drift_report_as_of", drift_report.c.namespace, drift_report.c.strategy, drift_report.c.as_of)
Index("ix_mlops_drift_report_unlogged", drift_report.c.id, postgresql_where=_unlogged, sqlite_where=_unlogged)

promotion = Table(
    "mlops_promotion",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("run_id", String(155), ForeignKey("mlops_run.run_id"), unique=True),
    Column("namespace", String(63), nullable=False),
    Column("strategy", String(63), nullable=False),
    Column("model_name", String(255), nullable=False),
    Column("version", String(63), nullable=False),
    Column("decision", String(20), nullable=False),
    Column("reasons", Json, nullable=False),
    Column("evidence", Json, nullable=False),
    Column("evidence_digest", String(128), nullable=False),
    Column("actor", Text, nullable=False),
    Column("target_stage", String(16), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("previous_version", String(63)),
    Column("as_of", Date),
    Column("created_at", Timestamp, nullable=False),
    Column("projected_at", Timestamp),
)
_unprojected = text("projected_at IS NULL")
Index("ix_mlops_promotion_strategy", promotion.c.namespace, promotion.c.strategy, promotion.c.id)
Index("ix_mlops_promotion_unprojected", promotion.c.id, postgresql_where=_unprojected, sqlite_where=_unprojected)

champion = Table(
    "mlops_champion",
    metadata,
    Column("namespace", String(63), primary_key=True),
    Column("strategy", String(63), primary_key=True),
    Column("version", String(63)),
    Column("seq", BigInteger, nullable=False),
    Column("as_of", Date),
    Column("promotion_id", BigInteger, ForeignKey("mlops_promotion.id")),
    Column("changed_at", Timestamp, nullable=False),
)

outbox = Table(
    "mlops_outbox",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("run_id", String(155), ForeignKey("mlops_run.run_id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("created_at", Timestamp, nullable=False),
    Column("delivered_at", Timestamp),
)
_undelivered = text("delivered_at IS NULL")
Index("ix_mlops_outbox_undelivered", outbox.c.id, postgresql_where=_undelivered, sqlite_where=_undelivered)

schedule = Table(
    "mlops_schedule",
    metadata,
    Column("key", String(127), primary_key=True),
    Column("strategy", String(63), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("cron", String(127), nullable=False),
    Column("offset_s", Float, nullable=False),
    Column("grace_s", Float, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("last_slot", Timestamp),
    Column("last_note", Text),
)

worker = Table(
    "mlops_worker",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("role", String(63), nullable=False),
    Column("queues", Json, nullable=False),
    Column("device", String(8), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("host", String(255), nullable=False),
    Column("concurrency", Integer, nullable=False),
    Column("draining", Boolean, nullable=False, server_default=false()),
    Column("seen_at", Timestamp, nullable=False),
)

policy = Table(
    "mlops_policy",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("strategy", String(63), nullable=False, index=True),
    Column("path", String(127), nullable=False),  # `drift.alert_share`
    Column("value", Json),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", Timestamp, nullable=False),
)

audit = Table(
    "mlops_audit",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("actor", Text, nullable=False),
    Column("action", String(63), nullable=False),  # `run.cancel`
    Column("subject", String(255), nullable=False, index=True),
    Column("created_at", Timestamp, nullable=False),
)

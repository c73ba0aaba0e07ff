"""The ledger's tables. What changes here needs a migration in `mlops/ledger/migrations/versions`."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Date,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
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
    Column("batch_id", String(32)),  # of the runs that were started together with it
    UniqueConstraint("namespace", "strategy", "kind", "slot"),
)
_active = text("state IN ('queued', 'running') AND kind NOT IN ('rollback', 'compare')")  # records.NEVER_BLOCKED
Index(
    "uq_mlops_run_active",
    run.c.namespace,
    run.c.strategy,
    run.c.kind,
    unique=True,
    postgresql_where=_active,
)
Index("ix_mlops_run_strategy_created", run.c.namespace, run.c.strategy, run.c.created_at)
Index("ix_mlops_run_created", run.c.namespace, run.c.created_at)
# what a page filters by; a rare state or kind is not looked for among all runs
Index("ix_mlops_run_state_created", run.c.namespace, run.c.state, run.c.created_at)
Index("ix_mlops_run_kind_created", run.c.namespace, run.c.kind, run.c.created_at)
_open = text("state IN ('queued', 'running')")
Index("ix_mlops_run_open", run.c.created_at, postgresql_where=_open)
Index("ix_mlops_run_batch", run.c.batch_id, run.c.created_at, postgresql_where=text("batch_id IS NOT NULL"))

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
    Column("grant_key", String(32)),  # of the last grant; a number may be granted again after a restore
    Column("attempt", Integer, nullable=False),
    Column("lease_until", Timestamp),
    Column("deadline_at", Timestamp),
    Column("worker", String(255)),
    Column("claimed_task_id", String(155)),
    # its message
    Column("publish_no", Integer, nullable=False),
    Column("published_at", Timestamp),  # NULL: the message of `publish_no` is not known to be sent
    Column("ring_at", Timestamp, nullable=False),  # from when on the reconciler may send another message
    Column("ring_backoff_s", Float, nullable=False),
    Column("queue", String(63)),
    Column("task_id", String(155)),
    Column("parent_task_id", String(155)),
    Column("not_before", Timestamp),
    Column("traceparent", String(55)),  # of whoever asked for the run, so that its trace goes on; NULL: none
    # what it did
    Column("queued_at", Timestamp, nullable=False),
    Column("started_at", Timestamp),
    Column("claimed_at", Timestamp),  # by its last grant; `started_at`: by its first
    Column("finished_at", Timestamp),
    Column("progress", Json),
    Column("checkpoint", Json),
    Column("result", Json),
    Column("error", Text),
)
_queued = text("state = 'queued'")
_running = text("state = 'running'")
Index("ix_mlops_stage_ring", stage.c.ring_at, postgresql_where=_queued)
Index("ix_mlops_stage_lease", stage.c.lease_until, postgresql_where=_running)
_succeeded = text("state = 'succeeded'")
Index("ix_mlops_stage_finished", stage.c.stage, stage.c.finished_at, postgresql_where=_succeeded)
_trained = text("stage = 'train' AND state = 'succeeded'")
Index("ix_mlops_stage_trained", stage.c.strategy, stage.c.finished_at, postgresql_where=_trained)

answered_start = Table(
    "mlops_answered_start",
    metadata,
    Column("task_id", String(155), primary_key=True),
    # the run that was active; while it is kept, the start opens none of its own
    Column("run_id", String(155), ForeignKey("mlops_run.run_id", ondelete="CASCADE"), nullable=False, index=True),
    Column("created_at", Timestamp, nullable=False),
)

attempt = Table(
    "mlops_attempt",
    metadata,
    Column("run_id", String(155), ForeignKey("mlops_run.run_id", ondelete="CASCADE"), primary_key=True),
    Column("stage", String(16), primary_key=True),
    Column("token", BigInteger, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("worker", String(255)),
    Column("task_id", String(155)),
    Column("queued_at", Timestamp, nullable=False),  # since when it waited for this claim
    Column("claimed_at", Timestamp, nullable=False),
    Column("ended_at", Timestamp, nullable=False),
    Column("error", Text),
)

drift_report = Table(
    "mlops_drift_report",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("run_id", String(155), ForeignKey("mlops_run.run_id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("namespace", String(63), nullable=False),
    Column("strategy", String(63), nullable=False),
    Column("as_of", Date),
    Column("report", Json, nullable=False),
    Column("created_at", Timestamp, nullable=False),
    # what the report says in short, so that a list need not read whole reports
    Column("verdict", String(16)),
    Column("rule", String(16)),
    Column("raw_verdict", String(16)),
    Column("share", Float),
    Column("alert_share", Float),
    Column("p_value", Float),
    Column("alpha", Float),
    Column("n_placements", Integer),
    # where the registry shows it; NULL: not yet
    Column("logged_at", Timestamp),
    Column("registry_run_id", String(64)),
)
_unlogged = text("logged_at IS NULL")
Index("ix_mlops_drift_report_as_of", drift_report.c.namespace, drift_report.c.strategy, drift_report.c.as_of)
Index("ix_mlops_drift_report_newest", drift_report.c.namespace, drift_report.c.id)
Index("ix_mlops_drift_report_unlogged", drift_report.c.id, postgresql_where=_unlogged)

promotion = Table(
    "mlops_promotion",
    metadata,
    Column("id", BigInteger, primary_key=True),
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
    # what the version is known by, beside its number; NULL: written by an earlier version of this system
    Column("model_sha256", String(64)),
    Column("made_by", String(155)),
    Column("trained_as_of", Date),
)
_unprojected = text("projected_at IS NULL")
Index("ix_mlops_promotion_strategy", promotion.c.namespace, promotion.c.strategy, promotion.c.id)
Index("ix_mlops_promotion_unprojected", promotion.c.id, postgresql_where=_unprojected)
_awaiting = text("decision = 'await_approval'")
Index("ix_mlops_promotion_awaiting", promotion.c.id, postgresql_where=_awaiting)

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

model_file = Table(
    "mlops_model_file",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("model_name", String(255), nullable=False),
    Column("version", String(63)),  # NULL: noted before it was registered
    Column("made_by", String(155), nullable=False, index=True),
    Column("sha256", String(64), nullable=False),
    Column("recorded_by", Text, nullable=False),
    Column("reason", Text),
    Column("recorded_at", Timestamp, nullable=False),
)
Index("ix_mlops_model_file_version", model_file.c.model_name, model_file.c.version)

registry_finding = Table(
    "mlops_registry_finding",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("strategy", String(63), nullable=False),
    Column("kind", String(20), nullable=False),  # a `FindingKind`, or `changed_by_hand`
    # what it is about: the champion's seq, the version with its model, or when changes by hand began
    Column("key", String(320), nullable=False),
    Column("words", Text, nullable=False),
    Column("found_at", Timestamp, nullable=False),
    Column("settled_at", Timestamp),
    Column("settled_by", Text),  # a person; NULL with `settled_at`: it is so no more
    Column("reason", Text),
    Column("n_times", Integer, nullable=False, server_default="1"),  # of a change by hand: how often it was settled
    UniqueConstraint("strategy", "kind", "key"),
)

outbox = Table(
    "mlops_outbox",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("run_id", String(155), ForeignKey("mlops_run.run_id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("created_at", Timestamp, nullable=False),
    Column("delivered_at", Timestamp),
)
_undelivered = text("delivered_at IS NULL")
Index("ix_mlops_outbox_undelivered", outbox.c.id, postgresql_where=_undelivered)

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
    Column("id", BigInteger, primary_key=True),
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
    Column("id", BigInteger, primary_key=True),
    Column("actor", Text, nullable=False),
    Column("action", String(63), nullable=False),  # `run.cancel`
    Column("subject", String(255), nullable=False, index=True),
    Column("created_at", Timestamp, nullable=False),
    Column("address", String(64)),  # where the request came from; NULL for what the ledger notes itself
    Column("detail", Json),
)
Index("ix_mlops_audit_actor", audit.c.actor, audit.c.id)
Index("ix_mlops_audit_action", audit.c.action, audit.c.created_at)

user = Table(
    "mlops_user",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", Timestamp, nullable=False),
    Column("disabled_at", Timestamp),
    Column("device_key", String(64)),  # what remembered browsers are signed with; NULL: none is remembered
)

sign_in_limit = Table(
    "mlops_sign_in_limit",
    metadata,
    Column("key", String(160), primary_key=True),  # `name anna`, `address 192.0.2.7`
    Column("user_name", String(63)),
    Column("is_kept", Boolean, nullable=False),
    Column("level", Float, nullable=False),  # wrong passwords at `seen_at`; it falls by one an hour
    Column("closed_until", Timestamp),
    Column("seen_at", Timestamp, nullable=False),
)

session = Table(
    "mlops_session",
    metadata,
    Column("digest", String(64), primary_key=True),  # SHA-256 of the cookie
    Column("user_name", String(63), ForeignKey("mlops_user.name", ondelete="CASCADE"), nullable=False, index=True),
    Column("csrf", String(64), nullable=False),
    Column("address", String(64)),
    Column("agent", String(255)),
    Column("created_at", Timestamp, nullable=False),
    Column("seen_at", Timestamp, nullable=False),
    Column("expires_at", Timestamp, nullable=False),
)

token = Table(
    "mlops_token",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", String(63), nullable=False),
    Column("user_name", String(63), ForeignKey("mlops_user.name", ondelete="CASCADE"), nullable=False, index=True),
    Column("role", String(16), nullable=False),
    Column("digest", String(64), nullable=False),  # SHA-256 of the secret
    Column("created_at", Timestamp, nullable=False),
    Column("used_at", Timestamp),
    Column("expires_at", Timestamp),
    Column("revoked_at", Timestamp),
)

artifact_size = Table(
    "mlops_artifact_size",
    metadata,
    Column("registry_run_id", String(64), primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("started_at", Timestamp, nullable=False),
    Column("measured_at", Timestamp, nullable=False),
)
Index("ix_mlops_artifact_size_started", artifact_size.c.started_at, artifact_size.c.bytes)

identity = Table(
    "mlops_identity",
    metadata,
    Column("only", Boolean, primary_key=True),  # one row
    Column("ledger_id", String(32), nullable=False),
    Column("made_at", Timestamp, nullable=False),
)

position = Table(
    "mlops_position",
    metadata,
    Column("name", String(16), primary_key=True),  # `ledger`, the one row
    Column("number", BigInteger, nullable=False),  # counts up with each pass of the reconciler
    Column("mark", String(32), nullable=False),  # random, of this number
    Column("noted_at", Timestamp, nullable=False),
    # the ledger was set back to this time, and what others hold of the time after it was not looked through yet
    Column("outcomes_since", Timestamp),
    Column("registry_since", Timestamp),
    # the last time that this happened: to when, and at when
    Column("set_back_to", Timestamp),
    Column("set_back_at", Timestamp),
)

quarantine = Table(
    "mlops_quarantine",
    metadata,
    Column("kind", String(16), primary_key=True),  # version, run (of MLflow), checkpoint
    Column("name", String(255), primary_key=True),  # `acis_growth_classifier/7`; the run's id
    Column("run_id", String(155)),  # the run that made it, which the ledger does not know
    Column("reason", Text, nullable=False),
    Column("found_at", Timestamp, nullable=False),
    Column("settled_at", Timestamp),  # a person released it, or had it deleted
    Column("settled_by", Text),
    Column("settled_as", String(16)),
)

# One row for each batch of predictions that was taken in: a batch that is sent twice is written once.
prediction_batch = Table(
    "mlops_prediction_batch",
    metadata,
    Column("batch_id", String(64), primary_key=True),
    Column("origin", String(16), nullable=False),  # `run`, `service`, `router`
    Column("n_rows", Integer, nullable=False),
    Column("newest", Date),  # newest date that it predicts; what is older than the retention goes with its partition
    Column("written_at", Timestamp, nullable=False),
)
Index("ix_mlops_prediction_batch_newest", prediction_batch.c.newest)

# Partitions of a month, `mlops_prediction_202611`, are made by the writer and dropped by the retention.
prediction = Table(
    "mlops_prediction",
    metadata,
    Column("namespace", String(63), nullable=False),
    Column("strategy", String(63), nullable=False),
    Column("version", String(16), nullable=False),
    Column("model_sha256", String(64), nullable=False),
    Column("variant", String(16), nullable=False),  # `champion`
    Column("ticker", Text, nullable=False),
    Column("as_of", Date, nullable=False),  # of the features
    Column("predicted_at", Timestamp, nullable=False),
    Column("probability", Float, nullable=False),  # of the positive class
    Column("row_digest", LargeBinary, nullable=False),  # of the features as the model read them
    Column("batch_id", String(64), nullable=False),
    postgresql_partition_by="RANGE (as_of)",
)
Index("ix_mlops_prediction_strategy", prediction.c.namespace, prediction.c.strategy, prediction.c.as_of)

# A day of a version's predictions against what came. Append-only: a restated outcome is another row.
live_score = Table(
    "mlops_live_score",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("namespace", String(63), nullable=False),
    Column("strategy", String(63), nullable=False),
    Column("version", String(16), nullable=False),
    Column("model_sha256", String(64), nullable=False),
    Column("variant", String(16), nullable=False),
    Column("as_of", Date, nullable=False),
    Column("n_predictions", Integer, nullable=False),
    Column("n_labelled", Integer, nullable=False),
    Column("score", Json, nullable=False),  # mlops.domain.live.day_score.DayScore
    Column("digest", String(64), nullable=False),  # of the score; an equal one is not written again
    Column("run_id", String(155)),  # that found it
    Column("known_at", Timestamp, nullable=False),
)
Index("ix_mlops_live_score_strategy", live_score.c.namespace, live_score.c.strategy, live_score.c.as_of)

# What a scoring said beside the days: estimates, slices, attributions, parity, decay.
live_report = Table(
    "mlops_live_report",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("run_id", String(155), nullable=False, unique=True),
    Column("namespace", String(63), nullable=False),
    Column("strategy", String(63), nullable=False),
    Column("as_of", Date, nullable=False),
    Column("document", Json, nullable=False),
    Column("created_at", Timestamp, nullable=False),
)
Index("ix_mlops_live_report_strategy", live_report.c.namespace, live_report.c.strategy, live_report.c.as_of)

# Two versions that answer side by side. `plan` and what it was started with never change.
experiment = Table(
    "mlops_experiment",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("namespace", String(63), nullable=False),
    Column("strategy", String(63), nullable=False),
    Column("plan", Json, nullable=False),  # mlops.domain.experiments.records.ExperimentPlan
    Column("champion_version", String(63), nullable=False),
    Column("champion_seq", BigInteger, nullable=False),
    Column("champion_sha256", String(64)),
    Column("champion_made_by", String(155)),
    Column("challenger_version", String(63), nullable=False),
    Column("challenger_sha256", String(64)),
    Column("challenger_made_by", String(155)),
    Column("started_as_of", Date, nullable=False),
    Column("started_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("started_at", Timestamp, nullable=False),
    # where it is
    Column("step", Integer, nullable=False),
    Column("step_since", Date, nullable=False),
    Column("held", Boolean, nullable=False),
    Column("paused", Boolean, nullable=False),  # since the ledger was set back
    # how it ended; NULL: it runs
    Column("ended_as", String(16)),  # mlops.domain.experiments.decision.ENDS
    Column("end_words", Text),
    Column("ended_by", Text),
    Column("ended_at", Timestamp),
    Column("promotion_id", BigInteger, ForeignKey("mlops_promotion.id")),  # the decision that it led to
)
_unended = text("ended_at IS NULL")
Index(
    "uq_mlops_experiment_running",
    experiment.c.namespace,
    experiment.c.strategy,
    unique=True,
    postgresql_where=_unended,
)
Index("ix_mlops_experiment_strategy", experiment.c.namespace, experiment.c.strategy, experiment.c.id)

# A day's look at an experiment, append-only: the evidence of its end.
experiment_look = Table(
    "mlops_experiment_look",
    metadata,
    Column("experiment_id", BigInteger, ForeignKey("mlops_experiment.id"), primary_key=True),
    Column("as_of", Date, primary_key=True),
    Column("n_days", Integer, nullable=False),
    Column("mean", Float),
    Column("low", Float),
    Column("high", Float),
    Column("share", Float, nullable=False),
    Column("guardrails", Json, nullable=False),
    Column("action", String(16), nullable=False),
    Column("words", Text, nullable=False),
    Column("differences", Json, nullable=False),  # [date, difference] of each scored day
    Column("run_id", String(155)),  # that looked
    Column("looked_at", Timestamp, nullable=False),
)

# Answers of one process, version and minute, counted up; kept for some weeks.
answer_count = Table(
    "mlops_answer_count",
    metadata,
    Column("strategy", String(63), primary_key=True),
    Column("minute", Timestamp, primary_key=True),
    Column("variant", String(16), primary_key=True),
    Column("version", String(63), primary_key=True),
    Column("model_sha256", String(64), primary_key=True),
    Column("writer", String(64), primary_key=True),
    Column("n", Integer, nullable=False),
    Column("n_errors", Integer, nullable=False),
    Column("n_positive", Integer, nullable=False),
    Column("n_missing_rows", Integer, nullable=False),
    Column("latency_ms", ARRAY(Integer), nullable=False),  # by bucket of LATENCY_BOUNDS_MS
)
Index("ix_mlops_answer_count_minute", answer_count.c.minute)

# How far each strategy's features have come, as the reconciler saw it last.
watermark = Table(
    "mlops_watermark",
    metadata,
    Column("strategy", String(63), primary_key=True),
    Column("newest", Date),  # newest complete date
    Column("late_date", Date),  # whose features should be there and are not; NULL: none
    Column("late_words", Text),
    Column("late_since", Timestamp),
    Column("seen_at", Timestamp, nullable=False),
)

"""Ledgers whose clock a test can move, and requests and decisions to feed them.

The ledger's SQL is left as it is: the search path puts a schema before `pg_catalog` whose `clock_timestamp()` is the
real one plus what a table says. Tests share one database per process, which is emptied before each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Engine, event, insert, make_url, text

from config.roles import DATABASE_USERS
from devstack.postgres import make_users
from mlops.domain.ports import ModelVersion
from mlops.domain.promotion.records import PromotionDecision
from mlops.domain.records import Accepted, Grant, Kind, RunRequest, Sent, Stage
from mlops.ledger import tables
from mlops.ledger.columns import now
from mlops.ledger.engine import Database
from mlops.ledger.ledger import SqlLedger
from mlops.ledger.schema import migrate

LEASE_S = 60.0
DEADLINE_S = 900.0
MAX_ATTEMPTS = 3
POLICY: dict[str, Any] = {
    "execution": {
        "max_attempts": MAX_ATTEMPTS,
        "drift_deadline_s": DEADLINE_S,
        "train_deadline_s": 2700.0,
        "promote_deadline_s": 600.0,
    },
    "training": {"device": "auto"},
}
_MOVED_CLOCK = (
    "CREATE FUNCTION moved.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS "
    "'SELECT pg_catalog.clock_timestamp() + (SELECT by FROM moved.shift)'"
)
_TABLES = (
    "mlops_run, mlops_stage, mlops_drift_report, mlops_promotion, mlops_champion, mlops_outbox, "
    "mlops_schedule, mlops_worker, mlops_policy, mlops_audit, mlops_attempt, mlops_session, mlops_token, mlops_user, "
    "mlops_sign_in_limit, "
    "mlops_artifact_size, mlops_answered_start, mlops_registry_finding, mlops_position, mlops_quarantine, "
    "mlops_model_file, mlops_prediction_batch, mlops_live_score, mlops_live_report, mlops_watermark, "
    "mlops_experiment, mlops_experiment_look, mlops_answer_count"
)

#: Of a few rows each, which TRUNCATE takes forty times as long for; rows that refer to others need no order here.
_EMPTY = "; ".join(
    [
        "SET LOCAL session_replication_role = replica",
        *(f"DELETE FROM {table}" for table in _TABLES.split(", ")),
        # Months that another test wrote; a table that is not there is as empty.
        """DO $$ DECLARE month text; BEGIN
        FOR month IN SELECT CAST(CAST(inhrelid AS regclass) AS text) FROM pg_inherits
          WHERE inhparent = CAST('mlops_prediction' AS regclass)
        LOOP EXECUTE 'DROP TABLE ' || month; END LOOP; END $$""",
        "UPDATE moved.shift SET by = interval '0'",
    ]
)


def record_file(ledger: SqlLedger, version: ModelVersion) -> None:
    """What a training notes of a version that a test put into the registry itself: the digest that was logged."""
    with ledger.database.transaction() as connection:
        connection.execute(
            insert(tables.model_file).values(
                model_name=version.name,
                version=version.version,
                made_by=version.identity.made_by,
                sha256=version.identity.sha256,
                recorded_by="training",
                recorded_at=now(),
            )
        )


@dataclass(frozen=True, kw_only=True)
class TimedLedger:
    """A ledger and its clock."""

    ledger: SqlLedger
    owner: Database
    """The same as the tables' owner, who may do everything."""
    advance: Callable[[float], None]
    """Let so many seconds pass."""
    wipe: Callable[[], None]
    """Empty all tables and set the clock right."""


def with_movable_clock(url: str) -> str:
    """The same PostgreSQL database with the ledger's tables, and a `clock_timestamp()` that tests move."""
    database = Database(url)
    with database.transaction() as connection:
        for statement in (
            "CREATE SCHEMA moved",
            "CREATE TABLE moved.shift (by interval NOT NULL)",
            "INSERT INTO moved.shift VALUES (interval '0')",
            _MOVED_CLOCK,
        ):
            connection.execute(text(statement))
    options = "-c search_path=moved,public,pg_catalog"
    moved = make_url(url).update_query_dict({"options": options}).render_as_string(hide_password=False)
    make_users(url, dict.fromkeys(DATABASE_USERS, str(make_url(url).password)))
    migrate(moved)
    with database.transaction() as connection:
        connection.exec_driver_sql("GRANT USAGE ON SCHEMA moved TO PUBLIC; GRANT SELECT ON moved.shift TO PUBLIC")
    database.close()
    return moved


def as_user(url: str, user: str) -> str:
    """The same database as one of the users of `config.roles.DATABASE_USERS`, who share a password in tests."""
    return make_url(url).set(username=user).render_as_string(hide_password=False)


@contextmanager
def postgres_ledger(url: str) -> Iterator[TimedLedger]:
    """On a database that `with_movable_clock` prepared; empty."""
    database = Database(url)

    def wipe() -> None:
        with database.transaction() as connection:
            connection.exec_driver_sql(_EMPTY)

    def advance(seconds: float) -> None:
        with database.transaction() as connection:
            connection.execute(text("UPDATE moved.shift SET by = by + make_interval(secs => :s)"), {"s": seconds})

    # By the user that the admin page has: what its grants lack shows in every test.
    ledger = SqlLedger(Database(as_user(url, "acis_admin")), lease_s=LEASE_S)
    wipe()
    try:
        yield TimedLedger(ledger=ledger, owner=database, advance=advance, wipe=wipe)
    finally:
        ledger.close()
        database.close()


@pytest.fixture(scope="session")
def ledger_postgres_url(postgres_database: Callable[[], str]) -> str:
    """A PostgreSQL database with the tables and a movable clock."""
    return with_movable_clock(postgres_database())


@pytest.fixture(scope="session")
def shared_ledger(ledger_postgres_url: str) -> Iterator[TimedLedger]:
    """A server and its migrations take seconds, so once is enough."""
    with postgres_ledger(ledger_postgres_url) as timed:
        yield timed


@pytest.fixture
def timed(shared_ledger: TimedLedger) -> TimedLedger:
    """An empty ledger and its clock."""
    shared_ledger.wipe()
    return shared_ledger


def request_for(strategy: str = "growth", kind: Kind = Kind.PIPELINE, **changes: Any) -> RunRequest:
    """A request as the scheduler makes it."""
    return RunRequest(**{"strategy": strategy, "kind": kind, "policy": POLICY, "reason": "schedule", **changes})


def decision_for(version: str, *, expected_seq: int = 0, **changes: Any) -> PromotionDecision:
    """A promotion of that version."""
    return PromotionDecision(
        **{
            "decision": "promote",
            "version": version,
            "model_name": "acis_growth_classifier",
            "reasons": ("better",),
            "evidence": {"roc_auc": 0.7},
            "evidence_digest": "sha256:0",
            "actor": "policy",
            "target_stage": "Production",
            "expected_seq": expected_seq,
            **changes,
        }
    )


def accepted_and_sent(ledger: SqlLedger, request: RunRequest | None = None, *, queue: str = "drift") -> Accepted:
    """A run whose first message is in the queue."""
    accepted = ledger.accept(request or request_for())
    assert accepted.publication is not None
    ledger.published([Sent(publication=accepted.publication, queue=queue, task_id=f"task-{accepted.run_id}-1")])
    return accepted


def granted(ledger: SqlLedger, run_id: str, stage: Stage = Stage.DRIFT, *, worker: str = "w1", **more: Any) -> Grant:
    """The stage, claimed."""
    grant = ledger.claim(run_id, stage, worker=worker, **more)
    assert grant is not None, f"{stage} of {run_id} could not be claimed"
    return grant


def promoting(ledger: SqlLedger, strategy: str = "growth", **changes: Any) -> Grant:
    """A claimed promote stage of a new run."""
    accepted = ledger.accept(request_for(strategy, Kind.ROLLBACK, **changes))
    return granted(ledger, accepted.run_id, Stage.PROMOTE)


@contextmanager
def answering(sqlstate: str) -> Iterator[None]:
    """PostgreSQL answers every statement of this process with an error of its own under that SQLSTATE."""

    def fail(_connection: object, cursor: Any, *_: object) -> None:
        cursor.execute(f"DO $$ BEGIN RAISE EXCEPTION 'as the test wants it' USING ERRCODE = '{sqlstate}'; END $$")

    event.listen(Engine, "before_cursor_execute", fail)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", fail)

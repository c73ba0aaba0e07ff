"""Migrations beside readers and writers, cut off in the middle, and two at once; and what `acis doctor` compares."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg2
import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.engine import Engine

from config.roles import DATABASE_USERS
from config.settings import ROOT
from devstack.postgres import make_users
from mlops.domain.errors import LedgerUnavailable
from mlops.ledger import schema
from mlops.ledger.engine import STATEMENT_TIMEOUT_S, Database
from mlops.ledger.schema import await_migration, migrate, schema_differences, schema_state
from tests.support.ledgers import as_user
from tests.support.waiting import wait_for

MADE_UP = ROOT / "tests" / "support" / "revisions"
#: `acis migrate` with that folder's revision.
MIGRATE = """
import sys
from pathlib import Path
from mlops.ledger import schema
schema.REVISIONS = (*schema.REVISIONS, Path(sys.argv[1]))
schema.migrate(sys.argv[2])
"""
WHEN = "2026-01-05T03:00:00Z"
_RUNS = (
    "INSERT INTO mlops_run (run_id, namespace, strategy, kind, state, executor, reason, requested_by, policy, params,"
    " created_at) SELECT 'r' || n, 'live', 's' || n % 100, 'check', 'succeeded', 'celery', '', '', '{}', '{}', :at"
    " FROM generate_series(1, :n) AS n"
)


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    made = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    yield made
    made.dispose()


@pytest.fixture
def newer(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables of this version, and a migration of the next one."""
    migrate(postgres_url)
    monkeypatch.setattr(schema, "REVISIONS", (*schema.REVISIONS, MADE_UP))


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    made = Database(postgres_url)
    yield made
    made.close()


def run(engine: Engine, statement: str, **values: object) -> None:
    with engine.connect() as connection:
        connection.execute(text(statement), values)


@contextmanager
def reader(url: str, statement: str = "SELECT count(*) FROM mlops_run") -> Iterator[psycopg2.extensions.connection]:
    """Somebody who has read a table in a transaction, and does not end it."""
    parts = make_url(url)
    connection = psycopg2.connect(
        host=parts.host, port=parts.port, user=parts.username, password=parts.password, dbname=parts.database,
        application_name="somebody's notebook",
    )  # fmt: skip
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
        yield connection
    finally:
        connection.close()


@pytest.mark.usefixtures("newer")
def test_a_reader_who_holds_a_table_is_named_and_waited_for(postgres_url: str) -> None:
    said: list[str] = []
    has_waited = threading.Event()

    def say(words: str) -> None:
        said.append(words)
        if "waits for pid" in words:
            has_waited.set()

    with reader(postgres_url, "SELECT count(*) FROM mlops_stage") as held, ThreadPoolExecutor(1) as pool:
        migrating = pool.submit(migrate, postgres_url, say=say)
        assert has_waited.wait(60)
        held.rollback()
        assert migrating.result(60).is_current
    waited = next(words for words in said if "waits for pid" in words)
    assert "user acis" in waited
    assert "application somebody's notebook" in waited
    assert "idle in transaction since" in waited
    assert "SELECT count(*) FROM mlops_stage" in waited


@pytest.mark.usefixtures("newer")
def test_a_holder_who_never_ends_is_named_when_the_patience_ends(postgres_url: str) -> None:
    with (
        reader(postgres_url, "SELECT count(*) FROM mlops_stage"),
        pytest.raises(LedgerUnavailable, match=r"held by pid \d+ .*pg_terminate_backend.*acis migrate") as given_up,
    ):
        migrate(postgres_url, patience_s=2.0)
    assert "does not answer" not in str(given_up.value)
    assert migrate(postgres_url).is_current


@pytest.mark.usefixtures("newer")
def test_a_writer_waits_a_moment_only_while_a_migration_waits_for_a_reader(postgres_url: str, engine: Engine) -> None:
    run(engine, _RUNS, n=1, at=WHEN)
    run(engine, "INSERT INTO mlops_drift_report (run_id, namespace, strategy, report, created_at)"
                " VALUES ('r1', 'live', 's1', '{}', now())")  # fmt: skip
    has_waited = threading.Event()

    def say(words: str) -> None:
        if "waits for pid" in words:
            has_waited.set()

    with reader(postgres_url, "SELECT 1 FROM mlops_drift_report") as held, ThreadPoolExecutor(1) as pool:
        migrating = pool.submit(migrate, postgres_url, say=say)
        assert has_waited.wait(60)
        # A ledger's statement ends after 15 s; whoever waits behind the lock of a migration must be long through by then.
        run(
            engine, f"SET statement_timeout = '{STATEMENT_TIMEOUT_S // 3}s'; UPDATE mlops_drift_report SET report = '1'"
        )
        assert not migrating.done()
        held.rollback()
        assert migrating.result(60).is_current


def test_a_step_may_take_longer_than_a_statement_of_the_ledger(postgres_url: str, database: Database) -> None:
    with database.unhurried() as connection:
        assert connection.scalar(text("SHOW statement_timeout")) == "0"
    with database.reading() as connection:
        assert connection.scalar(text("SHOW statement_timeout")) == f"{STATEMENT_TIMEOUT_S}s"


@pytest.mark.usefixtures("newer")
def test_a_migration_that_was_killed_while_it_built_an_index_is_finished_by_the_next(
    postgres_url: str, engine: Engine, database: Database
) -> None:
    run(engine, _RUNS, n=1000, at=WHEN)

    def invalid() -> list[str]:
        with engine.connect() as connection:
            return list(
                connection.scalars(text("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"))
            )

    # An index waits for whoever wrote to the table before it began: the kill finds it half built.
    with reader(postgres_url, "UPDATE mlops_run SET reason = 'held' WHERE run_id = 'r1'") as held:
        migrating = subprocess.Popen(
            [sys.executable, "-c", MIGRATE, str(MADE_UP), postgres_url], cwd=ROOT, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_for(lambda: bool(invalid()), "an index is being built", within_s=90.0)
        finally:
            migrating.send_signal(signal.SIGKILL)
            migrating.wait()
        held.rollback()
    wait_for(lambda: _n_migrating(engine) == 0, "the server has ended the dead one's session", within_s=60.0)
    assert not schema_state(postgres_url).is_current
    assert migrate(postgres_url).is_current
    assert invalid() == []
    assert schema_differences(database) == []


# --------------------------------------------------------------------------- those who wait for it


def test_who_waits_goes_on_once_another_process_has_migrated(postgres_url: str) -> None:
    said: list[str] = []

    def until_migrated(_: float) -> None:
        migrate(postgres_url)

    assert await_migration(postgres_url, say=said.append, pause=until_migrated).is_current
    assert [words for words in said if "at revision None; waits for" in words] == said != []


def test_a_schema_that_a_newer_version_made_is_not_waited_for(postgres_url: str) -> None:
    migrate(postgres_url)
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'"))
    engine.dispose()
    assert await_migration(postgres_url, patience_s=0).current == "9999"


def test_a_role_waits_until_it_may_do_its_work(
    postgres_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_users(postgres_url, dict.fromkeys(DATABASE_USERS, str(make_url(postgres_url).password)))

    def all_rights() -> None:
        migrate(postgres_url)

    def newest_without_rights() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(schema, "put_in_force", lambda _: None)
            migrate(postgres_url)

    def cut_off_while_rights_are_given() -> None:
        all_rights()
        with engine.connect() as connection:
            connection.execute(text("REVOKE ALL ON mlops_live_report FROM acis_ledger"))

    steps = [all_rights, cut_off_while_rights_are_given, newest_without_rights]
    said: list[str] = []
    url = as_user(postgres_url, "acis_ledger")
    assert await_migration(url, say=said.append, pause=lambda _: steps.pop()()).is_current
    assert [
        words in line
        for words, line in zip(("revision None", "may read nothing yet", "on mlops_live_report"), said, strict=True)
    ] == [True] * 3
    assert steps == []


def test_who_waits_has_a_stated_patience(postgres_url: str) -> None:
    with pytest.raises(LedgerUnavailable, match="waits for"):
        await_migration(postgres_url, patience_s=0)


def _n_migrating(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(
            connection.scalar(
                text(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND application_name = 'acis-ledger'"
                )
            )
            or 0
        )


def test_two_migrations_at_once_do_the_work_once(postgres_url: str, database: Database) -> None:
    said: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        states = list(pool.map(lambda _: migrate(postgres_url, say=said.append), range(2)))
    assert all(state.is_current for state in states)
    assert schema_differences(database) == []
    assert sum("table mlops_run:" in words for words in said) == 1


@pytest.mark.usefixtures("newer")
def test_rows_are_changed_in_batches_and_those_that_are_done_are_left(
    postgres_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops.ledger.migrations.steps.BATCH", 7)
    run(engine, _RUNS, n=50, at=WHEN)
    run(
        engine,
        "INSERT INTO mlops_drift_report (run_id, namespace, strategy, report, created_at)"
        " SELECT run_id, namespace, strategy, '{}', created_at FROM mlops_run",
    )
    run(
        engine,
        "INSERT INTO mlops_stage (run_id, stage, state, strategy, executor, device, max_attempts, deadline_s, token,"
        " attempt, publish_no, ring_at, ring_backoff_s, queued_at) SELECT run_id, 'drift', 'succeeded', strategy,"
        " 'celery', 'cpu', 3, 60, 1, 1, 1, created_at, 60, created_at FROM mlops_run",
    )
    migrate(postgres_url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM mlops_drift_report WHERE made_up = 'succeeded'")) == 50


@pytest.mark.parametrize(
    ("damage", "found", "mend"),
    [
        ("DROP INDEX ix_mlops_run_open", "index ix_mlops_run_open of mlops_run is missing", "acis migrate"),
        (
            "DROP INDEX uq_mlops_run_active; CREATE INDEX uq_mlops_run_active ON mlops_run (namespace, strategy, kind)",
            "index uq_mlops_run_active of mlops_run is not as expected: CREATE INDEX",
            "DROP INDEX CONCURRENTLY uq_mlops_run_active, then `acis migrate`",
        ),
        (
            "ALTER TABLE mlops_promotion DROP CONSTRAINT uq_mlops_promotion_run_id",
            "constraint uq_mlops_promotion_run_id of mlops_promotion is missing; expected: UNIQUE (run_id)",
            "ALTER TABLE mlops_promotion ADD CONSTRAINT uq_mlops_promotion_run_id UNIQUE (run_id)",
        ),
        ("ALTER TABLE mlops_stage DROP COLUMN progress", "column mlops_stage.progress is missing", "acis restore"),
        (
            "ALTER TABLE mlops_stage ALTER COLUMN token TYPE int",
            "column mlops_stage.token is not as expected: integer NOT NULL; expected: bigint NOT NULL",
            "acis restore",
        ),
        (
            "ALTER TABLE mlops_run ALTER COLUMN kind DROP NOT NULL",
            "column mlops_run.kind is not as expected: character varying(16); expected: character varying(16) NOT NULL",
            "acis restore",
        ),
        ("DROP TABLE mlops_artifact_size", "table mlops_artifact_size is missing", "acis restore"),
    ],
)
def test_whatever_a_restore_left_out_is_found_with_what_mends_it(
    postgres_url: str, engine: Engine, database: Database, damage: str, found: str, mend: str
) -> None:
    migrate(postgres_url)
    run(engine, damage)
    differences = schema_differences(database)
    assert len(differences) == 1
    assert differences[0].found.startswith(found)
    assert mend in differences[0].mend
    with engine.connect() as connection:  # the comparison leaves nothing behind
        assert connection.scalar(text("SELECT count(*) FROM pg_class WHERE relname = 'mlops_run'")) == 1


def test_an_index_that_is_missing_is_built_by_migrating_again(
    postgres_url: str, engine: Engine, database: Database
) -> None:
    migrate(postgres_url)
    run(engine, "DROP INDEX ix_mlops_run_open")
    run(engine, "DROP INDEX uq_mlops_run_active")
    migrate(postgres_url)
    assert schema_differences(database) == []


PARTITIONED = "ix_mlops_prediction_strategy"


def _prediction(engine: Engine, month: str) -> None:
    run(
        engine,
        f"CREATE TABLE mlops_prediction_{month} PARTITION OF mlops_prediction"
        f" FOR VALUES FROM ('{month[:4]}-{month[4:]}-01') TO ('{month[:4]}-{month[4:]}-28')",
    )
    run(
        engine,
        "INSERT INTO mlops_prediction SELECT 'live', 'growth', '1', 's', 'champion', 'T' || i,"
        f" '{month[:4]}-{month[4:]}-02', now(), 0.5, '', 'b' FROM generate_series(1, 50) AS i",
    )


@pytest.mark.parametrize("is_cut_off", [False, True])
def test_a_missing_index_of_a_partitioned_table_is_built_on_each_partition(
    postgres_url: str, engine: Engine, database: Database, is_cut_off: bool
) -> None:
    migrate(postgres_url)
    _prediction(engine, "202610")
    run(engine, f"DROP INDEX {PARTITIONED}")
    _prediction(engine, "202611")
    if is_cut_off:  # after the table's own, before those of its partitions
        run(engine, f"CREATE INDEX {PARTITIONED} ON ONLY mlops_prediction (namespace, strategy, as_of)")
        assert "its build was cut off" in schema_differences(database)[0].found
    _prediction(engine, "202612")
    assert [one.name for one in schema_differences(database)] == [PARTITIONED]
    # Somebody in the middle of writing is waited for, and keeps nobody else from writing.
    writers = "INSERT INTO mlops_prediction SELECT * FROM mlops_prediction_202610"
    with reader(postgres_url, writers) as writing, ThreadPoolExecutor(1) as pool:
        done = pool.submit(migrate, postgres_url)
        wait_for(lambda: _is_waiting(engine), "the index waits for whoever writes", within_s=30.0)
        run(engine, "INSERT INTO mlops_prediction SELECT * FROM mlops_prediction_202611")
        writing.commit()
        assert done.result(timeout=60).is_current
    assert schema_differences(database) == []
    migrate(postgres_url)
    assert schema_differences(database) == []


def _is_waiting(engine: Engine) -> bool:
    with engine.connect() as connection:
        return bool(connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))

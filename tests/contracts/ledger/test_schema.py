from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from mlops.domain.errors import ConfigurationError
from mlops.domain.records import ModelIdentity
from mlops.ledger import open_ledger
from mlops.ledger.engine import Database
from mlops.ledger.schema import VERSION_TABLE, migrate, schema_state
from mlops.ledger.schema_check import schema_differences
from mlops.ledger.tables import metadata


@pytest.fixture
def empty_url(postgres_url: str) -> str:
    return postgres_url


def test_a_database_without_tables_says_how_to_make_them(empty_url: str) -> None:
    assert schema_state(empty_url).current is None
    ledger = open_ledger(empty_url)
    with pytest.raises(ConfigurationError, match="acis migrate"):
        ledger.runs()
    ledger.close()


def test_migrating_brings_the_schema_to_the_newest_and_again_changes_nothing(empty_url: str) -> None:
    assert not schema_state(empty_url).is_current
    assert migrate(empty_url).is_current
    assert migrate(empty_url) == schema_state(empty_url)
    ledger = open_ledger(empty_url)
    assert ledger.runs() == []
    ledger.close()


def test_the_migrations_make_exactly_the_tables_of_the_program(empty_url: str) -> None:
    migrate(empty_url)
    database = Database(empty_url)
    with database.transaction() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, metadata) == []
    assert schema_differences(database) == []
    database.close()


def test_tables_of_others_in_the_same_database_are_left_alone(empty_url: str) -> None:
    database = Database(empty_url)
    with database.transaction() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('theirs')"))
    migrate(empty_url)
    with database.reading() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "theirs"
    database.close()


@pytest.mark.parametrize("url", ["mysql://u:secret@h/d", "sqlite:///ledger.db", "not a url"])
def test_a_database_that_cannot_hold_the_ledger_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"postgresql://") as refused:
        open_ledger(url)
    assert "secret" not in str(refused.value)


def test_sqlite_is_refused_with_what_to_do_instead() -> None:
    with pytest.raises(ConfigurationError, match=r"`make run` starts a PostgreSQL .* Parquet"):
        open_ledger("sqlite:///ledger.db")


def test_reports_from_before_the_registry_showed_any_do_not_wait_for_it(empty_url: str) -> None:
    migrate(empty_url, to="0001")
    database = Database(empty_url)
    with database.transaction() as connection:
        when = "2026-01-05T03:00:00.000000+00:00"
        connection.execute(
            text(
                "INSERT INTO mlops_run (run_id, namespace, strategy, kind, state, executor, reason, requested_by, policy,"
                f" params, created_at) VALUES ('r', 'live', 'growth', 'check', 'succeeded', 'celery', '', '', '{{}}', '{{}}', '{when}')"
            )
        )
        connection.execute(
            text(
                "INSERT INTO mlops_drift_report (run_id, namespace, strategy, report, created_at)"
                f" VALUES ('r', 'live', 'growth', '{{}}', '{when}')"
            )
        )
    migrate(empty_url)
    ledger = open_ledger(empty_url)
    assert ledger.unlogged_reports() == []
    assert ledger.stored_report("r").registry_run_id is None
    ledger.close()
    database.close()


def test_a_ledger_keeps_its_identity_and_no_two_have_the_same(
    empty_url: str, postgres_database: Callable[[], str]
) -> None:
    other_url = postgres_database()
    migrate(empty_url)
    migrate(other_url)
    first, again, other = open_ledger(empty_url), open_ledger(empty_url), open_ledger(other_url)
    assert first.identity() == again.identity()
    assert first.identity().ledger_id != other.identity().ledger_id
    for ledger in (first, again, other):
        ledger.close()


def test_what_earlier_decisions_were_about_is_filled_from_their_evidence(empty_url: str) -> None:
    database, when = Database(empty_url), "2026-01-05T03:00:00.000000+00:00"
    evidence = json.dumps({"model_sha256": "a" * 64})
    migrate(empty_url, to="0006")
    with database.transaction() as connection:
        connection.execute(
            text(
                "INSERT INTO mlops_run (run_id, namespace, strategy, kind, state, executor, reason, requested_by, policy,"
                " params, created_at) VALUES ('r', 'live', 'growth', 'retrain', 'succeeded', 'celery', '', '', '{}',"
                " '{}', :at)"
            ),
            {"at": when},
        )
        connection.execute(
            text(
                "INSERT INTO mlops_stage (run_id, stage, state, strategy, executor, device, max_attempts, deadline_s,"
                " token, attempt, publish_no, ring_at, ring_backoff_s, queued_at, result) VALUES ('r', 'train',"
                " 'succeeded', 'growth', 'celery', 'cpu', 3, 60, 1, 1, 1, :at, 60, :at, :result)"
            ),
            {"at": when, "result": json.dumps({"version": "1"})},
        )
        promotions = [("r", "promote", evidence, 1, "2026-01-02"), (None, "rollback", "{}", 2, "2026-02-02")]
        for run_id, decision, found, seq, as_of in promotions:
            connection.execute(
                text(
                    "INSERT INTO mlops_promotion (run_id, namespace, strategy, model_name, version, decision, reasons,"
                    " evidence, evidence_digest, actor, target_stage, seq, as_of, created_at) VALUES (:run_id, 'live',"
                    " 'growth', 'm', '1', :decision, '[]', :found, '', 'a', 'Production', :seq, :as_of, :at)"
                ),
                {"run_id": run_id, "decision": decision, "found": found, "seq": seq, "as_of": as_of, "at": when},
            )
    migrate(empty_url)
    ledger = open_ledger(empty_url)
    for promotion in ledger.promotions("growth"):
        assert promotion.identity == ModelIdentity(sha256="a" * 64, made_by="r")
        assert promotion.trained_as_of == date(2026, 1, 2)  # a rollback kept the date of the place
    ledger.close()
    database.close()

from __future__ import annotations

from collections.abc import Callable

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from mlops.domain.errors import ConfigurationError
from mlops.ledger.engine import Database
from mlops.ledger.ledger import open_ledger
from mlops.ledger.schema import VERSION_TABLE, migrate, schema_differences, schema_state
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


@pytest.mark.parametrize(
    ("revision", "words"),
    [
        ("0007", "unreleased version made; this one upgrades from 0009 on: run `acis migrate`"),
        ("9999", "knows none after"),
    ],
)
def test_tables_that_this_version_does_not_know_are_left_with_what_to_do(
    empty_url: str, revision: str, words: str
) -> None:
    migrate(empty_url)
    database = Database(empty_url)
    with database.transaction() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = :revision"), {"revision": revision})
    with pytest.raises(ConfigurationError, match=words):
        migrate(empty_url)
    assert schema_state(empty_url).current == revision
    database.close()

"""The database users of the roles, on a real PostgreSQL: none is a superuser, and each does its own work and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psycopg2
import pyarrow as pa
import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from config.roles import DATABASE_USERS
from config.settings import Settings
from devstack.backup import back_up, restore
from devstack.postgres import create_database, drop_database, make_users, set_up_users
from mlops.domain.errors import ConfigurationError
from mlops.domain.promotion.records import ModelIdentity
from mlops.domain.records import Kind, Stage
from mlops.features.source import open_source
from mlops.ledger.engine import Database
from mlops.ledger.grants import GRANTS, let_features_be_read
from mlops.ledger.ledger import SqlLedger
from mlops.ledger.live.predictions import prediction_schema
from mlops.ledger.schema import migrate, schema_differences
from mlops.ledger.studies import Studies
from mlops.ledger.tables import metadata
from tests.support.features import postgres_table
from tests.support.ledgers import as_user, decision_for, promoting, request_for
from tests.support.servers import Databases
from tests.support.services import panel

DENIED = "42501"
_REAL = """
SELECT grantee.rolname AS user, c.relname AS name, array_agg(DISTINCT privilege_type) AS privileges FROM pg_class AS c,
  aclexplode(c.relacl) AS one, pg_roles AS grantee
WHERE grantee.oid = one.grantee AND c.relname LIKE 'mlops\\_%' AND c.relkind IN ('r', 'p') AND c.relname !~ '[0-9]{6}$'
GROUP BY 1, 2"""


@pytest.fixture(scope="module")
def url(postgres_server: Databases) -> Iterator[str]:
    """A ledger whose owner is its superuser; the users of the roles are there."""
    made = postgres_server.make()
    make_users(made, dict.fromkeys(DATABASE_USERS, str(make_url(made).password)))
    migrate(made)
    yield made
    postgres_server.drop(made)


@pytest.fixture
def as_role(url: str) -> Iterator[Callable[[str], Database]]:
    """Connections as one of the users."""
    opened: list[Database] = []

    def connect(user: str) -> Database:
        opened.append(Database(as_user(url, user)))
        return opened[-1]

    yield connect
    for one in opened:
        one.close()


def state_of(database: Database, statement: str) -> str:
    """SQLSTATE with which PostgreSQL refuses a statement; empty where it does it, which is rolled back."""
    engine = create_engine(database.url)
    try:
        with engine.connect() as connection:
            connection.execute(text(statement))
            connection.rollback()
    except (ProgrammingError, OperationalError) as error:
        return str(getattr(error.orig, "pgcode", ""))
    finally:
        engine.dispose()
    return ""


# ---- Who they are


def test_no_user_of_a_role_may_more_than_a_user(url: str, as_role: Callable[[str], Database]) -> None:
    with as_role("acis_ledger").reading() as connection:
        found = connection.execute(
            text(
                "SELECT rolname FROM pg_roles WHERE rolname = ANY(:users) AND NOT (rolsuper OR rolcreatedb "
                "OR rolcreaterole OR rolreplication OR rolbypassrls)"
            ),
            {"users": list(DATABASE_USERS)},
        )
        assert set(found.scalars()) == set(DATABASE_USERS)


def test_every_table_says_what_each_user_may_do_to_it() -> None:
    for user, grants in GRANTS.items():
        assert set(grants) == set(metadata.tables), f"{user}: a new table needs a line in mlops/ledger/grants.py"


def test_the_server_grants_what_is_declared_and_nothing_else(as_role: Callable[[str], Database]) -> None:
    with as_role("acis_ledger").reading() as connection:
        real = {(row.user, row.name): set(row.privileges) for row in connection.execute(text(_REAL))}
    for user, grants in GRANTS.items():
        for table, privileges in grants.items():
            whole = {one for one in privileges if "(" not in one}
            assert real.get((user, table), set()) == whole, (user, table)
    assert real[("acis_serve", "mlops_alembic_version")] == {"SELECT"}


def test_granting_again_takes_back_what_is_declared_no_more(url: str, as_role: Callable[[str], Database]) -> None:
    database = Database(url)
    with database.transaction() as connection:
        connection.execute(text("GRANT DELETE ON mlops_promotion TO acis_ledger"))
    database.close()
    assert state_of(as_role("acis_ledger"), "DELETE FROM mlops_promotion") == ""
    migrate(url)
    assert state_of(as_role("acis_ledger"), "DELETE FROM mlops_promotion") == DENIED


# ---- The writer of the ledger


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mlops_more (id int)",
        "DROP TABLE mlops_audit",
        "ALTER TABLE mlops_run ADD COLUMN more int",
        "TRUNCATE mlops_run CASCADE",
        "CREATE FUNCTION more() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE ROLE more",
        "CREATE SCHEMA more",
        "COPY mlops_run TO PROGRAM 'cat'",
        "SELECT pg_read_file('/etc/hostname')",
        "SET ROLE acis_owner",
        "SET ROLE acis_admin",
        "SELECT password_hash FROM mlops_user",
        "SELECT digest FROM mlops_session",
        "INSERT INTO mlops_token SELECT * FROM mlops_token",
        # what is append-only
        "UPDATE mlops_promotion SET decision = 'promote'",
        "UPDATE mlops_promotion SET model_sha256 = 'another'",
        "DELETE FROM mlops_promotion",
        "UPDATE mlops_audit SET actor = 'another'",
        "DELETE FROM mlops_audit",
        "UPDATE mlops_policy SET value = '1'",
        "DELETE FROM mlops_policy",
        "UPDATE mlops_live_score SET score = '{}'",
        "DELETE FROM mlops_live_score",
        "UPDATE mlops_prediction SET probability = 1",
        "DELETE FROM mlops_prediction",
        "UPDATE mlops_live_report SET document = '{}'",
        "UPDATE mlops_drift_report SET report = '{}'",
        "UPDATE mlops_attempt SET error = ''",
        "UPDATE mlops_model_file SET sha256 = 'another'",
        "DELETE FROM mlops_model_file",
        "UPDATE mlops_experiment SET plan = '{}'",
        "DELETE FROM mlops_experiment",
        "UPDATE mlops_experiment_look SET words = ''",
        "DELETE FROM mlops_experiment_look",
        "SELECT * FROM mlops_sign_in_limit",
        "UPDATE mlops_identity SET ledger_id = 'another'",
    ],
)
def test_the_writer_may_not(as_role: Callable[[str], Database], statement: str) -> None:
    assert state_of(as_role("acis_ledger"), statement) == DENIED


def predictions(day: date) -> pa.Table:
    row = ("growth", "1", "0" * 64, "champion", "AAPL", day, datetime.now(UTC), 0.5, bytes(16))
    columns = zip(row, prediction_schema(), strict=True)
    return pa.table([pa.array([value], field.type) for value, field in columns], schema=prediction_schema())


def test_the_writer_makes_a_month_and_drops_it_when_it_is_old(as_role: Callable[[str], Database]) -> None:
    ledger = SqlLedger(as_role("acis_ledger"))
    rows = predictions(date(1999, 1, 4)).set_column(
        6, "predicted_at", pa.array([datetime(1999, 1, 4, tzinfo=UTC)], pa.timestamp("us", tz="UTC"))
    )
    assert ledger.write_predictions("old", "run", rows)
    assert ledger.write_predictions("new", "run", predictions(date(1999, 2, 1)))  # old dates, predicted now
    assert ledger.purge_predictions(older_than_days=365).partitions == ("mlops_prediction_199901",)


def test_a_backup_and_a_restore_of_both_databases_are_the_owners(
    old_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up_users(old_server, dict.fromkeys(DATABASE_USERS, str(make_url(old_server).password)))
    owner, mlflow = (
        make_url(old_server).set(database=name, username=user).render_as_string(hide_password=False)
        for name, user in (("acis", "acis_owner"), ("mlflow", "acis_mlflow"))
    )
    migrate(owner)
    with psycopg2.connect(mlflow.replace("+psycopg2", "")) as connection:
        connection.cursor().execute("CREATE TABLE model_versions (name text); INSERT INTO model_versions VALUES ('m')")
    settings = Settings(database_url=SecretStr(owner), var_dir=tmp_path)
    assert back_up(settings, tmp_path / "backup", say=str).has_mlflow
    ledger = SqlLedger(Database(as_user(owner, "acis_ledger")))

    def migrate_beside_a_worker(*given: Any, **more: Any) -> object:
        """Between the restore's own transaction and the migration, a worker has all of its rights."""
        assert ledger.accept(request_for("growth", Kind.CHECK)).created
        return migrate(*given, **more)

    monkeypatch.setattr("devstack.backup.migrate", migrate_beside_a_worker)
    restore(settings, tmp_path / "backup", overwrite=True, say=str)
    assert let_features_be_read(owner, "ml_training_features")
    assert ledger.write_predictions("restored", "run", predictions(date(2030, 4, 3)))
    ledger.close()
    with psycopg2.connect(mlflow.replace("+psycopg2", "")) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'model_versions'")
        assert cursor.fetchall() == [("acis_mlflow",)]


@pytest.mark.parametrize(
    ("part", "cutoff"),
    [
        ("mlops_prediction_209901", "clock_timestamp()"),  # of dates to come
        ("mlops_prediction_209901", "'2200-01-01'"),  # before a time to come
        ("mlops_run", "clock_timestamp()"),
        ("mlops_prediction_209901; DROP TABLE mlops_run", "clock_timestamp()"),
    ],
)
def test_no_other_table_and_no_young_month_can_be_dropped(
    as_role: Callable[[str], Database], part: str, cutoff: str
) -> None:
    database = as_role("acis_ledger")
    SqlLedger(database).write_predictions("far", "run", predictions(date(2099, 1, 2)))
    with database.transaction() as connection:
        asked = text(f"SELECT mlops_drop_prediction_month(:part, {cutoff})")
        assert connection.scalar(asked, {"part": part}) is False


def test_what_a_decision_is_known_by_is_filled_in_once(as_role: Callable[[str], Database]) -> None:
    ledger = SqlLedger(as_role("acis_ledger"))
    grant = promoting(ledger, "momentum")
    promotion = ledger.decide(grant, decision_for("7"))
    ledger.identify(promotion.id, ModelIdentity(sha256="a" * 64, made_by="run-1"))
    ledger.identify(promotion.id, ModelIdentity(sha256="b" * 64, made_by="run-2"))
    with as_role("acis_ledger").reading() as connection:
        known = connection.execute(
            text("SELECT model_sha256, made_by FROM mlops_promotion WHERE id = :id"), {"id": promotion.id}
        ).one()
    assert tuple(known) == ("a" * 64, "run-1")


def test_a_table_of_the_callers_own_does_not_stand_for_the_ledgers(as_role: Callable[[str], Database]) -> None:
    with as_role("acis_ledger").transaction() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE mlops_prediction (as_of date) ON COMMIT DROP"))
        connection.execute(text("SELECT mlops_make_prediction_month('2050-05-01')"))
        made = connection.scalar(text("SELECT to_regclass('public.mlops_prediction_205005') IS NOT NULL"))
        assert made


def test_the_writer_keeps_trials_in_a_schema_of_their_own(as_role: Callable[[str], Database]) -> None:
    database = as_role("acis_ledger")
    studies = Studies(database.url.render_as_string(hide_password=False))
    studies.open("run-1", maximise=True, seed=1)
    assert studies.names() == ["run-1"]


def test_the_schema_is_looked_through_without_owning_it(as_role: Callable[[str], Database]) -> None:
    assert schema_differences(as_role("acis_ledger")) == []


# ---- The prediction service, the reader of features, MLflow


def test_the_prediction_service_writes_predictions_and_counts_and_nothing_else(
    as_role: Callable[[str], Database],
) -> None:
    database = as_role("acis_serve")
    ledger = SqlLedger(database)
    assert ledger.write_predictions("served", "service", predictions(date(2031, 3, 3)))
    assert ledger.serving_state("growth").champion.version is None
    assert ledger.answer_counts("growth", since=datetime.now(UTC)) == []
    assert ledger.token_of("no-such-token") is None
    refused = [
        "INSERT INTO mlops_audit (actor, action, subject, created_at) VALUES ('a', 'b', 'c', now())",
        "UPDATE mlops_champion SET version = '1'",
        "UPDATE mlops_run SET state = 'queued'",
        "UPDATE mlops_token SET role = 'operator'",
        "SELECT password_hash FROM mlops_user",
        "SELECT * FROM mlops_session",
        "SELECT mlops_drop_prediction_month('mlops_prediction_203103', now())",
        "DELETE FROM mlops_prediction",
        "UPDATE mlops_experiment SET held = true",
        "SELECT * FROM mlops_experiment_look",
        "DELETE FROM mlops_answer_count",
    ]
    assert {statement: state_of(database, statement) for statement in refused} == dict.fromkeys(refused, DENIED)


def test_the_reader_of_features_reads_one_relation(url: str, as_role: Callable[[str], Database]) -> None:
    postgres_table(panel(), url)
    assert let_features_be_read(url, "ml_training_features")
    database = as_role("acis_features")
    source = open_source(as_user(url, "acis_features").replace("postgresql+psycopg2://", "postgresql://"))
    assert source.latest_date("growth") is not None
    refused = [
        "SELECT * FROM mlops_run",
        "SELECT * FROM mlops_user",
        "DELETE FROM ml_training_features",
        "UPDATE ml_training_features SET strategy = 'another'",
        "CREATE TABLE mine (id int)",
        "SELECT mlops_make_prediction_month('2050-05-01')",
    ]
    assert {statement: state_of(database, statement) for statement in refused} == dict.fromkeys(refused, DENIED)


def test_the_reader_of_features_may_read_a_relation_that_is_there_or_is_told_apart(url: str) -> None:
    assert not let_features_be_read(url, "no_such_relation")


def test_a_writer_without_the_functions_is_told_to_migrate(postgres_server: Databases) -> None:
    url = postgres_server.make()
    database = Database(url)
    try:
        migrate(url)
        with database.transaction() as connection:
            connection.execute(text("DROP FUNCTION mlops_make_prediction_month"))
        with pytest.raises(ConfigurationError, match="acis migrate"):
            SqlLedger(database).write_predictions("b", "run", predictions(date(2031, 3, 3)))
    finally:
        database.close()
        postgres_server.drop(url)


# ---- Setting a server up, anew and where one user had everything


@pytest.fixture
def old_server(postgres_server: Databases) -> Iterator[str]:
    """A server as earlier versions left it: one superuser owns ledger, features and MLflow's tables."""
    server = postgres_server.server_url
    for name in ("acis", "mlflow"):
        drop_database(server, name)
    url = create_database(server, "acis")
    migrate(url)
    ledger = SqlLedger(Database(url))
    ledger.write_predictions("before", "run", predictions(date(2030, 1, 2)))
    ledger.accept(request_for("value", Kind.CHECK))
    Studies(url).open("before", maximise=True, seed=1)
    ledger.close()
    postgres_table(panel(), url)
    yield server
    for name in ("acis", "mlflow"):
        drop_database(server, name)


def test_an_installation_with_one_user_goes_on_as_its_owner_after_the_set_up(old_server: str) -> None:
    passwords = dict.fromkeys(DATABASE_USERS, str(make_url(old_server).password))
    for _ in range(2):  # safe to repeat
        set_up_users(old_server, passwords)
        owner = make_url(old_server).set(database="acis", username="acis_owner").render_as_string(hide_password=False)
        migrate(owner)
        assert let_features_be_read(owner, "ml_training_features")
    ledger = SqlLedger(Database(as_user(owner, "acis_ledger")))
    assert ledger.write_predictions("after", "run", predictions(date(2030, 1, 3)))
    assert ledger.write_predictions("later", "run", predictions(date(2030, 2, 3)))
    run = ledger.runs()[0]
    assert ledger.claim(run.run_id, Stage.DRIFT, worker="w") is not None
    ledger.close()
    studies = Studies(as_user(owner, "acis_ledger"))
    studies.delete("before")
    assert studies.names() == []
    with psycopg2.connect(owner.replace("+psycopg2", "")) as connection:
        cursor = connection.cursor()
        cursor.execute(
            "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace::regnamespace::text = 'public'"
        )
        owners = {row[0] for row in cursor.fetchall()}
    assert owners == {"acis_owner"}


@pytest.fixture
def another_admin(old_server: str) -> Iterator[str]:
    """A superuser who owns nothing: one user named `former` owns the ledger and MLflow's tables."""
    password = make_url(old_server).password
    with psycopg2.connect(plain(old_server)) as connection:
        connection.cursor().execute("CREATE ROLE former")
        connection.cursor().execute("CREATE ROLE another_admin SUPERUSER LOGIN PASSWORD %s", (password,))
    for url, made in (
        (create_database(old_server, "acis"), ""),
        (create_database(old_server, "mlflow"), "CREATE TABLE experiments (name text); CREATE TABLE more (name text)"),
    ):
        with psycopg2.connect(plain(url)) as connection:
            cursor = connection.cursor()
            cursor.execute(made or "SELECT 1")
            cursor.execute(
                "DO $$ DECLARE one text; BEGIN FOR one IN SELECT format('ALTER TABLE %s OWNER TO former', oid::regclass) "
                "FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace::regnamespace::text !~ '^(pg_|information_)' "
                "UNION SELECT format('ALTER ROUTINE %s OWNER TO former', oid::regprocedure) FROM pg_proc "
                "WHERE proname ~ '^mlops_' UNION SELECT format('ALTER SCHEMA %I OWNER TO former', nspname) FROM pg_namespace "
                "WHERE nspname ~ '^mlops_' LOOP EXECUTE one; END LOOP; END $$"
            )
    yield as_user(old_server, "another_admin")
    for name in ("acis", "mlflow"):
        drop_database(old_server, name)
    with psycopg2.connect(plain(old_server)) as connection:
        connection.cursor().execute("DROP ROLE another_admin")
        connection.cursor().execute("DROP ROLE former")


def plain(url: str) -> str:
    return url.replace("+psycopg2", "")


def test_what_a_former_user_owned_is_handed_over_whoever_sets_up(another_admin: str) -> None:
    set_up_users(another_admin, dict.fromkeys(DATABASE_USERS, str(make_url(another_admin).password)))
    owner = make_url(another_admin).set(database="acis", username="acis_owner").render_as_string(hide_password=False)
    migrate(owner)
    ledger = SqlLedger(Database(as_user(owner, "acis_ledger")))
    assert ledger.write_predictions("after", "run", predictions(date(2030, 2, 3)))
    ledger.close()
    for database, expected in (("acis", "acis_owner"), ("mlflow", "acis_mlflow")):
        url = make_url(another_admin).set(database=database).render_as_string(hide_password=False)
        with psycopg2.connect(plain(url)) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
            assert cursor.fetchall() == [(expected,)]


def test_the_ledger_is_in_the_database_that_the_url_names(postgres_server: Databases) -> None:
    server = postgres_server.server_url
    passwords = dict.fromkeys(DATABASE_USERS, str(make_url(server).password))
    own = create_database(server, "models")
    try:
        set_up_users(own, passwords)
        migrate(as_user(own, "acis_owner"))
        database = Database(as_user(own, "acis_ledger"))
        assert SqlLedger(database).runs() == []
        database.close()
        with pytest.raises(psycopg2.OperationalError, match='database "acis" does not exist'):
            psycopg2.connect(plain(make_url(own).set(database="acis").render_as_string(hide_password=False)))
        with pytest.raises(ConfigurationError, match="MLflow"):
            set_up_users(make_url(own).set(database="mlflow").render_as_string(hide_password=False), passwords)
    finally:
        for name in ("models", "mlflow"):
            drop_database(server, name)


@pytest.mark.parametrize(
    ("user", "database"), [("acis_mlflow", "acis"), ("acis_ledger", "mlflow"), ("acis_features", "mlflow")]
)
def test_nobody_connects_to_the_database_of_another(old_server: str, user: str, database: str) -> None:
    set_up_users(old_server, dict.fromkeys(DATABASE_USERS, str(make_url(old_server).password)))
    url = make_url(old_server).set(drivername="postgresql", username=user, database=database)
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        psycopg2.connect(url.render_as_string(hide_password=False))

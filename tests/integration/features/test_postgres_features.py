"""What only PostgreSQL has: its types, its errors, its restarts."""

from __future__ import annotations

import os
from contextlib import closing
from datetime import date, timedelta
from urllib.parse import urlsplit

import psycopg2
import pytest

from mlops.domain.errors import MissingColumn, SourceUnavailable
from mlops.domain.frame import column_roles, select_features
from mlops.domain.policies import DataPolicy
from mlops.domain.ports import DateFaults, Window
from mlops.features.postgres import _IN_WINDOW, _STRATEGY, libpq_uri
from mlops.features.source import open_source

ALL = Window(start=date(2019, 12, 31), end=date(2020, 1, 31))


def _execute(url: str, *statements: str) -> None:
    with closing(psycopg2.connect(libpq_uri(url))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)


@pytest.fixture
def url(postgres_url: str) -> str:
    """A view with the types that a user's own may have."""
    _execute(
        postgres_url,
        """CREATE TABLE prices (ticker varchar(8), at timestamp, strategy varchar(20), pe numeric(12, 4), size real,
                                rank smallint, sector text, is_big boolean, tags text[])""",
        """INSERT INTO prices VALUES
           ('A', '2020-01-01 16:00', 'growth', 12.5, 1.5, 1, 'tech', true, '{a}'),
           ('A', '2020-01-31 16:00', 'growth', 'NaN', NULL, 2, NULL, false, NULL),
           ('A', '2020-02-01 00:00', 'growth', 1, 1, 1, 'tech', true, NULL)""",
        """CREATE VIEW ml_training_features AS
           SELECT ticker, at AS date, strategy, pe, size, rank, sector, is_big, tags, pe / 2 AS target_return FROM prices""",
    )
    return postgres_url


def test_every_numeric_type_is_a_number(url: str) -> None:
    kinds = {column.name: column.kind for column in open_source(url).columns()}
    assert kinds == {
        "ticker": "category",
        "date": "date",
        "strategy": "category",
        "pe": "number",
        "size": "number",
        "rank": "number",
        "sector": "category",
        "is_big": "number",
        "tags": "other",
        "target_return": "number",
    }


def test_a_timestamp_belongs_to_its_day_even_the_windows_last(url: str) -> None:
    source = open_source(url)
    assert source.dates("growth", ALL) == [date(2020, 1, 1), date(2020, 1, 31)]
    assert source.count("growth", ALL) == 2
    assert source.latest_date("growth") == date(2020, 2, 1)
    # The start is excluded with all of its hours.
    assert source.dates("growth", Window(start=date(2020, 1, 1), end=date(2020, 1, 31))) == [date(2020, 1, 31)]


def test_numeric_real_and_boolean_come_as_float64(url: str) -> None:
    table = open_source(url).read("growth", ALL, ["date", "pe", "size", "rank", "is_big"])
    assert [str(field.type) for field in table.schema] == ["date32[day]", "double", "double", "double", "double"]
    assert table.column("pe")[0].as_py() == 12.5
    assert str(table.column("pe")[1].as_py()) == "nan"
    assert table.column("size").to_pylist() == [1.5, None]
    assert table.column("is_big").to_pylist() == [1.0, 0.0]


def test_money_is_a_number_and_an_identifier_is_no_feature(postgres_url: str) -> None:
    _execute(
        postgres_url,
        "CREATE DOMAIN dollars AS money",
        """CREATE TABLE ml_training_features (ticker text, date date, strategy text, cap money, fee dollars, id oid,
                                            target_return float8)""",
        """INSERT INTO ml_training_features VALUES ('A', '2020-01-02', 'growth', '1234.50', '-0.25', 17, 0.1),
                                                   ('B', '2020-01-02', 'growth', NULL, NULL, NULL, 0.1)""",
    )
    source = open_source(postgres_url)
    roles = {role.name: role for role in column_roles(source.columns(), DataPolicy())}
    assert select_features(source.columns(), DataPolicy()) == ("cap", "fee")
    assert (roles["id"].role, roles["id"].reason) == ("left out", "an identifier of PostgreSQL (oid)")
    assert source.read("growth", ALL, ["cap", "fee"]).to_pylist() == [
        {"cap": 1234.5, "fee": -0.25},
        {"cap": None, "fee": None},
    ]


def test_a_relation_in_another_schema_is_found(postgres_url: str) -> None:
    _execute(
        postgres_url,
        'CREATE SCHEMA "Quant"',
        'CREATE TABLE "Quant"."My View" (ticker text, date date, strategy text, x float)',
    )
    assert open_source(postgres_url, relation="Quant.My View").latest_date() is None


def test_a_relation_that_is_not_there_says_how_to_make_it(postgres_url: str) -> None:
    with pytest.raises(MissingColumn, match="no table or view 'ml_training_features'; make one with ticker, date"):
        open_source(postgres_url).columns()


def test_a_date_that_is_text_is_refused_with_the_mend(postgres_url: str) -> None:
    _execute(postgres_url, "CREATE TABLE ml_training_features (ticker text, date text, strategy text, x float)")
    with pytest.raises(MissingColumn, match="date::date"):
        open_source(postgres_url).columns()


def test_a_server_that_is_down_is_temporary_and_its_password_is_not_told() -> None:
    source = open_source("postgresql://acis:hunter2@127.0.0.1:1/features")
    with pytest.raises(SourceUnavailable) as caught:
        source.columns()
    assert "hunter2" not in str(caught.value)
    assert caught.value.delay_s > 0


def test_a_connection_that_the_server_closed_is_opened_again(url: str) -> None:
    source = open_source(url)
    assert source.count("growth", ALL) == 2
    _execute(
        url,
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    assert source.count("growth", ALL) == 2


@pytest.mark.parametrize("sqlstate", ["40001", "53200", "53300", "55000", "57P03", "58030", "XX000"])
def test_what_the_server_cannot_do_now_is_temporary(url: str, sqlstate: str) -> None:
    _execute(
        url,
        f"CREATE FUNCTION busy() RETURNS float LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'busy' "
        f"USING ERRCODE = '{sqlstate}'; END $$; "
        "CREATE VIEW busy_features AS SELECT 'A' AS ticker, date '2020-01-02' AS date, 'growth' AS strategy, busy() AS x",
    )
    source = open_source(url, relation="busy_features")
    with pytest.raises(SourceUnavailable, match="busy"):
        source.read("growth", ALL, ["x"])


def test_rows_that_come_after_the_first_read_are_seen(url: str) -> None:
    source = open_source(url)
    source.columns()
    _execute(url, "INSERT INTO prices VALUES ('B', '2020-01-02', 'growth', 1, 1, 1, 'x', true, NULL)")
    assert source.count("growth", ALL) == 3


def test_an_error_does_not_spoil_the_connection(url: str) -> None:
    source = open_source(url)
    with pytest.raises(MissingColumn):
        source.read("growth", ALL, ["nothing"])
    _execute(url, "DROP VIEW ml_training_features")
    with pytest.raises(MissingColumn):
        source.count("growth", ALL)
    _execute(url, "CREATE VIEW ml_training_features AS SELECT ticker, at AS date, strategy, pe FROM prices")
    assert source.count("growth", ALL) == 2


def test_a_forked_child_asks_on_its_own_connection(url: str) -> None:
    source = open_source(url)
    assert source.count("growth", ALL) == 2
    child = os.fork()
    if child == 0:  # pragma: no cover -- another process
        os._exit(0 if source.count("growth", ALL) == 2 else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert source.count("growth", ALL) == 2


def test_the_drivers_name_of_sqlalchemy_is_taken_off_and_a_time_out_is_put_on() -> None:
    assert libpq_uri("postgresql+psycopg2://u:p@h/d") == "postgresql://u:p@h/d?connect_timeout=5"
    assert libpq_uri("postgres://h/d?sslmode=require") == "postgresql://h/d?sslmode=require&connect_timeout=5"
    assert libpq_uri("postgresql://h/d?connect_timeout=1") == "postgresql://h/d?connect_timeout=1"


def test_a_window_is_found_by_the_index_although_its_values_are_settings(postgres_url: str) -> None:
    _execute(
        postgres_url,
        """CREATE TABLE ml_training_features AS
           SELECT 'T' || (g % 20) AS ticker, date '2000-01-01' + g / 20 AS date, 'growth'::text AS strategy, 1.0::float8 AS x
           FROM generate_series(0, 99999) g""",
        "ALTER TABLE ml_training_features ADD PRIMARY KEY (strategy, date, ticker)",
        "ANALYZE ml_training_features",
    )
    with closing(psycopg2.connect(libpq_uri(postgres_url))) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('acis.strategy', 'growth', true), set_config('acis.first', '2005-01-02', true), "
            "set_config('acis.after', '2005-01-09', true)"
        )
        cursor.execute(
            f"EXPLAIN SELECT x FROM ml_training_features WHERE strategy = {_STRATEGY} AND {_IN_WINDOW} ORDER BY date, ticker"
        )
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "using ml_training_features_pkey" in plan
    assert "Seq Scan" not in plan
    assert "Sort" not in plan


def _bars(url: str, kind: str) -> None:
    name = urlsplit(url).path.removeprefix("/")
    _execute(
        url,
        f"ALTER DATABASE {name} SET timezone TO 'America/New_York'",
        f"CREATE TABLE ml_training_features (ticker text, date {kind}, strategy text, x float8, target_return float8)",
        "SET timezone TO 'UTC'; INSERT INTO ml_training_features SELECT 'A', day, 'growth', 1, 0 FROM "
        "generate_series(timestamptz '2020-01-06', timestamptz '2020-01-10', '1 day') AS day",
    )


def test_a_timestamps_day_is_that_of_the_declared_zone_whatever_the_databases_own(postgres_url: str) -> None:
    _bars(postgres_url, "timestamptz")
    source = open_source(postgres_url)
    week = [date(2020, 1, day) for day in range(6, 11)]
    assert source.latest_date("growth") == week[-1]
    assert source.dates("growth", ALL) == list(source.rows_by_date("growth", ALL)) == week
    assert source.read("growth", ALL, ["date", "ticker"]).column("date").to_pylist() == week
    assert source.date_faults("growth", ALL) == DateFaults()
    elsewhere = open_source(postgres_url, time_zone="America/New_York")
    assert elsewhere.dates("growth", ALL) == [day - timedelta(days=1) for day in week]
    faults = elsewhere.date_faults("growth", ALL)
    assert (faults.n_not_midnight, faults.not_midnight) == (5, "2020-01-05 19:00:00-05")


@pytest.mark.parametrize("kind", ["date", "timestamp", "timestamptz"])
@pytest.mark.parametrize("day", ["infinity", "-infinity", "12000-01-01", "0044-03-15 BC"])
def test_a_date_that_is_infinite_or_of_no_calendar_is_in_no_window_and_is_counted(
    postgres_url: str, kind: str, day: str
) -> None:
    _bars(postgres_url, kind)
    _execute(postgres_url, f"INSERT INTO ml_training_features VALUES ('A', '{day}', 'growth', 1, 0)")
    source = open_source(postgres_url)
    assert source.latest_date("growth") == source.latest_date() == date(2020, 1, 10)
    assert source.count("growth", Window(start=date(2019, 1, 1), end=date(9000, 1, 1))) == 5
    faults = source.date_faults("growth", ALL)
    assert faults.n_undated == 1
    assert faults.undated.startswith(day.split(maxsplit=1)[0])


def test_all_reads_of_a_snapshot_see_the_rows_of_its_first_one(url: str) -> None:
    source = open_source(url)
    with source.snapshot() as one:
        before = one.count("growth", ALL)
        _execute(url, "INSERT INTO prices (ticker, at, strategy, pe) VALUES ('B', '2020-01-02', 'growth', 2)")
        assert one.count("growth", ALL) == before
        assert one.read("growth", ALL, ["ticker", "date"]).num_rows == before
        assert sum(batch.num_rows for batch in one.read_batches("growth", ALL, ["pe"])) == before
    assert source.count("growth", ALL) == before + 1


def test_a_connection_that_is_lost_within_a_snapshot_is_not_replaced_by_one_of_another_state(url: str) -> None:
    source = open_source(url)
    with source.snapshot() as one:
        assert one.count("growth", ALL) == 2
        _execute(
            url,
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid()",
        )
        for _ in range(2):
            with pytest.raises(SourceUnavailable):
                one.count("growth", ALL)
    assert source.count("growth", ALL) == 2
    with source.snapshot() as one:
        assert one.count("growth", ALL) == 2

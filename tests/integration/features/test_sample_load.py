"""The sample in a real PostgreSQL: once, whole, and never over a user's own table."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date

import pandas as pd
import psycopg2
import pyarrow as pa
import pytest

from mlops.domain.errors import ConfigurationError, SourceUnavailable
from mlops.domain.ports import Window
from mlops.features import sample
from mlops.features.postgres import libpq_uri
from mlops.features.source import open_source

WINDOW = Window(start=date(2020, 1, 1), end=date(2020, 2, 1))


@pytest.fixture(autouse=True)
def last_years(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three years instead of 33: the loader is tested here, not the prices."""
    close = sample.read_prices().loc["2019":"2021"]
    monkeypatch.setattr(sample, "read_prices", lambda: close)


def test_what_is_computed_is_what_is_read(postgres_url: str) -> None:
    written = sample.load_sample(postgres_url)
    rows = sample.compute_sample()
    assert written == rows.num_rows
    source = open_source(postgres_url)
    names = [column.name for column in source.columns()]
    assert sorted(names) == sorted(rows.column_names)
    read = source.read("momentum", WINDOW, rows.column_names).to_pandas()
    frame = rows.to_pandas()
    days = pd.to_datetime(frame["date"])
    expected = frame[(frame["strategy"] == "momentum") & (days > "2020-01-01") & (days <= "2020-02-01")]
    pd.testing.assert_frame_equal(
        read, expected.sort_values(["date", "ticker"]).reset_index(drop=True), check_exact=True, check_dtype=False
    )


def test_a_second_load_does_nothing(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sample.load_sample(postgres_url)

    def never() -> pa.Table:
        raise AssertionError("computed again")

    monkeypatch.setattr(sample, "compute_sample", never)
    assert sample.load_sample(postgres_url) == 0


def test_another_version_replaces_the_rows(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = sample.load_sample(postgres_url)
    monkeypatch.setattr(sample, "VERSION", "acis sample of another day")
    assert sample.load_sample(postgres_url) == written
    assert open_source(postgres_url).count("growth", WINDOW) > 0
    assert sample.load_sample(postgres_url) == 0


def test_a_users_own_table_is_left_as_it_is(postgres_url: str) -> None:
    with closing(psycopg2.connect(libpq_uri(postgres_url))) as connection, connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE ml_training_features (mine int); INSERT INTO ml_training_features VALUES (42)")
    with pytest.raises(ConfigurationError, match="left as it is"):
        sample.load_sample(postgres_url)
    with closing(psycopg2.connect(libpq_uri(postgres_url))) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT mine FROM ml_training_features")
        assert cursor.fetchall() == [(42,)]


def test_a_load_that_dies_leaves_nothing_behind(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = sample.PostgresStore.replace

    def dies(self: sample.PostgresStore, rows: pa.Table, version: str) -> None:
        replace(self, rows, version)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(sample.PostgresStore, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            sample.load_sample(postgres_url)
    assert sample.load_sample(postgres_url) > 0


def test_two_loads_at_once_load_once(postgres_url: str) -> None:
    load: Callable[[str], int] = sample.load_sample
    with ThreadPoolExecutor(2) as pool:
        written = sorted(pool.map(load, [postgres_url, postgres_url]))
    assert written[0] == 0
    assert written[1] > 0


def test_a_server_that_is_down_is_said_so() -> None:
    with pytest.raises(SourceUnavailable, match="does not answer"):
        sample.load_sample("postgresql://nobody:hunter2@127.0.0.1:1/nothing")


@pytest.mark.parametrize("scheme", ["mysql", "sqlite"])
def test_another_database_is_refused_by_name(scheme: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{scheme}.*postgresql://"):
        sample.load_sample(f"{scheme}://localhost/features")

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from mlops.domain.errors import ConfigurationError, MissingColumn, SourceUnavailable, UnusableFeatures
from mlops.domain.ports import DateFaults, FeatureSource, Window
from mlops.features.source import open_source

ALL = Window(start=date(2019, 12, 31), end=date(2020, 1, 31))


def _source(path: Path, *statements: str) -> FeatureSource:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    return open_source(f"sqlite:///{path}")


@pytest.mark.parametrize(
    ("declared", "kind"),
    [
        ("DOUBLE PRECISION", "number"),
        ("DECIMAL(12, 4)", "number"),
        ("float8", "number"),
        ("BIGINT", "number"),
        ("UNSIGNED BIG INT", "number"),
        ("VARCHAR(20)", "category"),
        ("BOOLEAN", "number"),
        ("TIMESTAMP", "date"),
        ("BLOB", "other"),
    ],
)
def test_any_declared_type_has_a_kind(tmp_path: Path, declared: str, kind: str) -> None:
    source = _source(
        tmp_path / "f.db", f"CREATE TABLE ml_training_features (ticker TEXT, date TEXT, strategy TEXT, x {declared})"
    )
    assert source.columns()[3].kind == kind


def test_arithmetic_of_a_view_is_a_number(tmp_path: Path) -> None:
    source = _source(
        tmp_path / "f.db",
        "CREATE TABLE prices (ticker TEXT, day TEXT, pe REAL)",
        "INSERT INTO prices VALUES ('A', '2020-01-02', 10)",
        "CREATE VIEW ml_training_features AS SELECT ticker, day AS date, 'growth' AS strategy, pe / 4 AS quarter FROM prices",
    )
    assert [column.kind for column in source.columns()] == ["category", "date", "category", "number"]
    table = source.read("growth", ALL, ["date", "quarter"])
    assert table.to_pylist() == [{"date": date(2020, 1, 2), "quarter": 2.5}]
    assert table.schema.field("date").type == pa.date32()


def test_a_time_of_day_belongs_to_its_day_even_the_windows_last(tmp_path: Path) -> None:
    source = _source(
        tmp_path / "f.db",
        "CREATE TABLE ml_training_features (ticker TEXT, date TEXT, strategy TEXT, x REAL)",
        "INSERT INTO ml_training_features VALUES ('A', '2019-12-31 16:00:00', 'growth', 1), "
        "('A', '2020-01-31 16:00:00', 'growth', 2), ('A', '2020-02-01 00:00:00', 'growth', 3)",
    )
    assert source.read("growth", ALL, ["x"]).column("x").to_pylist() == [2.0]
    assert source.latest_date("growth") == date(2020, 2, 1)


def test_a_word_among_numbers_is_refused_with_the_columns_name(tmp_path: Path) -> None:
    source = _source(
        tmp_path / "f.db",
        "CREATE TABLE ml_training_features (ticker TEXT, date TEXT, strategy TEXT, pe REAL)",
        "INSERT INTO ml_training_features VALUES ('A', '2020-01-02', 'growth', 'n/a')",
    )
    with pytest.raises(UnusableFeatures, match="column pe holds something that is no number"):
        source.read("growth", ALL, ["pe"])


def test_a_relation_that_is_not_there_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(MissingColumn, match="make one with ticker, date"):
        _source(tmp_path / "f.db", "CREATE TABLE other (x)").columns()


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="does not exist"):
        open_source(f"sqlite:///{tmp_path / 'none.db'}").columns()
    assert not (tmp_path / "none.db").exists()


def test_the_files_name_may_hold_what_means_something_in_a_url(tmp_path: Path) -> None:
    folder = tmp_path / "50% of Q&A #1?"
    folder.mkdir()
    source = _source(
        folder / "a.db", "CREATE TABLE ml_training_features (ticker TEXT, date DATE, strategy TEXT, pe REAL)"
    )
    assert [column.name for column in source.columns()] == ["ticker", "date", "strategy", "pe"]


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no database " * 100, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="file is not a database"):
        open_source(f"sqlite:///{path}").columns()


def dated(tmp_path: Path, *days: str, time_zone: str = "UTC") -> FeatureSource:
    path = tmp_path / "dated.db"
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE ml_training_features (ticker, date TEXT, strategy, x, target_return)")
        rows = [(f"T{i}", day, "growth", float(i), 0.0) for i, day in enumerate(days)]
        connection.executemany("INSERT INTO ml_training_features VALUES (?, ?, ?, ?, ?)", rows)
    return open_source(f"sqlite:///{path}", time_zone=time_zone)


def test_an_offset_is_reckoned_into_the_declared_zone(tmp_path: Path) -> None:
    moments = ("2020-01-02T00:00:00+00:00", "2020-01-03 23:30:00-05:00", "2020-01-06")
    source = dated(tmp_path, *moments)
    assert source.dates("growth", ALL) == [date(2020, 1, 2), date(2020, 1, 4), date(2020, 1, 6)]
    assert source.date_faults("growth", ALL) == DateFaults(n_not_midnight=1, not_midnight=moments[1])
    there = dated(tmp_path, *moments, time_zone="America/New_York")
    assert there.dates("growth", ALL) == [date(2020, 1, 1), date(2020, 1, 3), date(2020, 1, 6)]
    assert there.date_faults("growth", ALL).n_not_midnight == 2


@pytest.mark.parametrize("text", ["infinity", "20240301", "01/03/2024", "2024-02-30", "2024-13-01 00:00:00"])
def test_a_text_that_is_no_iso_date_is_in_no_window_and_is_counted(tmp_path: Path, text: str) -> None:
    source = dated(tmp_path, "2020-01-02", text)
    assert source.latest_date("growth") == date(2020, 1, 2)
    assert source.count("growth", Window(start=date(1, 1, 1), end=date(9999, 12, 31))) == 1
    assert source.date_faults("growth", ALL) == DateFaults(n_undated=1, undated=text)


def test_dates_of_which_none_can_be_read_are_refused_with_an_example(tmp_path: Path) -> None:
    with pytest.raises(UnusableFeatures, match=r"column date .* holds something that is no date: '20240301'"):
        dated(tmp_path, "20240301", "20240302").latest_date("growth")


def test_all_reads_of_a_snapshot_see_one_state(tmp_path: Path) -> None:
    source = dated(tmp_path, "2020-01-02")
    with closing(sqlite3.connect(tmp_path / "dated.db")) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        with source.snapshot() as one:
            assert one.count("growth", ALL) == 1
            with writer:
                writer.execute("INSERT INTO ml_training_features VALUES ('B', '2020-01-03', 'growth', 1, 0)")
            assert one.count("growth", ALL) == 1
            assert one.read("growth", ALL, ["x"]).num_rows == 1
        assert source.count("growth", ALL) == 2

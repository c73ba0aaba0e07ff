from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops.domain.errors import ConfigurationError, MissingColumn, SourceUnavailable, UnreadableData
from mlops.domain.frame import column_roles, select_features
from mlops.domain.policies import DataPolicy
from mlops.domain.ports import FeatureSource, Window
from mlops.features.source import open_source

ALL = Window(start=date(2019, 12, 31), end=date(2020, 1, 31))
ROWS = pa.table(
    {
        "ticker": pa.array(["B", "A", "A"]).dictionary_encode(),
        "date": pa.array(["2020-01-31 16:00", "2020-01-31 17:00", "2020-01-02 00:00"]).cast(pa.timestamp("s")),
        "strategy": ["growth", "growth", "value"],
        "pe": pa.array([1, 2, 3], pa.int32()),
    }
)


def test_a_folder_of_files_is_one_view(tmp_path: Path) -> None:
    pq.write_table(ROWS.slice(0, 1), tmp_path / "a.parquet")
    pq.write_table(ROWS.slice(1), tmp_path / "b.parquet")
    assert open_source(f"file://{tmp_path}").count("growth", ALL) == 2


def test_folders_named_by_strategy_give_the_strategy(tmp_path: Path) -> None:
    for strategy, rows in (("growth", ROWS.slice(0, 2)), ("value", ROWS.slice(2))):
        (tmp_path / f"strategy={strategy}").mkdir()
        pq.write_table(rows.drop_columns(["strategy"]), tmp_path / f"strategy={strategy}" / "rows.parquet")
    source = open_source(str(tmp_path))
    assert source.count("growth", ALL) == 2
    assert source.read("value", ALL, ["strategy", "pe"]).to_pylist() == [{"strategy": "value", "pe": 3.0}]


def test_a_timestamp_belongs_to_its_day_even_the_windows_last(tmp_path: Path) -> None:
    pq.write_table(ROWS, tmp_path / "rows.parquet")
    source = open_source(str(tmp_path / "rows.parquet"))
    table = source.read("growth", ALL, ["ticker", "date"])
    # By day, then ticker: B's hour is earlier, its name later.
    assert table.to_pylist() == [
        {"ticker": "A", "date": date(2020, 1, 31)},
        {"ticker": "B", "date": date(2020, 1, 31)},
    ]
    assert source.latest_date() == date(2020, 1, 31)


def test_categories_may_be_stored_as_a_dictionary(tmp_path: Path) -> None:
    pq.write_table(ROWS, tmp_path / "rows.parquet")
    kinds = {column.name: column.kind for column in open_source(str(tmp_path / "rows.parquet")).columns()}
    assert kinds == {"ticker": "category", "date": "date", "strategy": "category", "pe": "number"}


def test_a_date_that_is_text_is_refused(tmp_path: Path) -> None:
    index = ROWS.schema.get_field_index("date")
    pq.write_table(ROWS.set_column(index, "date", pa.array(["2020-01-02"] * 3)), tmp_path / "rows.parquet")
    with pytest.raises(MissingColumn, match=r"date .* is no date but a category"):
        open_source(str(tmp_path / "rows.parquet")).columns()


def test_files_that_are_not_there_are_said_so(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="cannot be read"):
        open_source(str(tmp_path / "nothing.parquet")).columns()


def test_files_that_are_no_parquet_are_said_so(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_text("ticker,date", encoding="utf-8")
    with pytest.raises(UnreadableData, match="hold something else than they should"):
        open_source(str(tmp_path / "rows.parquet")).columns()


@pytest.mark.parametrize("url", ["mysql://localhost/features", "sqlite:///features.db"])
def test_an_unknown_kind_of_source_names_those_that_are_known(url: str) -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"postgresql:// \(`make run` starts a server\), the path of a Parquet file or folder, or package",
    ):
        open_source(url)


def folder_of(folder: Path, *parts: pa.Table) -> FeatureSource:
    for place, part in enumerate(parts):
        pq.write_table(part, folder / f"part-{place}.parquet")
    return open_source(str(folder))


ONE = ROWS.slice(0, 1).drop_columns(["pe"])


@pytest.mark.parametrize(
    ("first", "second", "read"),
    [
        (None, pa.array([1.5]), [None, 1.5]),
        (pa.nulls(1), pa.array([1.5]), [None, 1.5]),
        (pa.array([1]), pa.array([1.5]), [1.0, 1.5]),
        (pa.array([1], pa.uint8()), pa.array([-(2**40)]), [1.0, -(2.0**40)]),
        (pa.array([1.5], pa.float32()), pa.array([2.5]), [1.5, 2.5]),
        (pa.array([1], pa.decimal128(10, 2)), pa.array([2.5]), [1.0, 2.5]),
    ],
)
def test_a_column_is_of_all_files_its_numbers_widened(
    tmp_path: Path, first: pa.Array | None, second: pa.Array, read: list[float | None]
) -> None:
    later = ROWS.slice(1, 1).drop_columns(["pe"]).append_column("vol", second)
    source = folder_of(tmp_path, ONE if first is None else ONE.append_column("vol", first), later)
    assert select_features(source.columns(), DataPolicy()) == ("vol",)
    found = source.read("growth", ALL, ["ticker", "vol"]).to_pylist()
    assert sorted(found, key=lambda row: row["ticker"]) == [
        {"ticker": "A", "vol": read[1]},
        {"ticker": "B", "vol": read[0]},
    ]


def test_texts_may_be_written_in_any_of_arrows_ways(tmp_path: Path) -> None:
    kinds = (pa.string(), pa.large_string(), pa.string_view())
    parts = [ONE.set_column(0, "ticker", pa.array([name]).cast(kind)) for name, kind in zip("XYZ", kinds, strict=True)]
    source = folder_of(tmp_path, ONE, *parts)
    assert source.read("growth", ALL, ["ticker"]).column("ticker").to_pylist() == ["B", "X", "Y", "Z"]


def test_a_column_of_two_types_is_refused_by_file_and_name_and_does_not_wait(tmp_path: Path) -> None:
    words = r"column 'vol' is double in .*part-0\.parquet and string in .*part-1\.parquet"
    with pytest.raises(UnreadableData, match=words):
        folder_of(
            tmp_path, ONE.append_column("vol", pa.array([1.5])), ONE.append_column("vol", pa.array(["high"]))
        ).columns()


def test_a_whole_number_too_large_beside_fractions_is_refused_and_does_not_wait(tmp_path: Path) -> None:
    source = folder_of(
        tmp_path, ONE.append_column("vol", pa.array([2**60 + 1])), ONE.append_column("vol", pa.array([1.5]))
    )
    with pytest.raises(UnreadableData, match="1152921504606846977 not in range"):
        source.read("growth", ALL, ["vol"])


def test_folders_of_the_dataset_are_no_features_and_their_names_are_texts(tmp_path: Path) -> None:
    for ticker in ("0700", "TRUE", "INF", "1E5"):
        folder = tmp_path / "year=2020" / "month=1" / f"ticker={ticker}"
        folder.mkdir(parents=True)
        pq.write_table(ROWS.slice(0, 1).drop_columns(["ticker"]), folder / "rows.parquet")
    source = open_source(str(tmp_path))
    roles = {role.name: role for role in column_roles(source.columns(), DataPolicy())}
    assert [name for name, role in roles.items() if role.role == "feature"] == ["pe"]
    assert (roles["year"].role, roles["year"].reason) == ("left out", "a folder of the dataset, year=…")
    assert source.read("growth", ALL, ["ticker"]).column("ticker").to_pylist() == ["0700", "1E5", "INF", "TRUE"]


def test_a_folder_may_name_the_date(tmp_path: Path) -> None:
    for day in ("2020-01-02", "2020-01-03"):
        (tmp_path / f"date={day}").mkdir()
        pq.write_table(ROWS.slice(0, 1).drop_columns(["date"]), tmp_path / f"date={day}" / "rows.parquet")
    assert open_source(str(tmp_path)).dates("growth", ALL) == [date(2020, 1, 2), date(2020, 1, 3)]


def bars(tmp_path: Path, *, time_zone: str) -> FeatureSource:
    """Bars at midnight in UTC."""
    days = pa.array([datetime(2020, 1, day, tzinfo=UTC) for day in (6, 7)], pa.timestamp("us", "Asia/Tokyo"))
    table = pa.table({"ticker": ["A", "A"], "date": days, "strategy": ["growth"] * 2, "pe": [1.0, 2.0]})
    pq.write_table(table, tmp_path / "bars.parquet")
    return open_source(str(tmp_path / "bars.parquet"), time_zone=time_zone)


@pytest.mark.parametrize(("time_zone", "first", "n_not_midnight"), [("UTC", 6, 0), ("America/New_York", 5, 2)])
def test_a_timestamps_day_is_that_of_the_declared_zone(
    tmp_path: Path, time_zone: str, first: int, n_not_midnight: int
) -> None:
    source = bars(tmp_path, time_zone=time_zone)
    days = [date(2020, 1, first), date(2020, 1, first + 1)]
    assert source.dates("growth", ALL) == list(source.rows_by_date("growth", ALL)) == days
    assert source.latest_date("growth") == days[1]
    assert source.read("growth", ALL, ["date"]).column("date").to_pylist() == days
    assert source.date_faults("growth", ALL).n_not_midnight == n_not_midnight


def test_files_that_change_while_they_are_read_are_read_again(tmp_path: Path) -> None:
    pq.write_table(ROWS, tmp_path / "rows.parquet")
    source = open_source(str(tmp_path))
    with source.snapshot() as one:
        assert one.count("growth", ALL) == 2
        pq.write_table(ROWS, tmp_path / "later.parquet")
        assert one.count("growth", ALL) == 2
    with ExitStack() as block:
        one = block.enter_context(source.snapshot())
        assert one.count("growth", ALL) == 4
        pq.write_table(ROWS.slice(0, 1), tmp_path / "rows.parquet")
        with pytest.raises(SourceUnavailable, match="were changed while they were read"):
            block.close()


def test_columns_with_fractions_are_known_without_reading_the_rows(tmp_path: Path) -> None:
    values = {
        "whole": [1.0, 2.0, 3.0],
        "ends_whole": [1.0, 1.5, 2.0],
        "first": [0.5, 1.0, 2.0],
        "gap": [None, 0.5, 1.0],
    }
    table = ROWS
    for name, column in values.items():
        table = table.append_column(name, pa.array(column, pa.float64()))
    pq.write_table(table, tmp_path / "rows.parquet")
    found = [column.name for column in open_source(str(tmp_path)).columns() if column.has_fractions]
    assert found == ["first", "gap"]

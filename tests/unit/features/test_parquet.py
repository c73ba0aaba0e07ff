from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops.errors import ConfigurationError, MissingColumn, SourceUnavailable
from mlops.features.source import open_source
from mlops.ports import Window

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
    with pytest.raises(SourceUnavailable, match="cannot be read"):
        open_source(str(tmp_path / "rows.parquet")).columns()


def test_an_unknown_kind_of_source_names_those_that_are_known() -> None:
    with pytest.raises(ConfigurationError, match="postgresql://, sqlite:///, or the path of a Parquet file"):
        open_source("mysql://localhost/features")

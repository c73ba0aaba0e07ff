"""What every feature source does, wherever the rows are stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from examples.feature_source import CsvFeatures
from mlops.domain.errors import MissingColumn
from mlops.domain.ports import Column, DateFaults, FeatureSource, Window
from mlops.domain.sampling import RowSample
from mlops.features.source import open_source
from tests.support.features import InMemoryFeatures, csv_file, parquet_file, postgres_table

OPEN = ("memory", "parquet", "postgres", "csv")
"""csv: the source of one's own in examples/."""

ROWS = pa.table(
    {
        # Out of order on purpose; `shares` is a whole number, `sector` a category.
        "ticker": ["MSFT", "AAPL", "AAPL", "MSFT", "AAPL", "KO"],
        "date": pa.array(
            [
                date(2020, 1, 3),
                date(2020, 1, 3),
                date(2020, 1, 2),
                date(2020, 1, 2),
                date(2020, 1, 6),
                date(2020, 1, 8),
            ],
            pa.date32(),
        ),
        "strategy": ["growth", "growth", "growth", "growth", "growth", "value"],
        "momentum_50d": [0.25, None, -0.5, float("inf"), 0.125, 1.0],
        "shares": pa.array([4, 3, 2, 1, 5, 6], pa.int64()),
        "sector": ["tech", "tech", None, "tech", "tech", "food"],
        "target_return": [0.01, 0.02, -0.03, 0.04, None, 0.05],
    }
)
ALL = Window(start=date(2019, 12, 31), end=date(2020, 12, 31))


@pytest.fixture(params=OPEN)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[pa.Table], FeatureSource]:
    """Puts rows into the store that the parameter names and opens it."""

    def put(table: pa.Table) -> FeatureSource:
        match request.param:
            case "parquet":
                return open_source(parquet_file(table, tmp_path / "features.parquet"))
            case "postgres":
                return open_source(postgres_table(table, request.getfixturevalue("postgres_url")))
            case "csv":
                return CsvFeatures(csv_file(table, tmp_path / "features.csv"))
            case _:
                return InMemoryFeatures(table)

    return put


@pytest.fixture
def source(store: Callable[[pa.Table], FeatureSource]) -> FeatureSource:
    return store(ROWS)


def test_columns_come_in_the_views_order_with_their_kinds(source: FeatureSource) -> None:
    assert source.columns() == (
        Column(name="ticker", kind="category"),
        Column(name="date", kind="date"),
        Column(name="strategy", kind="category"),
        Column(name="momentum_50d", kind="number"),
        Column(name="shares", kind="number"),
        Column(name="sector", kind="category"),
        Column(name="target_return", kind="number"),
    )


@pytest.mark.parametrize(
    "name", ["BBL_20_2.0", "ret[5]", "rsi<30", 'say "hi"', "it's", "100%", "a:b", "Größe", "two words"]
)
def test_a_column_is_read_whatever_its_name(store: Callable[[pa.Table], FeatureSource], name: str) -> None:
    renamed = ROWS.rename_columns([name if column == "shares" else column for column in ROWS.column_names])
    source = store(renamed)
    assert Column(name=name, kind="number") in source.columns()
    table = source.read("growth", ALL, [name])
    assert (table.column_names, table.column(name).to_pylist()) == ([name], [2.0, 1.0, 3.0, 4.0, 5.0])
    batches = list(source.read_batches("growth", ALL, [name]))
    assert pa.Table.from_batches(batches).column(name).to_pylist() == [2.0, 1.0, 3.0, 4.0, 5.0]


def test_a_boolean_is_a_number(store: Callable[[pa.Table], FeatureSource]) -> None:
    source = store(ROWS.append_column("halted", pa.array([True, False, None, True, False, True])))
    assert Column(name="halted", kind="number") in source.columns()
    # By date and ticker: AAPL and MSFT of the 2nd, AAPL and MSFT of the 3rd, AAPL of the 6th.
    assert source.read("growth", ALL, ["halted"]).column("halted").to_pylist() == [None, 1.0, 0.0, 1.0, 0.0]


def test_the_newest_date_is_of_the_strategy_or_of_any(source: FeatureSource) -> None:
    assert source.latest_date("growth") == date(2020, 1, 6)
    assert source.latest_date() == date(2020, 1, 8)


def test_a_strategy_without_rows_has_no_newest_date(source: FeatureSource) -> None:
    assert source.latest_date("momentum") is None


def test_a_windows_start_is_excluded_and_its_end_included(source: FeatureSource) -> None:
    window = Window(start=date(2020, 1, 2), end=date(2020, 1, 6))
    assert source.dates("growth", window) == [date(2020, 1, 3), date(2020, 1, 6)]
    assert source.count("growth", window) == 3
    assert source.read("growth", window, ["shares"]).column("shares").to_pylist() == [3.0, 4.0, 5.0]


def test_adjacent_windows_share_no_row_and_miss_none(source: FeatureSource) -> None:
    border = date(2020, 1, 3)
    before = source.count("growth", Window(start=ALL.start, end=border))
    after = source.count("growth", Window(start=border, end=ALL.end))
    assert (before, after) == (4, 1)
    assert before + after == source.count("growth", ALL)


def test_rows_come_by_date_and_ticker(source: FeatureSource) -> None:
    table = source.read("growth", ALL, ["ticker", "date"])
    rows = list(zip(table.column("date").to_pylist(), table.column("ticker").to_pylist(), strict=True))
    assert rows == [
        (date(2020, 1, 2), "AAPL"),
        (date(2020, 1, 2), "MSFT"),
        (date(2020, 1, 3), "AAPL"),
        (date(2020, 1, 3), "MSFT"),
        (date(2020, 1, 6), "AAPL"),
    ]


#: In the order of code points; a dictionary's order, or one without regard to case, is another.
IN_ORDER = ["10", "9", "AAPL", "Zoe", "_x", "aapl", "b", "Ä", "ß", "ЯНДЕКС", None]


def test_tickers_come_in_the_order_of_code_points_with_none_last(store: Callable[[pa.Table], FeatureSource]) -> None:
    shuffled = [IN_ORDER[i] for i in (7, 2, 10, 5, 0, 9, 3, 6, 1, 8, 4)]
    source = store(
        pa.table(
            {
                "ticker": pa.array(shuffled, pa.string()),
                "date": pa.array([date(2020, 1, 2)] * len(shuffled), pa.date32()),
                "strategy": ["growth"] * len(shuffled),
                "place": [float(IN_ORDER.index(ticker)) for ticker in shuffled],
                "target_return": [0.0] * len(shuffled),
            }
        )
    )
    expected = [float(place) for place in range(len(IN_ORDER))]
    for columns in (["ticker", "date", "place"], ["place"]):
        assert source.read("growth", ALL, columns).column("place").to_pylist() == expected
        batches = pa.Table.from_batches(list(source.read_batches("growth", ALL, columns)))
        assert batches.column("place").to_pylist() == expected


def test_the_newest_date_may_be_asked_for_up_to_a_day(source: FeatureSource) -> None:
    assert source.latest_date("growth", until=date(2020, 1, 5)) == date(2020, 1, 3)
    assert source.latest_date("growth", until=date(2020, 1, 6)) == date(2020, 1, 6)
    assert source.latest_date(until=date(2020, 1, 7)) == date(2020, 1, 6)
    assert source.latest_date("growth", until=date(2020, 1, 1)) is None


def test_plain_dates_have_no_faults_and_a_missing_one_is_counted(store: Callable[[pa.Table], FeatureSource]) -> None:
    days = ROWS.column("date").to_pylist()
    source = store(ROWS.set_column(1, "date", pa.array([None, *days[1:]], pa.date32())))
    assert source.date_faults("growth", ALL) == DateFaults(n_undated=1, undated="null")
    assert source.date_faults("value", ALL) == DateFaults()
    assert source.count("growth", ALL) == 4


def test_a_snapshot_gives_the_rows_of_the_source_and_leaves_it_usable(source: FeatureSource) -> None:
    columns = ["ticker", "date", "shares"]
    with source.snapshot() as one, one.snapshot() as again:
        assert one.read("growth", ALL, columns).to_pylist() == source.read("growth", ALL, columns).to_pylist()
        assert sum(batch.num_rows for batch in again.read_batches("growth", ALL, columns)) == 5
        assert one.latest_date("growth") == date(2020, 1, 6)
    assert source.count("growth", ALL) == 5


def test_numbers_are_float64_dates_date32_and_text_is_text(source: FeatureSource) -> None:
    schema = source.read("growth", ALL, ["ticker", "date", "shares", "momentum_50d", "sector"]).schema
    assert schema.field("date").type == pa.date32()
    assert schema.field("shares").type == pa.float64()
    assert schema.field("momentum_50d").type == pa.float64()
    assert {str(schema.field(name).type) for name in ("ticker", "sector")} <= {"string", "large_string"}


def test_nulls_stay_null_and_infinities_infinite(source: FeatureSource) -> None:
    table = source.read("growth", ALL, ["momentum_50d", "sector"])
    assert table.column("momentum_50d").to_pylist() == [-0.5, float("inf"), None, 0.25, 0.125]
    assert table.column("sector").to_pylist() == [None, "tech", "tech", "tech", "tech"]


def test_columns_come_as_they_are_asked_for_and_no_others(source: FeatureSource) -> None:
    assert source.read("growth", ALL, ["shares", "ticker"]).column_names == ["shares", "ticker"]


def test_an_empty_window_is_an_empty_table_with_its_columns(source: FeatureSource) -> None:
    window = Window(start=date(2021, 1, 1), end=date(2021, 2, 1))
    table = source.read("growth", window, ["date", "shares"])
    assert table.num_rows == 0
    assert [field.type for field in table.schema] == [pa.date32(), pa.float64()]
    assert source.dates("growth", window) == []
    assert source.count("growth", window) == 0


def test_a_column_that_is_not_there_is_named_in_the_error(source: FeatureSource) -> None:
    with pytest.raises(MissingColumn, match="pe_ratio"):
        source.read("growth", ALL, ["shares", "pe_ratio"])


@pytest.mark.parametrize("key", ["ticker", "date", "strategy"])
def test_a_view_without_a_key_column_is_refused(store: Callable[[pa.Table], FeatureSource], key: str) -> None:
    source = store(ROWS.drop_columns([key]))
    with pytest.raises(MissingColumn, match=key):
        source.columns()


@pytest.mark.parametrize(
    "name",
    ["growth'; DROP TABLE ml_training_features; --", 'growth" OR "1"="1', "growth' OR '1'='1", "$1", ":strategy", "%s"],
)
def test_a_strategy_name_is_data_never_sql(source: FeatureSource, name: str) -> None:
    assert source.count(name, ALL) == 0
    assert source.dates(name, ALL) == []
    assert source.latest_date(name) is None
    assert source.read(name, ALL, ["shares"]).num_rows == 0
    assert source.count("growth", ALL) == 5


def test_a_strategy_named_like_an_attack_finds_its_own_rows(store: Callable[[pa.Table], FeatureSource]) -> None:
    name = "growth'; DROP TABLE ml_training_features"
    index = ROWS.schema.get_field_index("strategy")
    source = store(ROWS.set_column(index, "strategy", pa.array([name] * ROWS.num_rows)))
    assert source.count(name, ALL) == 6


def test_a_column_named_like_an_attack_is_read_as_a_column(store: Callable[[pa.Table], FeatureSource]) -> None:
    name = 'pe"; DROP TABLE x; --'
    source = store(ROWS.rename_columns({"shares": name}))
    assert source.read("growth", ALL, [name]).column(name).to_pylist() == [2.0, 1.0, 3.0, 4.0, 5.0]


def test_batches_are_the_rows_of_a_read_in_its_order_and_types(source: FeatureSource) -> None:
    columns = ["ticker", "date", "momentum_50d", "shares", "sector", "target_return"]
    whole = source.read("growth", ALL, columns)
    batches = list(source.read_batches("growth", ALL, columns))
    assert pa.Table.from_batches(batches).to_pylist() == whole.to_pylist()
    assert pa.Table.from_batches(batches).schema.types == whole.schema.types


def test_batches_end_at_the_window_and_an_empty_one_has_no_row(source: FeatureSource) -> None:
    window = Window(start=date(2020, 1, 2), end=date(2020, 1, 3))
    assert sum(batch.num_rows for batch in source.read_batches("growth", window, ["shares"])) == 2
    nothing = Window(start=date(2021, 1, 1), end=date(2021, 2, 1))
    assert sum(batch.num_rows for batch in source.read_batches("growth", nothing, ["shares"])) == 0


def test_a_column_that_is_missing_is_named_before_the_first_batch(source: FeatureSource) -> None:
    with pytest.raises(MissingColumn, match="no_such"):
        next(source.read_batches("growth", ALL, ["no_such"]))


def test_batches_that_are_not_taken_leave_the_source_usable(source: FeatureSource) -> None:
    batches = source.read_batches("growth", ALL, ["shares"])
    next(batches)
    batches.close()
    assert source.count("growth", ALL) == 5


def test_many_batches_are_the_rows_of_a_read(store: Callable[[pa.Table], FeatureSource]) -> None:
    days = [date(2020, 1, 1 + number // 1_500) for number in range(40_000)]
    many = pa.table(
        {
            "ticker": [f"T{number % 1_500:04}" for number in range(40_000)],
            "date": pa.array(days, pa.date32()),
            "strategy": ["growth"] * 40_000,
            "momentum_50d": [float(number) for number in range(40_000)],
        }
    )
    batches = list(store(many).read_batches("growth", ALL, ["date", "momentum_50d"]))
    read = pa.Table.from_batches(batches)
    assert read.column("momentum_50d").to_pylist() == [float(number) for number in range(40_000)]
    assert read.column("date").to_pylist() == days


def test_the_rows_of_each_date_are_counted(source: FeatureSource) -> None:
    assert list(source.rows_by_date("growth", ALL).items()) == [
        (date(2020, 1, 2), 2),
        (date(2020, 1, 3), 2),
        (date(2020, 1, 6), 1),
    ]
    assert source.rows_by_date("growth", Window(start=date(2020, 1, 2), end=date(2020, 1, 5))) == {date(2020, 1, 3): 2}
    assert source.rows_by_date("momentum", ALL) == {}


DAYS = [date(2020, 1, 1) + timedelta(days=i) for i in range(5)]
#: Odd tickers too: other alphabets, quotes, blanks at the ends, an empty one, none.
TICKERS = [*(f"T{number:03}" for number in range(120)), "ЯНДЕКС", "ü'; --", "%s", " padded ", "", None]
KEYS = [(ticker, day) for day in DAYS for ticker in TICKERS]
MANY = pa.table(
    {
        "ticker": pa.array([ticker for ticker, _ in KEYS], pa.string()),
        "date": pa.array([day for _, day in KEYS], pa.date32()),
        "strategy": ["growth"] * len(KEYS),
        "x": [float(i) for i in range(len(KEYS))],
        "target_return": [0.0] * len(KEYS),
    }
)
SHARES = {DAYS[0]: 0.1, DAYS[1]: 0.5, DAYS[2]: 0.0, DAYS[3]: 1.0}
"""The last date is not named."""
DAYS_WINDOW = Window(start=DAYS[0] - timedelta(days=1), end=DAYS[-1])


def mark(text: str) -> int:
    """The rule as `features.sampling` states it, written a second time."""
    return 1 + int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % (2**31 - 2)


def is_kept(ticker: str | None, day: date) -> bool:
    share = SHARES.get(day, 1.0)
    return mark(ticker or "") * mark(day.isoformat()) % (2**31 - 1) < share * (2**31 - 1)


def test_a_sample_is_the_same_rows_in_every_store(store: Callable[[pa.Table], FeatureSource]) -> None:
    source = store(MANY)
    table = source.read("growth", DAYS_WINDOW, ["ticker", "date", "x"], sample=RowSample(shares=SHARES))
    expected = [i for i, key in enumerate(KEYS) if is_kept(*key)]
    assert sorted(table.column("x").to_pylist()) == expected
    assert table.column("date").to_pylist() == sorted(table.column("date").to_pylist())
    kept = [table.column("date").to_pylist().count(day) for day in DAYS]
    # 12.6 of 126 and 63 of 126 are expected; a standard deviation is 3.4 and 5.6.
    assert kept == [19, 64, 0, 126, 126]


def test_a_sample_of_other_columns_or_another_window_has_the_same_rows(
    store: Callable[[pa.Table], FeatureSource],
) -> None:
    source = store(MANY)
    window = Window(start=DAYS[0], end=DAYS[1])
    table = source.read("growth", window, ["x"], sample=RowSample(shares=SHARES))
    assert table.column_names == ["x"]
    assert sorted(table.column("x").to_pylist()) == [
        i for i, (ticker, day) in enumerate(KEYS) if day == DAYS[1] and is_kept(ticker, day)
    ]


def test_a_sample_of_an_empty_window_is_an_empty_table_with_its_columns(source: FeatureSource) -> None:
    window = Window(start=date(2021, 1, 1), end=date(2021, 2, 1))
    table = source.read(
        "growth", window, ["date", "shares", "sector"], sample=RowSample(shares={date(2021, 1, 5): 0.5})
    )
    assert table.num_rows == 0
    assert table.column_names == ["date", "shares", "sector"]
    assert [table.schema.field(name).type for name in ("date", "shares")] == [pa.date32(), pa.float64()]


def test_a_sampled_read_names_a_column_that_is_not_there(source: FeatureSource) -> None:
    with pytest.raises(MissingColumn, match="pe_ratio"):
        source.read("growth", ALL, ["pe_ratio"], sample=RowSample(shares={}))

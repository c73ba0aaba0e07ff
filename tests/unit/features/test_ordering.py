"""Rows in the order of date and ticker. Arrow's own sort is the oracle."""

from __future__ import annotations

from datetime import date

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from mlops.features.postgres import by_date_and_ticker

days = st.one_of(st.none(), st.dates(date(2019, 12, 30), date(2020, 1, 3)))
tickers = st.one_of(st.none(), st.sampled_from(["A", "B", "a", "Ä", "", "AA", "\U0001f4c8"]))


def _table(rows: list[tuple[date | None, str | None]], *, pieces: int = 1) -> pa.Table:
    table = pa.table(
        {
            "date": pa.array([day for day, _ in rows], pa.date32()),
            "ticker": pa.array([ticker for _, ticker in rows], pa.string()),
            "row": pa.array(range(len(rows)), pa.int64()),
        }
    )
    size = max(1, len(rows) // pieces)
    return pa.Table.from_batches(table.to_batches(max_chunksize=size), table.schema)


@given(st.lists(st.tuples(days, tickers), max_size=30), st.integers(1, 4))
def test_rows_come_in_the_order_that_arrow_sorts_them(rows: list[tuple[date | None, str | None]], pieces: int) -> None:
    table = _table(rows, pieces=pieces)
    ordered = by_date_and_ticker(table)
    # The row's number last: equal rows stay as they came.
    assert ordered == table.sort_by([("date", "ascending"), ("ticker", "ascending"), ("row", "ascending")])


def test_rows_that_are_in_order_are_not_copied() -> None:
    table = _table([(date(2020, 1, 1), "A"), (date(2020, 1, 1), "B"), (date(2020, 1, 2), "A")])
    assert by_date_and_ticker(table) is table


def test_columns_stay_in_their_order() -> None:
    table = _table([(date(2020, 1, 2), "A"), (date(2020, 1, 1), "B")]).select(["row", "ticker", "date"])
    assert by_date_and_ticker(table).column_names == ["row", "ticker", "date"]

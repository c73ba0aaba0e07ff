"""Which rows a training learns from and is judged on, and which it refuses."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlops.domain.errors import UnusableFeatures
from mlops.domain.training.fingerprint import data_fingerprint
from mlops.stages.labelled_rows import LabelledRows, read_labelled
from tests.support.features import InMemoryFeatures
from tests.support.services import FIRST, LAST, N_DATES, TICKERS, panel, small_strategy


def read(table: pa.Table, *, order: Any = None, **data: Any) -> LabelledRows:
    strategy = small_strategy()
    strategy = replace(strategy, data=replace(strategy.data, **data))
    return read_labelled(InMemoryFeatures(table if order is None else table.take(order)), strategy, as_of=LAST)


def with_targets(values: dict[int, float]) -> pa.Table:
    table = panel()
    targets = table.column("target_return").to_pylist()
    for place, value in values.items():
        targets[place] = value
    return table.set_column(table.column_names.index("target_return"), "target_return", pa.array(targets))


def fingerprint(rows: LabelledRows) -> str:
    return data_fingerprint(rows.x, rows.y, rows.dates, features=rows.features)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), -1.5, 12.0])
def test_an_impossible_return_is_no_label_and_is_named(value: float) -> None:
    rows = read(with_targets({3: value}))
    assert not rows.known[3]
    assert rows.known.sum() == (N_DATES - 5) * TICKERS - 1
    assert rows.target_return is not None
    assert np.isnan(rows.target_return[3])
    (note,) = rows.notes
    assert note.startswith(f"1 of {N_DATES * TICKERS} values of target_return are infinite or outside -1 to 10")
    assert f"T3 {FIRST} {value:g}" in note


def test_too_many_impossible_returns_stop_a_training() -> None:
    # 17 of 1,600 are more than a hundredth.
    table = with_targets(dict.fromkeys(range(17), float("inf")))
    with pytest.raises(
        UnusableFeatures, match=r"17 of 1600 values .* more than the 1\.0% of them that data\.max_bad_returns"
    ):
        read(table)
    assert read(table, max_bad_returns=0.02).known.sum() == (N_DATES - 5) * TICKERS - 17


def test_a_strategy_says_what_returns_are_possible() -> None:
    assert read(with_targets({3: 12.0}), return_bounds=(-1.0, 20.0)).notes == ()


def test_a_ticker_and_date_in_several_rows_refuse_a_training_by_name() -> None:
    table = pa.concat_tables([panel(), panel().slice(11, 1)])
    with pytest.raises(
        UnusableFeatures, match=rf"same ticker and date, such as T3 {FIRST + timedelta(days=1)}: one row"
    ):
        read(table)


def test_equal_rows_count_once_where_the_strategy_says_so_and_different_ones_are_refused_all_the_same() -> None:
    table = panel()
    rows = read(pa.concat_tables([table, table.slice(99, 30), table.slice(100, 30)]), duplicate_rows="drop_equal")
    assert fingerprint(rows) == fingerprint(read(table))
    assert rows.notes == ("60 rows that repeat another one of their ticker and date count once",)
    differs = with_targets({11: 0.5}).slice(11, 1)
    with pytest.raises(UnusableFeatures, match="these rows differ"):
        read(pa.concat_tables([table, differs]), duplicate_rows="drop_equal")


def test_no_order_of_the_stored_rows_changes_what_is_read() -> None:
    order = np.random.default_rng(0).permutation(N_DATES * TICKERS)
    some, others = read(panel()), read(panel(), order=order)
    assert fingerprint(some) == fingerprint(others)
    assert (some.marks == others.marks).all()
    assert len(set(some.marks.tolist())) == N_DATES * TICKERS


def test_a_date_with_few_rows_is_neither_trained_on_nor_counted() -> None:
    table = panel()
    # 196 of the 200 dates are left whole; of the others one row is there.
    places = [i for i in range(N_DATES * TICKERS) if i // TICKERS not in (50, 100, 150, 199) or i % TICKERS == 0]
    rows = read(table.take(places))
    assert len(np.unique(rows.dates)) == 196
    assert len(rows.x) == 196 * TICKERS
    # The five newest dates that count have no label yet.
    assert rows.dates[rows.known].max() == np.datetime64(LAST - timedelta(days=6))
    assert [one.day for one in rows.panel.left_out] == [FIRST + timedelta(days=i) for i in (50, 100, 150, 199)]

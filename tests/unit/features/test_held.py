"""Rows held in memory are the source's own, and nothing else is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lab.backfill import CachedSource
from mlops.domain.ports import Window
from mlops.domain.sampling import RowSample
from tests.support.features import InMemoryFeatures
from tests.support.services import FEATURES, FIRST, panel

ROWS = pa.concat_tables([panel("growth", n_dates=40), panel("value", n_dates=40)])
HELD = Window(start=FIRST + timedelta(days=9), end=FIRST + timedelta(days=29))


class CountedFeatures(InMemoryFeatures):
    def __init__(self, table: pa.Table) -> None:
        super().__init__(table)
        self.reads = 0

    def read(self, strategy: str, window: Window, columns: Sequence[str], **more: Any) -> pa.Table:
        self.reads += 1
        return super().read(strategy, window, columns, **more)


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


@given(start=st.integers(-5, 45), length=st.integers(0, 45), strategy=st.sampled_from(["growth", "value", "none"]))
def test_every_window_of_every_strategy_reads_as_from_the_source(start: int, length: int, strategy: str) -> None:
    source = InMemoryFeatures(ROWS)
    held = CachedSource(source, "growth", HELD, FEATURES)
    window = Window(start=day(start), end=day(start + length))
    columns = ["ticker", "date", "noise"]
    assert held.read(strategy, window, columns).to_pylist() == source.read(strategy, window, columns).to_pylist()
    assert held.count(strategy, window) == source.count(strategy, window)
    assert held.dates(strategy, window) == source.dates(strategy, window)
    assert held.rows_by_date(strategy, window) == source.rows_by_date(strategy, window)


def test_the_held_range_is_read_once() -> None:
    source = CountedFeatures(ROWS)
    held = CachedSource(source, "growth", HELD, FEATURES)
    for number in range(10, 29):
        held.read("growth", Window(start=day(number), end=day(number + 1)), ["date", *FEATURES])
    assert source.reads == 1


def test_a_column_that_is_not_held_is_read_from_the_source() -> None:
    source = CountedFeatures(ROWS)
    held = CachedSource(source, "growth", HELD, FEATURES)
    assert held.read("growth", HELD, ["target_return"]).num_rows == 20 * 8
    assert source.reads == 2


def test_a_sample_is_taken_by_the_source_and_batches_come_from_it() -> None:
    source = CountedFeatures(ROWS)
    held = CachedSource(source, "growth", HELD, FEATURES)
    half = RowSample(shares=dict.fromkeys(source.dates("growth", HELD), 0.5))
    assert held.read("growth", HELD, FEATURES, sample=half).equals(source.read("growth", HELD, FEATURES, sample=half))
    assert sum(batch.num_rows for batch in held.read_batches("growth", HELD, ["noise"])) == 20 * 8


def test_columns_and_newest_date_are_the_view_s() -> None:
    source = InMemoryFeatures(ROWS)
    held = CachedSource(source, "growth", HELD, FEATURES)
    assert held.columns() == source.columns()
    assert held.latest_date("growth") == day(39)

"""A column that only counts rows is told from whole numbers that measure something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest

from mlops.domain.columns import mark_row_numbers, row_numbers
from mlops.domain.policies import DataPolicy
from mlops.domain.ports import Column, Window
from mlops.domain.sampling import RowSample
from tests.support.features import InMemoryFeatures

N_DATES, N_TICKERS = 30, 8
FIRST = date(2024, 1, 1)
N = N_DATES * N_TICKERS
RNG = np.random.default_rng(1)
BY_DATE = np.arange(N) + 20_000_000
BY_TICKER = (np.arange(N) % N_TICKERS) * N_DATES + np.arange(N) // N_TICKERS
"""Loaded ticker by ticker"""
MEASURED = {
    "price": RNG.normal(size=N),
    "volume": RNG.permutation(N) * 1_000.0,
    "flag": RNG.integers(0, 2, N).astype(float),
    "year": np.full(N, 2024.0),
    "day": np.repeat(np.arange(N_DATES), N_TICKERS).astype(float),
    "age": (np.arange(N) // N_TICKERS + np.arange(N) % N_TICKERS).astype(float),
    "level": np.sort(RNG.normal(size=N)),
    "gaps": np.where(RNG.random(N) < 0.1, np.nan, BY_DATE),
}


def view(**columns: np.ndarray) -> pa.Table:
    return pa.table(
        {
            "ticker": [f"T{place}" for place in range(N_TICKERS)] * N_DATES,
            "date": pa.array([FIRST + timedelta(days=day) for day in range(N_DATES) for _ in range(N_TICKERS)]),
            "strategy": ["growth"] * N,
            **columns,
            "target_return": RNG.normal(size=N),
        }
    )


def marked(table: pa.Table, policy: DataPolicy | None = None) -> list[str]:
    source = InMemoryFeatures(table)
    columns = mark_row_numbers(
        source, "growth", source.columns(), policy or DataPolicy(), as_of=FIRST + timedelta(days=N_DATES)
    )
    return [column.name for column in columns if column.left_out]


@pytest.mark.parametrize(
    "values", [BY_DATE, BY_DATE * 3, BY_TICKER, BY_TICKER + 7], ids=["id", "steps", "ticker", "offset"]
)
def test_a_number_that_never_repeats_and_only_rises_counts_rows(values: np.ndarray) -> None:
    assert marked(view(id=values, price=MEASURED["price"])) == ["id"]


@pytest.mark.parametrize("name", MEASURED)
def test_what_measures_something_counts_no_rows(name: str) -> None:
    assert row_numbers(view(**{name: MEASURED[name]}), [name]) == set()
    assert marked(view(**{name: MEASURED[name]})) == []


def test_a_row_number_that_the_policy_names_is_its_own_affair() -> None:
    assert marked(view(id=BY_DATE), DataPolicy(include=("id",))) == []


def test_a_few_rows_tell_nothing() -> None:
    few = view(id=BY_DATE).slice(N - 4 * N_TICKERS)
    assert marked(few) == []


def test_an_empty_view_has_no_row_numbers() -> None:
    source = InMemoryFeatures(view(id=BY_DATE))
    assert (
        mark_row_numbers(source, "growth", source.columns(), DataPolicy(), as_of=date(2020, 1, 1)) == source.columns()
    )
    assert Column(name="id", kind="number") in source.columns()


def test_a_column_that_is_known_to_have_fractions_is_not_read() -> None:
    asked: list[str] = []

    class Watched(InMemoryFeatures):
        def read(
            self, strategy: str, window: Window, columns: Sequence[str], *, sample: RowSample | None = None
        ) -> pa.Table:
            asked.extend(columns)
            return super().read(strategy, window, columns, sample=sample)

    source = Watched(view(id=BY_DATE, price=MEASURED["price"]))
    columns = [replace(column, has_fractions=column.name == "price") for column in source.columns()]
    marked_columns = mark_row_numbers(source, "growth", columns, DataPolicy(), as_of=FIRST + timedelta(days=N_DATES))
    assert [column.name for column in marked_columns if column.left_out] == ["id"]
    assert "price" not in asked

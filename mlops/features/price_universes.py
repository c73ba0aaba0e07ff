"""Universes that need prices alone, and feature rows over them. Called by the evaluation commands."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlops.features.parquet import ParquetFeatures
from mlops.features.prices import read_close, read_members
from mlops.features.sample import compute_sample, read_prices
from mlops.features.sample_features import (
    compute_features,
    compute_targets,
    long_table,
    momentum_members,
    volatility,
)


def price_universes(close: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Four universes by prices alone, a third of the names each, chosen at the end of the month before.

    `momentum`: best 12-1 momentum. `laggards`: worst. `steady`, `volatile`: lowest and highest 60-day volatility.
    """
    size = max(1, close.shape[1] // 3)
    spread = volatility(close.pct_change(fill_method=None), 60)
    return {
        "momentum": momentum_members(close, size=size),
        "laggards": _monthly(close.shift(21) / close.shift(252) - 1, size=size),
        "steady": _monthly(spread, size=size),
        "volatile": _monthly(-spread, size=size),
    }


def drawn_panels(close: pd.DataFrame, *, size: int, n: int, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """`n` panels of `size` names, each drawn from all of them and the same on every date."""
    names = np.array(close.columns)
    panels = {}
    for i in range(n):
        chosen = close.columns.isin(rng.choice(names, size=min(size, len(names)), replace=False))
        member = pd.DataFrame(np.tile(chosen, (len(close), 1)), index=close.index, columns=close.columns)
        panels[f"{size} names, {i + 1}"] = member
    return panels


def feature_rows(close: pd.DataFrame, universes: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Rows (date, ticker, the sample's features) of each universe."""
    frames = compute_features(close)
    return {name: long_table(frames, member) for name, member in universes.items()}


def _price_view(close: pd.DataFrame, universes: dict[str, pd.DataFrame]) -> pa.Table:
    """Rows of a feature view over the universes: ticker, date, strategy, the sample's features and targets."""
    frames = {**compute_features(close), **compute_targets(close)}
    parts = [long_table(frames, member).assign(strategy=name) for name, member in universes.items()]
    table = pa.Table.from_pandas(pd.concat(parts, ignore_index=True), preserve_index=False)
    return table.set_column(table.column_names.index("date"), "date", table.column("date").cast(pa.date32()))


def _monthly(score: pd.DataFrame, *, size: int) -> pd.DataFrame:
    """The `size` lowest scores at the end of the month before."""
    month = pd.PeriodIndex(score.index, freq="M")
    chosen = score.groupby(month).last().rank(axis=1, method="first") <= size
    held = chosen.shift(1, fill_value=False).reindex(month)
    held.index = score.index
    return held.astype(bool)


# ---- A feature view made of prices for one command: the sample, or a user's file, computed into a temporary folder


@dataclass(frozen=True, kw_only=True)
class PriceSource:
    """A feature view of prices."""

    source: ParquetFeatures
    strategies: tuple[str, ...]
    """Those that have rows, sorted."""


def price_view(
    prices: Path | None, members: Path | None, *, date_format: str | None = None
) -> tuple[pd.DataFrame, pa.Table]:
    """(dates, tickers) of closes and the rows of their feature view; arguments and errors as of `price_source`."""
    if prices is None:
        close = read_prices()
        return close, compute_sample(close)
    close = read_close(prices, date_format=date_format)
    universes = read_members(members, close, date_format=date_format) if members else price_universes(close)
    return close, _price_view(close, universes)


@contextmanager
def price_source(prices: Path | None, members: Path | None, *, date_format: str | None = None) -> Iterator[PriceSource]:
    """The view while the block runs: of `prices` (None: the sample) and `members` (None: universes by price).

    date_format : see `read_close`
    Raises UnreadableData, MissingColumn, ConfigurationError where the sample is not installed.
    """
    _, table = price_view(prices, members, date_format=date_format)
    with tempfile.TemporaryDirectory(prefix="acis-prices-") as folder:
        path = Path(folder) / "features.parquet"
        pq.write_table(table, path)
        names = tuple(sorted(pc.unique(table.column("strategy")).to_pylist()))
        yield PriceSource(source=ParquetFeatures(path), strategies=names)

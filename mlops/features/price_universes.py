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

from mlops.domain.errors import ConfigurationError, InsufficientData
from mlops.features.gaps import on_own_dates
from mlops.features.parquet import ParquetFeatures
from mlops.features.price_coverage import (
    MEMBERS_WITHOUT_PRICES,
    STRATEGIES_WITHOUT_ROWS,
    PriceCoverage,
    measure_coverage,
)
from mlops.features.prices import read_member_table, read_prices
from mlops.features.sample import compute_sample
from mlops.features.sample import read_prices as read_sample
from mlops.features.sample_features import (
    compute_features,
    compute_targets,
    long_table,
    momentum,
    momentum_members,
    volatility,
)


def price_universes(close: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Four universes by prices alone, a third of the names each, chosen at the end of the month before.

    `momentum`: best 12-1 momentum. `laggards`: worst. `steady`, `volatile`: lowest and highest 60-day volatility.
    """
    size = max(1, close.shape[1] // 3)
    scores = on_own_dates(close, _scores)
    return {
        "momentum": momentum_members(close, size=size),
        "laggards": _monthly(scores["momentum"], size=size),
        "steady": _monthly(scores["volatility"], size=size),
        "volatile": _monthly(-scores["volatility"], size=size),
    }


def _scores(close: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {"momentum": momentum(close), "volatility": volatility(close.pct_change(fill_method=None), 60)}


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


def _monthly(score: pd.DataFrame, *, size: int) -> pd.DataFrame:
    """The `size` lowest scores at the end of the month before."""
    month = pd.PeriodIndex(score.index, freq="M")
    chosen = score.groupby(month).last().rank(axis=1, method="first") <= size
    held = chosen.shift(1, fill_value=False).reindex(month)
    held.index = score.index
    return held.astype(bool)


@dataclass(frozen=True, kw_only=True)
class GivenPrices:
    """A user's prices, the members of strategies among them, and what both files give."""

    path: Path
    close: pd.DataFrame
    """(dates, tickers)"""
    universes: dict[str, pd.DataFrame] | None
    """(dates, tickers) of True, by strategy; None without a members file"""
    coverage: PriceCoverage


def read_given(prices: Path, members: Path | None, *, date_format: str | None = None) -> GivenPrices:
    """Read a file of prices, and of members where there is one.

    date_format : see `read_prices`
    Raises UnreadableData, MissingColumn, InsufficientData where no row has all features.
    """
    table = read_prices(prices, date_format=date_format)
    chosen = read_member_table(members, table.close, date_format=date_format) if members else None
    coverage = measure_coverage(table)
    return GivenPrices(
        path=prices,
        close=table.close,
        universes=chosen.universes if chosen else None,
        coverage=coverage.with_left_out(MEMBERS_WITHOUT_PRICES, chosen.without_prices) if chosen else coverage,
    )


def require_prices(prices: Path | None, members: Path | None) -> None:
    """Raise ConfigurationError where members are given without prices."""
    if members is not None and prices is None:
        raise ConfigurationError(f"{members} names members among the tickers of a file of prices; give --prices, too")


# ---- A feature view made of prices for one command: the sample, or a user's file, computed into a temporary folder


@dataclass(frozen=True, kw_only=True)
class PriceSource:
    """A feature view of prices."""

    source: ParquetFeatures
    strategies: tuple[str, ...]
    """Those that have rows, sorted."""
    coverage: PriceCoverage | None
    """What a user's file gives; None for the sample."""


def price_view(
    prices: Path | None, members: Path | None, *, date_format: str | None = None
) -> tuple[pd.DataFrame, pa.Table, PriceCoverage | None]:
    """(dates, tickers) of closes, the rows of their feature view, and what a user's file gives.

    Arguments and errors as of `price_source`.
    """
    if prices is None:
        require_prices(prices, members)
        close = read_sample()
        return close, compute_sample(close), None
    given = read_given(prices, members, date_format=date_format)
    table, coverage = _price_view(given)
    return given.close, table, coverage


@contextmanager
def price_source(prices: Path | None, members: Path | None, *, date_format: str | None = None) -> Iterator[PriceSource]:
    """The view while the block runs: of `prices` (None: the sample) and `members` (None: universes by price).

    date_format : see `read_prices`
    Raises UnreadableData, MissingColumn, InsufficientData; ConfigurationError where the sample is not installed, or
    members are given without prices.
    """
    _, table, coverage = price_view(prices, members, date_format=date_format)
    with tempfile.TemporaryDirectory(prefix="acis-prices-") as folder:
        path = Path(folder) / "features.parquet"
        pq.write_table(table, path)
        names = tuple(sorted(pc.unique(table.column("strategy")).to_pylist()))
        yield PriceSource(source=ParquetFeatures(path), strategies=names, coverage=coverage)


def _price_view(given: GivenPrices) -> tuple[pa.Table, PriceCoverage]:
    """Rows of a feature view over the universes: ticker, date, strategy, the sample's features and targets."""
    frames = {**compute_features(given.close), **compute_targets(given.close)}
    universes = price_universes(given.close) if given.universes is None else given.universes
    parts = {name: long_table(frames, member).assign(strategy=name) for name, member in universes.items()}
    without = [name for name, part in parts.items() if part.empty]
    if len(without) == len(parts):
        raise InsufficientData(f"no member of {', '.join(without)} has a row with all features while it is one")
    table = pa.Table.from_pandas(pd.concat(parts.values(), ignore_index=True), preserve_index=False)
    dated = table.set_column(table.column_names.index("date"), "date", table.column("date").cast(pa.date32()))
    return dated, given.coverage.with_left_out(STRATEGIES_WITHOUT_ROWS, without)

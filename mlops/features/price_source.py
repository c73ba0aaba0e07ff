"""A feature view made of prices for one command: the sample, or a user's file, computed into a temporary folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlops.features.parquet import ParquetFeatures
from mlops.features.price_universes import price_universes, price_view
from mlops.features.prices import read_close, read_members
from mlops.features.sample import compute_sample


@dataclass(frozen=True, kw_only=True)
class PriceSource:
    """A feature view of prices."""

    source: ParquetFeatures
    strategies: tuple[str, ...]
    """Those that have rows, sorted."""


@contextmanager
def price_source(prices: Path | None, members: Path | None, *, date_format: str | None = None) -> Iterator[PriceSource]:
    """The view while the block runs: of `prices` (None: the sample) and `members` (None: universes by price).

    date_format : see `read_close`
    Raises UnreadableData, MissingColumn, ConfigurationError where the sample is not installed.
    """
    if prices is None:
        table = compute_sample()
    else:
        close = read_close(prices, date_format=date_format)
        universes = read_members(members, close, date_format=date_format) if members else price_universes(close)
        table = price_view(close, universes)
    with tempfile.TemporaryDirectory(prefix="acis-prices-") as folder:
        path = Path(folder) / "features.parquet"
        pq.write_table(table, path)
        names = tuple(sorted(pc.unique(table.column("strategy")).to_pylist()))
        yield PriceSource(source=ParquetFeatures(path), strategies=names)

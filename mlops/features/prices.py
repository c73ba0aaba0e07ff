"""Prices from a user's file, and universes that need prices alone.

A file has one row per date and ticker:

    date                       any date or timestamp
    ticker, Name or symbol     text
    adj_close, Adj Close, adjusted_close, or close      the first of these that is there; positive

Called by the evaluation commands. Column names are compared without case, spaces and underscores.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from mlops.errors import MissingColumn, SourceUnavailable
from mlops.features.sample_features import (
    compute_features,
    compute_targets,
    long_table,
    momentum_members,
    volatility,
)

_TICKER = ("ticker", "name", "symbol")
_CLOSE = ("adjclose", "adjustedclose", "close")


def read_close(path: Path) -> pd.DataFrame:
    """(dates, tickers) of closes, ascending dates; prices that are not positive are missing.

    Raises SourceUnavailable, MissingColumn.
    """
    rows = _read(path)
    day = pd.to_datetime(rows[_column(path, rows, ("date",))]).dt.normalize().dt.tz_localize(None)
    ticker = rows[_column(path, rows, _TICKER)].astype(str)
    price = rows[_column(path, rows, _CLOSE)].astype(np.float64)
    table = pd.DataFrame({"date": day, "ticker": ticker, "close": price}).drop_duplicates(
        ["date", "ticker"], keep="last"
    )
    close = table.set_index(["date", "ticker"])["close"].unstack().sort_index()  # noqa: PD010 -- pivot_table would average
    return close.where(close > 0)


def read_members(path: Path, close: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Universes from a file with columns date, ticker, strategy: members from the day after `date` until the
    strategy's next date. (dates, tickers) of True per strategy. Raises SourceUnavailable, MissingColumn.
    """
    rows = _read(path)
    names = {wanted: _column(path, rows, (wanted,)) for wanted in ("date", "strategy")}
    chosen = pd.DataFrame(
        {
            "date": pd.to_datetime(rows[names["date"]]),
            "ticker": rows[_column(path, rows, _TICKER)].astype(str),
            "strategy": rows[names["strategy"]].astype(str),
        }
    )
    chosen = chosen[chosen["ticker"].isin(close.columns)]
    return {str(name): _held(part, close) for name, part in chosen.groupby("strategy")}


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


def feature_rows(close: pd.DataFrame, universes: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Rows (date, ticker, the sample's features) of each universe."""
    frames = compute_features(close)
    return {name: long_table(frames, member) for name, member in universes.items()}


def price_view(close: pd.DataFrame, universes: dict[str, pd.DataFrame]) -> pa.Table:
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


def _held(chosen: pd.DataFrame, close: pd.DataFrame) -> pd.DataFrame:
    member = pd.DataFrame(False, index=close.index, columns=close.columns)
    starts = sorted(chosen["date"].unique())
    for start, end in zip(starts, [*starts[1:], close.index[-1]], strict=True):
        names = chosen.loc[chosen["date"] == start, "ticker"].unique()
        member.loc[(member.index > start) & (member.index <= end), names] = True
    return member


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path) if ".csv" in path.suffixes else pd.read_parquet(path)
    except (OSError, ValueError) as exc:
        raise SourceUnavailable(f"{path} cannot be read: {exc}; give a .parquet or .csv file") from exc


def _column(path: Path, rows: pd.DataFrame, wanted: tuple[str, ...]) -> str:
    names = {str(name).lower().replace(" ", "").replace("_", ""): str(name) for name in rows.columns}
    for name in wanted:
        if name in names:
            return names[name]
    raise MissingColumn(f"{path} has no column {' or '.join(wanted)}; found {', '.join(map(str, rows.columns))}")

"""The whole history of a strategy's features as a frame: from the feature source, or computed from a file of prices."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mlops.domain.errors import ConfigurationError, EmptyWindow
from mlops.domain.frame import FeatureFrame, feature_frame
from mlops.domain.panel import counted_dates
from mlops.domain.ports import FeatureSource, Window
from mlops.stages.drift_windows import columns_read

if TYPE_CHECKING:
    from mlops.domain.policies import Strategy

#: More values than this are not held in memory (1.6 GB).
MOST_VALUES = 200_000_000


def source_history(source: FeatureSource, strategy: Strategy, *, since: date | None = None) -> FeatureFrame:
    """All its rows from `since` on of dates that count, ascending.

    Raises EmptyWindow, MissingColumn, SourceUnavailable; ConfigurationError where they are too many to hold.
    """
    features, _ = columns_read(source.columns(), strategy)
    newest = source.latest_date(strategy.name)
    if newest is None or (since is not None and since > newest):
        rows = f"its newest row is of {newest}" if newest else "it has none at all"
        asked = f" from {since} on" if since else ""
        raise EmptyWindow(f"strategy {strategy.name!r} has no rows{asked}: {rows}; load its features")
    start = since - timedelta(days=1) if since is not None else date.min
    window = Window(start=start, end=newest)
    counted = counted_dates(source, strategy.name, window, min_share=strategy.data.min_date_share)
    n_rows = counted.count(strategy.name, window)
    if n_rows * len(features) > MOST_VALUES:
        raise ConfigurationError(
            f"strategy {strategy.name!r} has {n_rows:,} rows of {len(features)} features, more than can be held; "
            f"give --since DATE for the newer part"
        )
    return feature_frame(counted.read(strategy.name, window, ["ticker", "date", *features]), features).held()


def price_history(
    strategy: Strategy,
    prices: Path,
    *,
    members: Path | None = None,
    since: date | None = None,
    date_format: str | None = None,
) -> FeatureFrame:
    """The sample's features of a file's prices: of the strategy's members, or of all names where none are given.

    date_format : see `read_close`
    Raises UnreadableData, MissingColumn, EmptyWindow where the members file does not hold the strategy.
    """
    import pandas as pd  # noqa: PLC0415 -- for this source alone
    import pyarrow as pa  # noqa: PLC0415

    from mlops.features.price_universes import feature_rows  # noqa: PLC0415
    from mlops.features.prices import read_close, read_members  # noqa: PLC0415

    close = read_close(prices, date_format=date_format)
    universes = {strategy.name: close.notna()}
    if members:
        universes = read_members(members, close, date_format=date_format)
    if strategy.name not in universes:
        known = ", ".join(sorted(universes)) or "(none)"
        raise EmptyWindow(f"{members} has no members of {strategy.name!r} that {prices} has prices of; one of: {known}")
    rows = feature_rows(close, {strategy.name: universes[strategy.name]})[strategy.name]
    if rows.empty:
        raise EmptyWindow(f"{prices} gives no row: a ticker's first one needs about a year of prices")
    ordered = rows.sort_values(["date", "ticker"], kind="stable")
    features = [name for name in ordered.columns if name not in ("date", "ticker")]
    if since is not None:
        ordered = ordered[ordered["date"] >= pd.Timestamp(since)]
    table = pa.Table.from_pandas(ordered.assign(date=pd.to_datetime(ordered["date"]).dt.date), preserve_index=False)
    return feature_frame(table, features).held()

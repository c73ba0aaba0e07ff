"""The demo's data: features of real daily prices that an installed package carries.

20 US stocks' adjusted closes, 1990 to 2022, from skfolio (read as a file; the package is not imported, and
is installed without its dependencies). Loaded into the feature view of a server that `make run` started.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import psycopg2
from psycopg2 import sql

from mlops.errors import ConfigurationError, SourceUnavailable
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
#: Of the wheel's file; a read that gives other prices is refused.
_FILE = "datasets/data/sp500_dataset.csv.gz"


def read_prices() -> pd.DataFrame:
    """(dates, 20 tickers) of adjusted closes. Raises ConfigurationError where the package is not installed."""
    spec = find_spec("skfolio")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            "the sample's prices are not installed; run `make run`, "
            "or pip install --no-deps --require-hashes -r requirements-sample.lock"
        )
    path = Path(next(iter(spec.submodule_search_locations))) / _FILE
    return pd.read_csv(path, index_col="Date", parse_dates=["Date"]).sort_index()


def compute_sample(close: pd.DataFrame) -> pd.DataFrame:
    """Rows of the feature view: ticker, date, strategy, features, targets."""
    frames = {**compute_features(close), **compute_targets(close)}
    everyone = pd.DataFrame(True, index=close.index, columns=close.columns)
    members = {
        name: everyone.where(everyone.columns.isin(names) & everyone, False).astype(bool)
        for name, names in MEMBERS.items()
    }
    members["momentum"] = momentum_members(close, size=MOMENTUM_SIZE)
    members["direction"] = everyone
    parts = []
    for strategy, member in members.items():
        part = long_table(frames, member)
        part.insert(2, "strategy", strategy)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def load_sample(database_url: str) -> int:
    """Load the sample into PostgreSQL unless it is there; rows written, 0 where nothing was to be done.

    All or nothing: the table is made in one transaction. Raises SourceUnavailable; ConfigurationError where
    a relation of that name exists that this function did not make.
    """
    with _connected(database_url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT obj_description(to_regclass(%s), 'pg_class'), to_regclass(%s) IS NOT NULL", (RELATION, RELATION))
        comment, exists = cursor.fetchone() or (None, False)
        if comment == VERSION:
            return 0
        if exists and not str(comment or "").startswith("acis sample"):
            raise ConfigurationError(f"{RELATION} exists and is not the sample; it is left as it is")
        rows = compute_sample(read_prices())
        numbers = [name for name in rows.columns if name not in ("ticker", "date", "strategy")]
        cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(RELATION)))
        cursor.execute(
            sql.SQL("CREATE TABLE {} (ticker text NOT NULL, date date NOT NULL, strategy text NOT NULL, {})").format(
                sql.Identifier(RELATION),
                sql.SQL(", ").join(sql.SQL("{} double precision").format(sql.Identifier(name)) for name in numbers),
            )
        )
        cursor.copy_expert(
            sql.SQL("COPY {} FROM STDIN WITH (FORMAT csv)").format(sql.Identifier(RELATION)), _csv(rows)
        )
        cursor.execute(
            sql.SQL("ALTER TABLE {} ADD PRIMARY KEY (strategy, date, ticker)").format(sql.Identifier(RELATION))
        )
        cursor.execute(sql.SQL("COMMENT ON TABLE {} IS %s").format(sql.Identifier(RELATION)), (VERSION,))
        cursor.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(RELATION)))
        return len(rows)


@contextmanager
def _connected(database_url: str) -> Iterator[psycopg2.extensions.connection]:
    try:
        connection = psycopg2.connect("postgresql://" + database_url.partition("://")[2], connect_timeout=5)
    except psycopg2.OperationalError as exc:
        raise SourceUnavailable(f"the feature database does not answer: {exc}") from exc
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def _csv(rows: pd.DataFrame) -> io.StringIO:
    text = io.StringIO()
    rows.to_csv(text, index=False, header=False, date_format="%Y-%m-%d", quoting=csv.QUOTE_MINIMAL)
    text.seek(0)
    return text

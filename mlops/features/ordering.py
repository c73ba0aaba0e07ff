"""Puts the rows of a read into the order of date and ticker, where they are not in it already; pure.

A store that sorts a million wide rows takes longer to do so than to send them, and rows that were loaded day by
day come in that order anyway. Called by the PostgreSQL source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa


def by_date_and_ticker(table: pa.Table) -> pa.Table:
    """The rows by `date`, then `ticker` (in the order of code points), missing ones last; equal ones as they came."""
    import pyarrow as pa  # noqa: PLC0415 -- imported with the first table

    keys = _keys(table)
    if np.all(keys[1:] >= keys[:-1]):
        return table
    return table.take(pa.array(np.argsort(keys, kind="stable")))


def _keys(table: pa.Table) -> npt.NDArray[np.int64]:
    """(n,) a number for each row's date and ticker, ascending with them."""
    coded = table.column("ticker").combine_chunks().dictionary_encode(null_encoding="mask")
    tickers = coded.dictionary.to_pylist()
    rank = np.empty(len(tickers) + 1, dtype=np.int64)
    rank[sorted(range(len(tickers)), key=tickers.__getitem__)] = np.arange(len(tickers))
    rank[-1] = len(tickers)
    places = coded.indices.fill_null(len(tickers)).to_numpy(zero_copy_only=False)
    days = table.column("date").cast("int32").combine_chunks()
    n_days = np.iinfo(np.int32).max  # no day of a calendar
    numbers = days.fill_null(n_days).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.asarray(numbers * len(rank) + rank[places], dtype=np.int64)

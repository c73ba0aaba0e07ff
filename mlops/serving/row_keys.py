"""Tickers and dates of a caller's rows as the prediction log keeps them, and their keys, checked before any answer."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

from mlops.domain.errors import InvalidRows
from mlops.domain.experiments.assignment import key_of

_CLOCK_TOLERANCE = timedelta(days=1)
"""Zones differ by so much: tomorrow's date may be today somewhere."""


def day_of(as_of: object) -> date:
    """The date of a date, a datetime, a pandas Timestamp or a numpy datetime64.

    Raises InvalidRows: anything else, a missing one (NaT), or one in the future.
    """
    day = as_of if type(as_of) is date else _day(as_of)
    today = datetime.now(UTC).date()
    if day - today > _CLOCK_TOLERANCE:
        message = f"features of {day} were given, and it is {today} here; set the caller's clock, or the date, right"
        raise InvalidRows(message)
    return day


def days_of(as_of: object, n: int) -> list[date]:
    """One date for each of n rows, of one date or of n in any column. Raises InvalidRows, for another number too."""
    if isinstance(as_of, date | np.datetime64) or not isinstance(as_of, Iterable):
        return [day_of(as_of)] * n
    dates = [one if type(one) is date else _day(one) for one in _values(as_of, "as_of")]
    if len(dates) != n:
        message = f"{n} rows were given with {len(dates)} dates"
        raise InvalidRows(message)
    if dates:
        day_of(max(dates))
    return dates


def ticker_of(ticker: object) -> str:
    """A ticker as text. Raises InvalidRows for what is no name: None, a missing value, a number with a fraction."""
    if isinstance(ticker, str):
        return str(ticker)
    if isinstance(ticker, int | np.integer) and not isinstance(ticker, bool):  # as some markets have them
        return str(ticker)
    message = f"a ticker is a name, found {ticker!r:.80} ({type(ticker).__name__})"
    raise InvalidRows(message)


def tickers_of(tickers: object, n: int) -> list[str]:
    """One ticker for each of n rows. Raises InvalidRows."""
    if not isinstance(tickers, Iterable):
        message = f"tickers are one name for each row, found {tickers!r:.80}"
        raise InvalidRows(message)
    named = [ticker_of(one) for one in _values(tickers, "tickers")]
    if len(named) != n:
        message = f"{n} rows were given with {len(named)} tickers"
        raise InvalidRows(message)
    return named


def keys_of(keys: Iterable[object], n: int) -> list[str | None]:
    """One key for each of n rows, None where a row has none. Raises InvalidRows."""
    found = [None if key is None else key_of(key) for key in _values(keys, "keys")]
    if len(found) != n:
        message = f"{n} rows were given with {len(found)} keys"
        raise InvalidRows(message)
    return found


def _values(given: Iterable[Any], name: str) -> Iterable[Any]:
    """The values of a list, a pandas or numpy column, or an Arrow one. Raises InvalidRows."""
    if isinstance(given, str | bytes):
        message = f"{name} is one text, {given!r:.80}; give one value for each row"
        raise InvalidRows(message)
    if hasattr(given, "to_pylist"):  # Arrow
        return given.to_pylist()  # type: ignore[no-any-return]
    if (
        getattr(getattr(given, "dtype", None), "kind", "") == "M"
    ):  # at once: 100,000 Timestamps take a third of a second
        values = np.asarray(given)
        if values.dtype.kind == "M" and not np.isnat(values).any():
            return values.astype("datetime64[D]").ravel().tolist()
        return values.ravel()
    return given


def _day(value: object) -> date:
    if isinstance(value, np.datetime64):
        value = None if np.isnat(value) else value.astype("datetime64[D]").item()
    if isinstance(value, datetime) and value == value:  # noqa: PLR0124 -- NaT is a datetime, and is not itself
        value = value.date()
    if not isinstance(value, date) or isinstance(value, datetime):
        message = f"as_of is a date, a datetime, a pandas Timestamp or a numpy datetime64, found {value!r:.80}"
        raise InvalidRows(message)
    return value

"""Price files and members files of a user: closes by date and ticker, and which tickers a strategy holds.

    date                       a day, in one format per file; see `_parse_days`
    ticker, Name or symbol     text, as it is written: NA, NULL, nan and 0700 are tickers
    adj_close, Adj Close, adjusted_close, or close      the first of these that is there; positive
    strategy                   of a members file

A row that cannot be read without doubt is refused with its line and its value. Called by the evaluation commands.
Column names are compared without case, spaces and underscores.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from mlops.domain.errors import MissingColumn, UnreadableData

log = structlog.get_logger(__name__)

_TICKER = ("ticker", "name", "symbol")
_CLOSE = ("adjclose", "adjustedclose", "close")
#: Ways to write a day that leave no doubt once every row of a file fits; the two with slashes may both fit.
_DAY_FORMATS = (
    "%Y-%m-%d",
    "%Y%m%d",
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%d.%m.%Y",
    "%d-%b-%Y",
    "%d %b %Y",
    "%b %d, %Y",
    "%d %B %Y",
    "%B %d, %Y",
)
#: A time after the day, with or without a zone: 2024-03-11 00:00:00-04:00, 2024-03-11T00:00:00Z.
_TIME = r"[T ](?P<time>\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)\s*(?P<zone>Z|[+-]\d{2}:?\d{2})?$"
_FIRST, _LAST = pd.Timestamp("1900-01-01"), pd.Timestamp("2200-12-31")
#: How a file says that there is no price.
_NO_PRICE = ("", "na", "n/a", "nan", "null", "none", "-")
LEFT_OUT = ("repeated", "not_traded", "no_price", "not_positive")
"""Why a row gives no price: another row is the same; nothing is written there, before the first price of its name or
after the last; nothing is written between; it is 0, negative or infinite"""


@dataclass(frozen=True, kw_only=True)
class PriceTable:
    """The usable prices of a file, and how many of its rows have none."""

    path: Path
    close: pd.DataFrame
    """(dates, tickers), ascending dates, NaN where there is no price"""
    left_out: pd.DataFrame
    """(tickers, `LEFT_OUT`): rows"""


def read_prices(path: Path, *, date_format: str | None = None) -> PriceTable:
    """Read closes; a price that is empty, infinite or not positive is a missing one, and is counted.

    date_format : of `strptime`, for a file whose dates can be read in more than one way
    Raises UnreadableData, MissingColumn.
    """
    file = _PriceFile.read(path, date_format=date_format)
    written = pd.DataFrame({"date": file.days(), "ticker": file.texts(_TICKER), "close": file.prices(_CLOSE)})
    rows = written.drop_duplicates()
    again = rows.duplicated(["date", "ticker"], keep=False)
    if again.any():
        first = rows[again].iloc[0]
        alike = rows[again & (rows["date"] == first["date"]) & (rows["ticker"] == first["ticker"])]
        lines = " and ".join(str(file.first_line + place) for place in alike.index[:2])
        values = " and ".join("none" if np.isnan(value) else f"{value:g}" for value in alike["close"].iloc[:2])
        raise UnreadableData(
            f"{path}: {first['ticker']} has two prices on {first['date'].date()}, {values} (lines {lines}); "
            f"keep one row per date and ticker"
        )
    close = rows.set_index(["date", "ticker"])["close"].unstack().sort_index()  # noqa: PD010 -- pivot_table would average
    usable, empty = (rows["close"] > 0) & np.isfinite(rows["close"]), rows["close"].isna()
    traded = rows[usable].groupby("ticker")["date"].agg(["min", "max"]).reindex(rows["ticker"])
    outside = (rows["date"].to_numpy() < traded["min"].to_numpy()) | (
        rows["date"].to_numpy() > traded["max"].to_numpy()
    )
    causes = {
        "repeated": written["ticker"].value_counts() - rows["ticker"].value_counts(),
        "not_traded": rows.loc[empty & outside, "ticker"].value_counts(),
        "no_price": rows.loc[empty & ~outside, "ticker"].value_counts(),
        "not_positive": rows.loc[~empty & ~usable, "ticker"].value_counts(),
    }
    return PriceTable(
        path=path,
        close=close.where((close > 0) & np.isfinite(close)),
        left_out=pd.DataFrame(causes, index=close.columns, columns=LEFT_OUT).fillna(0).astype(int),
    )


def read_close(path: Path, *, date_format: str | None = None) -> pd.DataFrame:
    """Closes alone of `read_prices`. Raises UnreadableData, MissingColumn."""
    return read_prices(path, date_format=date_format).close


@dataclass(frozen=True, kw_only=True)
class MemberTable:
    """Which names a file's strategies hold."""

    universes: dict[str, pd.DataFrame]
    """(dates, tickers) of True, by strategy"""
    without_prices: tuple[str, ...]
    """Tickers that are left out"""


def read_member_table(path: Path, close: pd.DataFrame, *, date_format: str | None = None) -> MemberTable:
    """Universes from a file with columns date, ticker, strategy: members from the day after `date` until the
    strategy's next date. Tickers without prices are left out with a warning.

    Raises UnreadableData, MissingColumn.
    """
    file = _PriceFile.read(path, date_format=date_format)
    chosen = pd.DataFrame(
        {"date": file.days(), "ticker": file.texts(_TICKER), "strategy": file.texts(("strategy",))}
    ).drop_duplicates()
    priced = chosen["ticker"].isin(close.columns)
    without = sorted(chosen.loc[~priced, "ticker"].unique())
    if without:
        log.warning("members.without_prices", file=str(path), n_tickers=len(without), tickers=without[:10])
    if not priced.any():
        raise UnreadableData(f"{path}: none of its {len(without)} tickers has prices, as in {', '.join(without[:3])}")
    universes = {str(name): _held(part, close) for name, part in chosen[priced].groupby("strategy")}
    return MemberTable(universes=universes, without_prices=tuple(without))


@dataclass(frozen=True, kw_only=True)
class _PriceFile:
    """The rows of a file as they were written."""

    path: Path
    rows: pd.DataFrame
    first_line: int
    """What a person calls the first row: line 2 of a CSV file, below its header; row 1 of a Parquet file."""
    date_format: str | None

    @classmethod
    def read(cls, path: Path, *, date_format: str | None) -> _PriceFile:
        """All columns; of a CSV file as text, so that nothing is guessed from the values."""
        try:
            if is_csv := ".csv" in path.suffixes:
                rows = pd.read_csv(path, dtype=str, keep_default_na=False, na_filter=False, skip_blank_lines=False)
            else:
                rows = _parquet_rows(path)
        except (OSError, ValueError, pa.ArrowException) as exc:
            raise UnreadableData(f"{path} cannot be read: {exc}; give a .parquet or .csv file") from exc
        if is_csv:
            # A blank line is a row with one empty field: it keeps its number and is no row.
            rows = rows[~(rows == "").all(axis=1)]
        if rows.empty:
            raise UnreadableData(f"{path} has no rows; give one for each date and ticker")
        return cls(path=path, rows=rows, first_line=2 if is_csv else 1, date_format=date_format)

    def days(self) -> pd.Series:
        """Midnight of each row's day, without a zone."""
        written = self._column(("date",))
        unique = written.drop_duplicates()
        try:
            days = _parse_days(unique, date_format=self.date_format)
        except _NoDay as found:
            line = self._line(written == unique.iloc[found.place])
            raise UnreadableData(f"{self.path}, line {line}: {found}") from None
        return written.map(dict(zip(unique, days, strict=True)))

    def texts(self, names: tuple[str, ...]) -> pd.Series:
        """A column as it is written. Raises UnreadableData where a row has nothing there, or a fraction."""
        written = self._column(names)
        if pd.api.types.is_float_dtype(written.dtype):
            raise UnreadableData(
                f"{self.path}: column {written.name} holds fractions such as {written.iloc[0]}; write it as text"
            )
        texts = written.astype(str).str.strip()
        empty = written.isna() | (texts == "")
        if empty.any():
            raise UnreadableData(f"{self.path}, line {self._line(empty)}: no {written.name}; every row needs one")
        return texts

    def prices(self, names: tuple[str, ...]) -> pd.Series:
        """A column of numbers, missing where nothing is written."""
        written = self._column(names)
        prices = pd.to_numeric(written, errors="coerce").astype(np.float64)
        if pd.api.types.is_numeric_dtype(written.dtype):
            return prices
        wrong = prices.isna() & written.notna() & ~written.astype(str).str.strip().str.lower().isin(_NO_PRICE)
        if wrong.any():
            raise UnreadableData(
                f"{self.path}, line {self._line(wrong)}: {written.name} {written[wrong].iloc[0]!r} is no number; "
                f"write 1234.5, without signs of money and thousands"
            )
        return prices

    def _column(self, wanted: tuple[str, ...]) -> pd.Series:
        names = {str(name).lower().replace(" ", "").replace("_", ""): name for name in self.rows.columns}
        for name in wanted:
            if name in names:
                return self.rows[names[name]]
        found = ", ".join(map(str, self.rows.columns))
        raise MissingColumn(f"{self.path} has no column {' or '.join(wanted)}; found {found}")

    def _line(self, rows: pd.Series) -> int:
        """Number of the first row that is marked."""
        place: int = rows.index.to_numpy()[int(rows.to_numpy().argmax())]
        return self.first_line + int(place)


class _NoDay(Exception):
    """A value is no day that can be read without doubt."""

    def __init__(self, place: int, words: str) -> None:
        super().__init__(words)
        self.place = place


def _parse_days(written: pd.Series, *, date_format: str | None = None) -> pd.DatetimeIndex:
    """Midnight of the day that each value names, without a zone.

    Values are dates, timestamps, or text in one format for all of them: 2024-03-11, 20240311, 2024/03/11, 11/03/2024
    or 03/11/2024 (where one value above 12 decides which), 11-Mar-2024, Mar 11, 2024. A time may follow. With a zone
    it must be midnight there, in any offset (an exchange's changes twice a year); without one it is dropped.

    date_format : of `strptime`; used where several formats fit, or none
    Raises _NoDay with the place of the first value that is in doubt.
    """
    if isinstance(written.dtype, pd.DatetimeTZDtype) or pd.api.types.is_datetime64_dtype(written.dtype):
        return _bounded(_midnights(written), written)
    texts = written.astype(str).str.strip()
    parts = texts.str.extract(_TIME)
    zoned = parts["zone"].notna() & ~parts["time"].fillna("").str.fullmatch(r"00:00(:00(\.0+)?)?")
    if zoned.any():
        place = int(np.flatnonzero(zoned)[0])
        raise _NoDay(place, f"{texts.iloc[place]!r} is no day: write dates, or midnights of the market's own zone")
    days = texts.str.replace(_TIME, "", regex=True)
    return _bounded(_parsed(days, date_format), written)


def _midnights(written: pd.Series) -> pd.DatetimeIndex:
    """Days of timestamps; those with a zone must be midnight in it."""
    stamps = pd.DatetimeIndex(written)
    if stamps.hasnans:
        raise _NoDay(int(np.flatnonzero(stamps.isna())[0]), "no date; every row needs one")
    if stamps.tz is not None and (stamps != stamps.normalize()).any():
        place = int(np.flatnonzero(stamps != stamps.normalize())[0])
        raise _NoDay(place, f"{stamps[place]} is no day: write dates, or midnights of the market's own zone")
    return stamps.tz_localize(None).normalize()


def _parsed(days: pd.Series, date_format: str | None) -> pd.DatetimeIndex:
    fits = {way: _days_written_so(days, way) for way in _DAY_FORMATS}
    whole = {way: parsed for way, parsed in fits.items() if parsed.notna().all()}
    ways = list(whole)
    if ways and all((whole[way] == whole[ways[0]]).all() for way in ways):
        return pd.DatetimeIndex(whole[ways[0]])
    if date_format is not None:
        parsed = pd.to_datetime(days, format=date_format, errors="coerce")
        if parsed.notna().all():
            return pd.DatetimeIndex(parsed).normalize()
        place = int(np.flatnonzero(parsed.isna())[0])
        raise _NoDay(place, f"date {days.iloc[place]!r} is not written as {date_format}, as was declared")
    if ways:
        place = int(np.flatnonzero(whole[ways[0]] != whole[ways[1]])[0])
        both = " or ".join(f"{whole[way].iloc[place].date()} ({way})" for way in ways)
        raise _NoDay(place, f"date {days.iloc[place]!r} is {both}; say which with --date-format")
    nearest = max(fits.values(), key=lambda parsed: int(parsed.notna().sum()))
    place = int(np.flatnonzero(nearest.isna())[0])
    raise _NoDay(
        place,
        f"date {days.iloc[place]!r} has no known format, or another one than the rows before it; "
        f"write 2024-03-11 in every row, or declare the format with --date-format",
    )


def _days_written_so(days: pd.Series, way: str) -> pd.Series:
    """Days of the values that have the format's shape, else missing: strptime alone takes 2024311 for %Y%m%d."""
    shape = {"%Y": r"\d{4}", "%m": r"\d{1,2}", "%d": r"\d{1,2}", "%b": "[A-Za-z]{3}", "%B": "[A-Za-z]+", ".": r"\."}
    pattern = r"\d{8}"
    if way != "%Y%m%d":
        pattern = re.sub(r"%[YmdbB]|\.", lambda found: shape[found.group()], way)
    return pd.to_datetime(days.where(days.str.fullmatch(pattern)), format=way, errors="coerce")


def _bounded(days: pd.DatetimeIndex, written: pd.Series) -> pd.DatetimeIndex:
    outside = (days < _FIRST) | (days > _LAST)
    if outside.any():
        place = int(np.flatnonzero(outside)[0])
        raise _NoDay(place, f"date {written.iloc[place]!r} is outside {_FIRST.year} to {_LAST.year}")
    return days


def _parquet_rows(path: Path) -> pd.DataFrame:
    """Rows with dictionaries as their values and 64-bit whole numbers kept whole."""
    table = pq.read_table(path)
    plain = [
        column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        for column in table.columns
    ]
    days = [column.cast(pa.timestamp("s")) if pa.types.is_date(column.type) else column for column in plain]
    rows: pd.DataFrame = pa.table(days, names=table.column_names).to_pandas()
    return rows


def _held(chosen: pd.DataFrame, close: pd.DataFrame) -> pd.DataFrame:
    member = pd.DataFrame(False, index=close.index, columns=close.columns)
    starts = sorted(chosen["date"].unique())
    for start, end in zip(starts, [*starts[1:], close.index[-1]], strict=True):
        names = chosen.loc[chosen["date"] == start, "ticker"].unique()
        member.loc[(member.index > start) & (member.index <= end), names] = True
    return member

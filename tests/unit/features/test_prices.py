"""A user's price files: what is a ticker, a day and a price, and what is refused by line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import structlog.testing

from mlops.domain.errors import MissingColumn, UnreadableData
from mlops.features.prices import read_close, read_member_table


def csv(folder: Path, *lines: str, header: str = "date,ticker,close") -> Path:
    path = folder / "prices.csv"
    path.write_text("\n".join((header, *lines)) + "\n")
    return path


def days(path: Path, **options: str) -> list[str]:
    return [str(day.date()) for day in read_close(path, **options).index]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_prices_prefer_the_adjusted_close_and_take_name_for_ticker(tmp_path: Path, suffix: str) -> None:
    rows = pd.DataFrame(
        {"date": ["2020-01-02", "2020-01-01"], "Name": ["A", "A"], "close": [9.0, 9.0], "Adj Close": [2.0, -1.0]}
    )
    path = tmp_path / f"prices{suffix}"
    rows.to_csv(path, index=False) if suffix == ".csv" else rows.to_parquet(path)
    close = read_close(path)
    assert list(close.index) == [pd.Timestamp("2020-01-01"), pd.Timestamp("2020-01-02")]
    assert np.isnan(close.loc["2020-01-01", "A"])
    assert close.loc["2020-01-02", "A"] == 2.0


def test_a_file_without_prices_says_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    pd.DataFrame({"date": ["2020-01-01"], "ticker": ["A"], "open": [1.0]}).to_csv(path, index=False)
    with pytest.raises(MissingColumn, match="no column adjclose or adjustedclose or close; found date, ticker, open"):
        read_close(path)
    with pytest.raises(UnreadableData, match=r"parquet or \.csv"):
        read_close(tmp_path / "none.parquet")


def test_members_hold_from_the_day_after_until_the_next_choice(tmp_path: Path) -> None:
    close = pd.DataFrame(1.0, index=pd.date_range("2020-01-01", periods=5), columns=["A", "B"])
    path = tmp_path / "members.csv"
    pd.DataFrame({"date": ["2020-01-01", "2020-01-03"], "ticker": ["A", "B"], "strategy": ["growth", "growth"]}).to_csv(
        path, index=False
    )
    member = read_member_table(path, close).universes["growth"]
    assert member["A"].tolist() == [False, True, True, False, False]
    assert member["B"].tolist() == [False, False, False, True, True]


TICKERS = ("AAPL", "NA", "NAN", "NULL", "TRUE", "nan", "None", "BRK.B", "0700", "000001", "INF", "1E5")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_ticker_is_the_text_that_is_written(tmp_path: Path, suffix: str) -> None:
    rows = pd.DataFrame({"date": "2020-01-01", "ticker": TICKERS, "close": np.arange(len(TICKERS)) + 1.0})
    path = tmp_path / f"prices{suffix}"
    rows.to_csv(path, index=False) if suffix == ".csv" else rows.to_parquet(path)
    assert read_close(path).iloc[0].to_dict() == dict(zip(rows["ticker"], rows["close"], strict=True))


def test_categories_and_dates_that_pandas_kept_as_an_index_are_read_from_parquet(tmp_path: Path) -> None:
    rows = pd.DataFrame({"date": pd.to_datetime(["2020-01-01"]).date, "ticker": ["NA"], "close": [3]})
    rows.astype({"ticker": "category"}).set_index("date").to_parquet(tmp_path / "p.parquet")
    assert read_close(tmp_path / "p.parquet").to_dict() == {"NA": {pd.Timestamp("2020-01-01"): 3.0}}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (("2018-03-01", "2018-12-13"), ["2018-03-01", "2018-12-13"]),
        (("20180301", "20181213"), ["2018-03-01", "2018-12-13"]),
        (("01/03/2018", "13/12/2018"), ["2018-03-01", "2018-12-13"]),
        (("03/01/2018", "12/13/2018"), ["2018-03-01", "2018-12-13"]),
        (("1/3/2018", "13/12/2018"), ["2018-03-01", "2018-12-13"]),
        (("01-Mar-2018", "13-Dec-2018"), ["2018-03-01", "2018-12-13"]),
        (('"Mar 1, 2018"', '"Dec 13, 2018"'), ["2018-03-01", "2018-12-13"]),
        (("01.03.2018", "02.03.2018"), ["2018-03-01", "2018-03-02"]),
        (("05/05/2018", "06/06/2018"), ["2018-05-05", "2018-06-06"]),
        (("2018-03-01 16:00:00", "2018-12-13 16:00:00"), ["2018-03-01", "2018-12-13"]),
        (("2018-03-09 00:00:00-05:00", "2018-03-12 00:00:00-04:00"), ["2018-03-09", "2018-03-12"]),
        (("2018-03-09T00:00:00Z", "2018-03-12T00:00:00Z"), ["2018-03-09", "2018-03-12"]),
    ],
)
def test_a_format_that_leaves_no_doubt_is_recognised(
    tmp_path: Path, written: tuple[str, ...], meant: list[str]
) -> None:
    assert days(csv(tmp_path, *(f"{day},A,{place + 1}" for place, day in enumerate(written)))) == meant


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (("03/01/2018", "04/01/2018"), r"line 2: date '03/01/2018' is 2018-01-03 .* or 2018-03-01 .*--date-format"),
        (("13/01/2018", "01/13/2018"), r"line 3: date '01/13/2018'"),
        (("2018-03-01", "2018-02-30"), r"line 3: date '2018-02-30'"),
        (("2018-03-01", "1514851200"), r"line 3: date '1514851200'"),
        (("1514851200000", "1514937600000"), r"line 2: date '1514851200000'"),
        (("01/03/18", "13/03/18"), r"line 2: date '01/03/18'"),
        (("20180301", "2018311"), r"line 3: date '2018311'"),
        (("2018-03-01", ""), r"line 3: date ''"),
        (("18991231", "19000101"), r"line 2: date '18991231' is outside 1900 to 2200"),
        (
            ("2018-03-01 23:00:00+00:00", "2018-03-02 23:00:00+00:00"),
            r"line 2: .* is no day: write dates, or midnights",
        ),
    ],
)
def test_a_date_in_doubt_is_refused_with_its_line(tmp_path: Path, written: tuple[str, ...], words: str) -> None:
    with pytest.raises(UnreadableData, match=words):
        read_close(csv(tmp_path, *(f"{day},A,{place + 1}" for place, day in enumerate(written))))


def test_a_declared_format_decides_where_two_would_fit(tmp_path: Path) -> None:
    path = csv(tmp_path, "03/01/2018,A,1", "04/01/2018,A,2")
    assert days(path, date_format="%d/%m/%Y") == ["2018-01-03", "2018-01-04"]
    assert days(path, date_format="%m/%d/%Y") == ["2018-03-01", "2018-04-01"]
    with pytest.raises(UnreadableData, match="not written as %Y/%d, as was declared"):
        days(path, date_format="%Y/%d")


def test_timestamps_of_parquet_are_days_where_they_are_midnight_in_their_own_zone(tmp_path: Path) -> None:
    stamps = pd.DatetimeIndex(["2018-03-09", "2018-03-12"]).tz_localize("America/New_York")
    rows = pd.DataFrame({"date": stamps, "ticker": "A", "close": [1.0, 2.0]})
    path = tmp_path / "p.parquet"
    rows.to_parquet(path)
    assert days(path) == ["2018-03-09", "2018-03-12"]
    rows.assign(date=stamps.tz_convert("UTC")).to_parquet(path)
    with pytest.raises(UnreadableData, match=r"line 1: 2018-03-09 05:00:00.* is no day"):
        read_close(path)


def test_whole_numbers_of_parquet_are_compact_dates_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pd.DataFrame({"date": [20180301, 20180302], "ticker": "A", "close": [1.0, 2.0]}).to_parquet(path)
    assert days(path) == ["2018-03-01", "2018-03-02"]
    pd.DataFrame({"date": [17591, 17592], "ticker": "A", "close": [1.0, 2.0]}).to_parquet(path)
    with pytest.raises(UnreadableData, match="date '17591'"):
        read_close(path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("2020-01-02,A,12 USD", r"line 3: close '12 USD' is no number"),
        ("2020-01-02,,12", "line 3: no ticker; every row needs one"),
        ("2020-01-01,A,12", r"A has two prices on 2020-01-01, 1 and 12 \(lines 2 and 3\)"),
    ],
)
def test_a_row_that_cannot_be_right_is_refused_with_its_line(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(UnreadableData, match=words):
        read_close(csv(tmp_path, "2020-01-01,A,1", line))


def test_blank_lines_keep_their_number_and_a_row_that_stands_twice_counts_once(tmp_path: Path) -> None:
    path = csv(tmp_path, "2020-01-01,A,1", "", "2020-01-01,A,1", "2020-01-02,A,", "")
    assert read_close(path)["A"].tolist() == pytest.approx([1.0, np.nan], nan_ok=True)
    with pytest.raises(UnreadableData, match="line 4: close 'x'"):
        read_close(csv(tmp_path, "2020-01-01,A,1", "", "2020-01-02,A,x"))


def test_an_infinite_price_is_missing(tmp_path: Path) -> None:
    close = read_close(csv(tmp_path, "2020-01-01,A,inf", "2020-01-02,A,0", "2020-01-03,A,3"))
    assert close["A"].tolist() == pytest.approx([np.nan, np.nan, 3.0], nan_ok=True)


def test_a_compact_date_of_a_members_file_gives_no_look_ahead(tmp_path: Path) -> None:
    close = pd.DataFrame(1.0, index=pd.date_range("2024-03-01", periods=3), columns=["A"])
    path = csv(tmp_path, "20240302,A,growth", header="date,ticker,strategy")
    assert read_member_table(path, close).universes["growth"]["A"].tolist() == [False, False, True]


def test_members_without_prices_are_named(tmp_path: Path) -> None:
    close = pd.DataFrame(1.0, index=pd.date_range("2024-03-01", periods=3), columns=["NA"])
    path = csv(tmp_path, "2024-03-01,NA,growth", "2024-03-01,B,growth", header="date,ticker,strategy")
    with structlog.testing.capture_logs() as logged:
        assert read_member_table(path, close).universes["growth"]["NA"].any()
    assert [(line["event"], line["tickers"]) for line in logged] == [("members.without_prices", ["B"])]
    with pytest.raises(UnreadableData, match="none of its 1 tickers has prices, as in B"):
        read_member_table(csv(tmp_path, "2024-03-01,B,growth", header="date,ticker,strategy"), close)

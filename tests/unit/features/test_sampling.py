"""The hash that chooses rows: for ever the same, even, and without a pattern over tickers and dates."""

from __future__ import annotations

import hashlib
import math
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.domain.ports import Window
from mlops.domain.sampling import (
    PRIME,
    RowMarks,
    RowMask,
    RowSample,
    dkw_bound,
    mark,
    shares_of_dates,
    shares_of_window,
    smallest_marks,
    smallest_marks_by_date,
)

FIRST = date(2020, 1, 1)


def panel_mask(share: float, tickers: list[str], n_dates: int) -> np.ndarray:
    """(dates, tickers) which rows a sample keeps."""
    days = [FIRST + timedelta(days=i) for i in range(n_dates)]
    sample = RowSample(shares=dict.fromkeys(days, share))
    keys = np.repeat(np.array(days, dtype="datetime64[D]"), len(tickers))
    return RowMask(sample).of(pa.array(tickers * n_dates), keys).reshape(n_dates, len(tickers))


def test_a_mark_is_four_bytes_of_sha256() -> None:
    digest = hashlib.sha256(b"AAPL").hexdigest()
    assert mark("AAPL") == 1 + int(digest[:8], 16) % (2**31 - 2)
    assert mark("AAPL") == 515_132_771  # `printf AAPL | sha256sum` begins with 1eb44d62; chosen once, chosen for ever


def test_the_modulus_is_prime() -> None:
    assert all(PRIME % divisor for divisor in range(2, math.isqrt(PRIME) + 1))


@given(ticker=st.text(max_size=12).filter(lambda text: text.isprintable()), day=st.dates(), share=st.floats(0, 1))
def test_a_larger_sample_holds_the_smaller_one(ticker: str, day: date, share: float) -> None:
    small, large = RowSample(shares={day: share / 2}), RowSample(shares={day: share})
    assert large.keeps(ticker, day) or not small.keeps(ticker, day)
    assert RowSample(shares={}).keeps(ticker, day)
    assert not RowSample(shares={day: 0.0}).keeps(ticker, day)


@given(
    keys=st.lists(st.tuples(st.none() | st.sampled_from(["A", "ü", ""]), st.dates()), min_size=1, max_size=20),
    share=st.floats(0, 1),
)
def test_many_rows_at_once_are_those_one_by_one(keys: list[tuple[str | None, date]], share: float) -> None:
    sample = RowSample(shares={day: share for _, day in keys[::2]})
    days = np.array([day for _, day in keys], dtype="datetime64[D]")
    expected = [sample.keeps(ticker, day) for ticker, day in keys]
    mask = RowMask(sample)
    for tickers in (keys[:1], keys):  # the second batch brings new tickers
        found = mask.of(pa.array([ticker for ticker, _ in tickers], pa.string()), days[: len(tickers)])
        assert found.tolist() == expected[: len(tickers)]


def test_a_window_has_a_mark_and_a_limit_for_each_calendar_day() -> None:
    window = Window(start=FIRST, end=FIRST + timedelta(days=3))
    marks, limits = RowSample(shares={FIRST + timedelta(days=2): 0.5}).by_day(window)
    assert marks == [mark("2020-01-02"), mark("2020-01-03"), mark("2020-01-04")]
    assert limits == [PRIME, 2**30, PRIME]  # half of 2^31 - 1, rounded up


def test_rows_fall_as_if_drawn_over_dates_and_over_tickers() -> None:
    # Binomial: the variance of a date's count is 400 * .1 * .9 = 36, of a ticker's 500 * .1 * .9 = 45; both are
    # estimated from hundreds of counts, with a relative error of sqrt(2 / 400) = 7 %.
    mask = panel_mask(0.1, [f"T{i}" for i in range(400)], 500)
    assert mask.mean() == pytest.approx(0.1, abs=4 * math.sqrt(0.09 / mask.size))
    assert mask.sum(axis=1).var() == pytest.approx(36, rel=0.25)
    assert mask.sum(axis=0).var() == pytest.approx(45, rel=0.25)
    for lag in (1, 2, 5, 7):
        both = (mask[lag:] & mask[:-lag]).mean()
        assert both == pytest.approx(0.01, abs=4 * math.sqrt(0.01 * 0.99 / mask.size))


def test_the_bound_is_massarts() -> None:
    assert dkw_bound(1_000_000) == pytest.approx(math.sqrt(math.log(40) / 2_000_000))
    assert dkw_bound(1_000_000) == pytest.approx(0.0013581, abs=1e-7)
    assert dkw_bound(1_000_000, confidence=0.99) > dkw_bound(1_000_000)
    assert dkw_bound(1) == 1.0


def test_a_sample_is_within_the_bound_at_least_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for i in range(200):
        values = np.sort(rng.standard_normal(40 * 100).reshape(40, 100), axis=None).reshape(40, 100)
        rng.shuffle(values.reshape(-1))
        kept = np.sort(values[panel_mask(0.2, [f"{i}-{j}" for j in range(100)], 40)])
        every = np.sort(values.reshape(-1))
        of_sample = np.searchsorted(kept, every, side="right") / len(kept)
        distance = np.abs(of_sample - np.arange(1, len(every) + 1) / len(every)).max()
        inside += distance <= dkw_bound(len(kept))
    assert inside >= 190


def test_a_windows_shares_come_to_its_limit_and_spare_small_dates() -> None:
    days = [FIRST + timedelta(days=i) for i in range(3)]
    rows = dict(zip(days, (1000, 990, 10), strict=True))
    assert shares_of_window(rows, 2000, least=20) == {}
    assert shares_of_window(rows, 200, least=20) == {days[0]: 0.1, days[1]: 0.1, days[2]: 1.0}
    assert shares_of_window(rows, 200, least=200)[days[1]] == pytest.approx(200 / 990)


def test_a_date_is_thinned_to_so_many_rows_where_it_has_more() -> None:
    assert shares_of_dates({FIRST: 400, FIRST + timedelta(days=1): 100}, 100) == {FIRST: 0.25}


def test_a_sample_spread_over_dates_takes_the_smallest_marks_of_each() -> None:
    dates = np.repeat(np.array(["2024-01-01", "2024-01-02", "2024-01-03"], dtype="datetime64[D]"), [4, 4, 1])
    marks = np.array([9, 1, 5, 3, 2, 8, 4, 6, 7])
    # Two of each date, as far as there are so many.
    assert smallest_marks_by_date(marks, dates, 5).tolist() == [1, 3, 4, 6, 8]
    assert smallest_marks_by_date(marks, dates, 9).tolist() == list(range(9))
    assert smallest_marks(marks, 3).tolist() == [1, 3, 4]


@given(order=st.permutations(range(30)))
def test_no_order_of_rows_decides_what_a_sample_takes(order: list[int]) -> None:
    tickers = pa.array([f"T{number:02}" for number in range(30)])
    days = np.full(30, np.datetime64("2024-01-01", "D"))
    taken = set(tickers.take(smallest_marks(RowMarks().of(tickers, days), 7)).to_pylist())
    other = tickers.take(pa.array(order))
    assert set(other.take(smallest_marks(RowMarks().of(other, days), 7)).to_pylist()) == taken

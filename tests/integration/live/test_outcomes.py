"""What came of dates: labels as in training, and the next date's return."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlops.domain.policies import DataPolicy, LivePolicy
from mlops.stages.live.outcomes import Outcomes, read_outcomes
from tests.support.features import InMemoryFeatures
from tests.support.services import small_strategy

FIRST = date(2020, 1, 1)
N_DATES, TICKERS = 30, ("A", "B", "C", "D")
DAY = timedelta(days=1)


def rows(**columns: Any) -> pa.Table:
    """A small panel; the return of row (date, ticker) is 0.001 * date + 0.0001 * ticker."""
    days = [FIRST + place * DAY for place in range(N_DATES) for _ in TICKERS]
    n = len(days)
    place = np.arange(n)
    return pa.table(
        {
            "ticker": list(TICKERS) * N_DATES,
            "date": pa.array(days, pa.date32()),
            "strategy": ["growth"] * n,
            "target_return": np.where(place % 2, 0.01, -0.01),
            "return_1d": 0.001 * (place // 4) + 0.0001 * (place % 4),
            **columns,
        }
    )


def outcomes(table: pa.Table, *, last: date = FIRST + (N_DATES - 1) * DAY, **policies: Any) -> Outcomes:
    return read_outcomes(InMemoryFeatures(table), small_strategy(**policies), first=FIRST, last=last)


def test_a_label_is_known_once_its_horizon_has_passed() -> None:
    found = outcomes(rows())
    known = {day.item() for day in found.dates[found.known]}
    assert known == {FIRST + place * DAY for place in range(N_DATES - 5)}
    assert found.y[found.known].tolist() == [0, 1, 0, 1] * (N_DATES - 5)


def test_what_comes_after_the_last_date_is_not_looked_at() -> None:
    last = FIRST + 9 * DAY
    found = outcomes(rows(), last=last)
    assert found.dates.max().item() == last
    assert found.known.sum() == (10 - 5) * 4
    assert np.isnan(found.next_return[-4:]).all()  # type: ignore[index]  # it is there


def test_the_next_return_is_that_of_the_tickers_next_date() -> None:
    found = outcomes(rows())
    expected = 0.001 * (np.arange(N_DATES * 4) // 4 + 1) + 0.0001 * (np.arange(N_DATES * 4) % 4)
    np.testing.assert_allclose(found.next_return[:-4], expected[:-4])  # type: ignore[index]
    assert np.isnan(found.next_return[-4:]).all()  # type: ignore[index]


def test_a_ticker_that_is_not_there_on_the_next_date_has_no_next_return() -> None:
    table = rows()
    gone = pa.concat_tables([table.slice(0, 5), table.slice(6)])  # B on the second date
    found = outcomes(gone)
    assert np.isnan(found.next_return[1])  # type: ignore[index]
    assert not np.isnan(found.next_return[[0, 2, 3]]).any()  # type: ignore[index]


def test_an_incomplete_date_is_no_date_of_the_panel() -> None:
    table = rows()
    incomplete = pa.concat_tables([table.slice(0, 5), table.slice(8)])  # A alone on the second date
    found = outcomes(incomplete, data=DataPolicy(as_of="latest", min_date_share=0.5))
    # The first date is followed by the third, and one date fewer has passed.
    np.testing.assert_allclose(found.next_return[:4], 0.002 + 0.0001 * np.arange(4))  # type: ignore[index]
    assert found.dates[found.known].max().item() == FIRST + (N_DATES - 6) * DAY


@pytest.mark.parametrize("value", [np.inf, 90.0, -2.0])
def test_an_impossible_return_is_no_label_and_no_return(value: float) -> None:
    label, returns = (rows().column(name).to_numpy().copy() for name in ("target_return", "return_1d"))
    label[0], returns[4] = value, value
    found = outcomes(rows(target_return=label, return_1d=returns))
    assert not found.known[0]
    assert np.isnan(found.next_return[0])  # type: ignore[index]


def test_the_digest_is_of_what_is_known_and_of_nothing_else() -> None:
    digest = outcomes(rows()).digest
    assert outcomes(rows(noise=np.random.default_rng(1).normal(size=N_DATES * 4))).digest == digest
    label = rows().column("target_return").to_numpy().copy()
    label[-1] *= -1  # not ripe
    assert outcomes(rows(target_return=label)).digest == digest
    label[0] *= -1
    assert outcomes(rows(target_return=label)).digest != digest
    returns = rows().column("return_1d").to_numpy().copy()
    returns[8] += 0.01
    assert outcomes(rows(return_1d=returns)).digest != digest


def test_another_return_column_is_named_by_the_policy() -> None:
    table = rows(change=np.full(N_DATES * 4, 0.02))
    found = outcomes(table, live=LivePolicy(return_column="change"))
    assert found.next_return is not None
    assert found.next_return[0] == 0.02
    missing = outcomes(table, live=LivePolicy(return_column="gone"))
    assert missing.next_return is None
    assert missing.notes == ("live.return_column: the feature view has no column 'gone'",)

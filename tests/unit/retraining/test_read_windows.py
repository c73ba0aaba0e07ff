"""What a drift check reads."""

from __future__ import annotations

from datetime import date, timedelta

import pyarrow as pa
import pytest

from mlops.domain.errors import EmptyWindow
from mlops.domain.policies import DataPolicy, Strategy
from mlops.stages import drift_windows
from mlops.stages.drift_windows import WindowsRead, read_windows
from tests.support.features import InMemoryFeatures

AS_OF = date(2020, 6, 30)
DAYS = [AS_OF - timedelta(days=i) for i in range(900, -1, -1)]
PER_DAY = 60


def rows(days: list[date], per_day: int, tickers: list[str]) -> InMemoryFeatures:
    n = len(days) * per_day
    table = pa.table(
        {
            "ticker": tickers * len(days),
            "date": pa.array([day for day in days for _ in range(per_day)], pa.date32()),
            "strategy": ["growth"] * n,
            "x": [i + 0.5 for i in range(n)],  # no whole numbers: they would only count rows
            "target_return": [0.0] * n,
        }
    )
    return InMemoryFeatures(table)


def read() -> WindowsRead:
    source = rows(DAYS, PER_DAY, [f"t{i:02}" for i in range(PER_DAY)])
    return read_windows(source, Strategy(name="growth"), as_of=AS_OF, today=AS_OF)


def test_history_reference_and_current_share_no_date_and_leave_none_out() -> None:
    found = read()
    assert [table.num_rows for table in (found.history, found.reference, found.current)] == [
        730 * PER_DAY, 90 * PER_DAY, 7 * PER_DAY,
    ]  # fmt: skip
    last, first = found.history.column("date")[-1].as_py(), found.reference.column("date")[0].as_py()
    assert first - last == timedelta(days=1)


def test_a_long_history_keeps_48_rows_of_each_date(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read()
    monkeypatch.setattr(drift_windows, "ONE_READ_ROWS", 1000)
    thinned = read()
    assert thinned.reference.equals(whole.reference)
    assert thinned.current.equals(whole.current)
    assert thinned.history.num_rows == 730 * 48
    assert set(thinned.history.column("x").to_pylist()) < set(whole.history.column("x").to_pylist())
    assert thinned.history.column("date").to_pylist() == sorted(thinned.history.column("date").to_pylist())


def read_at_most(source: InMemoryFeatures, limit: int | None) -> WindowsRead:
    strategy = Strategy(name="growth", data=DataPolicy(max_reference_rows=limit))
    return read_windows(source, strategy, as_of=AS_OF, today=AS_OF)


def test_a_reference_and_a_history_above_the_limit_are_sampled_and_the_current_window_is_not() -> None:
    per_day = 1000
    source = rows(DAYS[-300:], per_day, [f"t{i}" for i in range(per_day)])
    whole, sampled, again = (read_at_most(source, limit) for limit in (None, 45_000, 45_000))
    assert whole.reference.num_rows == 90 * per_day
    # Half of 90,000 rows, and 192 of 1,000 on 203 dates; four standard deviations are 600 and 710.
    assert sampled.reference.num_rows == pytest.approx(45_000, abs=600)
    assert sampled.history.num_rows == pytest.approx(203 * 192, abs=710)
    assert sampled.current.equals(whole.current)
    assert set(sampled.reference.column("x").to_pylist()) < set(whole.reference.column("x").to_pylist())
    assert len(set(sampled.history.column("date").to_pylist())) == 203
    assert again.reference.equals(sampled.reference)
    assert (sampled.thinned, whole.thinned) == (True, False)


def test_where_tickers_repeat_on_a_date_all_rows_are_read() -> None:
    # One ticker's 1,000 rows of a date would all be kept or all be left.
    source = rows(DAYS[-120:], 1000, ["only"] * 1000)
    found = read_at_most(source, 45_000)
    assert found.reference.num_rows == 90_000
    assert found.sampling.sample is None


def test_an_empty_window_says_which_and_what_there_is() -> None:
    table = pa.table(
        {
            "ticker": ["a"], "date": pa.array([date(2020, 1, 1)], pa.date32()), "strategy": ["growth"], "x": [1.0],
        }
    )  # fmt: skip
    with pytest.raises(EmptyWindow, match=r"no rows in its reference window.*newest row is of 2020-01-01"):
        read_windows(InMemoryFeatures(table), Strategy(name="growth"), as_of=AS_OF, today=AS_OF)

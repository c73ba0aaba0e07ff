"""What a drift check reads."""

from __future__ import annotations

from datetime import date, timedelta

import pyarrow as pa
import pytest

from mlops.errors import EmptyWindow
from mlops.retraining import drift_windows
from mlops.retraining.drift_windows import WindowsRead, read_windows
from mlops.strategies import Strategy
from tests.support.features import InMemoryFeatures

AS_OF = date(2020, 6, 30)
DAYS = [AS_OF - timedelta(days=i) for i in range(900, -1, -1)]
PER_DAY = 60


def read() -> WindowsRead:
    n = len(DAYS) * PER_DAY
    table = pa.table(
        {
            "ticker": [f"t{i:02}" for i in range(PER_DAY)] * len(DAYS),
            "date": pa.array([day for day in DAYS for _ in range(PER_DAY)], pa.date32()),
            "strategy": ["growth"] * n,
            "x": [float(i) for i in range(n)],
            "target_return": [0.0] * n,
        }
    )
    return read_windows(InMemoryFeatures(table), Strategy(name="growth"), as_of=AS_OF, today=AS_OF)


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


def test_an_empty_window_says_which_and_what_there_is() -> None:
    table = pa.table(
        {
            "ticker": ["a"], "date": pa.array([date(2020, 1, 1)], pa.date32()), "strategy": ["growth"], "x": [1.0],
        }
    )  # fmt: skip
    with pytest.raises(EmptyWindow, match=r"no rows in its reference window.*newest row is of 2020-01-01"):
        read_windows(InMemoryFeatures(table), Strategy(name="growth"), as_of=AS_OF, today=AS_OF)

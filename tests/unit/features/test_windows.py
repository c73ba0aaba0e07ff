from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from mlops.features.windows import drift_windows, training_window
from mlops.ports import Window
from mlops.strategies import DataPolicy, TrainingPolicy


def test_the_documented_windows_are_seven_days_after_ninety() -> None:
    reference, current = drift_windows(date(2020, 3, 20), DataPolicy())
    # 14 to 20 March are 7 days; the 90 before begin on 15 December: 17 + 31 + 29 + 13 = 90.
    assert current == Window(start=date(2020, 3, 13), end=date(2020, 3, 20))
    assert reference == Window(start=date(2019, 12, 14), end=date(2020, 3, 13))


def test_two_years_of_training_end_on_the_as_of_date() -> None:
    assert training_window(date(2020, 3, 20), TrainingPolicy()) == Window(
        start=date(2020, 3, 20) - timedelta(days=730), end=date(2020, 3, 20)
    )


@given(st.dates(date(1990, 1, 1), date(2100, 1, 1)), st.integers(1, 2000), st.integers(1, 2000))
def test_the_windows_touch_and_have_the_policys_lengths(as_of: date, reference_days: int, current_days: int) -> None:
    reference, current = drift_windows(as_of, DataPolicy(reference_days=reference_days, current_days=current_days))
    assert current.end == as_of
    assert reference.end == current.start
    assert (current.end - current.start).days == current_days
    assert (reference.end - reference.start).days == reference_days

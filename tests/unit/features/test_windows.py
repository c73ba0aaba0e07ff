from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from mlops.domain.policies import DataPolicy, TrainingPolicy
from mlops.domain.ports import Window
from mlops.domain.windows import drift_windows, stretched, training_window


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


AS_OF = date(2020, 3, 20)


def each_day(n_rows: int, days: int = 150) -> dict[date, int]:
    return {AS_OF - timedelta(days=i): n_rows for i in reversed(range(days))}


def test_a_window_with_rows_enough_stays_as_the_policy_has_it() -> None:
    assert stretched(AS_OF, DataPolicy(), each_day(15)) == DataPolicy()  # 7 days of 15: 105


def test_a_window_with_few_rows_begins_where_it_has_enough() -> None:
    # 3 rows a day: 33 days are 99, 34 are 102.
    assert stretched(AS_OF, DataPolicy(), each_day(3)).current_days == 34


def test_a_window_whose_longest_would_not_do_is_not_stretched() -> None:
    assert stretched(AS_OF, DataPolicy(), each_day(1)) == DataPolicy()  # 60 days of 1
    assert stretched(AS_OF, DataPolicy(max_current_days=7), each_day(3)) == DataPolicy(max_current_days=7)


def test_a_window_is_not_stretched_back_to_a_feed_that_has_ended() -> None:
    ended = {day: n for day, n in each_day(50).items() if day <= AS_OF - timedelta(days=7)}
    assert stretched(AS_OF, DataPolicy(), ended) == DataPolicy()


def test_a_window_is_not_stretched_over_all_rows_that_there_are() -> None:
    assert stretched(AS_OF, DataPolicy(), each_day(3, days=34)) == DataPolicy()
    assert stretched(AS_OF, DataPolicy(), each_day(3, days=35)).current_days == 34


def test_a_season_is_not_stretched_into_the_next_one() -> None:
    season = DataPolicy(reference="season", reference_days=340)
    assert stretched(AS_OF, season, each_day(3, days=400)) == season  # 25 days of 3: 75
    assert stretched(AS_OF, season, each_day(5, days=400)).current_days == 20


@given(st.lists(st.integers(1, 40), min_size=1, max_size=200), st.integers(1, 120), st.integers(1, 300))
def test_a_stretched_window_has_rows_enough_and_none_to_spare(rows: list[int], longest: int, least: int) -> None:
    policy = DataPolicy(max_current_days=longest, min_current_rows=least)
    by_date = {AS_OF - timedelta(days=len(rows) - 1 - i): n for i, n in enumerate(rows)}
    days = stretched(AS_OF, policy, by_date).current_days
    newest = rows[::-1]
    if days > policy.current_days:
        assert sum(newest[: days - 1]) < least <= sum(newest[:days])
        assert days <= longest

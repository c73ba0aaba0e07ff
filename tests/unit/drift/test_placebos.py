"""Which past dates are checked, how many independent looks they are, and how sure a share of them is."""

from __future__ import annotations

import itertools
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from lab.placebos import Period, chosen_placebos, disjoint_checks, eligible_dates, rate_of
from mlops.domain.errors import InsufficientData
from mlops.domain.policies import DataPolicy, DriftPolicy
from mlops.domain.windows import drift_windows

FIRST = date(2020, 1, 1)
DATA, DRIFT = DataPolicy(reference_days=10, current_days=5), DriftPolicy(min_calibration_days=20)


def days(n: int, *, first: date = FIRST) -> np.ndarray:
    return np.datetime64(first, "D") + np.arange(n)


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


@given(n=st.integers(1, 60), data=st.data())
def test_the_interval_of_a_whole_count_is_scipys_exact_one(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    ours, theirs = rate_of(hits / n, n), binomtest(hits, n).proportion_ci(method="exact")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_no_alarm_in_few_looks_says_little() -> None:
    # 0.025 ** (1 / 8): all eight looks are silent with this chance
    assert rate_of(0.0, 8).high == pytest.approx(1 - 0.025 ** (1 / 8))


def test_a_date_is_eligible_from_the_day_its_history_is_long_enough() -> None:
    found = eligible_dates(days(40), data=DATA, drift=DRIFT)
    assert found == [day(number) for number in range(5 + 10 + 20, 40)]


def test_dates_whose_windows_touch_a_left_out_period_are_not_eligible() -> None:
    left_out = Period(start=day(50), end=day(52))
    found = eligible_dates(days(80), data=DATA, drift=DRIFT, without=[left_out])
    # The windows of date d hold d-14 … d: the period is touched from d = 50 up to d = 66, whose oldest date is 52.
    assert found == [day(number) for number in (*range(35, 50), *range(67, 80))]


def test_a_date_after_a_gap_has_no_reference_and_is_not_eligible() -> None:
    gap = np.concatenate([days(60), days(3, first=day(80))])
    assert max(eligible_dates(gap, data=DATA, drift=DRIFT)) == day(59)


@pytest.mark.parametrize(
    ("rows", "without", "words"),
    [
        (days(0), (), "there are no rows"),
        (days(30), (), "29 days; a check needs 35: 20 of history, 10 of reference, 5 current"),
        (days(40), (Period(start=FIRST, end=day(40)),), "no date is left"),
    ],
)
def test_without_an_eligible_date_it_says_what_is_missing(
    rows: np.ndarray, without: tuple[Period, ...], words: str
) -> None:
    with pytest.raises(InsufficientData, match=words):
        eligible_dates(rows, data=DATA, drift=DRIFT, without=without)


def test_the_same_seed_chooses_the_same_dates_and_never_one_twice() -> None:
    eligible = [day(number) for number in range(100)]
    one, other = (chosen_placebos(eligible, 30, np.random.default_rng(5)) for _ in range(2))
    assert one == other == sorted(set(one))
    assert len(one) == 30
    assert chosen_placebos(eligible, 30, np.random.default_rng(6)) != one
    assert chosen_placebos(eligible, 100, np.random.default_rng(5)) == eligible


@given(st.sets(st.integers(0, 60), min_size=1, max_size=9))
def test_disjoint_checks_are_the_most_that_share_no_date(numbers: set[int]) -> None:
    chosen = [day(number) for number in numbers]

    def share_a_date(one: date, other: date) -> bool:
        early, late = sorted([one, other])
        return drift_windows(late, DATA)[0].start < early

    most = max(
        n
        for n in range(1, len(chosen) + 1)
        if any(
            not any(share_a_date(*pair) for pair in itertools.combinations(some, 2))
            for some in itertools.combinations(chosen, n)
        )
    )
    assert disjoint_checks(chosen, DATA) == most

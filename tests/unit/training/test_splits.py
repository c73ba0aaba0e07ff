from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.domain.errors import InsufficientData
from mlops.domain.training.splits import known_labels, labelled_dates, split_by_date

JANUARY = np.arange("2020-01-01", "2020-01-31", dtype="datetime64[D]")  # 30 dates, 1st to 30th


def test_a_label_is_known_once_so_many_panel_dates_lie_after_it_and_none_after_the_as_of_date() -> None:
    known = labelled_dates(JANUARY, as_of=date(2020, 1, 20), horizon_dates=5)
    # 20 dates are seen; the last 5 of them look beyond the 20th.
    assert known[-1] == np.datetime64("2020-01-15")
    assert len(known) == 15


def test_a_label_of_the_same_day_is_known_at_once() -> None:
    assert labelled_dates(JANUARY, as_of=date(2020, 1, 20), horizon_dates=0)[-1] == np.datetime64("2020-01-20")


def test_no_label_is_known_before_the_horizon_has_passed() -> None:
    assert len(labelled_dates(JANUARY, as_of=date(2020, 1, 5), horizon_dates=5)) == 0


def test_panel_dates_count_and_calendar_days_do_not() -> None:
    weekdays = JANUARY[np.is_busday(JANUARY)]  # 1-3, 6-10, 13-17, … January 2020
    known = labelled_dates(weekdays, as_of=date(2020, 1, 13), horizon_dates=2)
    assert known[-1] == np.datetime64("2020-01-09")  # 10th and 13th lie after it


def test_rows_of_a_date_share_their_fate() -> None:
    dates = np.repeat(JANUARY, 3)
    known = known_labels(dates, JANUARY, as_of=date(2020, 1, 30), horizon_dates=10)
    assert known.tolist() == [True] * 60 + [False] * 30


def test_the_newest_labelled_dates_are_held_out_and_a_horizon_before_them_is_purged() -> None:
    known = known_labels(JANUARY, JANUARY, as_of=date(2020, 1, 30), horizon_dates=4)  # 1st to 26th
    split = split_by_date(JANUARY, known, horizon_dates=4, holdout_dates=6)
    assert (split.first_holdout, split.last_holdout) == (date(2020, 1, 21), date(2020, 1, 26))
    assert (split.first_train, split.last_train) == (date(2020, 1, 1), date(2020, 1, 17))  # 21 - 4
    assert (split.n_train_dates, split.n_holdout_dates, split.n_purged, split.n_unlabelled) == (17, 6, 3, 4)


def test_an_embargo_widens_the_gap() -> None:
    split = split_by_date(JANUARY, np.ones(30, bool), horizon_dates=4, holdout_dates=6, embargo_dates=3)
    assert split.first_holdout == date(2020, 1, 25)
    assert split.last_train == date(2020, 1, 18)  # 25 - 4 - 3


def test_dates_that_only_the_panel_has_count_towards_the_gap() -> None:
    every_second = JANUARY[::2]  # 1st, 3rd, …, 29th
    known = np.ones(15, bool)
    split = split_by_date(every_second, known, horizon_dates=4, holdout_dates=2, panel_dates=JANUARY)
    assert split.first_holdout == date(2020, 1, 27)
    assert split.last_train == date(2020, 1, 23)  # 4 panel dates earlier, 2 of its own


def test_too_short_a_history_is_refused_with_its_numbers() -> None:
    with pytest.raises(InsufficientData, match=r"26 held-out dates, 5 purged .* found 30 labelled dates \(2020-01-01"):
        split_by_date(JANUARY, np.ones(30, bool), horizon_dates=5, holdout_dates=26)
    with pytest.raises(InsufficientData, match="found 0 labelled dates"):
        split_by_date(JANUARY, np.zeros(30, bool), horizon_dates=5, holdout_dates=5)


def test_one_training_date_is_enough() -> None:
    split = split_by_date(JANUARY, np.ones(30, bool), horizon_dates=5, holdout_dates=25)
    assert split.first_train == split.last_train == date(2020, 1, 1)  # held out from the 6th on, 6 - 5


@given(
    n_dates=st.integers(3, 80),
    horizon=st.integers(0, 20),
    holdout=st.integers(1, 40),
    embargo=st.integers(0, 5),
    seed=st.integers(0, 10_000),
)
def test_no_training_label_reaches_into_the_held_out_dates(
    n_dates: int, horizon: int, holdout: int, embargo: int, seed: int
) -> None:
    panel = np.datetime64("2020-01-01") + np.arange(n_dates) * 3
    dates = np.random.default_rng(seed).permutation(np.repeat(panel, 2))
    known = known_labels(dates, panel, as_of=panel[-1].astype(object), horizon_dates=horizon)
    try:
        split = split_by_date(dates, known, horizon_dates=horizon, holdout_dates=holdout, embargo_dates=embargo)
    except InsufficientData:
        assert n_dates - horizon - holdout < max(1, horizon + embargo)
        return
    place = {day: index for index, day in enumerate(panel)}
    ends = max(place[day] for day in dates[split.train]) + horizon
    assert ends + embargo <= min(place[day] for day in dates[split.holdout])
    assert not (split.train & split.holdout).any()
    assert not ((split.train | split.holdout) & ~known).any()
    assert len(set(dates[split.holdout])) == holdout

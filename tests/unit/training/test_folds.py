"""Walk-forward folds: what is trained on lies before what is judged, by a horizon and an embargo."""

from __future__ import annotations

import itertools
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.domain.errors import InsufficientData
from mlops.domain.training.splits import FoldWindow, split_by_date, walk_forward

JANUARY = np.arange("2020-01-01", "2020-01-31", dtype="datetime64[D]")  # 30 dates, 1st to 30th
ALL = np.ones(30, bool)


def test_the_newer_half_is_tested_in_equal_pieces_after_a_gap() -> None:
    first, second, third = walk_forward(JANUARY, ALL, n_folds=3, horizon_dates=4, embargo_dates=1)
    # 15 of 30 dates in 3 pieces of 5: from the 16th, 21st and 26th; 5 dates before each are left out.
    assert (first.first_test, first.last_test) == (date(2020, 1, 16), date(2020, 1, 20))
    assert (second.first_test, third.first_test) == (date(2020, 1, 21), date(2020, 1, 26))
    assert third.last_test == date(2020, 1, 30)
    assert [fold.last_train for fold in (first, second, third)] == [date(2020, 1, day) for day in (11, 16, 21)]
    assert {fold.first_train for fold in (first, second, third)} == {date(2020, 1, 1)}
    assert [fold.number for fold in (first, second, third)] == [1, 2, 3]


def test_a_rolling_window_keeps_the_first_folds_length() -> None:
    folds = walk_forward(JANUARY, ALL, n_folds=3, horizon_dates=4, embargo_dates=1, window="rolling")
    assert [fold.n_train_dates for fold in folds] == [11, 11, 11]
    assert [fold.first_train for fold in folds] == [date(2020, 1, day) for day in (1, 6, 11)]


def test_dates_that_do_not_divide_are_trained_on() -> None:
    folds = walk_forward(JANUARY, ALL, n_folds=4, horizon_dates=0)
    assert [fold.n_test_dates for fold in folds] == [3, 3, 3, 3]  # 15 // 4
    assert folds[0].n_train_dates == 18


def test_rows_of_a_date_share_their_fate_and_unusable_ones_are_in_no_fold() -> None:
    dates = np.repeat(JANUARY, 3)
    usable = np.tile([True, True, False], 30)
    for fold in walk_forward(dates, usable, n_folds=3, horizon_dates=4):
        assert fold.train.sum() == fold.n_train_dates * 2
        assert fold.test.sum() == fold.n_test_dates * 2


def test_held_out_dates_are_in_no_fold_and_no_label_of_a_fold_reaches_them() -> None:
    split = split_by_date(JANUARY, ALL, horizon_dates=4, holdout_dates=6)  # held out from the 25th
    folds = walk_forward(JANUARY, split.train, n_folds=2, horizon_dates=4)
    assert max(fold.last_test for fold in folds) == split.last_train == date(2020, 1, 21)
    assert not any(((fold.train | fold.test) & split.holdout).any() for fold in folds)


def test_a_fold_is_a_split_for_whoever_fits_by_one() -> None:
    (fold,) = walk_forward(JANUARY, ALL, n_folds=1, horizon_dates=4)
    split = fold.as_split()
    assert (split.train == fold.train).all()
    assert (split.holdout == fold.test).all()
    assert (split.last_train, split.first_holdout) == (fold.last_train, fold.first_test)
    assert split.n_purged == 3


def test_dates_that_only_the_panel_has_count_towards_the_gap() -> None:
    every_second = JANUARY[::2]
    (fold,) = walk_forward(every_second, np.ones(15, bool), n_folds=1, horizon_dates=4, panel_dates=JANUARY)
    assert (fold.first_test, fold.last_train) == (date(2020, 1, 17), date(2020, 1, 13))


@pytest.mark.parametrize("n_folds", [0, -1, 16])
def test_no_fold_or_more_than_there_are_dates_is_refused(n_folds: int) -> None:
    with pytest.raises(InsufficientData, match=rf"^{n_folds} folds need .* found 30 dates \(2020-01-01 to"):
        walk_forward(JANUARY, ALL, n_folds=n_folds, horizon_dates=4)


def test_a_gap_as_long_as_the_older_half_is_refused_with_its_numbers() -> None:
    with pytest.raises(InsufficientData, match="more than the 20 purged ones"):
        walk_forward(JANUARY, ALL, n_folds=2, horizon_dates=15, embargo_dates=5)
    with pytest.raises(InsufficientData, match="found 0 dates"):
        walk_forward(JANUARY, ~ALL, n_folds=2, horizon_dates=4)


@given(
    n_dates=st.integers(2, 90),
    n_folds=st.integers(1, 8),
    horizon=st.integers(0, 20),
    embargo=st.integers(0, 5),
    window=st.sampled_from(["expanding", "rolling"]),
    seed=st.integers(0, 10_000),
)
def test_every_fold_learns_from_what_was_known_before_its_test(
    n_dates: int, n_folds: int, horizon: int, embargo: int, window: FoldWindow, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    panel = np.datetime64("2020-01-01") + np.arange(n_dates) * 3
    dates = generator.permutation(np.repeat(panel, 2))
    usable = generator.random(len(dates)) < 0.8
    try:
        folds = walk_forward(
            dates, usable, n_folds=n_folds, horizon_dates=horizon, embargo_dates=embargo, window=window
        )
    except InsufficientData:
        return
    place = {day: index for index, day in enumerate(panel)}
    assert len(folds) == n_folds
    for fold in folds:
        reach = max(place[day] for day in dates[fold.train]) + horizon + embargo
        assert reach <= min(place[day] for day in dates[fold.test])
        assert not (fold.train & fold.test).any()
        assert not ((fold.train | fold.test) & ~usable).any()
        assert fold.n_train_dates == len(set(dates[fold.train])) > 0
        assert fold.n_test_dates == len(set(dates[fold.test])) > 0
    for earlier, later in itertools.pairwise(folds):
        assert earlier.last_test < later.first_test
        assert (later.n_train_dates == earlier.n_train_dates) or window == "expanding"
        assert later.first_train >= earlier.first_train
    tested = np.unique(dates[np.logical_or.reduce([fold.test for fold in folds])])
    assert (tested == np.unique(dates[usable])[-len(tested) :]).all()  # the newest, without a hole

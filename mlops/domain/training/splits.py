"""Splits of a panel into training and held-out rows: by date, purged by the label's horizon; once, or in folds.

Pure; called by the train stage and by the tuning. Dates of the panel are its distinct trading days, not calendar days.

    training dates ........ | h purged | embargo | k held-out dates | h dates whose label is not known yet

Walk-forward folds split the rows that may be trained on alone, so that the held-out dates are in no fold:

    walk_forward(rows.dates, split.train, n_folds=5, horizon_dates=20)

    expanding   train ....... | gap | test        rolling   train ....... | gap | test
                train ............ | gap | test                  train ....... | gap | test
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import numpy.typing as npt

from mlops.domain.errors import InsufficientData
from mlops.domain.policies import FoldWindow

Dates = npt.NDArray[np.datetime64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Rows to train on and held-out rows; no label of the first reaches into the second."""

    train: Mask
    """(n,)"""
    holdout: Mask
    """(n,)"""
    first_train: date
    last_train: date
    first_holdout: date
    last_holdout: date
    n_train_dates: int
    n_holdout_dates: int
    n_purged: int
    """Labelled rows before the held-out dates that are not trained on (horizon and embargo)."""
    n_unlabelled: int
    """Rows whose label is not known; they are in neither mask."""


def labelled_dates(panel_dates: Dates, *, as_of: date, horizon_dates: int) -> Dates:
    """Distinct panel dates whose label was known on `as_of`, ascending.

    A label that looks `horizon_dates` ahead is known when so many panel dates lie after its own and none
    of them after `as_of`. Dates after `as_of` are never looked at.
    """
    distinct = _distinct(panel_dates)
    seen = distinct[distinct <= np.datetime64(as_of, "D")]
    return seen[: max(0, len(seen) - horizon_dates)]


def known_labels(dates: Dates, panel_dates: Dates, *, as_of: date, horizon_dates: int) -> Mask:
    """(n,) rows whose date is among `labelled_dates`."""
    known = labelled_dates(panel_dates, as_of=as_of, horizon_dates=horizon_dates)
    return np.isin(dates.astype("datetime64[D]"), known)


def split_by_date(
    dates: Dates,
    known: Mask,
    *,
    horizon_dates: int,
    holdout_dates: int,
    embargo_dates: int = 0,
    panel_dates: Dates | None = None,
) -> Split:
    """Hold out the newest labelled dates; train on those at least horizon + embargo panel dates earlier.

    dates : (n,), any order, ties allowed      known : (n,), False where the label is not known
    panel_dates : the panel's own dates, where `dates` has gaps that the panel has not; None: `dates`
    Raises InsufficientData when no date is left to train on.
    """
    days = dates.astype("datetime64[D]")
    panel = _panel(days, panel_dates)
    labelled = _distinct(days[known])
    gap = max(1, horizon_dates + embargo_dates)  # a held-out date is never trained on
    if len(labelled) <= holdout_dates:
        raise InsufficientData(_too_few(labelled, holdout_dates, gap))
    first_holdout = labelled[-holdout_dates]
    trainable = _trainable(labelled, panel, first_holdout, gap)
    if not len(trainable):
        raise InsufficientData(_too_few(labelled, holdout_dates, gap))
    train = known & (days <= trainable[-1])
    holdout = known & (days >= first_holdout)
    return Split(
        train=train,
        holdout=holdout,
        first_train=_day(trainable[0]),
        last_train=_day(trainable[-1]),
        first_holdout=_day(first_holdout),
        last_holdout=_day(labelled[-1]),
        n_train_dates=len(trainable),
        n_holdout_dates=holdout_dates,
        n_purged=int(known.sum() - train.sum() - holdout.sum()),
        n_unlabelled=int((~known).sum()),
    )


def newest_training_days(split: Split, dates: Dates, *, days: int) -> Split:
    """Restrict a split to the newest `days` calendar days of its training dates; the rest count as purged.

    dates : (n,) the dates that were split
    """
    of_rows = dates.astype("datetime64[D]")
    train = split.train & (of_rows > np.datetime64(split.last_train) - days)
    return replace(
        split,
        train=train,
        first_train=_day(of_rows[train].min()),
        n_train_dates=len(_distinct(of_rows[train])),
        n_purged=split.n_purged + int(split.train.sum() - train.sum()),
    )


def all_known(split: Split, dates: Dates, known: Mask, *, days: int | None = None) -> Split:
    """The same split with every row in its training part whose label is known, held-out and purged ones too.

    dates, known : (n,) of the rows that were split      days : only the newest so many calendar days of them
    """
    of_rows = dates.astype("datetime64[D]")
    train = known if days is None else known & (of_rows > of_rows[known].max() - days)
    return replace(
        split,
        train=train,
        first_train=_day(of_rows[train].min()),
        last_train=_day(of_rows[train].max()),
        n_train_dates=len(_distinct(of_rows[train])),
        n_purged=int(known.sum() - train.sum()),
    )


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Rows to train on and later rows to test on; no label of the first reaches into the second."""

    number: int
    """Number of the fold from 1, the oldest first."""
    train: Mask
    """(n,)"""
    test: Mask
    """(n,)"""
    first_train: date
    last_train: date
    first_test: date
    last_test: date
    n_train_dates: int
    n_test_dates: int

    def as_split(self) -> Split:
        """Return the fold as a `Split`; rows of neither part count as purged."""
        return Split(
            train=self.train,
            holdout=self.test,
            first_train=self.first_train,
            last_train=self.last_train,
            first_holdout=self.first_test,
            last_holdout=self.last_test,
            n_train_dates=self.n_train_dates,
            n_holdout_dates=self.n_test_dates,
            n_purged=int((~(self.train | self.test)).sum()),
            n_unlabelled=0,
        )


def walk_forward(
    dates: Dates,
    usable: Mask,
    *,
    n_folds: int,
    horizon_dates: int,
    embargo_dates: int = 0,
    window: FoldWindow = "expanding",
    panel_dates: Dates | None = None,
) -> tuple[Fold, ...]:
    """Make `n_folds` folds, oldest first, whose test dates follow one another and end on the newest usable date.

    The newer half of the usable dates is tested, in equal pieces, so that the first fold has the older half to
    learn from; dates that do not divide are left to the training. A rolling window keeps the first fold's
    number of training dates, an expanding one all earlier dates.

    dates : (n,), any order, ties allowed      usable : (n,), False for rows that may be in no fold
    panel_dates : the panel's own dates, where `dates` has gaps that the panel has not; None: `dates`
    Raises InsufficientData when a fold would have nothing to train on or nothing to judge on.
    """
    days = dates.astype("datetime64[D]")
    panel = _panel(days, panel_dates)
    tradable = _distinct(days[usable])
    gap = max(1, horizon_dates + embargo_dates)  # a tested date is never trained on
    n_test = len(tradable) // 2 // n_folds if n_folds > 0 else 0
    if not n_test:
        raise InsufficientData(_too_few_for_folds(tradable, n_folds, gap))
    starts = [len(tradable) - n_test * left for left in range(n_folds, 0, -1)]
    trainable = [_trainable(tradable, panel, tradable[start], gap) for start in starts]
    if not len(trainable[0]):
        raise InsufficientData(_too_few_for_folds(tradable, n_folds, gap))
    kept = len(trainable[0]) if window == "rolling" else len(tradable)
    return tuple(
        _fold(number, days, usable, train=earlier[-kept:], test=tradable[start : start + n_test])
        for number, (start, earlier) in enumerate(zip(starts, trainable, strict=True), 1)
    )


def _fold(number: int, days: Dates, usable: Mask, *, train: Dates, test: Dates) -> Fold:
    return Fold(
        number=number,
        train=usable & (days >= train[0]) & (days <= train[-1]),
        test=usable & (days >= test[0]) & (days <= test[-1]),
        first_train=_day(train[0]),
        last_train=_day(train[-1]),
        first_test=_day(test[0]),
        last_test=_day(test[-1]),
        n_train_dates=len(train),
        n_test_dates=len(test),
    )


def _panel(days: Dates, panel_dates: Dates | None) -> Dates:
    """Return the distinct dates of the panel, ascending."""
    return _distinct(days if panel_dates is None else np.concatenate([panel_dates.astype("datetime64[D]"), days]))


def _trainable(tradable: Dates, panel: Dates, first_later: np.datetime64, gap: int) -> Dates:
    """Dates at least `gap` panel dates before the first one that is held out."""
    border = int(np.searchsorted(panel, first_later)) - gap
    return tradable[tradable <= panel[border]] if border >= 0 else tradable[:0]


def _distinct(dates: Dates) -> Dates:
    return np.unique(dates.astype("datetime64[D]"))


def _day(value: np.datetime64) -> date:
    return value.astype("datetime64[D]").astype(object)  # type: ignore[no-any-return]  # numpy types it as Any


def _too_few(labelled: Dates, holdout_dates: int, gap: int) -> str:
    span = f" ({labelled[0]} to {labelled[-1]})" if len(labelled) else ""
    return (
        f"a split needs {holdout_dates} held-out dates, {gap} purged before them and at least 1 to train on; "
        f"found {len(labelled)} labelled dates{span}; load more history, or lower holdout_dates"
    )


def _too_few_for_folds(tradable: Dates, n_folds: int, gap: int) -> str:
    span = f" ({tradable[0]} to {tradable[-1]})" if len(tradable) else ""
    return (
        f"{n_folds} folds need at least 1 date each in the newer half of the training dates, and more than the {gap} "
        f"purged ones in the older half; found {len(tradable)} dates{span}; ask for 1 fold or more, for fewer folds, "
        f"or load more history"
    )

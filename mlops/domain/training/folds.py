"""Walk-forward folds: train on the past, judge on the dates that follow, step on; purged and embargoed.

Pure; called by the train stage for the stability table, and by whoever chooses parameters. Give it the rows
that may be trained on alone, so that the held-out dates are in no fold:

    walk_forward(rows.dates, split.train, n_folds=5, horizon_dates=20)

    expanding   train ....... | gap | test        rolling   train ....... | gap | test
                train ............ | gap | test                  train ....... | gap | test
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from mlops.domain.errors import InsufficientData
from mlops.domain.policies import FoldWindow
from mlops.domain.training.splits import Split

Dates = npt.NDArray[np.datetime64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Rows to train on and the later rows to judge on; no label of the first reaches into the second."""

    number: int
    """From 1, the oldest first."""
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
        """The same rows for what fits and judges by a `Split`; rows of neither part count as purged."""
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
    """`n_folds` folds, the oldest first, whose test dates follow one another and end on the newest usable date.

    The newer half of the usable dates is tested, in equal pieces, so that the first fold has the older half to
    learn from; dates that do not divide are left to the training. A rolling window keeps the first fold's
    number of training dates, an expanding one all earlier dates.

    dates : (n,), any order, ties allowed      usable : (n,), False for rows that may be in no fold
    panel_dates : the panel's own dates, where `dates` has gaps that the panel has not; None: `dates`
    Raises InsufficientData when a fold would have nothing to train on or nothing to judge on.
    """
    days = dates.astype("datetime64[D]")
    panel = np.unique(days if panel_dates is None else np.concatenate([panel_dates.astype("datetime64[D]"), days]))
    tradable = np.unique(days[usable])
    gap = max(1, horizon_dates + embargo_dates)  # a tested date is never trained on
    n_test = len(tradable) // 2 // n_folds if n_folds > 0 else 0
    if not n_test:
        raise InsufficientData(_too_few(tradable, n_folds, gap))
    starts = [len(tradable) - n_test * left for left in range(n_folds, 0, -1)]
    trainable = [_trainable(tradable, panel, tradable[start], gap) for start in starts]
    if not len(trainable[0]):
        raise InsufficientData(_too_few(tradable, n_folds, gap))
    kept = len(trainable[0]) if window == "rolling" else len(tradable)
    return tuple(
        _fold(number, days, usable, train=earlier[-kept:], test=tradable[start : start + n_test])
        for number, (start, earlier) in enumerate(zip(starts, trainable, strict=True), 1)
    )


def _trainable(tradable: Dates, panel: Dates, first_test: np.datetime64, gap: int) -> Dates:
    """Dates at least `gap` panel dates before the first tested one."""
    border = int(np.searchsorted(panel, first_test)) - gap
    return tradable[tradable <= panel[border]] if border >= 0 else tradable[:0]


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


def _day(value: np.datetime64) -> date:
    return value.astype("datetime64[D]").astype(object)  # type: ignore[no-any-return]  # numpy types it as Any


def _too_few(tradable: Dates, n_folds: int, gap: int) -> str:
    span = f" ({tradable[0]} to {tradable[-1]})" if len(tradable) else ""
    return (
        f"{n_folds} folds need at least 1 date each in the newer half of the training dates, and more than the {gap} "
        f"purged ones in the older half; found {len(tradable)} dates{span}; ask for 1 fold or more, for fewer folds, "
        f"or load more history"
    )

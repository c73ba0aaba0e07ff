"""Which rows train and which judge: split by date, purged by the label's horizon.

Pure; called by the train stage. Dates of the panel are its distinct trading days, not calendar days.

    training dates ........ | h purged | embargo | k held-out dates | h dates whose label is not known yet
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import numpy.typing as npt

from mlops.domain.errors import InsufficientData

Dates = npt.NDArray[np.datetime64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Rows to train on and rows to judge on; no label of the first reaches into the second."""

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
    panel = _distinct(days if panel_dates is None else np.concatenate([panel_dates.astype("datetime64[D]"), days]))
    labelled = _distinct(days[known])
    gap = max(1, horizon_dates + embargo_dates)  # a held-out date is never trained on
    if len(labelled) <= holdout_dates:
        raise InsufficientData(_too_few(labelled, holdout_dates, gap))
    first_holdout = labelled[-holdout_dates]
    border = int(np.searchsorted(panel, first_holdout)) - gap
    trainable = labelled[labelled <= panel[border]] if border >= 0 else labelled[:0]
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
    """The same split with the newest `days` calendar days of its training dates alone; the rest count as purged.

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

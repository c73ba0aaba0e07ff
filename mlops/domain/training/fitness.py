"""Checks that the data of a training are recent and complete enough to promote the model; pure.

Called by the train stage. Each finding holds a promotion back until the policy accepts it by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlops.domain.panel import NEIGHBOURS
from mlops.domain.promotion.findings import INCOMPLETE, STALE, STALE_LABELS, Finding
from mlops.domain.training.matrix import Rows, row_blocks
from mlops.domain.training.splits import labelled_dates

if TYPE_CHECKING:
    from mlops.domain.panel import Panel
    from mlops.domain.policies import DataPolicy
    from mlops.domain.training.splits import Split

#: With a larger share of the window's dates left out, what remains is another panel than the one that was meant.
_MAX_LEFT_OUT = 0.1
#: A feature with values in fewer of the training rows is sparse by nature; nothing is said where it has none now.
_USUALLY_THERE = 0.5
_SHOWN = 3


def unfit_dates(panel: Panel, policy: DataPolicy, *, as_of: date) -> Iterator[Finding]:
    """Yield findings on a newest date that is old, and on many dates that do not count."""
    newest = panel.newest
    if newest is not None and panel.is_stale(as_of, max_days=policy.max_stale_days):
        words = f"the newest features are of {newest}, {(as_of - newest).days} days before {as_of}"
        yield Finding(code=STALE, words=f"{words}: load newer ones, or correct the feed")
    n_dates, n_left_out = len(panel.rows) + len(panel.left_out), len(panel.left_out)
    if n_left_out > _MAX_LEFT_OUT * n_dates:
        words = f"{n_left_out} of {n_dates} dates of the training window do not count, most of them for want of rows"
        yield Finding(code=INCOMPLETE, words=words)


def old_labels(
    dates: npt.NDArray[np.datetime64],
    split: Split,
    panel: Panel,
    policy: DataPolicy,
    *,
    as_of: date,
    horizon_dates: int,
) -> Iterator[Finding]:
    """Yield a finding on labels older than the newest that could be known. dates : (n,) of all rows that count"""
    possible: date = labelled_dates(dates, as_of=as_of, horizon_dates=horizon_dates)[-1].astype(object)
    newest = split.last_holdout
    if (possible - newest).days > policy.max_stale_days + panel.usual_gap_days - 1:
        words = f"the newest labels are of {newest}, where those of {possible} could be known"
        yield Finding(code=STALE_LABELS, words=f"{words}: load newer ones, or correct training.horizon_dates")


def ended_names(split: Split, panel: Panel, policy: DataPolicy) -> Iterator[Finding]:
    """Yield a finding on newest dates with far fewer rows than the training dates have."""
    before = [n for day, n in panel.rows.items() if split.first_train <= day <= split.last_train]
    held_out = [n for day, n in panel.rows.items() if split.first_holdout <= day <= split.last_holdout]
    newest = list(panel.rows.values())[-NEIGHBOURS:]
    usual, now = float(np.median(before)), min(float(np.median(held_out)), float(np.median(newest)))
    if now < policy.min_date_share * usual:
        words = f"the newest dates have {now:g} rows each where the training dates have {usual:g}"
        yield Finding(code=INCOMPLETE, words=f"{words}: names have ended; load them, or train on a shorter window")


def ended_features(
    x: Rows, dates: npt.NDArray[np.datetime64], split: Split, policy: DataPolicy, *, features: Sequence[str]
) -> Iterator[Finding]:
    """Yield a finding on features with values in most training rows and few held-out rows, or of the newest dates'.

    x : (n, f), nan for missing      dates : (n,) ascending
    """
    newest = dates >= np.unique(dates)[-NEIGHBOURS:][0]
    there = _shares_there(x, [split.train, split.holdout, newest])
    before, now = there[0], there[1:].min(axis=0)
    ended = np.flatnonzero((before >= _USUALLY_THERE) & (now < policy.min_date_share * before))
    if not len(ended):
        return
    named = [f"{features[place]} (in {before[place]:.0%} of the training rows, {now[place]:.0%} of the newest)"
             for place in ended[:_SHOWN].tolist()]  # fmt: skip
    more = f", and {len(ended) - _SHOWN} more" if len(ended) > _SHOWN else ""
    words = f"few values are left of {', '.join(named)}{more}"
    yield Finding(code=INCOMPLETE, words=f"{words}: correct the feed, or name them in data.exclude")


def _shares_there(x: Rows, masks: Sequence[npt.NDArray[np.bool_]]) -> npt.NDArray[np.float64]:
    """(masks, f) share of each mask's rows in which a feature has a value."""
    n = np.zeros((len(masks), x.shape[1]), dtype=np.int64)
    place = 0
    for block in row_blocks(x):
        there = np.isfinite(block)
        for i, mask in enumerate(masks):
            n[i] += there[mask[place : place + len(block)]].sum(axis=0)
        place += len(block)
    return np.asarray(n / np.array([[max(1, int(np.count_nonzero(mask)))] for mask in masks]), dtype=np.float64)


def thin_holdout(n_rows: int, policy: DataPolicy) -> Iterator[Finding]:
    """Yield a finding on fewer held-out rows than a check needs for a verdict."""
    if n_rows < policy.min_current_rows:
        words = f"{n_rows} rows were held out; data.min_current_rows asks for {policy.min_current_rows}"
        yield Finding(code=INCOMPLETE, words=words)

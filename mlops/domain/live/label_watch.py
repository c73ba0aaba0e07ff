"""Label watch: whether newly known labels say that a model's relation of features to labels has changed; pure.

Called by the drift stage of each day, and by decay. See `watch_labels`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mlops.domain.live.day_score import DayScore
from mlops.domain.training.trading import TRADING_DAYS

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LabelWatch:
    """Result of the watch on one day."""

    fired_on: date | None
    """First day on which what was known then reached the bound"""
    change_at: date | None
    """First date of the located change: dates from here on are the new regime; only where it fired"""
    statistic: float
    """Of the last day; of the day on which it fired, where it did"""
    bound: float
    alpha: float
    """Probability of a false alarm within a year"""
    n_dates: int
    """Dates with newly known labels that were looked at"""
    level: float
    """Mean loss of a date held out: of the loss in `loss`"""
    recent: float | None
    """Mean loss of the newest dates: from the change on where it fired, else of the last horizon; None without one"""
    path: tuple[tuple[date, float], ...]
    """The statistic by the day on which it was known, to be drawn beside `bound`"""
    loss: str
    """`ranking` (share of a date's pairs in the wrong order) or `log_loss`: which loss the numbers are of"""
    words: str
    """Why, or why not, in a sentence"""


def watch_labels(
    days: Mapping[date, DayScore],
    *,
    held_out: Mapping[date, DayScore],
    as_of: date,
    horizon_dates: int,
    alpha: float,
    past: Mapping[date, DayScore] | None = None,
) -> LabelWatch:
    """Test the dates that a model has not learnt from against those on which its judged twin was scored.

    days : every date of the panel after the newest one that the model was fitted on, also those whose labels are not
    known yet; a date is looked at on the day that lies `horizon_dates` of these after it, and not before, even where
    its labels are there      held_out : of the judged twin, labelled      past : more scored dates of this strategy that
    no model had learnt from, for the spread of losses alone      alpha : of a false alarm within a year
    """
    raise NotImplementedError

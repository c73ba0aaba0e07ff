"""Decay: whether a champion has become worse than it was at its promotion, asked each day without more false alarms.

Pure; called by the score stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from mlops.domain.live.day_score import DayScore


@dataclass(frozen=True, kw_only=True)
class DecaySignal:
    """One series that is watched: its name, its statistic of the last day and the bound from which on it fires."""

    name: str
    """`log_loss` (of outcomes, known a horizon later), `mark` (of the signal, known the next day), `moves` (of the next
    day's returns, whatever the label)"""
    statistic: float
    bound: float
    fired_on: date | None
    """First day on which what was known then exceeded the bound"""
    words: str


@dataclass(frozen=True, kw_only=True)
class Decay:
    """Result of the sequential test."""

    fired_on: date | None
    """First day on which any signal fired; None: none did"""
    alpha: float
    n_days: int
    """Days that were looked at"""
    signals: tuple[DecaySignal, ...]
    words: str
    """Why, or why not, in a sentence"""


def detect_decay(
    days: Mapping[date, DayScore],
    *,
    at_promotion: Mapping[date, DayScore],
    as_of: date,
    horizon_dates: int,
    alpha: float,
) -> Decay:
    """Test one version's days since its promotion against its own held-out days.

    days : the version's live days; of each only what was known on a day is used to decide on that day
    at_promotion : scores of the dates that it was judged on before its promotion
    """
    raise NotImplementedError

"""Decay: whether a champion has become worse than it was at its promotion, asked anew each day; pure.

Called by the score stage. Three signals share `alpha` equally, as far as they can be watched; each uses on a day only
what was known on it, and is compared with the dates on which the version was judged at its promotion:

    log_loss   mean log loss of successive horizons of days, above the upper end of its 90 % interval at promotion.
               What a prediction was worth is known a horizon later, and a horizon's labels are about one observation.
    mark       daily mark of the signal, below the lower end of its mean's interval at promotion; known the next day.
    moves      how much the names move from day to day, in units of the dates it was judged on; known the next day. It
               says nothing of the model but that no date on which it was judged was like these.

log_loss and mark are Shiryaev-Roberts e-detectors: with e-values e_t the statistic R_t = (1 + R_{t-1}) e_t has a mean
of at most t while nothing has changed, so it reaches n / alpha within n looks with probability alpha at most (Doob).
The e-values are those of normal observations of a known spread, exp(l z - l^2 / 2), with z cut off at 3. That the cut,
and a spread with a margin for few blocks, make up for what is not normal is measured, not proven: `acis evaluate-live`.
moves has the bound that the largest such value of a year exceeds with probability alpha, log-normal as in the
sample's 1995-2018.

Source: Shin, Ramdas & Rinaldo 2023, E-detectors: a nonparametric framework for sequential change detection.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

from mlops.domain.live.day_score import DayScore
from mlops.domain.live.resampling import OutcomesByDay, Resamples, mean_log_loss
from mlops.domain.promotion.bootstrap import INTERVAL, MIN_BLOCKS, spread_of_few_blocks
from mlops.domain.training.trading import TRADING_DAYS

Vector = npt.NDArray[np.float64]

_CUT = 3.0
"""Largest standardised observation: one bad day or horizon alone proves nothing."""
_SURE = 0.99
"""Where Student's quantile is taken for a spread that rests on few horizons: an alarm is far out."""
_BETS = (0.5, 1.0, 1.5)
"""Standardised excesses for which the e-values of log losses are best; their mean is taken."""
_DAILY_BETS = (0.1, 0.25, 0.5)
_NEIGHBOURS = 1.5
"""Long-run variance of means of successive horizons of days over their own variance: labels that overlap correlate
neighbours by 1 / 4."""
_MOVE_DAYS = 10
_MOVES_LOG_MEAN, _MOVES_LOG_SPREAD = 0.551, 0.413
"""Log-normal law of the largest 10-day mean move of a champion's first year over the mean of its held-out dates.
Five strategies of the sample, 1995-2018, printed by `acis evaluate-live`."""
_MIN_DAYS = 20
"""With fewer dates at promotion neither marks nor moves are compared."""


@dataclass(frozen=True, kw_only=True)
class DecaySignal:
    """One series that is watched: its statistic of the last day and the bound from which on it fires."""

    name: str
    """`log_loss` (of outcomes, known a horizon later), `mark` (of the signal, known the next day), `moves` (of the next
    day's returns, whatever the label)"""
    statistic: float
    bound: float
    fired_on: date | None
    """First day on which what was known then reached the bound"""
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
    """Test one version's days since its promotion against the dates on which it was judged.

    days : the version's live days; each is known as far as `horizon_dates` of them lie between it and the day of the
    decision, even where more is there      at_promotion : scores of its held-out dates, labelled
    """
    ordered = sorted(days)
    seen = ordered[: bisect_right(ordered, as_of)]
    scores, judged = [days[day] for day in seen], [at_promotion[day] for day in sorted(at_promotion)]
    horizon = max(1, horizon_dates)
    watched = [
        signal
        for signal in (
            _watch_log_loss(scores, judged, horizon=horizon),
            _watch_marks(scores, judged),
            _watch_moves(scores, judged),
        )
        if signal is not None
    ]
    signals = tuple(one.decided(seen, alpha / len(watched)) for one in watched)
    fired = [signal for signal in signals if signal.fired_on is not None]
    first = min(fired, key=lambda signal: signal.fired_on or as_of, default=None)
    return Decay(
        fired_on=first.fired_on if first else None,
        alpha=alpha,
        n_days=len(seen),
        signals=signals,
        words=_in_words(first, signals, len(seen), horizon),
    )


def _in_words(first: DecaySignal | None, signals: Sequence[DecaySignal], n_days: int, horizon: int) -> str:
    if first is not None:
        return f"decay since {first.fired_on}: {first.words}"
    if not signals:
        return (
            f"decay cannot be told: the version was judged on fewer than {MIN_BLOCKS} horizons of {horizon} dates, "
            f"and fewer than {_MIN_DAYS} dates have prices"
        )
    return f"no decay in {n_days} days: " + "; ".join(signal.words for signal in signals)


@dataclass(frozen=True, kw_only=True)
class _Watched:
    """A signal's statistic as it grew: the index of the day on which each value was known."""

    name: str
    known: Sequence[int]
    statistics: Sequence[float]
    looks: float | None
    """Looks of a year, of an e-detector; None: the bound is that of moves"""
    described: Sequence[str]

    def decided(self, days: Sequence[date], alpha: float) -> DecaySignal:
        """Compare with the bound of this probability."""
        if self.looks is None:
            bound = math.exp(_MOVES_LOG_MEAN + _MOVES_LOG_SPREAD * float(norm.isf(alpha)))
        else:
            bound = self.looks / alpha
        reached = next((i for i, statistic in enumerate(self.statistics) if statistic >= bound), None)
        shown = (len(self.statistics) - 1) if reached is None else reached
        words = self.described[shown] if len(self.described) else f"too few days yet for {self.name}"
        if reached is not None and self.looks is None:
            words += "; what its predictions of these days are worth is not known yet"
        return DecaySignal(
            name=self.name,
            statistic=self.statistics[-1] if len(self.statistics) else 0.0,
            bound=bound,
            fired_on=None if reached is None else days[self.known[reached]],
            words=words,
        )


def _watch_log_loss(scores: Sequence[DayScore], judged: Sequence[DayScore], *, horizon: int) -> _Watched | None:
    """Watch the means of successive horizons of days; None where it was judged on too few dates."""
    labelled = [score for score in judged if score.n_labelled]
    losses = _daily_losses(labelled)
    n_blocks = len(losses) // horizon
    if n_blocks < MIN_BLOCKS:
        return None
    outcomes = OutcomesByDay.of(labelled)
    promised = Resamples.of(outcomes, horizon_dates=horizon).measured(partial(mean_log_loss, outcomes), 0.0, math.inf)
    if promised is None or promised.high is None:
        return None
    before = losses[: n_blocks * horizon].reshape(n_blocks, horizon).mean(axis=1)
    few = spread_of_few_blocks(n_blocks * horizon, float(horizon), _SURE)
    spread = max(float(np.std(before)), 1e-3) * few * (math.sqrt(_NEIGHBOURS) if horizon > 1 else 1.0)
    found, known, described = _Detector(_BETS), [], []
    live = _daily_losses(scores)
    for begin in range(0, len(live) - 2 * horizon + 1, horizon):
        block = live[begin : begin + horizon]
        if not np.isfinite(block).any():
            continue
        mean = float(np.nanmean(block))
        found.add((mean - promised.high) / spread)
        known.append(begin + 2 * horizon - 1)
        described.append(
            f"log loss {mean:.3f} over the last {horizon} days with outcomes, {promised.value:.3f} at promotion "
            f"(90 %: {promised.low:.3f} to {promised.high:.3f})"
        )
    looks = TRADING_DAYS / horizon
    return _Watched(name="log_loss", known=known, statistics=found.path, looks=looks, described=described)


def _watch_marks(scores: Sequence[DayScore], judged: Sequence[DayScore]) -> _Watched | None:
    """Watch the signal's daily marks; None where none is marked, or too few were at the promotion.

    The spread of a day is that at the promotion, or of the 20 marks before it where that is larger: turbulent days
    come together, and are no worse for it.
    """
    before = np.array([score.mark for score in judged if score.mark is not None])
    if len(before) < _MIN_DAYS or not any(score.n_marked for score in scores):
        return None
    deviation = max(float(np.std(before, ddof=1)), 1e-6)
    bar = float(before.mean()) - float(t.ppf(INTERVAL[1], len(before) - 1)) * deviation / math.sqrt(len(before))
    found, known, described, marks = _Detector(_DAILY_BETS), [], [], before.tolist()
    for i, score in enumerate(scores[:-1]):
        if score.mark is None:
            continue
        spread = max(deviation, float(np.sqrt(np.mean(np.square(marks[-_MIN_DAYS:])))))
        marks.append(score.mark)
        found.add((bar - score.mark) / spread)
        known.append(i + 1)
        recent = marks[len(before) :][-_MIN_DAYS:]
        described.append(
            f"the signal earned {np.mean(recent):+.2%} a day over the last {len(recent)} days, "
            f"{before.mean():+.2%} at promotion"
        )
    return _Watched(name="mark", known=known, statistics=found.path, looks=TRADING_DAYS, described=described)


def _watch_moves(scores: Sequence[DayScore], judged: Sequence[DayScore]) -> _Watched | None:
    """Watch the mean move of the last ten days over that of the held-out dates; None with too few prices."""
    before = [score.mean_move for score in judged if score.mean_move is not None]
    usual = float(np.mean(before)) if before else 0.0
    if len(before) < _MIN_DAYS or not usual:
        return None
    moves: list[float] = []
    known, statistics, described = [], [], []
    for i, score in enumerate(scores[:-1]):
        if score.mean_move is None:
            continue
        moves.append(score.mean_move)
        if len(moves) >= _MOVE_DAYS:
            lately = float(np.mean(moves[-_MOVE_DAYS:]))
            known.append(i + 1)
            statistics.append(lately / usual)
            described.append(
                f"names moved {lately:.2%} a day over the last {_MOVE_DAYS} days, {lately / usual:.1f} times the "
                f"{usual:.2%} of the dates it was judged on"
            )
    return _Watched(name="moves", known=known, statistics=statistics, looks=None, described=described)


def _daily_losses(scores: Sequence[DayScore]) -> Vector:
    """(d,) mean log loss of each day; nan without an outcome."""
    return np.array([score.log_loss / score.n_labelled if score.n_labelled else math.nan for score in scores])


class _Detector:
    """Shiryaev-Roberts statistic of standardised observations: large after they have been above 0 for a while."""

    def __init__(self, bets: Sequence[float]) -> None:
        self._bets = np.asarray(bets)
        self._values = np.zeros(len(bets))
        self.path: list[float] = []

    def add(self, z: float) -> None:
        """Take the next observation."""
        e_values = np.exp(self._bets * min(max(z, -_CUT), _CUT) - self._bets**2 / 2)
        self._values = (1.0 + self._values) * e_values
        self.path.append(float(self._values.mean()))

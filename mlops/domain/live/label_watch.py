"""Label watch: whether newly known labels contradict what a model had learnt of features and labels; pure.

Called by the drift stage of each day. The loss of a date is the share of its pairs of names, one of each label, that
the model put in the wrong order: 1 - AUC within the date. A market in which all labels change at once leaves it as it
was; labels that are turned around make it one minus itself. The statistic is Page's cumulative sum

    C_t = max(0, C_{t-1} + w_t / w (x_t - level - k s) / (b s))

of the losses x_t, weighted by w_t = n_1 n_0 / (n + 1), the inverse of twelve times their variance by chance (Mann and
Whitney), of mean w. `level` is the mean loss of the judged twin's held-out dates. s is the standard deviation of the
mean loss of a block of b dates, the label's horizon or a week where that is longer: labels that overlap make neighbours
alike. Where they are plainly not alike, a week. k is half of what lies between the level and no skill at all (1 / 2),
in units of s, within 1 and 2.

Sixty dates are three horizons of 20, too few to tell s: the held-out dates' own variance is averaged with what is usual
for so many names (`_usual_variance`), which counts as 8 more degrees of freedom. The bound is the quantile of the
largest C of simulated years without a change: normal losses that overlap as the labels do, whose spread differs from
the usual one as strategies differ, judged on as many dates and measured in the same way. So it is the higher, the less
level and spread rest on. What is found, rightly and falsely: `acis evaluate-labels`, docs/live-statistics.md.

Where it fired, the change is located anew on each day: at the date since which sum(w_t (x_t - level))^2 / sum(w_t) is
the largest, the maximum-likelihood estimate for a known level before it and an unknown one after it.

Source: Page 1954, Continuous inspection schemes, Biometrika 41; Mann & Whitney 1947, Annals of Mathematical Statistics
18; Hinkley 1970, Inference about the change-point in a sequence of random variables, Biometrika 57.
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
from scipy.special import ndtri
from scipy.stats import chi2

from mlops.domain.live.day_score import DayScore
from mlops.domain.promotion.bootstrap import portable_uniform
from mlops.domain.training.trading import TRADING_DAYS

Vector = npt.NDArray[np.float64]

_NO_SKILL = 0.5
_LEAST_SHIFT, _MOST_SHIFT, _SHIFT_STEP = 1.0, 2.0, 0.25
"""Bounds of k: less would add up what a level of few dates is off by; more would leave the bound to the far tail of a
normal law. Rounded, so that a bound serves many models."""
_USUAL_FREEDOM = 8.0
"""Degrees of freedom that the usual variance counts as; it differs from strategy to strategy by a factor of two."""
_COMMON = 0.1
"""Standard deviation of a date's AUC that no number of names takes away: moves that favour some of them."""
_OVERLAP = 0.6
"""Dates within a horizon do not quite repeat each other, as features change: the mean of h dates whose labels look h
ahead varies as that of h ** 0.4 single ones: 0.55 times as much as one date, of 20. This and `_COMMON` fit the spreads
that `acis evaluate-labels` prints for prices."""
_LEAST_BLOCK = 5
"""A week of dates: the sum of a few dates of a few names is not yet normal."""
_ALIKE, _LEAST_DATES = 0.2, 40
"""First autocorrelation from which on dates count as alike, and so many dates at least that can say they are not: that
of 60 independent ones has a standard deviation of 60 ** -0.5 = 0.13."""
_YEARS, _YEARS_AT_ONCE, _SEED = 4_000, 500, 20
_MOST_JUDGED = 504
"""Held-out dates that are simulated at most; more would not lower the bound by much."""


@dataclass(frozen=True, kw_only=True)
class LabelWatch:
    """Result of the watch on one day. Losses are the share of a date's pairs in the wrong order."""

    fired_on: date | None
    """First day on which what was known then reached the bound"""
    change_at: date | None
    """First date of the new regime, as all labels that are known locate it; only where it fired"""
    statistic: float
    """Of the last day; of the day on which it fired, where it did. In standard deviations of a horizon's loss"""
    bound: float | None
    """None where the watch cannot be kept, as `words` says"""
    alpha: float
    """Probability of a false alarm within a year"""
    n_dates: int
    """Dates with newly known labels that were looked at"""
    level: float | None
    """Mean loss of the held-out dates; None where no pair is among them"""
    recent: float | None
    """Mean loss since the change; without one of the newest dates, a block of them; None: no pairs"""
    path: tuple[tuple[date, float], ...]
    """The statistic by the day on which it was known, to be drawn beside `bound`"""
    words: str
    """Why, or why not, in a sentence"""


def watch_labels(
    days: Mapping[date, DayScore],
    *,
    held_out: Mapping[date, DayScore],
    as_of: date,
    horizon_dates: int,
    alpha: float,
) -> LabelWatch:
    """Test the dates that a model has not learnt from against those on which its judged twin was scored.

    days : every date of the panel after the newest one that the model was fitted on, also those whose labels are not
    known yet; a date is looked at on the day that lies `horizon_dates` of these after it, not before, even where its
    labels are there      held_out : labelled dates of the judged twin      alpha : of a false alarm within a year
    """
    ordered = sorted(days)
    seen = ordered[: bisect_right(ordered, as_of)]
    horizon = max(1, horizon_dates)
    ripe = seen[: max(0, len(seen) - horizon)]
    judged, live = (
        _Losses.of([of[day] for day in dates]) for of, dates in ((held_out, sorted(held_out)), (days, ripe))
    )
    if not 2 * np.count_nonzero(judged.weight) > len(judged.weight):
        return _unwatched(judged, n_dates=len(ripe), alpha=alpha)
    alike = horizon if _is_alike(judged) else 1
    block = max(alike, _LEAST_BLOCK)
    level, spread = judged.mean(), _spread(judged, alike, block)
    shift = _shift(level, spread)
    bound = _bound(min(len(judged.loss), _MOST_JUDGED), block, shift, alpha)
    scale = judged.weight.mean() * block * spread
    excess = live.weight * (live.loss - level - shift * spread) / scale
    total = np.concatenate([[0.0], np.cumsum(excess)])
    statistics = (total - np.minimum.accumulate(total))[1:]
    reached = np.flatnonzero(statistics >= bound)
    last = int(reached[0]) if len(reached) else len(ripe) - 1
    begin = _located(live, level) if len(reached) else max(0, len(ripe) - block)
    recent = live.between(begin, len(ripe)).mean()
    fired_on = seen[last + horizon] if len(reached) else None
    change_at = ripe[begin] if len(reached) else None
    return LabelWatch(
        fired_on=fired_on,
        change_at=change_at,
        statistic=float(statistics[last]) if len(ripe) else 0.0,
        bound=bound,
        alpha=alpha,
        n_dates=len(ripe),
        level=level,
        recent=recent if math.isfinite(recent) else None,
        path=tuple((seen[i + horizon], float(statistics[i])) for i in range(len(ripe))),
        words=(
            _in_words(level, recent, fired_on, change_at, len(ripe) - begin, len(ripe))
            if ripe
            else _no_label_yet(horizon + 1 - len(seen))
        ),
    )


@dataclass(frozen=True, kw_only=True)
class _Losses:
    """(d,) the share of each date's pairs in the wrong order, and its weight: 0 without a pair."""

    loss: Vector
    weight: Vector

    @classmethod
    def of(cls, scores: Sequence[DayScore]) -> _Losses:
        pairs, won, n = (
            np.array([getattr(score, name) for score in scores], dtype=np.float64)
            for name in ("n_pairs", "pairs_won", "n_labelled")
        )
        return cls(loss=np.where(pairs > 0, 1.0 - won / np.maximum(pairs, 1.0), _NO_SKILL), weight=pairs / (n + 1.0))

    def between(self, begin: int, after: int) -> _Losses:
        return _Losses(loss=self.loss[begin:after], weight=self.weight[begin:after])

    def excess(self) -> Vector:
        """(d,) of mean 0, weighted in units of the mean weight."""
        return np.asarray(self.weight / self.weight.mean() * (self.loss - self.mean()))

    def mean(self) -> float:
        """Weighted; nan without a pair."""
        weight = float(self.weight.sum())
        return float(self.weight @ self.loss) / weight if weight else math.nan


def _located(losses: _Losses, level: float) -> int:
    """Index of the first date of a change to a higher loss."""
    weight = np.cumsum(losses.weight[::-1])
    excess = np.maximum(np.cumsum((losses.weight * (losses.loss - level))[::-1]), 0.0)
    return len(weight) - 1 - int(np.argmax(excess**2 / np.maximum(weight, 1e-12)))


def _is_alike(losses: _Losses) -> bool:
    """Whether neighbouring dates have like losses, or are too few to say that they have not."""
    excess = losses.excess()
    return len(excess) < _LEAST_DATES or float(excess[1:] @ excess[:-1]) >= _ALIKE * float(excess @ excess)


def _usual_variance(losses: _Losses, alike: int, block: int) -> float:
    """Variance of the mean loss of a block of dates that is usual for so many names, `alike` dates of which overlap."""
    of_date = 1.0 / (12.0 * float(losses.weight.mean())) + _COMMON**2
    return float(of_date * alike**_OVERLAP / block)


def _spread(losses: _Losses, alike: int, block: int) -> float:
    """Standard deviation of the mean loss of a block of dates: the usual one, and the dates' own."""
    excess = losses.excess()
    own = _variance_of_blocks(excess[None], block)
    return math.sqrt(float(_averaged(_usual_variance(losses, alike, block), own, len(excess), block)[0]))


def _averaged(usual: float, own: Vector, n_dates: int, block: int) -> Vector:
    """(r,) the usual variance and one's own, by their degrees of freedom: those of Meketon & Schmeiser 1984."""
    freedom = 1.5 * (n_dates / block - 1.0) if n_dates >= 2 * block else 0.0
    return (_USUAL_FREEDOM * usual + freedom * own) / (_USUAL_FREEDOM + freedom)


def _variance_of_blocks(excess: Vector, block: int) -> Vector:
    """(r,) variance of means of overlapping blocks around 0. excess : (r, d), of mean 0; 0 below two blocks."""
    n_dates = excess.shape[1]
    if n_dates < 2 * block:
        return np.zeros(len(excess))
    total = np.cumsum(np.pad(excess, ((0, 0), (1, 0))), axis=1)
    means = (total[:, block:] - total[:, :-block]) / block
    # Means around the mean of all lack block / n_dates of their variance.
    return np.asarray(np.mean(means**2, axis=1) / (1.0 - block / n_dates))


def _shift(level: float, spread: float) -> float:
    """k: half of the way to no skill in spreads, within its bounds."""
    half = (_NO_SKILL - level) / 2 / spread
    return round(min(max(half, _LEAST_SHIFT), _MOST_SHIFT) / _SHIFT_STEP) * _SHIFT_STEP


@lru_cache(maxsize=256)
def _bound(n_judged: int, block: int, shift: float, alpha: float) -> float:
    """Value that the largest statistic of a year without a change reaches with probability `alpha`."""
    largest = np.concatenate(
        [_largest_of_years(n_judged, block, shift, _SEED + i) for i in range(_YEARS // _YEARS_AT_ONCE)]
    )
    return float(f"{np.quantile(largest, 1.0 - alpha, method='higher'):.4g}")


def _largest_of_years(n_judged: int, block: int, shift: float, seed: int) -> Vector:
    """(_YEARS_AT_ONCE,) the largest statistic of each simulated year."""
    width = n_judged + TRADING_DAYS + block - 1
    u = np.maximum(portable_uniform(_YEARS_AT_ONCE * (width + 1), seed), 2.0**-54).reshape(_YEARS_AT_ONCE, width + 1)
    total = np.cumsum(np.pad(ndtri(u[:, 1:]), ((0, 0), (1, 0))), axis=1)
    # Sums of `block` independent normals overlap as labels do; scaled so that means of `block` of them have variance 1.
    overlap = 1.0 - np.abs(np.arange(1 - block, block)) / block
    losses = (total[:, block:] - total[:, :-block]) / math.sqrt(float(overlap @ overlap))
    losses = losses * np.sqrt(_USUAL_FREEDOM / chi2.ppf(u[:, :1], _USUAL_FREEDOM))
    excess = losses - losses[:, :n_judged].mean(axis=1, keepdims=True)
    spread = np.sqrt(_averaged(1.0, _variance_of_blocks(excess[:, :n_judged], block), n_judged, block))[:, None]
    path = np.cumsum(np.pad((excess[:, n_judged:] / spread - shift) / block, ((0, 0), (1, 0))), axis=1)
    return np.asarray((path - np.minimum.accumulate(path, axis=1)).max(axis=1))


def _unwatched(judged: _Losses, *, n_dates: int, alpha: float) -> LabelWatch:
    n, with_pairs = len(judged.weight), int(np.count_nonzero(judged.weight))
    level = judged.mean()
    return LabelWatch(
        fired_on=None,
        change_at=None,
        statistic=0.0,
        bound=None,
        alpha=alpha,
        n_dates=n_dates,
        level=level if math.isfinite(level) else None,
        recent=None,
        path=(),
        words=(
            f"newly known labels cannot be watched: {with_pairs} of the {n} held-out dates have names of both labels, "
            f"and whether names are in the right order is told by more than half of them alone"
        ),
    )


def _no_label_yet(n_missing: int) -> str:
    when = "with the next date" if n_missing == 1 else f"in {n_missing} dates"
    return f"no label has become known since the training; the first does {when}"


def _in_words(
    level: float, recent: float, fired_on: date | None, change_at: date | None, n_recent: int, n_dates: int
) -> str:
    found = f"{recent:.0%} of the pairs of names were in the wrong order" if math.isfinite(recent) else "no pairs"
    if fired_on is None:
        return (
            f"labels of {n_dates} dates became known and contradict nothing: in the last {n_recent} {found}, "
            f"{level:.0%} on the held-out dates"
        )
    return (
        f"newly known labels contradict the model since {change_at}: on the {n_recent} dates from then on {found}, "
        f"{level:.0%} on the held-out dates; first told on {fired_on}"
    )

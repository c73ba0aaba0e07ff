"""How long an experiment will take, said before it starts; pure.

The days to a decision depend on the annual Sharpe ratio of the difference of the two daily marks, and on the shape of
the marks: how heavy their tails are and whether loud days follow loud days. The shape is the strategy's own: blocks of
its differences are drawn, set to the ratio that is asked for, and each path is followed until it decides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlops.domain.experiments.policy import ExperimentPolicy
from mlops.domain.experiments.sequence import first_decision, mixture_variance
from mlops.domain.live.resampling import SEED
from mlops.domain.promotion.bootstrap import automatic_block_length
from mlops.domain.training.trading import TRADING_DAYS

Vector = npt.NDArray[np.float64]

MAX_DAYS = 2 * TRADING_DAYS
"""An experiment that needs more is not worth starting: the held-out test answers sooner."""
MIN_DIFFERENCES = 20
"""With fewer days on which both versions were marked, normal differences are assumed."""
_PATHS = 2_000


@dataclass(frozen=True, kw_only=True)
class Duration:
    """Trading days until an experiment decides, where the difference is as asked."""

    sharpe: float
    """Annual, of the difference of the two marks"""
    low: float | None
    median: float | None
    high: float | None
    """Days in which 5, 50 and 95 % of such experiments have decided; None: more than `MAX_DAYS`"""
    decided: float
    """Share that decides within `MAX_DAYS`"""
    words: str


def planned_days(sharpe: float, *, alpha: float) -> float:
    """Give the days after which a difference of this annual Sharpe ratio is about to be decided, at most `MAX_DAYS`."""
    daily = abs(sharpe) / math.sqrt(TRADING_DAYS)
    c = 2 * math.log(1 / alpha)
    return float(min(MAX_DAYS, (c + math.log1p(c)) / max(daily, 1e-9) ** 2))


def planned_watch_days(policy: ExperimentPolicy, *, alpha: float) -> float:
    """Give the same of a former champion that is watched, which ends after `watch_days`. alpha : of one of k"""
    return min(float(policy.watch_days), planned_days(policy.sharpe, alpha=alpha))


def expected_duration(differences: Vector, *, sharpe: float, alpha: float, seed: int = SEED) -> Duration:
    """Follow experiments of a stated difference, made of the strategy's own daily differences.

    differences : (n,) of the two versions' marks on n days that both were marked on, in order, for example those that
    were held out      sharpe : annual, of the difference; its sign does not matter
    """
    ratio = abs(sharpe)
    paths = _paths(np.asarray(differences, dtype=np.float64), seed=seed) + ratio / math.sqrt(TRADING_DAYS)
    r = mixture_variance(spread=1.0, days=planned_days(ratio, alpha=alpha), alpha=alpha)
    days, _ = first_decision(paths, r=r, alpha=alpha)
    found = np.where(days > 0, days, np.inf)
    low, median, high = (_or_none(float(at)) for at in np.quantile(found, (0.05, 0.5, 0.95), method="higher"))
    decided = float(np.mean(days > 0))
    return Duration(
        sharpe=ratio, low=low, median=median, high=high, decided=decided, words=_in_words(ratio, low, median, high)
    )


def _paths(differences: Vector, *, seed: int) -> Vector:
    """(paths, days) of mean 0 and spread 1: blocks of the differences, or normal ones where there are too few."""
    rng = np.random.default_rng(seed)
    spread = float(np.std(differences)) if len(differences) else 0.0
    if len(differences) < MIN_DIFFERENCES or spread == 0.0:
        return rng.normal(size=(_PATHS, MAX_DAYS))
    standard = (differences - differences.mean()) / spread
    block = max(1.0, min(automatic_block_length(standard**2), len(standard) / 4))
    begins = rng.random((_PATHS, MAX_DAYS)) < 1 / block
    begins[:, 0] = True
    drawn = rng.integers(len(standard), size=(_PATHS, MAX_DAYS))
    day = np.arange(MAX_DAYS)
    began = np.maximum.accumulate(np.where(begins, day, 0), axis=1)
    index = (np.take_along_axis(drawn, began, axis=1) + day - began) % len(standard)
    return np.asarray(standard[index])


def _or_none(days: float) -> float | None:
    return days if math.isfinite(days) else None


def _in_words(sharpe: float, low: float | None, median: float | None, high: float | None) -> str:
    of = f"a difference with an annual Sharpe ratio of {sharpe:.2g}"
    if median is None:
        return f"more than two years for {of}: use the held-out test instead"
    until = f"{high:.0f}" if high is not None else f"more than {MAX_DAYS}"
    return f"about {median:.0f} trading days for {of} (90 %: {low:.0f} to {until})"

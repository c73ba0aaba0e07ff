"""Two versions that answer side by side on panels whose truth is known: daily marks, and losses that overlap; pure.

A name's daily return is a share of the market's and its own, both independent from day to day. A version sees the
return of the next `horizon` days in noise that lasts, an AR(1) over the days, as that of slow features does, and says
the probability that it is positive. Run by `bench/experiments.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from mlops.domain.experiments.daily_scores import increment_difference, mark_difference
from mlops.domain.training.trading import TRADING_DAYS

Vector = npt.NDArray[np.float64]

_SPREAD = 0.01
"""Of a name's daily return."""


@dataclass(frozen=True, kw_only=True)
class ExperimentDesign:
    """Design of a simulated experiment."""

    n_names: int
    skill: tuple[float, float]
    """Correlation of what the challenger sees, and of what the champion sees, with the return over the horizon"""
    n_days: int = 2 * TRADING_DAYS
    horizon: int = 20
    common: float = 0.3
    """Share of a return's variance that is the market's"""
    lasting: float = 0.95
    """Autocorrelation of a version's noise"""


@dataclass(frozen=True, kw_only=True)
class Differences:
    """(k, t) the challenger's less the champion's, of k experiments on t days."""

    mark: Vector
    increment: Vector
    gain: Vector
    """Of the log loss of that day's labels, which look `horizon` days ahead: known only then"""


def simulate_differences(design: ExperimentDesign, experiments: int, rng: np.random.Generator) -> Differences:
    """Draw experiments."""
    found = [_one(design, rng) for _ in range(experiments)]
    mark, increment, gain = (np.array([one[part] for one in found]) for part in range(3))
    return Differences(mark=mark, increment=increment, gain=gain)


def _one(design: ExperimentDesign, rng: np.random.Generator) -> tuple[Vector, Vector, Vector]:
    days, n, h = design.n_days, design.n_names, design.horizon
    market = math.sqrt(design.common) * rng.normal(size=(days + h, 1))
    moves = market + math.sqrt(1 - design.common) * rng.normal(size=(days + h, n))
    so_far = np.vstack([np.zeros((1, n)), np.cumsum(moves, axis=0)])
    ahead = (so_far[h:] - so_far[:-h])[:days] / math.sqrt(h)
    challenger, champion = (_said(ahead, skill, design.lasting, rng) for skill in design.skill)
    returns = _SPREAD * moves[:days]
    mark = mark_difference(challenger, champion, returns)
    increment = increment_difference(challenger, champion, returns, horizon_dates=h)
    loss = [-np.log(np.where(ahead > 0, p, 1 - p)).mean(axis=1) for p in (challenger, champion)]
    return mark, increment, loss[1] - loss[0]


def _said(ahead: Vector, skill: float, lasting: float, rng: np.random.Generator) -> Vector:
    """(t, n) probabilities, calibrated, of a version that sees (t, n) standard returns with this correlation."""
    noise = rng.normal(size=ahead.shape)
    for day in range(1, len(noise)):
        noise[day] = lasting * noise[day - 1] + math.sqrt(1 - lasting**2) * noise[day]
    hidden = math.sqrt(1 - skill**2)
    return np.asarray(norm.cdf(skill * (skill * ahead + hidden * noise) / hidden))


def annual_sharpe(differences: Vector) -> float:
    """Annual Sharpe ratio of (k, t) daily differences, the mean of k."""
    ratios = np.mean(differences, axis=1) / np.std(differences, axis=1)
    return float(np.mean(ratios) * math.sqrt(TRADING_DAYS))


def peeked_t_test(differences: Vector, *, alpha: float, first: int = 20) -> Vector:
    """(k,) first day on which a test for a fixed end excludes 0, looked at daily from `first` on; infinite: none."""
    n = np.arange(1, differences.shape[1] + 1)
    mean = np.cumsum(differences, axis=1) / n
    spread = np.sqrt(np.maximum(np.cumsum(differences**2, axis=1) / n - mean**2, 1e-300))
    return _first_day(np.abs(mean) * np.sqrt(n) / spread > norm.isf(alpha / 2), first)


def asymptotic_sequence(differences: Vector, *, alpha: float, planned: float, first: int = 20) -> Vector:
    """(k,) first day on which the asymptotic confidence sequence excludes 0; infinite: none.

    It takes the differences for independent, which those of overlapping labels are not.
    Source: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, Time-uniform central limit theory.
    """
    n = np.arange(1, differences.shape[1] + 1)
    mean = np.cumsum(differences, axis=1) / n
    spread = np.sqrt(np.maximum(np.cumsum(differences**2, axis=1) / n - mean**2, 1e-300))
    c = -2 * math.log(alpha)
    rho2 = (c + math.log1p(c)) / planned
    half = spread * np.sqrt((n * rho2 + 1) / (n**2 * rho2) * (np.log(n * rho2 + 1) + c))
    return _first_day(np.abs(mean) > half, first)


def _first_day(excluded: npt.NDArray[np.bool_], first: int) -> Vector:
    seen = excluded.copy()
    seen[:, : first - 1] = False
    return np.where(seen.any(axis=1), seen.argmax(axis=1) + 1.0, np.inf)

"""Simulated days of a model in use: names of a day share a shock, and labels overlap for a horizon."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
from scipy.stats import norm

from mlops.domain.live.day_score import DayScore, score_day

FIRST = date(2020, 1, 1)


def simulated_days(
    rng: np.random.Generator,
    *,
    n_days: int,
    n_names: int = 10,
    horizon: int = 20,
    shared: float = 0.3,
    confidence: float = 1.0,
    move: float = 0.01,
    first: date = FIRST,
) -> dict[date, DayScore]:
    """Days of calibrated probabilities whose outcomes share `shared` of their variance, over a horizon's days each.

    The names of some days are predicted alike, so that a shock makes all of them right or wrong.
    confidence : the model states log odds so many times as large as they are
    """
    shocks = np.convolve(rng.normal(size=n_days + horizon - 1), np.ones(horizon) / np.sqrt(horizon), "valid")
    own = np.stack(
        [
            np.convolve(rng.normal(size=n_days + horizon - 1), np.ones(horizon) / np.sqrt(horizon), "valid")
            for _ in range(n_names)
        ],
        axis=1,
    )
    levels = np.repeat(rng.uniform(0.25, 0.75, size=n_days // horizon + 1), horizon)[:n_days]
    true = levels[:, None] + rng.uniform(-0.05, 0.05, size=(n_days, n_names))
    y = np.sqrt(shared) * shocks[:, None] + np.sqrt(1 - shared) * own < norm.ppf(true)
    odds = confidence * np.log(true / (1 - true))
    stated = 1 / (1 + np.exp(-odds))
    returns = rng.normal(scale=move, size=(n_days, n_names))
    known = np.ones(n_names, dtype=bool)
    return {
        first + timedelta(days=i): score_day(stated[i], y[i].astype(np.int8), known, returns[i], is_long=True)
        for i in range(n_days)
    }


TRUE_ACCURACY = 0.5 + 0.8 * 0.15 + 0.2 * (0.05**2 / 3 + 0.05**2) / 0.1
"""Mean of max(p, 1 - p): p is 0.5 + d + v, d uniform to 0.25 and v to 0.05; E|d + v| is |d| where that exceeds 0.05, else
(d^2 + 0.05^2) / 0.1."""

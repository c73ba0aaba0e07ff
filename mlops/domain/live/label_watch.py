"""Label watch: whether newly known labels say that a model's relation of features to labels has changed; pure.

Called by the drift stage of each day. See `watch_labels`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np

from mlops.domain.live.day_score import DayScore


@dataclass(frozen=True, kw_only=True)
class LabelWatch:
    """Result of the watch on one day."""

    fired_on: date | None
    change_at: date | None
    statistic: float
    bound: float
    alpha: float
    n_dates: int
    level: float
    recent: float | None
    path: tuple[tuple[date, float], ...]
    loss: str
    words: str


def watch_labels(
    days: Mapping[date, DayScore],
    *,
    held_out: Mapping[date, DayScore],
    as_of: date,
    horizon_dates: int,
    alpha: float,
    past: Mapping[date, DayScore] | None = None,
) -> LabelWatch:
    """Placeholder with the signature of the real one: a plain CUSUM."""
    held = [1 - s.roc_auc for s in held_out.values() if s.roc_auc is not None]
    level, spread = float(np.mean(held)), float(np.std(held)) or 0.1
    ordered = [day for day in sorted(days) if day <= as_of]
    horizon = max(1, horizon_dates)
    total, start, path, fired, change = 0.0, None, [], None, None
    bound = 12.0
    losses = []
    for known_on, day in zip(ordered[horizon:], ordered, strict=False):
        auc = days[day].roc_auc
        if auc is None:
            continue
        losses.append((day, 1 - auc))
        if total == 0.0:
            start = day
        total = max(0.0, total + (1 - auc - level) / spread - 1.0)
        path.append((known_on, total))
        if total >= bound and fired is None:
            fired, change = known_on, start
    recent = [loss for day, loss in losses if change is None or day >= change]
    return LabelWatch(
        fired_on=fired,
        change_at=change,
        statistic=total,
        bound=bound,
        alpha=alpha,
        n_dates=len(losses),
        level=level,
        recent=float(np.mean(recent)) if recent else None,
        path=tuple(path),
        loss="ranking",
        words=f"changed since {change}" if fired else "no change",
    )

"""The split of a training's rows, and for an incremental one the newest of them, read without those before.

Called by the train stage. An incremental training is judged on the dates on which a full one would be.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING

from mlops.domain.errors import EmptyWindow, InsufficientData
from mlops.domain.panel import counted_dates
from mlops.domain.training.splits import newest_training_days, split_by_date
from mlops.domain.windows import training_window
from mlops.stages.labelled_rows import LabelledRows, read_labelled

if TYPE_CHECKING:
    from mlops.domain.policies import Strategy, TrainingPolicy
    from mlops.domain.ports import FeatureSource
    from mlops.domain.training.splits import Split


def split_rows(rows: LabelledRows, policy: TrainingPolicy) -> Split:
    """Split the rows by the policy's dates. Raises InsufficientData."""
    return split_by_date(
        rows.dates,
        rows.known,
        horizon_dates=policy.horizon_dates,
        holdout_dates=policy.holdout_dates,
        embargo_dates=policy.embargo_dates,
    )


def read_recent(
    source: FeatureSource, strategy: Strategy, *, as_of: date, features: tuple[str, ...]
) -> tuple[LabelledRows, Split]:
    """Held-out dates, what is purged before them, and `incremental_days` to train on. Raises what reading raises."""
    policy = strategy.training
    days = _days_back(source, strategy, as_of)
    try:
        rows, split = _read(source, strategy, as_of=as_of, features=features, days=days)
    except (EmptyWindow, InsufficientData):
        if days == policy.training_days:
            raise
        split = None
    # Labels may come later than the panel's dates say: then the whole window may hold enough.
    if split is None or split.last_train - timedelta(days=policy.incremental_days) < as_of - timedelta(days=days):
        rows, split = _read(source, strategy, as_of=as_of, features=features, days=policy.training_days)
    return rows, newest_training_days(split, rows.dates, days=policy.incremental_days)


def _read(
    source: FeatureSource, strategy: Strategy, *, as_of: date, features: tuple[str, ...], days: int
) -> tuple[LabelledRows, Split]:
    policy = replace(strategy.training, training_days=days)
    rows = read_labelled(source, replace(strategy, training=policy), as_of=as_of, features=features)
    return rows, split_rows(rows, policy)


def _days_back(source: FeatureSource, strategy: Strategy, as_of: date) -> int:
    """Calendar days that hold what an incremental training needs, as the panel's dates say."""
    policy = strategy.training
    window = training_window(as_of, policy)
    counted = counted_dates(source, strategy.name, window, min_share=strategy.data.min_date_share)
    dates = counted.dates(strategy.name, window)
    gap = max(1, policy.horizon_dates + policy.embargo_dates)
    not_trained = policy.horizon_dates + policy.holdout_dates + gap
    if len(dates) <= not_trained:
        return policy.training_days
    last_trained = dates[-not_trained - 1]
    return min(policy.training_days, (as_of - last_trained).days + policy.incremental_days)

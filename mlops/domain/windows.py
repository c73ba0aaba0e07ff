"""Windows of dates from an as-of date and a policy; pure. `start` is excluded, `end` included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta

from mlops.domain.errors import EmptyWindow
from mlops.domain.panel import newest_counted
from mlops.domain.policies import DataPolicy, Strategy, TrainingPolicy
from mlops.domain.ports import FeatureSource, Window


def drift_windows(as_of: date, policy: DataPolicy) -> tuple[Window, Window]:
    """Reference and current window: the current one ends on `as_of`, the reference ends where it begins."""
    border = as_of - timedelta(days=policy.current_days)
    return (
        Window(start=border - timedelta(days=policy.reference_days), end=border),
        Window(start=border, end=as_of),
    )


def longest_current_days(policy: DataPolicy) -> int:
    """Calendar days to which a current window with few rows may be stretched."""
    most = policy.max_current_days
    if policy.reference == "season":
        # Of a year, so that the parts of two seasons share no date.
        most = min(most, 365 - policy.reference_days)
    return max(most, policy.current_days)


def stretched(as_of: date, policy: DataPolicy, rows: Mapping[date, int]) -> DataPolicy:
    """The policy with a current window that reaches back until it has `min_current_rows` rows.

    rows : of each date that counts, of at least the longest current window and the reference before it
    How far it reaches depends on the number of rows alone, never on a value. It stays as it is where it has enough, or
    none at all (a feed that has ended), where the longest one would not have them either, and where no row would be
    left before it.
    """
    n_rows = 0
    for day in sorted((day for day in rows if day <= as_of), reverse=True):
        days = (as_of - day).days + 1
        if days > (longest_current_days(policy) if n_rows else policy.current_days):
            return policy
        n_rows += rows[day]
        if n_rows >= policy.min_current_rows:
            longer = replace(policy, current_days=max(days, policy.current_days))
            reference, _ = drift_windows(as_of, longer)
            return longer if any(reference.start < one <= reference.end for one in rows) else policy
    return policy


def calibration_window(reference: Window, days: int) -> Window:
    """The `days` calendar days up to where the reference window begins."""
    return Window(start=reference.start - timedelta(days=days), end=reference.start)


def training_window(as_of: date, policy: TrainingPolicy) -> Window:
    """The last `training_days` calendar days up to `as_of`, held-out dates included."""
    return Window(start=as_of - timedelta(days=policy.training_days), end=as_of)


# ---- The date as of which a run decides


def resolve_as_of(asked: date | None, strategy: Strategy, source: FeatureSource, *, today: date) -> date:
    """The date that was asked for, else what the policy says. Raises EmptyWindow where `latest` has no rows.

    today : of the features' time zone. `latest` is the newest date that counts (`mlops.domain.panel`)
    """
    if asked is not None:
        return asked
    if strategy.data.as_of == "today":
        return today
    return newest_complete_date(strategy, source, today=today)


def newest_complete_date(strategy: Strategy, source: FeatureSource, *, today: date) -> date:
    """The newest date that counts, whatever the policy decides as of. Raises EmptyWindow where there is none."""
    newest = newest_counted(source, strategy.name, min_share=strategy.data.min_date_share, today=today)
    if newest is None:
        message = (
            f"strategy {strategy.name!r} has no rows in the feature view; load its features, "
            f"or check the view's column `strategy`"
        )
        raise EmptyWindow(message)
    return newest

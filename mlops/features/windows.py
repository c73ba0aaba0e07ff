"""Windows of dates from an as-of date and a policy; pure. `start` is excluded, `end` included."""

from __future__ import annotations

from datetime import date, timedelta

from mlops.ports import Window
from mlops.strategies import DataPolicy, TrainingPolicy


def drift_windows(as_of: date, policy: DataPolicy) -> tuple[Window, Window]:
    """Reference and current window: the current one ends on `as_of`, the reference ends where it begins."""
    border = as_of - timedelta(days=policy.current_days)
    return (
        Window(start=border - timedelta(days=policy.reference_days), end=border),
        Window(start=border, end=as_of),
    )


def calibration_window(reference: Window, days: int) -> Window:
    """The `days` calendar days up to where the reference window begins."""
    return Window(start=reference.start - timedelta(days=days), end=reference.start)


def training_window(as_of: date, policy: TrainingPolicy) -> Window:
    """The last `training_days` calendar days up to `as_of`, held-out dates included."""
    return Window(start=as_of - timedelta(days=policy.training_days), end=as_of)

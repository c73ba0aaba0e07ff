"""Has what is predicted drifted? Beside the features, never part of the verdict; pure.

A target is known only after its horizon, so its windows end where it is known: the current one on the newest date
that has values, the reference before it, both as long as those of the features. Called by the drift stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlops.domain.drift.detect import compare_numbers
from mlops.domain.drift.report import FeatureReport
from mlops.domain.frame import Floats
from mlops.domain.policies import DataPolicy, DriftPolicy
from mlops.domain.ports import Window
from mlops.domain.windows import drift_windows


@dataclass(frozen=True, kw_only=True)
class TargetReport:
    """One target's statistics, and the windows they are of."""

    reference_window: Window
    current_window: Window
    n_reference: int
    """Known values"""
    n_current: int
    statistics: FeatureReport


def target_drift(
    targets: Mapping[str, Floats],
    dates: npt.NDArray[np.datetime64],
    *,
    horizon_dates: int,
    data: DataPolicy,
    drift: DriftPolicy,
) -> dict[str, TargetReport]:
    """Each target that has values in both of its windows.

    targets : (n,) each, nan where not known yet      dates : (n,) datetime64[D]
    The newest `horizon_dates` dates play no part, even where a replay of an old day finds values there: on that
    day they were not known.
    """
    days = np.unique(dates)
    is_past = (
        dates < days[-horizon_dates] if 0 < horizon_dates <= len(days) else np.full(len(dates), horizon_dates == 0)
    )
    reports = {}
    for name, values in targets.items():
        known = is_past & ~np.isnan(values)
        if not known.any():
            continue
        newest = dates[known].max().astype("datetime64[D]").astype(object)
        windows = drift_windows(newest, data)
        before, now = (values[known & _within(dates, window)] for window in windows)
        if len(before) and len(now):
            statistics, _ = compare_numbers(name, before, now, drift)
            reports[name] = TargetReport(
                reference_window=windows[0],
                current_window=windows[1],
                n_reference=len(before),
                n_current=len(now),
                statistics=statistics,
            )
    return reports


def _within(dates: npt.NDArray[np.datetime64], window: Window) -> npt.NDArray[np.bool_]:
    start, end = np.array([window.start, window.end], dtype="datetime64[D]")
    return np.asarray((dates > start) & (dates <= end), dtype=np.bool_)

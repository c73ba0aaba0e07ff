"""Drift of the champion's predictions and of the targets: beside the features, never part of the verdict; pure.

A feature may move where the model does not look, and small moves of many may add up where it does: what the model
makes of both windows says which.

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
from mlops.domain.errors import EmptyWindow, MissingColumn, UnusableFeatures
from mlops.domain.frame import FeatureFrame, Floats
from mlops.domain.policies import DataPolicy, DriftPolicy
from mlops.domain.ports import Window
from mlops.domain.sampling import RowMarks, smallest_marks
from mlops.domain.training.metrics import THRESHOLD
from mlops.domain.windows import drift_windows

#: So many rows of a window are scored at most, evenly spaced: a distribution function is then within 0.0096 of that of
#: all rows (the bound of `features.sampling`), and a hundred trees take 30 ms a window.
SCORED_ROWS = 20_000


@dataclass(frozen=True, kw_only=True)
class PredictionReport:
    """Drift of one version's predictions between both windows."""

    version: str
    n_reference: int
    """Rows scored"""
    n_current: int
    positive_reference: float
    """Share of rows that the model calls positive"""
    positive_current: float
    statistics: FeatureReport
    """Statistics of the probability of the positive class"""


def model_matrix(frame: FeatureFrame, features: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """(n, f) the window's rows as the model takes them, at most SCORED_ROWS; infinities and nulls are nan.

    Raises EmptyWindow, and MissingColumn, UnusableFeatures for a feature that is gone or a text now.
    """
    if frame.n_rows == 0:
        raise EmptyWindow("no rows of a window were read that it could be asked about")
    missing = [name for name in features if name not in frame.numbers and name not in frame.categories]
    if missing:
        raise MissingColumn(
            f"it reads {', '.join(missing)}, which the check does not; "
            f"put it back into the view and into data.include, or retrain"
        )
    texts = [name for name in features if name in frame.categories]
    if texts:
        raise UnusableFeatures(f"it reads {', '.join(texts)} as numbers, and the view has text; cast it in the view")
    rows = _scored(frame)
    x = np.empty((len(rows), len(features)), dtype=np.float32)
    with np.errstate(over="ignore"):
        for place, name in enumerate(features):
            x[:, place] = frame.numbers[name][rows]
    x[~np.isfinite(x)] = np.nan
    return x


def _scored(frame: FeatureFrame) -> npt.NDArray[np.intp]:
    """Indices of at most SCORED_ROWS rows, those with the smallest marks; evenly spaced where there are no keys."""
    n_scored = min(frame.n_rows, SCORED_ROWS)
    if n_scored == frame.n_rows or frame.tickers is None or frame.dates is None:
        return np.arange(n_scored) * frame.n_rows // n_scored
    return smallest_marks(RowMarks().of(frame.tickers.combine_chunks(), frame.dates), n_scored)


def prediction_drift(version: str, reference: Floats, current: Floats, policy: DriftPolicy) -> PredictionReport:
    """Compare a version's probabilities. reference : (n,)      current : (m,)      both at least one."""
    statistics, _ = compare_numbers("prediction", reference, current, policy)
    return PredictionReport(
        version=version,
        n_reference=len(reference),
        n_current=len(current),
        positive_reference=float(np.mean(reference >= THRESHOLD)),
        positive_current=float(np.mean(current >= THRESHOLD)),
        statistics=statistics,
    )


@dataclass(frozen=True, kw_only=True)
class TargetReport:
    """Drift of one target, and the windows that were compared."""

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
    """Compare each target that has values in both of its windows.

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

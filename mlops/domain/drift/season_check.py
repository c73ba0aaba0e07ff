"""A check against the same season of earlier years; pure. Called by the drift stage and by `evaluation`."""

from __future__ import annotations

from datetime import date, datetime

from mlops.domain.drift.detect import detect_drift
from mlops.domain.drift.report import DriftReport, ReferenceUsed
from mlops.domain.drift.seasons import calibrate_season, season_windows
from mlops.domain.drift.weights import Weights
from mlops.domain.frame import FeatureFrame
from mlops.domain.policies import DataPolicy, DriftPolicy
from mlops.domain.ports import Window


def detect_seasonal_drift(  # noqa: PLR0913 -- what a report states of its check, each by keyword
    history: FeatureFrame,
    reference: FeatureFrame,
    current: FeatureFrame,
    drift: DriftPolicy,
    data: DataPolicy,
    *,
    strategy: str,
    as_of: date,
    timestamp: datetime,
    current_window: Window,
    weights: Weights | None = None,
) -> DriftReport:
    """The report. `history`: all rows before the current window, `reference`: those of them in the seasons' parts.

    Raises EmptyWindow when there are no rows of any season, UnusableFeatures.
    """
    parts = season_windows(as_of, data)
    calibration = calibrate_season(history, current, as_of=as_of, data=data, drift=drift, weights=weights)
    return detect_drift(
        reference,
        current,
        drift,
        strategy=strategy,
        as_of=as_of,
        reference_window=Window(start=parts[0].start, end=parts[-1].end),
        current_window=current_window,
        timestamp=timestamp,
        min_current_rows=data.min_current_rows,
        calibration=calibration,
        used=ReferenceUsed(choice="season", used="season", windows=parts),
        weights=weights,
    )

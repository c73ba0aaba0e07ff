"""The check of a past date, and what it would say if some features of its current window were other ones; pure.

The windows, the statistics and the rules are those of `detect`. Called by `selftest`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np

from mlops.domain.drift.calibration import calibrate, own_distances, reranked
from mlops.domain.drift.placements import dates_of
from mlops.domain.drift.psi_verdicts import PsiReference
from mlops.domain.drift.verdict import FeatureVerdict, Verdict, calibrated_verdict, raw_verdict, weighted_verdict
from mlops.domain.drift.weights import Weights
from mlops.domain.frame import FeatureFrame
from mlops.domain.policies import DataPolicy, DriftPolicy
from mlops.domain.windows import calibration_window, drift_windows, stretched


@dataclass(frozen=True, kw_only=True)
class Fired:
    """What both rules said of one check."""

    calibrated: Verdict
    raw: Verdict
    reason: str


class PlaceboCheck:
    """One past date's check, and what becomes of it when some features are other ones."""

    def __init__(
        self, past: FeatureFrame, day: date, *, data: DataPolicy, drift: DriftPolicy, weights: Weights | None = None
    ) -> None:
        days, n_rows = np.unique(dates_of(past), return_counts=True)
        data = stretched(day, data, dict(zip(days.astype(object), n_rows.tolist(), strict=True)))
        self._data, self._drift, self._weights = data, drift, weights
        reference_window, current_window = drift_windows(day, data)
        self._history = past.between(calibration_window(reference_window, drift.calibration_days))
        self.reference, self.current = past.between(reference_window), past.between(current_window)
        self._calibration = calibrate(
            self._history,
            self.reference,
            self.current,
            alpha=drift.alpha,
            min_days=drift.min_calibration_days,
            reference_start=reference_window.start,
            weights=weights,
        )
        self.psi = PsiReference(self.reference, drift)
        self._drifted = self.psi.drifted(self.current)

    def distances(self, current: FeatureFrame) -> dict[str, float]:
        """Of another current window. Its placements are those of the placebo as it was: what is planted in the
        current window reaches them through the spread of all dates alone, 3 % of it at two standard deviations.
        """
        return own_distances(self._history, self.reference, current) if self._calibration.placements else {}

    def fired(self, distances: Mapping[str, float], drifted: Mapping[str, bool]) -> Fired:
        """Both verdicts, the named features having these values in place of their own."""
        found = {**self._drifted, **drifted}
        features = [
            FeatureVerdict(
                name=name,
                drifted_ks=False,
                drifted_psi=is_drifted,
                weight=1.0 if self._weights is None else self._weights.get(name, 0.0),
            )
            for name, is_drifted in found.items()
        ]
        raw, counted = (
            rule(
                features,
                alert_share=self._drift.alert_share,
                n_current=self.current.n_rows,
                min_current_rows=self._data.min_current_rows,
            )
            for rule in (raw_verdict, weighted_verdict)
        )
        calibration = reranked(self._calibration, distances, self._weights) if distances else self._calibration
        both = calibrated_verdict(counted, calibration, alert_share=self._drift.alert_share)
        return Fired(calibrated=both.verdict, raw=raw.verdict, reason=both.reason)

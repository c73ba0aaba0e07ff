"""False alarms and power of the verdict on panels whose truth is known; pure.

    x[date, asset, feature] = sqrt(c) z[date, feature] + sqrt(1 - c) e[date, asset, feature],   variance 1

z is a day's common move, an AR(1) over dates; e is each asset's own, an AR(1) too where `own_ar` says so.
A shift adds a constant to every feature of the current window. Run by `bench/drift_calibration.py`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from mlops.domain.drift.calibration import calibrate
from mlops.domain.drift.psi import population_stability_index
from mlops.domain.frame import FeatureFrame, Floats


@dataclass(frozen=True, kw_only=True)
class PanelDesign:
    """Design of a simulated panel."""

    common: float
    """Share of a feature's variance that all assets have in common on a date."""
    ar: float
    """Autocorrelation of the common part from one date to the next."""
    own_ar: float = 0.0
    """Autocorrelation of each asset's own part."""
    n_assets: int = 50
    n_features: int = 20
    history_dates: int = 504
    """Two years of trading days."""
    reference_dates: int = 62
    """90 calendar days."""
    current_dates: int = 5
    """7 calendar days."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Results of both rules on one panel."""

    p_value: float
    share: float
    """Share of features with PSI at or above 0.2."""

    def drifted(self, *, alpha: float, alert_share: float) -> bool:
        """Whether the calibrated verdict is `drifted`."""
        return self.p_value <= alpha and self.share >= alert_share


def simulate_checks(design: PanelDesign, shifts: tuple[float, ...], rng: np.random.Generator) -> list[Check]:
    """Check one panel once for each shift of its current window (0: no drift), in standard deviations."""
    panel = _simulate_panel(design, rng)
    return [_check(design, panel, shift) for shift in shifts]


def _simulate_panel(design: PanelDesign, rng: np.random.Generator) -> Floats:
    """(dates, assets, features) with mean 0 and variance 1."""
    n = design.history_dates + design.reference_dates + design.current_dates
    common = _autoregression(rng.standard_normal((n, 1, design.n_features)), design.ar)
    own = _autoregression(rng.standard_normal((n, design.n_assets, design.n_features)), design.own_ar)
    return np.asarray(np.sqrt(design.common) * common + np.sqrt(1 - design.common) * own)


def _autoregression(noise: Floats, ar: float) -> Floats:
    """Stationary AR(1) along the first axis, variance 1."""
    if not ar:
        return noise
    values = np.empty_like(noise)
    values[0] = noise[0]
    for i in range(1, len(noise)):
        values[i] = ar * values[i - 1] + np.sqrt(1 - ar * ar) * noise[i]
    return values


def _check(design: PanelDesign, panel: Floats, shift: float) -> Check:
    names = [f"x{i}" for i in range(design.n_features)]
    first = date(2000, 1, 1)
    bounds = np.cumsum([0, design.history_dates, design.reference_dates, design.current_dates])
    frames = []
    for i, (start, end) in enumerate(itertools.pairwise(bounds)):
        rows = panel[start:end].reshape(-1, design.n_features) + (shift if i == 2 else 0.0)
        days: npt.NDArray[np.datetime64] = np.repeat(np.datetime64(first, "D") + np.arange(start, end), design.n_assets)
        columns = {name: np.ascontiguousarray(rows[:, j]) for j, name in enumerate(names)}
        frames.append(FeatureFrame(n_rows=len(rows), numbers=columns, categories={}, dates=days))
    history, reference, current = frames
    calibration = calibrate(
        history, reference, current, min_days=0, reference_start=first + timedelta(days=int(bounds[1]))
    )
    drifted = [population_stability_index(reference.numbers[name], current.numbers[name]) >= 0.2 for name in names]
    if calibration.p_value is None:
        raise ValueError(f"the simulated history is too short: {calibration.missing}")
    return Check(p_value=calibration.p_value, share=float(np.mean(drifted)))

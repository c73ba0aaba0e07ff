"""False alarms and power of the verdict on panels whose truth is known; pure.

    x[date, asset, feature] = sqrt(c) z[date, feature] + sqrt(1 - c) e[date, asset, feature],   variance 1

z is a day's common move, an AR(1) over dates; e is each asset's own, an AR(1) too where `own_ar` says so.
A shift adds a constant to every feature of the current window; a ramp adds more from date to date of the year after a
champion's training. Run by `bench/drift_calibration.py`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np

from mlops.domain.drift.calibration import calibrate
from mlops.domain.drift.detect import detect_drift
from mlops.domain.drift.psi import population_stability_index
from mlops.domain.drift.references.training_profile import DriftProfile, make_profile
from mlops.domain.drift.references.two_references import detect_drift_by_both
from mlops.domain.drift.report import DriftReport, ReferenceUsed
from mlops.domain.frame import FeatureFrame, Floats
from mlops.domain.policies import DriftPolicy
from mlops.domain.ports import Window

#: Trading days of a year.
YEAR = 252
#: Dates that a champion was trained on, and those after them up to its training: two years in all.
TRAINED, LATER = 399, 105
_FIRST = date(2000, 1, 1)


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
    n = design.history_dates + design.reference_dates + design.current_dates
    panel = _simulate_panel(design, n, rng)
    return [_check(design, panel, shift) for shift in shifts]


@dataclass(frozen=True, kw_only=True)
class YearCheck:
    """Results of both references on one date of the year after a champion's training."""

    n_dates: int
    """Dates since the training"""
    trailing: Check
    champion: Check

    def both(self, *, alpha: float, alert_share: float) -> bool:
        """Whether the verdict of both, each at half of alpha, is `drifted`."""
        return any(one.drifted(alpha=alpha / 2, alert_share=alert_share) for one in (self.trailing, self.champion))


def simulate_year(design: PanelDesign, ramp: float, rng: np.random.Generator, *, every: int) -> list[YearCheck]:
    """Check every so many dates of the year after a champion's training. ramp : sd by which the year ends higher"""
    before = design.history_dates + TRAINED + LATER
    panel = _simulate_panel(design, before + YEAR, rng)
    panel[before:] += ramp * np.arange(1, YEAR + 1)[:, np.newaxis, np.newaxis] / YEAR
    bounds = np.cumsum([0, design.history_dates, TRAINED, LATER])
    profile = make_profile(
        *(_frame(panel, int(start), int(end)) for start, end in itertools.pairwise(bounds)),
        strategy="simulated",
        as_of=_day(before - 1),
        trained_window=_window(int(bounds[1]), int(bounds[2])),
        bins=DriftPolicy().bins,
    )
    ends = range(before + design.current_dates, before + YEAR + 1, every)
    return [_year_check(design, panel, profile, end, n_dates=end - before) for end in ends]


def _year_check(design: PanelDesign, panel: Floats, profile: DriftProfile, end: int, *, n_dates: int) -> YearCheck:
    """Check the dates before the one with index `end`."""
    current = end - design.current_dates
    border = current - design.reference_dates
    history, reference = _frame(panel, border - design.history_dates, border), _frame(panel, border, current)
    rows = _frame(panel, current, end)

    def against_trailing(policy: DriftPolicy) -> DriftReport:
        return detect_drift(
            reference,
            rows,
            policy,
            strategy="simulated",
            as_of=_day(end - 1),
            reference_window=_window(border, current),
            current_window=_window(current, end),
            timestamp=datetime(2000, 1, 1, tzinfo=UTC),
            min_current_rows=1,
            history=history,
        )

    report = detect_drift_by_both(
        against_trailing,
        profile,
        rows,
        DriftPolicy(min_calibration_days=1),
        current_start=_day(current - 1),
        used=ReferenceUsed(choice="champion", used="champion", model_version="1"),
        min_current_rows=1,
    )
    return YearCheck(n_dates=n_dates, trailing=_trailing(report), champion=_champion(report))


def _trailing(report: DriftReport) -> Check:
    return Check(p_value=report.calibration.p_value or 1.0, share=report.raw.share)


def _champion(report: DriftReport) -> Check:
    champion = report.champion
    if champion is None or champion.calibration is None or champion.decision is None:
        raise ValueError(f"the champion's dates have no say: {champion.missing if champion else 'not asked'}")
    return Check(p_value=champion.calibration.p_value or 1.0, share=champion.decision.share)


def _frame(panel: Floats, start: int, end: int) -> FeatureFrame:
    rows = panel[start:end].reshape(-1, panel.shape[2])
    return FeatureFrame(
        n_rows=len(rows),
        numbers={f"x{j}": np.ascontiguousarray(rows[:, j]) for j in range(rows.shape[1])},
        categories={},
        dates=np.repeat(np.datetime64(_FIRST, "D") + np.arange(start, end), panel.shape[1]),
    )


def _day(n: int) -> date:
    return _FIRST + timedelta(days=n)


def _window(start: int, end: int) -> Window:
    """Dates from the one with index `start` to the one before `end`."""
    return Window(start=_day(start - 1), end=_day(end - 1))


def _simulate_panel(design: PanelDesign, n: int, rng: np.random.Generator) -> Floats:
    """(n dates, assets, features) with mean 0 and variance 1."""
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
    border = design.history_dates + design.reference_dates
    history, reference = _frame(panel, 0, design.history_dates), _frame(panel, design.history_dates, border)
    current = _frame(panel + shift, border, len(panel))
    calibration = calibrate(history, reference, current, min_days=0, reference_start=_day(design.history_dates))
    drifted = [
        population_stability_index(values, current.numbers[name]) >= 0.2 for name, values in reference.numbers.items()
    ]
    if calibration.p_value is None:
        raise ValueError(f"the simulated history is too short: {calibration.missing}")
    return Check(p_value=calibration.p_value, share=float(np.mean(drifted)))

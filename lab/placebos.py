"""Checks of past dates, as if they were today, with some features of the current window replaced; pure.

Every date with enough history before it is as likely as any other, by a seed. Periods that are known to hold a
break may be left out, by name. What is left is the past as it was: who calls it free of drift must know why.

The windows, the statistics and the rules are those of `detect`, without what only a report needs. Called by `selftest`
and `drift_evaluation`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats import beta, rankdata

from mlops.domain.drift.calibration import calibrate, own_distances, reranked
from mlops.domain.drift.categorical import compare_counts
from mlops.domain.drift.data_quality import (
    Description,
    category_findings,
    describe,
    is_without_information,
    numeric_findings,
)
from mlops.domain.drift.ordered import OrderedColumn, ordered_column
from mlops.domain.drift.placements import dates_of
from mlops.domain.drift.psi import Bins, Counts, bin_counts, index_from_counts, quantile_bins
from mlops.domain.drift.verdict import FeatureVerdict, Verdict, calibrated_verdict, raw_verdict, weighted_verdict
from mlops.domain.drift.weights import Weights
from mlops.domain.errors import InsufficientData
from mlops.domain.frame import FeatureFrame, Floats, Texts
from mlops.domain.policies import DataPolicy, DriftPolicy
from mlops.domain.windows import calibration_window, drift_windows, stretched

# ---- Changes of known size in a window of features; pure. What does not vary in the reference stays as it is
#
# moved      x + shift
# coupled    the same values in another order
# widened  mean + (x - mean) · factor,   mean: of the window's own finite values
#
# Missing and infinite values stay what they are. Called by `selftest` and `drift_evaluation`.


def spreads_of(reference: FeatureFrame) -> dict[str, float]:
    """Standard deviation of each number's finite values; none where it does not vary."""
    spreads = {}
    for name, values in reference.numbers.items():
        finite = values[np.isfinite(values)]
        with np.errstate(over="ignore", invalid="ignore"):
            spread = float(np.std(finite, ddof=1)) if len(finite) > 1 and np.ptp(finite) > 0 else 0.0
        if spread > 0 and math.isfinite(spread):
            spreads[name] = spread
    return spreads


def moved(frame: FeatureFrame, by: Mapping[str, float]) -> FeatureFrame:
    """Shift each named feature."""
    return frame.with_numbers({name: frame.numbers[name] + shift for name, shift in by.items()})


def coupled(one: Floats, other: Floats, correlation: float, rng: np.random.Generator) -> Floats:
    """Reorder the other feature's own values so that they have this normal-score correlation with the first one's.

    (n,) each; both keep their values, so that neither alone has changed. A missing value of either stays in its place.
    """
    known = np.flatnonzero(~(np.isnan(one) | np.isnan(other)))
    scores = ndtri((rankdata(one[known], method="ordinal") - 0.5) / max(len(known), 1))
    mixed = correlation * scores + math.sqrt(1 - correlation**2) * rng.standard_normal(len(known))
    found = other.copy()
    found[known[np.argsort(mixed)]] = np.sort(other[known])
    return found


def widened(frame: FeatureFrame, names: Iterable[str], factor: float) -> FeatureFrame:
    """Stretch each named feature around its mean."""
    changed = {}
    for name in names:
        values = frame.numbers[name]
        finite = np.isfinite(values)
        if finite.any():
            middle = float(np.mean(values[finite]))
            changed[name] = np.where(finite, middle + (values - middle) * factor, values)
    return frame.with_numbers(changed)


CONFIDENCE = 0.95
"""Of an interval, where nothing else is asked for."""


@dataclass(frozen=True, kw_only=True)
class Period:
    """Dates from `start` to `end`, both included."""

    start: date
    end: date


def eligible_dates(
    dates: npt.NDArray[np.datetime64], *, data: DataPolicy, drift: DriftPolicy, without: Sequence[Period] = ()
) -> list[date]:
    """Dates whose windows hold rows, whose history is as long as the policy's least, and that touch no excluded period.

    dates : (n,) datetime64[D] of the rows, in any order. Raises InsufficientData where there is none.
    """
    days: list[date] = [day.astype(object) for day in np.unique(dates)]
    if not days:
        raise InsufficientData("there are no rows to make a check on; load the strategy's features")
    needed = data.current_days + data.reference_days + drift.min_calibration_days
    known = set(days)
    late = [day for day in days if (day - days[0]).days >= needed]
    whole = [day for day in late if _holds_rows(day, known, data)]
    free = [day for day in whole if not any(_touches(day, period, data) for period in without)]
    if free:
        return free
    words = f"the rows reach from {days[0]} to {days[-1]}, {(days[-1] - days[0]).days} days"
    if not late:
        message = (
            f"{words}; a check needs {needed}: {drift.min_calibration_days} of history, {data.reference_days} of "
            f"reference, {data.current_days} current; load more history, or shorten the policy's windows"
        )
        raise InsufficientData(message)
    raise InsufficientData(f"{words}, and no date is left: every one touches a left-out period, or a gap in the rows")


def chosen_placebos(eligible: Sequence[date], n: int, rng: np.random.Generator) -> list[date]:
    """Draw `n` of the dates, or take all where there are no more; ascending."""
    if n >= len(eligible):
        return sorted(eligible)
    return sorted(eligible[i] for i in rng.choice(len(eligible), size=n, replace=False))


def disjoint_checks(days: Sequence[date], data: DataPolicy) -> int:
    """Largest number of these checks that share no date of their windows: a lower bound of the independent looks."""
    n, free_from = 0, date.min
    for day in sorted(days):
        reference, _ = drift_windows(day, data)
        if reference.start >= free_from:
            n, free_from = n + 1, day
    return n


def _holds_rows(day: date, known: set[date], data: DataPolicy) -> bool:
    reference, _ = drift_windows(day, data)
    return any(reference.start + timedelta(days=i) in known for i in range(1, data.reference_days + 1))


def _touches(day: date, period: Period, data: DataPolicy) -> bool:
    reference, _ = drift_windows(day, data)
    return reference.start < period.end and period.start <= day


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A share with its interval."""

    share: float
    low: float
    high: float


def rate_of(share: float, n: int, *, confidence: float = CONFIDENCE) -> Rate:
    """Clopper-Pearson's exact interval for `share` of `n` independent looks.

    The count share · n need not be whole: where dependent looks are counted as fewer independent ones, it is not
    (Korn and Graubard 1998, Survey Methodology 24, 193-201). n >= 1.
    """
    tail = (1 - confidence) / 2
    hits = share * n
    low = float(beta.ppf(tail, hits, n - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, n - hits)) if hits < n else 1.0
    return Rate(share=share, low=low, high=high)


@dataclass(frozen=True, kw_only=True)
class _Column:
    """A number of the reference, described once."""

    ordered: OrderedColumn
    description: Description
    bins: Bins | None
    """None where it holds no value"""
    counts: Counts | None


class PsiReference:
    """A reference window, ready to be compared with."""

    def __init__(self, reference: FeatureFrame, policy: DriftPolicy) -> None:
        self._policy = policy
        self._texts = {name: Counter(values.tolist()) for name, values in reference.categories.items()}
        self._numbers: Mapping[str, _Column] = {name: self._column(v) for name, v in reference.numbers.items()}

    def drifted(self, current: FeatureFrame) -> dict[str, bool]:
        """Whether each feature of both windows drifted, without those that hold one value, or none, in both."""
        numbers = {
            name: self._number(name, self._numbers[name], values)
            for name, values in current.numbers.items()
            if name in self._numbers
        }
        texts = {name: self._text(name, values) for name, values in current.categories.items() if name in self._texts}
        found = {**numbers, **texts}
        counted = {name: drifted for name, drifted in found.items() if drifted is not None}
        return counted or dict.fromkeys(found, False)

    def _column(self, values: Floats) -> _Column:
        ordered = ordered_column(values)
        bins = quantile_bins(ordered.values, bins=self._policy.bins) if len(ordered.values) else None
        counts = bin_counts(ordered.values, ordered.n_missing, bins) if bins else None
        return _Column(ordered=ordered, description=describe(ordered), bins=bins, counts=counts)

    def _number(self, name: str, before: _Column, values: Floats) -> bool | None:
        now = ordered_column(values)
        found = numeric_findings(name, before.description, describe(now), alpha=self._policy.ks_p)
        if any(finding.is_drift for finding in found):
            return True
        if is_without_information(found):
            return None
        if before.bins is None or before.counts is None or not len(now.values):
            return False
        counts = bin_counts(now.values, now.n_missing, before.bins)
        psi = index_from_counts(before.counts, counts, smoothing=self._policy.smoothing, floor=self._policy.psi_floor)
        return psi >= self._policy.psi_significant

    def _text(self, name: str, values: Texts) -> bool | None:
        before, now = self._texts[name], Counter(values.tolist())
        drift = compare_counts(before, now)
        found = category_findings(name, before, now, unseen=drift.unseen, alpha=self._policy.ks_p)
        if is_without_information(found):
            return None
        return drift.psi >= self._policy.psi_significant or any(finding.is_drift for finding in found)


@dataclass(frozen=True, kw_only=True)
class Fired:
    """Verdicts of both rules in one check."""

    calibrated: Verdict
    raw: Verdict
    reason: str


class PlaceboCheck:
    """Check of one past date, and its result when some features are replaced."""

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
        """Distance of each number with another current window.

        Its placements are those of the placebo as it was: what is planted in the current window reaches them through
        the spread of all dates alone, 3 % of it at two standard deviations.
        """
        return own_distances(self._history, self.reference, current) if self._calibration.placements else {}

    def fired(self, distances: Mapping[str, float], drifted: Mapping[str, bool]) -> Fired:
        """Return both verdicts, the named features having these values in place of their own."""
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

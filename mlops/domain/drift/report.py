"""A check's report, and its JSON with the documented keys; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal

from mlops.domain.drift.data_quality import QUANTILES, Description
from mlops.domain.drift.distributions import LEVELS
from mlops.domain.drift.verdict import difference

if TYPE_CHECKING:
    from mlops.domain.drift.alarms import CorrelationChange, FeatureJumps
    from mlops.domain.drift.calibration import Calibration
    from mlops.domain.drift.data_quality import DataFinding
    from mlops.domain.drift.distributions import Distribution
    from mlops.domain.drift.outputs import PredictionReport, TargetReport
    from mlops.domain.drift.verdict import RuleDecision, Verdict
    from mlops.domain.policies import DriftPolicy, Reference
    from mlops.domain.ports import Window


@dataclass(frozen=True, kw_only=True)
class FeatureReport:
    """Statistics of one feature. None: undefined, and then a finding says why."""

    kind: Literal["number", "category"]
    ks_statistic: float | None
    ks_p: float | None
    """p of the KS test; of the chi-square test for a category."""
    psi: float | None
    drifted_ks: bool
    drifted_psi: bool
    reference: Description | None
    current: Description | None
    wasserstein: float | None = None
    """W1 of the finite values, in standard deviations of the reference; None for a category or a constant one."""
    jensen_shannon: float | None = None
    """Distance over the PSI's bins, 0 to 1."""
    distribution: Distribution | None = None
    """Distribution that the report's page draws; None where a window holds no value."""


@dataclass(frozen=True, kw_only=True)
class ReferenceUsed:
    """The reference that the current window was compared with."""

    choice: Reference = "trailing"
    """Choice of the policy"""
    used: Reference = "trailing"
    """Another than the choice where that could not be had; a finding says why."""
    windows: tuple[Window, ...] = ()
    """The reference's parts, oldest first, where it has several"""
    model_name: str | None = None
    model_version: str | None = None
    """Whose training profile it is"""
    profile_sha256: str | None = None
    schema_hash: str | None = None
    """Hash of the profile's features and kinds"""
    gap_dates: int | None = None
    """Dates between the reference and the current window"""
    ks_grid: int | None = None
    """KS and Wasserstein compare with so many quantiles of the reference, not with all of its values"""

    @property
    def words(self) -> str:
        """Describe the reference for a summary."""
        if self.used == "champion":
            return f"training profile of version {self.model_version}, {self.gap_dates} dates before the current window"
        if self.used == "season":
            return f"the same season of {len(self.windows)} earlier years"
        return "trailing window" + (f", in place of the {self.choice}'s" if self.choice != "trailing" else "")

    def to_json(self) -> dict[str, Any]:
        """Return the part of the document on the reference."""
        return {
            "choice": self.choice,
            "used": self.used,
            "words": self.words,
            "model_name": self.model_name,
            "model_version": self.model_version,
            "profile_sha256": self.profile_sha256,
            "schema_hash": self.schema_hash,
            "gap_dates": self.gap_dates,
        }


TRAILING = ReferenceUsed()
"""The documented reference."""


@dataclass(frozen=True, kw_only=True)
class ChampionVerdict:
    """What the champion's dates say of the current rows, beside the trailing window."""

    reference: ReferenceUsed | None = None
    decision: RuleDecision | None = None
    """None: it has no say, and `missing` is the reason"""
    calibration: Calibration | None = None
    psi: Mapping[str, float | None] = field(default_factory=dict)
    """Each feature's PSI against the trained dates"""
    missing: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the part of the document on it."""
        found = self.calibration
        return {
            "reference": self.reference.to_json() if self.reference else None,
            "verdict": self.decision.verdict if self.decision else None,
            "reason": self.decision.reason if self.decision else None,
            "share": self.decision.share if self.decision else None,
            "share_of": self.decision.share_of if self.decision else None,
            "p_value": found.p_value if found else None,
            "alpha": found.alpha if found else None,
            "statistic": found.statistic if found else None,
            "critical": found.critical if found else None,
            "n_placements": found.n_placements if found else None,
            "psi": dict(self.psi),
            "missing": self.missing,
        }


@dataclass(frozen=True, kw_only=True)
class DriftReport:
    """Everything that a check found."""

    strategy: str
    as_of: date
    timestamp: datetime
    reference_window: Window
    current_window: Window
    n_reference: int
    n_current: int
    policy: DriftPolicy
    features: dict[str, FeatureReport]
    findings: tuple[DataFinding, ...]
    decision: RuleDecision
    """Decision of the rule in force"""
    raw: RuleDecision
    """Decision of the documented rule"""
    calibrated: RuleDecision
    calibration: Calibration
    reference: ReferenceUsed = TRAILING
    n_current_dates: int | None = None
    n_current_names: int | None = None
    stretched_from_days: int | None = None
    """Days that the policy asked for, where the current window had too few rows and was made longer"""
    champion: ChampionVerdict | None = None
    """The champion's dates beside the trailing window; None: not asked"""
    trailing: RuleDecision | None = None
    """The trailing window's own decision where the champion's dates have a say; `calibrated` is that of both"""
    decided_by: Literal["trailing", "champion"] = "trailing"
    """Whose share and p stand for the verdict, where there are two"""

    @property
    def p_value(self) -> float | None:
        """P of the calibrated rule, to compare with alpha: where there are two references, twice the deciding one's."""
        if self.trailing is None or self.champion is None or self.champion.calibration is None:
            return self.calibration.p_value
        decides = self.champion.calibration if self.decided_by == "champion" else self.calibration
        return None if decides.p_value is None else min(1.0, 2 * decides.p_value)

    @property
    def alpha(self) -> float:
        """Level of the calibrated rule, of both references together."""
        return self.calibration.alpha if self.trailing is None else self.policy.alpha

    @property
    def verdict(self) -> Verdict:
        """`drifted`, `stable` or `insufficient`."""
        return self.decision.verdict

    @property
    def drifted(self) -> bool:
        """Whether the rule in force says `drifted`."""
        return self.decision.verdict == "drifted"

    @property
    def reason(self) -> str:
        """The verdict's reason, in words."""
        return self.decision.reason

    @property
    def basis(self) -> str:
        """Describe what the verdict is based on, and what it could have detected."""
        current = self.current_window
        days = (current.end - current.start).days
        counted = [f"{self.n_current_dates} dates"] if self.n_current_dates is not None else []
        counted += [f"{self.n_current_names} names"] if self.n_current_names is not None else []
        looked_at = f"{self.n_current:,} rows" + (f", {' of '.join(counted)}" if counted else "")
        looked_at += f" in {days} days"
        if self.stretched_from_days is not None:
            looked_at += f" (stretched from {self.stretched_from_days} days to have rows enough)"
        calibration = self.calibration
        if calibration.critical is None or calibration.smallest_p_value is None:
            return looked_at
        return (
            f"{looked_at}; among {calibration.n_placements} earlier windows, {calibration.n_blocks} without a common "
            f"date, p is at least {calibration.smallest_p_value:.2g}, and a shift of every feature by "
            f"{calibration.critical:.2f} of its spread is seen for sure"
        )

    def to_json(self) -> dict[str, Any]:
        """Return strict JSON: the documented keys, and what the documented report could not say."""
        return {
            "timestamp": self.timestamp.isoformat(),
            "n_features": len(self.features),
            "n_samples_reference": self.n_reference,
            "n_samples_current": self.n_current,
            "drift_threshold": self.policy.ks_p,
            "summary": {
                "drifted_features_ks": sum(feature.drifted_ks for feature in self.features.values()),
                "drifted_features_psi": sum(feature.drifted_psi for feature in self.features.values()),
                "drift_detected": self.drifted,
                "drift_ratio": self.raw.share,
                "alert_threshold": self.policy.alert_share,
            },
            "ks_test": {
                name: {"statistic": feature.ks_statistic, "p_value": feature.ks_p, "drifted": feature.drifted_ks}
                for name, feature in self.features.items()
            },
            "psi": {
                name: {"psi_value": feature.psi, "drifted": feature.drifted_psi, "band": self._band(feature.psi)}
                for name, feature in self.features.items()
            },
            "distances": {
                name: {"wasserstein": feature.wasserstein, "jensen_shannon": feature.jensen_shannon}
                for name, feature in self.features.items()
            },
            "verdict": {
                "verdict": self.verdict,
                "reason": self.reason,
                "rule": self.policy.rule,
                "raw": {**_decided(self.raw), "share": self.raw.share, "alert_share": self.policy.alert_share},
                "calibrated": {
                    **_decided(self.calibrated),
                    "share": self.calibrated.share,
                    "share_of": self.calibrated.share_of,
                    "p_value": self.p_value,
                    "alpha": self.alpha,
                    "decided_by": self.decided_by,
                },
                "trailing": None
                if self.trailing is None
                else {**_decided(self.trailing), "share": self.trailing.share},
                "difference": difference(self.raw, self.calibrated),
                "basis": self.basis,
            },
            "calibration": _calibration(self.calibration),
            "champion_reference": self.champion.to_json() if self.champion else None,
            "feature_alarms": _feature_alarms(self.calibration.jumps),
            "correlation_alarm": _correlation_alarm(self.calibration.correlations),
            "findings": [asdict(finding) for finding in self.findings],
            "feature_statistics": {
                name: {"reference": _described(feature.reference), "current": _described(feature.current)}
                for name, feature in self.features.items()
            },
            "distributions": {
                "quantiles": list(LEVELS),
                "features": {
                    name: feature.distribution.to_json() if feature.distribution else None
                    for name, feature in self.features.items()
                },
            },
            "windows": {
                "as_of": self.as_of.isoformat(),
                "reference": _window(self.reference_window),
                "current": _window(self.current_window),
                "current_dates": self.n_current_dates,
                "current_names": self.n_current_names,
                "stretched_from_days": self.stretched_from_days,
                **({"reference_parts": [_window(part) for part in parts]} if (parts := self.reference.windows) else {}),
            },
            "data": {
                "strategy": self.strategy,
                "reference": self.reference.to_json(),
                "ks_convention": _ks_convention(self.reference.ks_grid),
                "psi_convention": _psi_convention(self.policy),
                "psi_bands": {"moderate": self.policy.psi_moderate, "significant": self.policy.psi_significant},
            },
        }

    def _band(self, psi: float | None) -> str:
        if psi is None:
            return "undefined"
        if psi >= self.policy.psi_significant:
            return "significant"
        return "moderate" if psi >= self.policy.psi_moderate else "none"


def _ks_convention(grid: int | None) -> str:
    convention = "two-sided, kstwo at round(n m / (n + m))"
    if grid is None:
        return convention
    return f"{convention}; D against {grid} quantiles of the reference, off by less than 1/{2 * grid}"


def _psi_convention(policy: DriftPolicy) -> str:
    floor = f", shares at least {policy.psi_floor:g}" if policy.psi_floor else ""
    return f"{policy.bins} reference quantiles, open ends, missing bin, +{policy.smoothing:g} per bin{floor}"


def prediction_json(predictions: PredictionReport, reference: Window, current: Window) -> dict[str, Any]:
    """Return the part of the document on the predictions: a target's keys, and their version."""
    statistics = predictions.statistics
    return {
        "version": predictions.version,
        "windows": {"reference": _window(reference), "current": _window(current)},
        "n_reference": predictions.n_reference,
        "n_current": predictions.n_current,
        "positive_share": {"reference": predictions.positive_reference, "current": predictions.positive_current},
        **_compared(statistics),
    }


def target_json(target: TargetReport) -> dict[str, Any]:
    """Return the part of the document on a target."""
    statistics = target.statistics
    return {
        "windows": {"reference": _window(target.reference_window), "current": _window(target.current_window)},
        "n_reference": target.n_reference,
        "n_current": target.n_current,
        **_compared(statistics),
    }


def _compared(statistics: FeatureReport) -> dict[str, Any]:
    return {
        "ks_statistic": statistics.ks_statistic,
        "ks_p": statistics.ks_p,
        "psi": statistics.psi,
        "wasserstein": statistics.wasserstein,
        "jensen_shannon": statistics.jensen_shannon,
        "drifted_ks": statistics.drifted_ks,
        "drifted_psi": statistics.drifted_psi,
    }


def _decided(decision: RuleDecision) -> dict[str, str]:
    return {"verdict": decision.verdict, "reason": decision.reason}


def _calibration(calibration: Calibration) -> dict[str, Any]:
    placements = calibration.placements
    return {
        "statistic": calibration.statistic,
        "p_value": calibration.p_value,
        "alpha": calibration.alpha,
        "critical": calibration.critical,
        "smallest_detectable_shift": calibration.critical,
        "smallest_p_value": calibration.smallest_p_value,
        "n_dates": calibration.n_dates,
        "n_placements": calibration.n_placements,
        "n_blocks": calibration.n_blocks,
        "first_date": calibration.first_date.isoformat() if calibration.first_date else None,
        "missing": calibration.missing,
        "distances": calibration.distances,
        "placements": None
        if placements is None
        else {
            "last_dates": [str(day) for day in placements.last_dates],
            "statistics": [round(float(value), 6) for value in placements.statistics],
        },
    }


def _feature_alarms(jumps: FeatureJumps) -> dict[str, Any]:
    return {
        "alarms": list(jumps.alarms),
        "alpha": jumps.alpha,
        "critical": jumps.critical if jumps.critical is None or math.isfinite(jumps.critical) else None,
        "n_weeks": jumps.n_weeks,
        "missing": jumps.missing,
        "features": {
            # A feature that never moved before has no size.
            name: {"size": size if math.isfinite(size) else None, "p_value": jumps.p_values[name]}
            for name, size in jumps.sizes.items()
        },
    }


def _correlation_alarm(change: CorrelationChange) -> dict[str, Any]:
    return {**asdict(change), "alarm": change.is_alarm, "pair": list(change.pair) if change.pair else None}


def _window(window: Window) -> dict[str, str]:
    return {"after": window.start.isoformat(), "to": window.end.isoformat()}


def _described(description: Description | None) -> dict[str, Any] | None:
    if description is None:
        return None
    values = asdict(description)
    values["quantiles"] = dict(zip((str(q) for q in QUANTILES), description.quantiles, strict=False))
    return values

"""Results of earlier checks, read from their stored reports; pure.

A document is read as it was stored: a key that its version did not write yet is None, never an error.
Called by `acis drift-history`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any


@dataclass(frozen=True, kw_only=True)
class CheckRecord:
    """Results of one check. None: the report does not say."""

    as_of: date | None
    verdict: str | None
    """Verdict of the rule that was in force: `drifted`, `stable` or `insufficient`"""
    rule: str | None
    raw_verdict: str | None
    calibrated_verdict: str | None
    share: float | None
    """Share of the features that drifted by PSI, against the reference that decided"""
    p_value: float | None
    statistic: float | None
    critical: float | None
    """The statistic from which on p was extreme"""
    n_reference: int | None
    n_current: int | None
    reason: str | None
    run_id: str | None


@dataclass(frozen=True, kw_only=True)
class FeaturePoint:
    """Statistics of one feature at one check. None: the report does not say, or the statistic was undefined."""

    as_of: date
    psi: float | None
    ks_statistic: float | None
    wasserstein: float | None
    """W1 in standard deviations of the reference"""
    distance: float | None
    """The feature's part of the calibrated statistic"""
    missing_share: float | None
    """Share of missing values of the current window"""
    drifted: bool | None
    """Whether it drifted by PSI"""


def check_record(document: Mapping[str, Any]) -> CheckRecord:
    """Read the results of one report."""
    verdict, calibration = _part(document, "verdict"), _part(document, "calibration")
    summary = _part(document, "summary")
    detected = summary.get("drift_detected")
    # The first reports had a summary alone.
    spoken = None if detected is None else "drifted" if detected else "stable"
    raw, calibrated = _part(verdict, "raw"), _part(verdict, "calibrated")
    by_champion = calibrated.get("decided_by") == "champion"
    return CheckRecord(
        as_of=_day(document),
        verdict=verdict.get("verdict", spoken),
        rule=verdict.get("rule"),
        raw_verdict=raw.get("verdict"),
        calibrated_verdict=calibrated.get("verdict"),
        share=calibrated["share"] if by_champion else raw.get("share", summary.get("drift_ratio")),
        p_value=calibrated.get("p_value", calibration.get("p_value")),
        statistic=calibration.get("statistic"),
        critical=calibration.get("critical"),
        n_reference=document.get("n_samples_reference"),
        n_current=document.get("n_samples_current"),
        reason=verdict.get("reason"),
        run_id=document.get("run_id"),
    )


def feature_trends(documents: Iterable[Mapping[str, Any]]) -> dict[str, tuple[FeaturePoint, ...]]:
    """Trend of each feature, oldest first; one point per as-of date.

    documents : newest first, as the ledger gives them; of several checks of one date the first one counts.
    Documents without a date have no place. A feature that a check did not have leaves no point.
    """
    by_date: dict[date, Mapping[str, Any]] = {}
    for document in documents:
        day = _day(document)
        if day is not None:
            by_date.setdefault(day, document)
    points: dict[str, list[FeaturePoint]] = {}
    for day in sorted(by_date):
        document = by_date[day]
        for name in dict.fromkeys([*_part(document, "psi"), *_part(document, "ks_test")]):
            points.setdefault(name, []).append(_point(day, document, name))
    return {name: tuple(series) for name, series in points.items()}


def series(points: Sequence[FeaturePoint], statistic: str) -> list[float | None]:
    """Values of one statistic of a trend, in its order."""
    return [getattr(point, statistic) for point in points]


def _point(day: date, document: Mapping[str, Any], name: str) -> FeaturePoint:
    psi, ks = _part(_part(document, "psi"), name), _part(_part(document, "ks_test"), name)
    current = _part(_part(_part(document, "feature_statistics"), name), "current")
    n, missing = current.get("n"), current.get("n_missing")
    return FeaturePoint(
        as_of=day,
        psi=psi.get("psi_value"),
        ks_statistic=ks.get("statistic"),
        wasserstein=_part(_part(document, "distances"), name).get("wasserstein"),
        distance=_part(_part(document, "calibration"), "distances").get(name),
        missing_share=missing / n if n and missing is not None else None,
        drifted=psi.get("drifted"),
    )


def _part(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name)
    return found if isinstance(found, Mapping) else {}


def _day(document: Mapping[str, Any]) -> date | None:
    found = document.get("as_of") or _part(document, "windows").get("as_of")
    return date.fromisoformat(str(found)[:10]) if found else None

"""The champion's dates as a second reference beside the trailing window, and the one verdict of both; pure.

    reference          follows a slow change   level
    trailing window    yes                     alpha / 2
    champion's dates   no                      alpha / 2      drift against either is drift

The two are asked about the same current rows, each at half of alpha, so that without drift at most a share alpha of
checks is an alarm, whatever the two have in common (Bonferroni). Where the champion's has no p (its profile is too
old), the trailing window has alpha to itself. The verdict's p is twice that of the reference that decides, so that it
compares with alpha. Against the profile PSI and the calibrated p alone are worked out: what the current rows look
like, the check knows already. Why so, and what it costs: docs/decisions/0057. Called by the drift stage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date

import numpy as np

from mlops.domain.drift.calibration import Calibration
from mlops.domain.drift.categorical import compare_counts
from mlops.domain.drift.data_quality import (
    DataFinding,
    category_findings,
    is_without_information,
    numeric_findings,
)
from mlops.domain.drift.psi import index_from_counts
from mlops.domain.drift.references.frozen import calibrate_frozen, category_counter, gap_dates, text_counts
from mlops.domain.drift.references.training_profile import CategoryProfile, DriftProfile, NumberProfile
from mlops.domain.drift.report import ChampionVerdict, DriftReport, FeatureReport, ReferenceUsed
from mlops.domain.drift.verdict import FeatureVerdict, RuleDecision, calibrated_verdict, weighted_verdict
from mlops.domain.drift.weights import Weights
from mlops.domain.frame import FeatureFrame, Floats
from mlops.domain.policies import DriftPolicy


def detect_drift_by_both(
    check: Callable[[DriftPolicy], DriftReport],
    profile: DriftProfile,
    current: FeatureFrame,
    policy: DriftPolicy,
    *,
    current_start: date,
    used: ReferenceUsed,
    min_current_rows: int,
    weights: Weights | None = None,
) -> DriftReport:
    """Check against the trailing window and against the champion's profile, and report one verdict.

    check : makes the report of the trailing window by the policy that it is given
    current_start : the current window's first date is after it
    """
    half = replace(policy, alpha=policy.alpha / 2)
    calibration = calibrate_frozen(
        profile,
        current,
        current_start=current_start,
        alpha=half.alpha,
        min_days=policy.min_calibration_days,
        owner=f"version {used.model_version}",
        weights=weights,
    )
    used = replace(used, gap_dates=gap_dates(profile, current_start))
    if calibration.p_value is None:
        return replace(check(policy), champion=ChampionVerdict(reference=used, missing=calibration.missing))
    report = check(half)
    psi, counted = _moved(profile, current, report.features, policy, min_current_rows=min_current_rows, weights=weights)
    decision = calibrated_verdict(counted, calibration, alert_share=policy.alert_share)
    champion = ChampionVerdict(reference=used, decision=decision, calibration=calibration, psi=psi)
    return _of_both(replace(report, policy=policy), champion, decision, calibration)


def _of_both(
    report: DriftReport, champion: ChampionVerdict, decision: RuleDecision, calibration: Calibration
) -> DriftReport:
    """The report with the verdict of both: of the reference that drifted, or else of the one with the smaller p."""
    trailing, own = report.calibrated, report.calibration.p_value

    def rank(verdict: RuleDecision, p: float | None) -> tuple[bool, float]:
        return verdict.verdict != "drifted", 2.0 if p is None else p

    by_champion = rank(decision, calibration.p_value) < rank(trailing, own)
    first, second = (decision, trailing) if by_champion else (trailing, decision)
    names = ("the dates that the champion was trained on", "the trailing window")
    one, other = names if by_champion else names[::-1]
    words = f"against {one}: {first.reason}; against {other}: {second.reason}"
    both = replace(first, reason=words)
    return replace(
        report,
        decision=both,
        calibrated=both,
        trailing=trailing,
        champion=champion,
        decided_by="champion" if by_champion else "trailing",
    )


def _moved(
    profile: DriftProfile,
    current: FeatureFrame,
    known: Mapping[str, FeatureReport],
    policy: DriftPolicy,
    *,
    min_current_rows: int,
    weights: Weights | None,
) -> tuple[dict[str, float | None], RuleDecision]:
    """PSI of each feature against the profile, and the decision by the share that moved.

    known : the check's own reports, whose descriptions of the current rows are taken over
    """
    psi: dict[str, float | None] = {}
    verdicts, idle = [], set()
    for name, feature in profile.features.items():
        if name not in known:
            continue
        if isinstance(feature, NumberProfile) and name in current.numbers:
            psi[name], findings = _number(name, feature, current.numbers[name], known[name], policy)
        elif isinstance(feature, CategoryProfile) and name in current.categories:
            psi[name], findings = _category(name, feature, current, policy)
        else:
            continue
        moved = (psi[name] or 0.0) >= policy.psi_significant or any(one.is_drift for one in findings)
        weight = 1.0 if weights is None else weights.get(name, 0.0)
        verdicts.append(FeatureVerdict(name=name, drifted_ks=False, drifted_psi=moved, weight=weight))
        idle |= {name} if is_without_information(findings) else set()
    return psi, weighted_verdict(
        [one for one in verdicts if one.name not in idle] or verdicts,
        alert_share=policy.alert_share,
        n_current=current.n_rows,
        min_current_rows=min_current_rows,
    )


def _number(
    name: str, feature: NumberProfile, values: Floats, known: FeatureReport, policy: DriftPolicy
) -> tuple[float | None, list[DataFinding]]:
    if known.current is None:
        return None, []
    findings = numeric_findings(name, feature.description, known.current, alpha=policy.ks_p)
    missing = known.current.n_missing
    if missing == len(values) or feature.description.n_missing == feature.description.n:
        return None, findings
    # Missing values are at or below no edge.
    upto = (values[np.newaxis] <= feature.edges[:, np.newaxis]).sum(axis=1)
    counts = np.append(np.diff(upto, prepend=0, append=len(values) - missing), missing)
    return index_from_counts(feature.counts, counts, smoothing=policy.smoothing, floor=policy.psi_floor), findings


def _category(
    name: str, feature: CategoryProfile, current: FeatureFrame, policy: DriftPolicy
) -> tuple[float, list[DataFinding]]:
    before, now = category_counter(feature), text_counts(current.categories[name])
    drift = compare_counts(before, now)
    return drift.psi, category_findings(name, before, now, unseen=drift.unseen, alpha=policy.ks_p)

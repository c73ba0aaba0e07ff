"""Compares two windows of features and says whether they have drifted; pure.

One sort per column and window; every statistic reads the sorted columns, which live no longer than their
batch's turn, so that memory is a long column, or a few short ones, per core beyond the rows. Called by the drift
stage.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta

from mlops.domain.drift.alarms import CorrelationChange, FeatureJumps
from mlops.domain.drift.calibration import Calibration, calibrate, each, shared_out
from mlops.domain.drift.categorical import compare_counts
from mlops.domain.drift.data_quality import DataFinding, category_findings, is_without_information
from mlops.domain.drift.distributions import category_distribution
from mlops.domain.drift.numeric import Compared, compare_block, sample_block
from mlops.domain.drift.ordered import blocks, ordered_table
from mlops.domain.drift.placements import dates_of, distinct
from mlops.domain.drift.report import TRAILING, DriftReport, FeatureReport, ReferenceUsed
from mlops.domain.drift.verdict import FeatureVerdict, calibrated_verdict, raw_verdict, weighted_verdict
from mlops.domain.drift.weights import Weights
from mlops.domain.errors import EmptyWindow, UnusableFeatures
from mlops.domain.frame import FeatureFrame, Floats, Texts
from mlops.domain.policies import DriftPolicy
from mlops.domain.ports import Window

#: So many values are compared together: few enough for the cache, so many that threads seldom hand over.
_VALUES_AT_ONCE = 400_000
#: The longest time without trading that a calendar makes of itself: Thursday's close to Tuesday's.
_LONGEST_PAUSE = timedelta(days=4)


def detect_drift(  # noqa: PLR0913 -- what a report states of its check, each by keyword
    reference: FeatureFrame,
    current: FeatureFrame,
    policy: DriftPolicy,
    *,
    strategy: str,
    as_of: date,
    reference_window: Window,
    current_window: Window,
    timestamp: datetime,
    min_current_rows: int = 100,
    history: FeatureFrame | None = None,
    calibration: Calibration | None = None,
    weights: Weights | None = None,
    used: ReferenceUsed = TRAILING,
    findings: Sequence[DataFinding] = (),
) -> DriftReport:
    """Check two windows and report. NaN never reads "no drift": a statistic that is undefined is a finding.

    `history`: rows before the reference window, with their dates; without them the calibrated rule says
    `insufficient`.
    `weights`: how much each feature counts in the calibrated rule, its share and its statistic; None: alike.
    `calibration`: where it was worked out beforehand.
    `used`: which reference the rows are. `findings`: what is known of the data beforehand.

    Raises EmptyWindow when a window has no rows, UnusableFeatures when no feature holds a value.
    """
    for name, frame in (("reference", reference), ("current", current)):
        if frame.n_rows == 0:
            raise EmptyWindow(f"the {name} window of {strategy!r} holds no rows")
    noted = [*findings, *schema_findings(kinds_of(reference), kinds_of(current))]
    noted += duplicate_findings(reference, "reference") + duplicate_findings(current, "current")
    noted += staleness_findings(current, as_of)
    numbers = [name for name in reference.numbers if name in current.numbers]
    texts = [name for name in reference.categories if name in current.categories]
    compared = [
        *_compare_all(numbers, reference, current, policy),
        *each(lambda name: _categorical(name, reference.categories[name], current.categories[name], policy), texts),
    ]
    calibration = calibration or calibrate(
        history,
        reference,
        current,
        alpha=policy.alpha,
        feature_alpha=policy.feature_alpha,
        correlation_alpha=policy.correlation_alpha,
        min_days=policy.min_calibration_days,
        reference_start=reference_window.start,
        weights=weights,
    )
    return conclude(
        dict(zip([*numbers, *texts], compared, strict=True)),
        noted,
        calibration,
        policy,
        strategy=strategy,
        as_of=as_of,
        timestamp=timestamp,
        reference_window=reference_window,
        current_window=current_window,
        n_reference=reference.n_rows,
        current=current,
        min_current_rows=min_current_rows,
        reference=used,
        weights=weights,
    )


def conclude(  # noqa: PLR0913 -- what a report states of its check, each by keyword
    compared: Mapping[str, Compared],
    findings: list[DataFinding],
    calibration: Calibration,
    policy: DriftPolicy,
    *,
    strategy: str,
    as_of: date,
    timestamp: datetime,
    reference_window: Window,
    current_window: Window,
    n_reference: int,
    current: FeatureFrame,
    min_current_rows: int,
    reference: ReferenceUsed,
    weights: Weights | None,
) -> DriftReport:
    """Make both rules' decisions and the report from each feature's statistics and findings.

    A feature that holds one value, or none, in both windows is reported and counts in no share.
    Raises UnusableFeatures when no feature holds a value.
    """
    reports = {name: report for name, (report, _) in compared.items()}
    findings = [*findings, *(finding for _, found in compared.values() for finding in found)]
    findings += [*_jump_findings(calibration.jumps), *_correlation_findings(calibration.correlations)]
    if not reports:
        raise UnusableFeatures(f"strategy {strategy!r} has no feature that is in both windows")
    empty = {finding.column for finding in findings if finding.code == "all_missing" and not finding.is_drift}
    if empty >= reports.keys():
        raise UnusableFeatures(
            f"strategy {strategy!r}: no feature holds any value from {reference_window.start} to {current_window.end}: "
            f"{', '.join(reports)}; load the features, or correct the view"
        )
    idle = {name for name, (_, found) in compared.items() if is_without_information(found)}
    counting = reports.keys() - idle or reports.keys()
    verdicts = [
        FeatureVerdict(
            name=name,
            drifted_ks=report.drifted_ks,
            drifted_psi=report.drifted_psi,
            weight=1.0 if weights is None else weights.get(name, 0.0),
        )
        for name, report in reports.items()
        if name in counting
    ]
    raw, counted = (
        rule(verdicts, alert_share=policy.alert_share, n_current=current.n_rows, min_current_rows=min_current_rows)
        for rule in (raw_verdict, weighted_verdict)
    )
    calibrated = calibrated_verdict(counted, calibration, alert_share=policy.alert_share)
    return DriftReport(
        strategy=strategy,
        as_of=as_of,
        timestamp=timestamp,
        reference_window=reference_window,
        current_window=current_window,
        n_reference=n_reference,
        n_current=current.n_rows,
        n_current_dates=None if current.dates is None else len(distinct(dates_of(current))),
        n_current_names=current.n_names,
        policy=policy,
        features=reports,
        findings=tuple(findings),
        decision=calibrated if policy.rule == "calibrated" else raw,
        raw=raw,
        calibrated=calibrated,
        calibration=calibration,
        reference=reference,
    )


def _compare_all(
    names: list[str], reference: FeatureFrame, current: FeatureFrame, policy: DriftPolicy
) -> list[Compared]:
    """Compute each feature's statistics, a few features at a time on every core."""
    batches = shared_out(names, at_most=max(1, _VALUES_AT_ONCE // (reference.n_rows + current.n_rows)))
    found = each(lambda batch: _compare_batch(batch, reference.numbers, current.numbers, policy), batches)
    return [pair for batch in found for pair in batch]


def _compare_batch(
    names: Sequence[str], reference: Mapping[str, Floats], current: Mapping[str, Floats], policy: DriftPolicy
) -> list[Compared]:
    before = ordered_table([reference[name] for name in names])
    now = ordered_table([current[name] for name in names])
    compared: list[Compared] = []
    for rows, (ref, cur) in blocks(before, now):
        compared += compare_block(names[rows], sample_block(ref, bins=policy.bins), cur, policy)
    return compared


def compare_numbers(name: str, reference: Floats, current: Floats, policy: DriftPolicy) -> Compared:
    """Statistics and findings of one numeric column. reference : (n,)      current : (m,)      nan: missing."""
    return _compare_batch([name], {name: reference}, {name: current}, policy)[0]


def _categorical(name: str, reference: Texts, current: Texts, policy: DriftPolicy) -> Compared:
    return compare_texts(name, Counter(reference.tolist()), Counter(current.tolist()), policy)


def compare_texts(
    name: str, reference: Counter[str | None], current: Counter[str | None], policy: DriftPolicy
) -> Compared:
    """Statistics and findings of one categorical column, from rows per category; None: missing."""
    drift = compare_counts(reference, current)
    found = category_findings(name, reference, current, unseen=drift.unseen, alpha=policy.ks_p)
    forced = any(finding.is_drift for finding in found)
    report = FeatureReport(
        kind="category",
        ks_statistic=None,
        ks_p=drift.p_value,
        psi=drift.psi,
        drifted_ks=drift.p_value < policy.ks_p or forced,
        drifted_psi=drift.psi >= policy.psi_significant or forced,
        reference=None,
        current=None,
        distribution=category_distribution(drift.names, drift.counts),
    )
    return report, found


def kinds_of(frame: FeatureFrame) -> dict[str, str]:
    """Kind of each feature: `number` or `category`."""
    return {**dict.fromkeys(frame.numbers, "number"), **dict.fromkeys(frame.categories, "category")}


def schema_findings(before: Mapping[str, str], now: Mapping[str, str]) -> list[DataFinding]:
    """Findings on features that vanished, are new, or changed their kind; both by name and kind."""
    found = [
        DataFinding(code="vanished_column", column=name, message=f"{name}: gone since the reference", is_drift=False)
        for name in sorted(before.keys() - now)
    ]
    found += [
        DataFinding(code="new_column", column=name, message=f"{name}: not in the reference", is_drift=False)
        for name in sorted(now.keys() - before)
    ]
    found += [
        DataFinding(
            code="kind_changed",
            column=name,
            message=f"{name}: text in one window, numbers in the other",
            is_drift=False,
        )
        for name in sorted(before.keys() & now)
        if before[name] != now[name]
    ]
    return found


def duplicate_findings(frame: FeatureFrame, window: str) -> list[DataFinding]:
    """Findings on rows that repeat a ticker and date."""
    if not frame.n_duplicate_rows:
        return []
    message = f"{frame.n_duplicate_rows} rows of the {window} window repeat a ticker and date"
    return [DataFinding(code="duplicate_rows", column=None, message=message, is_drift=False)]


def _jump_findings(jumps: FeatureJumps) -> list[DataFinding]:
    """Findings on features that jumped as none of them did in an earlier week: their feeds have probably broken."""
    return [
        DataFinding(
            code="feature_jumped",
            column=name,
            message=f"{name}: {_jump_words(jumps.sizes[name])} (p {jumps.p_values[name]:.2g} over all features in "
            f"{jumps.n_weeks} earlier weeks): look at its feed",
            is_drift=False,
        )
        for name in jumps.alarms
    ]


def _correlation_findings(change: CorrelationChange) -> list[DataFinding]:
    """Finding on a pair of features whose correlation changed as none did earlier."""
    if not change.is_alarm or change.pair is None:
        return []
    one, other = change.pair
    message = (
        f"{one} and {other}: correlated {change.before:.2f} before and {change.now:.2f} in the newest 20 dates "
        f"(p {change.p_value:.2g} over all pairs at {change.n_placements} earlier placements)"
    )
    return [DataFinding(code="correlation_changed", column=None, message=message, is_drift=False)]


def _jump_words(size: float) -> str:
    return f"jumped by {size:.1f} times its usual most" if math.isfinite(size) else "moved for the first time"


def staleness_findings(current: FeatureFrame, as_of: date) -> list[DataFinding]:
    """Finding on a newest row that is older than a long weekend."""
    if current.newest_date is None or as_of - current.newest_date <= _LONGEST_PAUSE:
        return []
    message = f"the newest row is of {current.newest_date}, {(as_of - current.newest_date).days} days before {as_of}"
    return [DataFinding(code="stale", column=None, message=message, is_drift=False)]
